package admin

import (
	"net/http"

	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// The codes of problems that the clients' listener does not have, or has with
// another advice. The package comment lists them for readers.
const (
	codeBadQuery           = "bad-query"
	codeUnknownParameter   = "unknown-parameter"
	codeDuplicateParameter = "duplicate-parameter"
	codeBadParameter       = "bad-parameter"
	codeBadBody            = "bad-body"
	codeUnauthorized       = "unauthorized"
	codeForeignHost        = "foreign-host"
	codeCrossOrigin        = "cross-origin"
	codeAdminOff           = "admin-off"
	codeUnknownStream      = "unknown-stream"
	codeUnknownClient      = "unknown-client"
	codeNotFound           = "not-found"
	codeMethod             = "method-not-allowed"
	codeNoToken            = "no-token"
	codeNotJSON            = "not-json"
)

var kinds = problem.Kinds{
	codeBadQuery:           {http.StatusBadRequest, "The query cannot be read", "Percent-encode the values of parameters."},
	codeUnknownParameter:   {http.StatusBadRequest, "There is no such parameter", "See /openapi.json for the parameters of each path."},
	codeDuplicateParameter: {http.StatusBadRequest, "The parameter is given more than once", "Give each parameter once."},
	codeBadParameter:       {http.StatusBadRequest, "The value of the parameter cannot be used", "Change the value to one that is expected."},
	codeBadBody:            {http.StatusBadRequest, "The body cannot be used", "Send one JSON object as /openapi.json describes it."},
	codeUnauthorized:       {http.StatusUnauthorized, "The admin token is needed", "Send the token of SSEBRIDGE_ADMIN_TOKEN, as Authorization: Bearer, or log in on the inspector's page."},
	codeForeignHost:        {http.StatusForbidden, "The Host is not a loopback address", "Use localhost or 127.0.0.1, or set SSEBRIDGE_ADMIN_TOKEN."},
	codeCrossOrigin:        {http.StatusForbidden, "A page of another origin asked", "Send the request from a page of this listener, or from a program that is no browser."},
	codeAdminOff:           {http.StatusForbidden, "This is off", "Set SSEBRIDGE_ADMIN_TOKEN, as this listener can be reached from other machines."},
	codeUnknownStream:      {http.StatusNotFound, "There is no such stream", "See /streams for the names."},
	codeUnknownClient:      {http.StatusNotFound, "There is no such client", "See /clients for those that are connected; ids are never given twice."},
	codeNotFound:           {http.StatusNotFound, "Nothing is here", "Check the path; /openapi.json lists all."},
	codeMethod:             {http.StatusMethodNotAllowed, "The method is not allowed", "The Allow header has those that are."},
	codeNoToken:            {http.StatusNotFound, "There is nothing to log in with", "Set SSEBRIDGE_ADMIN_TOKEN, or go on without a login where the listener needs none."},
	codeNotJSON:            {http.StatusUnsupportedMediaType, "The body is not JSON", "Send it with Content-Type: application/json."},
}

package sink

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// The codes of problems. Clients act on them: a code never changes its meaning
// and is never used again. The package comment lists them for readers.
const (
	codeBadQuery           = "bad-query"
	codeUnknownParameter   = "unknown-parameter"
	codeDuplicateParameter = "duplicate-parameter"
	codeBadParameter       = "bad-parameter"
	codeBadSubject         = "bad-subject"
	codeTooManySubjects    = "too-many-subjects"
	codeUnreadableID       = "unreadable-id"
	codeUnknownStream      = "unknown-stream"
	codeNoStream           = "no-stream"
	codeRefusedStream      = "refused-stream"
	codeIDTooLong          = "id-too-long"
	codeNotFound           = "not-found"
	codeMethod             = "method-not-allowed"
	codeNotAcceptable      = "not-acceptable"
	codeReset              = "reset"
	codeOverload           = "overload"
	codeInternal           = "internal"
)

// kinds says for every code which status, title and advice go with it. Status
// 200 is that of a response that begins and ends with a closing block, as every
// other one ends a browser's EventSource for good.
var kinds = problem.Kinds{
	codeBadQuery:           {http.StatusBadRequest, "The query cannot be read", "Percent-encode the values of parameters."},
	codeUnknownParameter:   {http.StatusBadRequest, "There is no such parameter", "Parameters are subject, stream, lastEventId, start, format, on-reset, names and control."},
	codeDuplicateParameter: {http.StatusBadRequest, "The parameter is given more than once", "Only subject and stream may be repeated."},
	codeBadParameter:       {http.StatusBadRequest, "The value of the parameter cannot be used", "Change the value to one that is expected."},
	codeBadSubject:         {http.StatusBadRequest, "The subject is not a pattern", "Patterns are tokens with dots between them, such as orders.*.created or orders.>; * is one token, > is the rest."},
	codeTooManySubjects:    {http.StatusBadRequest, "There are too many subjects", "Use a pattern that covers several of them, or a second connection."},
	codeUnreadableID:       {http.StatusBadRequest, "The event id cannot be read", "Pass on the id of an event unchanged, or none to start afresh."},
	codeUnknownStream:      {http.StatusNotFound, "There is no such stream", "Check the name; repeat the parameter for several streams, as lists are not split."},
	codeNoStream:           {http.StatusNotFound, "No stream has such subjects", "Check the subjects against those of the streams."},
	codeRefusedStream:      {http.StatusNotFound, "The stream cannot be served", "Ask the operator: the log of the bridge says why."},
	codeIDTooLong:          {http.StatusBadRequest, "The event ids would be too long", "Follow fewer streams at once; if it is one stream, it has too many partitions for the limit, SSEBRIDGE_MAX_ID_BYTES."},
	codeNotFound:           {http.StatusNotFound, "Nothing is here", "Check the path."},
	codeMethod:             {http.StatusMethodNotAllowed, "The method is not allowed", "Use GET."},
	codeNotAcceptable:      {http.StatusNotAcceptable, "The response would not be acceptable", "Accept text/event-stream."},
	codeReset:              {http.StatusGone, "The position is no longer there", "Connect without an event id to start afresh."},
	codeOverload:           {http.StatusOK, "There are too many clients", "Come back later."},
	codeInternal:           {http.StatusInternalServerError, "The bridge made a mistake", "Try again; if it stays, ask the operator."},
}

// errorCodes says which code an error has that comes from the bridge. The first
// that fits counts.
var errorCodes = []struct {
	err  error
	code string
}{
	{bridge.ErrNoStream, codeNoStream},
	{bridge.ErrRefused, codeRefusedStream},
	{bridge.ErrIDTooLong, codeIDTooLong},
	{bridge.ErrTooManyFeeds, codeOverload},
	{bridge.ErrTooManyFilters, codeOverload},
	{bridge.ErrUnavailable, codeOverload}, // passes, as far as the client is concerned
	{bridge.ErrMissing, codeOverload},
}

// newProblem makes the problem of a code. parameter may be empty.
func newProblem(code, parameter, detail string) *problem.Problem {
	return kinds.New(code, parameter, detail)
}

// problemOf returns an error as a problem. The text of errors that were not made
// for clients stays here.
func problemOf(err error) *problem.Problem {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return p
	}
	if reset, ok := errors.AsType[*bridge.ResetError](err); ok {
		return newProblem(codeReset, "", fmt.Sprintf("stream %q: reset %s, and on-reset=fail asked for an end", reset.Stream, reset.Finding.Reason))
	}
	for _, e := range errorCodes {
		if errors.Is(err, e.err) {
			return newProblem(e.code, "", e.err.Error())
		}
	}
	return newProblem(codeInternal, "", "the log of the bridge has the reason")
}

// noStreamDetail says what was looked for where no stream can match: the
// patterns in their normal form, and the streams that were named.
func noStreamDetail(sub *bridge.Subscription) string {
	detail := "no stream"
	if len(sub.Names) > 0 {
		detail = "none of the streams " + strings.Join(sub.Names, ", ")
	}
	detail += " has subjects that match"
	for i, p := range sub.Filter.Patterns() {
		if i > 0 {
			detail += " or"
		}
		detail += " " + strconv.Quote(string(p))
		if len(detail) > problem.MaxDetailBytes {
			break
		}
	}
	return detail
}

package admin

import (
	_ "embed"
	"net/http"
)

// openAPI describes the listener to programs. TestOpenAPI… compare it with what
// is really served.
//
//go:embed openapi.json
var openAPI []byte

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
}

// Package admin is the second listener: what operators and orchestrators ask,
// kept away from the port that clients can reach.
//
//	/livez /readyz /startupz ──► probes
//	everything else          ──► 404
package admin

import (
	"net/http"

	"github.com/ssebridge/ssebridge/sink"
)

// Options configure the handler of the second listener.
type Options struct {
	Probes http.Handler // as made by [sink.NewProbes]
}

// NewHandler returns the handler of the second listener.
func NewHandler(o Options) http.Handler {
	return sink.WithProbes(o.Probes, http.NotFoundHandler())
}

// Package admin is the second listener: what operators and orchestrators ask,
// kept away from the port that clients can reach.
//
//	/livez /readyz /startupz ──────────────► probes, for everybody
//	/streams ──► access: loopback, or token ──► how far each stream has been read
//	everything else ───────────────────────► 404
//
// What streams there are and what they wait for is nobody's business but the
// operator's. On a loopback listener whoever is on the machine may ask, but not
// a web page that has had its name resolved to 127.0.0.1 (DNS rebinding): the
// Host has to be a loopback one. Anywhere else a bearer token is needed, and
// without one configured nothing but the probes is answered.
package admin

import (
	"net/http"

	"github.com/ssebridge/ssebridge/sink"
)

// Options configure the handler of the second listener.
type Options struct {
	Probes http.Handler // as made by [sink.NewProbes]
	// Streams are those to tell about, in this order.
	Streams []Stream
	// Loopback says that the listener can be reached from this machine only.
	Loopback bool
	// Token returns the present bearer token. It is called for each request that
	// brings one, from any goroutine. nil, or one that returns "": no token fits.
	Token func() string
}

// NewHandler returns the handler of the second listener.
func NewHandler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /streams", access{o.Loopback, o.Token}.guard(streamsHandler(o.Streams)))
	return sink.WithProbes(o.Probes, mux)
}

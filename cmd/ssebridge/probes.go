package main

import (
	"io"
	"net/http"
	"sync/atomic"
)

// Paths of the probes, on both listeners.
const (
	pathLive    = "/livez"
	pathReady   = "/readyz"
	pathStartup = "/startupz"
)

// probes answers what an orchestrator asks, a word each.
//
//	listening ──► ready ──► draining
//
// Only the process counts: a broker that is away must neither restart the
// process nor take it out of service, because its clients would be cut off and
// could resume nowhere else.
type probes struct {
	sources  func() bool // each stream has been read once; nil: do not ask
	draining atomic.Bool
}

// drain makes the process not ready, for good.
func (p *probes) drain() { p.draining.Store(true) }

func (p *probes) register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathLive, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET "+pathStartup, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "started") })
	mux.HandleFunc("GET "+pathReady, func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case p.draining.Load():
			answer(w, http.StatusServiceUnavailable, "draining")
		case p.sources != nil && !p.sources():
			answer(w, http.StatusServiceUnavailable, "waiting")
		default:
			answer(w, http.StatusOK, "ready")
		}
	})
}

func answer(w http.ResponseWriter, status int, word string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, word+"\n")
}

package sink

import "net/http"

// ProbeOptions say what probes answer. Each function may be nil and is called
// for every probe, from any goroutine.
type ProbeOptions struct {
	Started  func() bool // the process listens where it should; nil: from the first probe on
	Draining func() bool // it says goodbye to its clients; nil: never
	Ready    func() bool // what readiness waits for besides; nil: nothing
}

// NewProbes returns the handler of /livez, /readyz and /startupz. Each answers
// one word: ok with status 200; starting, draining or waiting with 503.
//
// /livez is about the process alone. No broker ever fails it, as a restart would
// not bring the broker back and would cost every client its connection.
func NewProbes(o ProbeOptions) http.Handler {
	holds := func(f func() bool, unset bool) bool {
		if f == nil {
			return unset
		}
		return f()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		word := "ok"
		switch started := holds(o.Started, true); r.URL.Path {
		case "/livez":
		case "/startupz":
			if !started {
				word = "starting"
			}
		case "/readyz":
			switch {
			case !started:
				word = "starting"
			case holds(o.Draining, false):
				word = "draining"
			case !holds(o.Ready, true):
				word = "waiting"
			}
		default:
			http.NotFound(w, r)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "text/plain; charset=utf-8")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			header.Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		case word != "ok":
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(word + "\n"))
	})
}

// WithProbes returns a handler that answers probes by the one and everything
// else by the other.
func WithProbes(probes, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/livez", "/readyz", "/startupz":
			probes.ServeHTTP(w, r)
		default:
			others.ServeHTTP(w, r)
		}
	})
}

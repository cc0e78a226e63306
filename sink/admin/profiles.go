package admin

import (
	"net/http"
	"net/http/pprof"
)

// profiles are what go tool pprof asks for. The package that makes them also
// puts them on http.DefaultServeMux, which nothing of ours serves.
func profiles() []route {
	const path = "/debug/pprof/"
	return []route{
		{http.MethodGet, path, http.HandlerFunc(pprof.Index)}, // also heap, goroutine and so on
		{http.MethodGet, path + "cmdline", http.HandlerFunc(pprof.Cmdline)},
		{http.MethodGet, path + "profile", http.HandlerFunc(pprof.Profile)},
		{http.MethodGet, path + "symbol", http.HandlerFunc(pprof.Symbol)},
		{http.MethodPost, path + "symbol", http.HandlerFunc(pprof.Symbol)},
		{http.MethodGet, path + "trace", http.HandlerFunc(pprof.Trace)},
	}
}

//go:build gzipeach && nosweep

package main

import (
	"compress/gzip"
	"net/http"
	"strings"
)

// gzipEach gives each event stream a gzip of its own, as middleware does: what
// benchmarks compare with.
func gzipEach(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.ServeHTTP(w, r)
			return
		}
		z := &gzipWriter{ResponseWriter: w}
		h.ServeHTTP(z, r)
		if z.gzip != nil {
			_ = z.gzip.Close() // who has gone does not miss the end
		}
	})
}

// gzipWriter compresses an event stream, and nothing else.
type gzipWriter struct {
	http.ResponseWriter
	gzip *gzip.Writer // nil: it is none, or has not begun
}

func (w *gzipWriter) WriteHeader(status int) {
	if status == http.StatusOK && strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
		w.Header().Set("Content-Encoding", "gzip")
		w.gzip = gzip.NewWriter(w.ResponseWriter)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *gzipWriter) Write(b []byte) (int, error) {
	if w.gzip == nil {
		return w.ResponseWriter.Write(b)
	}
	return w.gzip.Write(b)
}

// FlushError is what http.ResponseController asks for.
func (w *gzipWriter) FlushError() error {
	if w.gzip != nil {
		if err := w.gzip.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController set deadlines.
func (w *gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

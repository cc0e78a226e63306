package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"
)

// static is the page: plain HTML, CSS and JavaScript, nothing from elsewhere.
//
//go:embed static
var static embed.FS

// page serves the page that follows the bridge at events, an absolute URL. It
// says what kind of broker is behind. The page has an origin of its own, so the
// bridge must allow that origin.
func page(events *url.URL, kind string) (http.Handler, error) {
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, fmt.Errorf("open the page: %w", err)
	}
	index, err := template.ParseFS(files, "index.html")
	if err != nil {
		return nil, fmt.Errorf("parse the page: %w", err)
	}
	var html bytes.Buffer
	if err := index.Execute(&html, struct{ Events, Broker string }{events.String(), kind}); err != nil {
		return nil, fmt.Errorf("fill in the page: %w", err)
	}
	policy := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
		"connect-src " + events.Scheme + "://" + events.Host + "; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(html.Bytes()) // a reader that left needs no answer
	})
	assets := http.FileServerFS(files)
	for _, name := range []string{"app.js", "continuity.js", "follow.js", "style.css", "favicon.svg"} {
		mux.Handle("GET /"+name, assets)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // the next build may have another page
		mux.ServeHTTP(w, r)
	}), nil
}

// servePage serves the page until ctx ends.
func servePage(ctx context.Context, l net.Listener, handler http.Handler) error {
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
	}
	closed := make(chan error, 1) // the one result of Close
	stop := context.AfterFunc(ctx, func() { closed <- srv.Close() })
	err := srv.Serve(l)
	if !stop() {
		return <-closed
	}
	return fmt.Errorf("serve the page: %w", err)
}

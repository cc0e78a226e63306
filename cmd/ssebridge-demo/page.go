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
	"time"

	"github.com/ssebridge/ssebridge/sink/admin"
)

// static is the page: plain HTML, CSS and JavaScript, nothing from elsewhere. Its
// look and its charts are the inspector's.
//
//go:embed static
var static embed.FS

// site is what the page is filled in with, and what it talks to.
type site struct {
	Events    string // the bridge's own address, for programs other than the page
	Inspector string // the bridge's inspector
	Broker    string // what keeps the streams, for people

	tabs  http.Handler // the bridge's events, through this server
	truth http.Handler // what the publisher states
	deeds http.Handler // what the buttons do
}

// policy lets the page load and ask this server only.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// page serves the page and what it talks to.
func page(s site) (http.Handler, error) {
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, fmt.Errorf("open the page: %w", err)
	}
	index, err := template.ParseFS(files, "index.html")
	if err != nil {
		return nil, fmt.Errorf("parse the page: %w", err)
	}
	var html bytes.Buffer
	if err := index.Execute(&html, s); err != nil {
		return nil, fmt.Errorf("fill in the page: %w", err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(html.Bytes()) // a reader that left needs no answer
	})
	own := http.FileServerFS(files)
	for _, name := range []string{"app.js", "charts.js", "continuity.js", "follow.js", "journal.js", "ticker.js", "style.css"} {
		mux.Handle("GET /"+name, own)
	}
	shared := http.StripPrefix("/look/", http.FileServerFS(admin.Static()))
	for _, name := range []string{"look.css", "chart.js", "favicon.svg"} {
		mux.Handle("GET /look/"+name, shared)
	}
	mux.Handle("GET /tabs/{tab}/events", s.tabs)
	mux.Handle("GET /truth", s.truth)
	mux.Handle("/do/", s.deeds)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			http.Error(w, "open the page as 127.0.0.1 or localhost: another name could be another site's", http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // the next build may have another page
		mux.ServeHTTP(w, r)
	}), nil
}

// loopbackHost reports whether a Host header names this machine. A site elsewhere
// can have its own name resolved to 127.0.0.1 (DNS rebinding); then its pages
// could read and press what is here.
func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// pageServer serves the page, by connections that handlers can find.
func pageServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second, // of pages; streams take their own time
		IdleTimeout:       time.Minute,
		ConnContext:       withConn,
	}
}

// servePage serves the page until ctx ends.
func servePage(ctx context.Context, l net.Listener, handler http.Handler) error {
	srv := pageServer(handler)
	closed := make(chan error, 1) // the one result of Close
	stop := context.AfterFunc(ctx, func() { closed <- srv.Close() })
	err := srv.Serve(l)
	if !stop() {
		return <-closed
	}
	return fmt.Errorf("serve the page: %w", err)
}

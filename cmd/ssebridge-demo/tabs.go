package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// cutPatience is how long a cut waits for an event to come and be cut in two;
// then it cuts between events.
const cutPatience = 500 * time.Millisecond

// errNoConnection reports that a tab has no connection to be cut.
var errNoConnection = errors.New("this tab has no connection at the moment")

// tabs hands the bridge's events on to the page, each tab's by connections that
// are known as this tab's and can be cut:
//
//	tab ◄── TCP, cut here ── tabs ◄── TCP ── bridge
//
// The bridge notices nothing but a client that went away. While it is down, a
// tab's connection is broken off without an answer, as the bridge's own would
// be: a browser takes that for a failure that passes.
type tabs struct {
	proxy *httputil.ReverseProxy

	mu   sync.Mutex
	open map[string]map[*wire]bool // by tab
}

// newTabs hands on the events at an absolute URL.
func newTabs(events *url.URL) *tabs {
	return &tabs{
		open: map[string]map[*wire]bool{},
		proxy: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.Path = events.Scheme, events.Host, events.Path
				r.Out.Host = events.Host
			},
			// A connection for each answer: one that is kept would outlive its bridge.
			Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
			FlushInterval: -1,                         // at once
			ErrorLog:      log.New(io.Discard, "", 0), // a bridge that is killed is no news here
			ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		},
	}
}

// ServeHTTP answers the request of a tab, whose name is the path's {tab}.
func (t *tabs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	if conn == nil {
		http.Error(w, "this connection cannot be cut", http.StatusInternalServerError)
		return
	}
	// Streams are open for longer than the server lets an answer take.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
		http.Error(w, "this connection cannot be kept open", http.StatusInternalServerError)
		return
	}
	wire := &wire{ResponseWriter: w, conn: conn, gone: make(chan struct{})}
	tab := r.PathValue("tab")
	t.add(tab, wire)
	defer t.remove(tab, wire)
	t.proxy.ServeHTTP(wire, r)
}

func (t *tabs) add(tab string, w *wire) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[tab] == nil {
		t.open[tab] = map[*wire]bool{}
	}
	t.open[tab][w] = true
}

func (t *tabs) remove(tab string, w *wire) {
	close(w.gone)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open[tab], w)
	if len(t.open[tab]) == 0 {
		delete(t.open, tab)
	}
}

// cut is how a tab's connections were cut: inside a piece of so many bytes,
// after so many of them. Both are 0 if nothing came to be cut in two.
type cut struct {
	Connections int `json:"connections"`
	Sent        int `json:"sent"`
	Of          int `json:"of"`
}

// Cut resets the connections of a tab, in the middle of the next event if one
// comes soon, and returns when they are gone.
func (t *tabs) Cut(ctx context.Context, tab string) (cut, error) {
	t.mu.Lock()
	var wires []*wire
	for w := range t.open[tab] {
		wires = append(wires, w)
	}
	t.mu.Unlock()
	if len(wires) == 0 {
		return cut{}, errNoConnection
	}
	for _, w := range wires {
		w.doomed.Store(true)
	}
	patience := time.NewTimer(cutPatience)
	defer patience.Stop()
	done := cut{Connections: len(wires)}
	for _, w := range wires {
		select {
		case <-w.gone:
			done.Sent, done.Of = w.sent, w.of
			continue
		case <-patience.C:
			patience.Reset(0) // the others have waited as long
		case <-ctx.Done():
		}
		w.reset()
		<-w.gone
	}
	return done, nil
}

// wire is one answer on its way to a tab.
type wire struct {
	http.ResponseWriter
	conn   net.Conn
	doomed atomic.Bool   // the next piece is to be cut in two
	gone   chan struct{} // closed when the answer has ended

	sent, of int // of the piece that was cut, once gone
}

// Unwrap lets http.ResponseController find what can flush.
func (w *wire) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write hands on a piece, or half of it and then no more.
func (w *wire) Write(p []byte) (int, error) {
	half := len(p) / 2
	if !w.doomed.Load() || half == 0 {
		return w.ResponseWriter.Write(p)
	}
	if bytes.HasSuffix(p[:half], []byte("\n\n")) {
		half-- // inside an event, not between two
	}
	n, err := w.ResponseWriter.Write(p[:half])
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	w.sent, w.of = n, len(p)
	w.reset()
	return n, errors.Join(errors.New("the connection was cut"), err)
}

// reset breaks the connection off: what is not sent yet is thrown away, and the
// other end hears of a reset (RST), not of an end.
func (w *wire) reset() {
	if tcp, ok := w.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a connection that is gone already is as good
	}
	_ = w.conn.Close()
}

// connKey is where a request's context has its connection.
type connKey struct{}

// withConn lets handlers find the connection of a request.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

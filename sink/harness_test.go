package sink

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// validID is an event id that can be read.
var validID = bridge.ID{{Stream: "orders", Position: bridge.Position{Incarnation: 7, Places: []bridge.Place{{Offset: 5}}}}}.String()

// script is a follower that returns what a test puts into steps.
type script struct {
	sub     bridge.Subscription
	steps   chan step
	closed  chan struct{}
	id      string
	request trace.SpanContext // with which it was opened
}

type step struct {
	blocks string
	id     string       // after it
	batch  bridge.Batch // what is counted of it; Units are of blocks
	err    error
}

func (s *script) Next(ctx context.Context) (bridge.Batch, error) {
	select {
	case st, ok := <-s.steps:
		if !ok {
			<-ctx.Done()
			return bridge.Batch{}, context.Cause(ctx)
		}
		s.id = st.id
		if st.blocks == "" {
			return bridge.Batch{}, st.err
		}
		st.batch.Units = [][]byte{[]byte(st.blocks)}
		return st.batch, st.err
	case <-ctx.Done():
		return bridge.Batch{}, context.Cause(ctx)
	}
}

func (s *script) ID() string { return s.id }
func (s *script) Close()     { close(s.closed) }

// bench is a handler with its server on in-memory connections, for a bubble.
type bench struct {
	t        *testing.T
	handler  *Handler
	server   *Server
	listener *pipeListener
	opened   chan *script // every follower that was opened
	stop     context.CancelFunc
	ended    chan struct{}
	err      error // with which the server ended
}

// takenOver marks the tests whose connections are taken out of net/http's hands.
const takenOver = "connections_taken_over"

// bothWays runs a test in a bubble, over net/http's writers and over our own: they
// must not differ in what a client sees.
func bothWays(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, way := range []string{"connections_of_net/http", takenOver} {
		t.Run(way, func(t *testing.T) { synctest.Test(t, f) })
	}
}

// start serves by o, with o.Open replaced, until the test ends.
func start(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{t: t, listener: newPipeListener(), opened: make(chan *script, 1), ended: make(chan struct{})}
	if o.Open == nil {
		o.Open = func(ctx context.Context, sub *bridge.Subscription) (Follower, error) {
			s := &script{sub: *sub, request: trace.SpanContextFromContext(ctx), steps: make(chan step), closed: make(chan struct{}), id: idText(sub.From)}
			b.opened <- s
			return s, nil
		}
	}
	if o.Streams == nil {
		o.Streams = []string{"orders", "prices"}
	}
	b.handler = NewHandler(o)
	b.handler.random = func() float64 { return 0.5 } // no jitter
	b.server = NewServer(b.handler, ServerOptions{WriteTimeout: o.WriteTimeout, Logger: o.Logger})
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	swept := make(chan struct{})
	if strings.Contains(t.Name(), takenOver) {
		b.handler.newLine = func() (line, error) { return new(plainLine), nil }
		go func() {
			defer close(swept)
			_ = b.handler.Run(ctx)
		}()
		for b.handler.sweeper.Load() == nil {
			synctest.Wait()
		}
	} else {
		close(swept)
	}
	go func() {
		defer close(b.ended)
		b.err = b.server.Run(ctx, b.listener)
		<-swept
	}()
	t.Cleanup(func() {
		stop()
		<-b.ended
	})
	return b
}

// client returns a client for a path and query.
func (b *bench) client(target string) *ssetest.Client {
	return &ssetest.Client{URL: "http://bridge.test" + target, Dial: b.listener.dial}
}

// open connects c and returns its follower, which no step has been given yet.
func (b *bench) open(c *ssetest.Client) (*ssetest.Stream, *script) {
	b.t.Helper()
	type result struct {
		s   *ssetest.Stream
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := c.Open(b.t.Context())
		done <- result{s, err}
	}()
	f := <-b.opened
	f.steps <- step{blocks: "event: connected\ndata: {}\nid: 1\n\n", id: "1"}
	r := <-done
	if r.err != nil {
		b.t.Fatal(r.err)
	}
	b.t.Cleanup(r.s.Close)
	b.next(r.s, ssetest.Event{Type: "connected", Data: "{}", ID: "1"})
	return r.s, f
}

// get connects and reads the whole response.
func (b *bench) get(c *ssetest.Client) (*ssetest.Stream, string) {
	b.t.Helper()
	c.Keep = true
	s, err := c.Open(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.Close()
	body, err := s.ReadAll(b.t.Context())
	if err != nil {
		b.t.Fatalf("after %q: %v", body, err)
	}
	return s, string(body)
}

// next reads one event, which must be want.
func (b *bench) next(s *ssetest.Stream, want ssetest.Event) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.t.Context(), time.Hour)
	defer stop()
	if got, err := s.Next(ctx); got != want || err != nil {
		b.t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

// send writes text to a connection whose other side may not read all of it.
func send(c net.Conn, text string) {
	go func() { _, _ = io.WriteString(c, text) }()
}

// pipeListener accepts in-memory connections without any buffer: what one side
// writes waits for the other to read. It keeps what the server wrote.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	writes [][]byte
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- &recordedConn{far, l}:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// written returns what each write so far was.
func (l *pipeListener) written() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes
}

type recordedConn struct {
	net.Conn
	l *pipeListener
}

func (c *recordedConn) Write(b []byte) (int, error) {
	c.l.mu.Lock()
	c.l.writes = append(c.l.writes, bytes.Clone(b))
	c.l.mu.Unlock()
	return c.Conn.Write(b)
}

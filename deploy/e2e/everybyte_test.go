package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// cutter is a TCP proxy that ends each connection after a number of bytes of
// the response. It serves one connection at a time, each by a plan of its own.
type cutter struct {
	address string
	plans   chan plan
	results chan cutResult
}

// plan says what becomes of one connection.
type plan struct {
	target string // address behind the proxy
	after  int    // bytes of the response that get through
	reset  bool   // ends by RST instead of FIN
}

// cutResult says what became of it.
type cutResult struct {
	passed int  // bytes that got through
	cut    bool // the proxy ended it, not the client
}

func newCutter(t testing.TB) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{l.Addr().String(), make(chan plan), make(chan cutResult, 1)} // so that the proxy never waits
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := range c.plans {
			conn, err := l.Accept()
			if err != nil {
				c.results <- cutResult{}
				continue
			}
			c.results <- p.serve(conn.(*net.TCPConn))
		}
	}()
	t.Cleanup(func() {
		close(c.plans)
		_ = l.Close()
		<-done
	})
	return c
}

// serve passes one connection on until the response is long enough.
func (p plan) serve(client *net.TCPConn) cutResult {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return cutResult{}
	}
	requests := make(chan struct{})
	go func() { // ends when either side does
		defer close(requests)
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	response := bufio.NewReader(server)
	_, _ = response.Peek(1) // it is answers that are cut, not connections that wait for one
	n, _ := io.CopyN(client, response, int64(p.after))
	cut := n == int64(p.after)
	if cut && p.reset {
		_ = client.SetLinger(0)
	}
	_ = client.Close()
	_ = server.Close()
	<-requests
	return cutResult{int(n), cut}
}

// sweep is one client after the other, each cut after another byte.
type sweep struct {
	bridges []*bridgeProcess
	query   string
	want    []string // payloads of the stream
	reset   bool
}

// readUntilCaughtUp reads one connection, appending the payloads of its records
// to got. whole tells whether the connection lasted until caught-up.
func readUntilCaughtUp(ctx context.Context, c *ssetest.Client, got []string) (_ []string, whole bool, err error) {
	s, err := c.Open(ctx)
	switch {
	case errors.Is(err, ssetest.ErrCut):
		return got, false, nil
	case err != nil:
		return got, false, err
	}
	defer s.Close()
	if s.Status() != 200 {
		return got, false, fmt.Errorf("status %d", s.Status())
	}
	for {
		e, err := s.Next(ctx)
		switch {
		case errors.Is(err, ssetest.ErrCut), errors.Is(err, io.EOF):
			return got, false, nil
		case err != nil:
			return got, false, err
		}
		switch e.Type {
		case "message":
			got = append(got, e.Data)
		case "connected":
		case "caught-up":
			return got, true, nil
		default:
			return got, false, fmt.Errorf("event %s %s", e.Type, e.Data)
		}
	}
}

// client reads the stream by a connection to one bridge that is cut after k
// bytes, and then by another bridge from where it was.
func (s *sweep) client(ctx context.Context, p *cutter, k int) (cutResult, error) {
	first, second := s.bridges[k%len(s.bridges)], s.bridges[(k+1)%len(s.bridges)]
	p.plans <- plan{strings.TrimPrefix(first.URL, "http://"), k, s.reset}
	c := &ssetest.Client{URL: "http://" + p.address + "/events?" + s.query}
	got, whole, err := readUntilCaughtUp(ctx, c, make([]string, 0, len(s.want)))
	result := <-p.results
	if err == nil && !whole {
		c.URL = second.events(s.query)
		got, whole, err = readUntilCaughtUp(ctx, c, got)
	}
	switch {
	case err != nil:
		return result, err
	case !whole:
		return result, errors.New("the second connection ended before it was caught up")
	}
	return result, s.compare(got)
}

// compare tells the first difference between the joined history and the stream.
func (s *sweep) compare(got []string) error {
	for i := range max(len(got), len(s.want)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("the history ends after %d of %d records", len(got), len(s.want))
		case i >= len(s.want):
			return fmt.Errorf("the history goes on with %q after all %d records", got[i], len(s.want))
		case got[i] != s.want[i]:
			return fmt.Errorf("record %d of the history is %q, want %q", i+1, got[i], s.want[i])
		}
	}
	return nil
}

// Connections break anywhere: in the middle of a status line, between an id and
// its blank line, inside the size of a chunk. Wherever it happens, and whichever
// bridge the client comes back to, it gets every record once.
func TestEveryByteMayBeTheLast(t *testing.T) {
	t.Parallel()
	server := natstest.Embedded(t)
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	const records = 200
	publish(t, js, "s", "", 1, records)
	stream := readLife(t, js, "S")
	s := &sweep{query: "start=all", bridges: make([]*bridgeProcess, 3)}
	for _, r := range stream.records {
		s.want = append(s.want, r.data)
	}
	for i := range s.bridges {
		s.bridges[i] = startBridge(t, server.URL, "STREAMS=s=nats:S", "LOG_LEVEL=warn")
	}
	for _, s.reset = range []bool{false, true} {
		t.Run(map[bool]string{false: "FIN", true: "RST"}[s.reset], s.run)
	}
}

// run cuts after byte 0, 1, 2 … until responses are over before the cut.
func (s *sweep) run(t *testing.T) {
	// A response that is not cut. Others may be longer or shorter by a few bytes,
	// as what arrives together shares a chunk.
	uncut, err := s.client(t.Context(), newCutter(t), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	const slack = 256
	var next, cuts, whole, shortest atomic.Int64
	shortest.Store(int64(uncut.passed))
	var workers sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		p := newCutter(t)
		workers.Go(func() {
			for {
				k := int(next.Add(1) - 1)
				if k > uncut.passed+slack || t.Failed() {
					return
				}
				result, err := s.client(t.Context(), p, k)
				if err != nil {
					t.Errorf("cut after byte %d: %v", k, err)
					return
				}
				if result.cut {
					cuts.Add(1)
				} else {
					whole.Add(1)
					if l := int64(result.passed); l < shortest.Load() {
						shortest.Store(l)
					}
				}
			}
		})
	}
	workers.Wait()
	t.Logf("responses of %d bytes or more, %d cuts, %d responses read to the end", shortest.Load(), cuts.Load(), whole.Load())
	if t.Failed() {
		return
	}
	if cuts.Load() < shortest.Load() || whole.Load() == 0 {
		t.Errorf("%d cuts and %d whole responses: want a cut after every one of %d bytes, and beyond the end", cuts.Load(), whole.Load(), shortest.Load())
	}
}

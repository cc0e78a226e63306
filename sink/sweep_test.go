package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/replay"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// socketRig is a whole bridge over a broker in memory, with clients on real
// sockets.
type socketRig struct {
	broker  *sourcetest.Broker
	handler *Handler
	replay  *replay.Replay
	url     string
}

func newSocketRig(t *testing.T, o Options, ring int64) *socketRig {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("connections are taken over on Linux only: run the tests there")
	}
	return newBrokerRig(t, o, ring, true)
}

// newBrokerRig is one whose connections are taken over, or stay with net/http.
func newBrokerRig(t *testing.T, o Options, ring int64, taken bool) *socketRig {
	t.Helper()
	r := &socketRig{broker: sourcetest.NewBroker(sourcetest.BrokerOptions{})}
	stream := bridge.NewStream("orders", r.broker.Source(sourcetest.SourceOptions{OnReset: bridge.ResetSince}), bridge.StreamOptions{})
	hub := bridge.NewHub([]*bridge.Stream{stream}, bridge.HubOptions{RingBytes: ring})
	r.replay = replay.New(hub, replay.Options{})
	o.Streams = []string{"orders"}
	o.Open = func(ctx context.Context, sub *bridge.Subscription) (Follower, error) {
		return r.replay.Open(ctx, sub), nil
	}
	r.handler = NewHandler(o)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + l.Addr().String() + "/events"
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	serve := []func(context.Context) error{hub.Run, func(ctx context.Context) error {
		return NewServer(r.handler, ServerOptions{WriteTimeout: o.WriteTimeout}).Run(ctx, l)
	}}
	if taken {
		serve = append(serve, r.handler.Run)
	}
	for _, run := range serve {
		parts.Go(func() { _ = run(ctx) })
	}
	t.Cleanup(func() {
		stop()
		parts.Wait()
		r.replay.Close()
	})
	r.until(t, "the sweeper and the stream to run", func() bool {
		_, started := stream.Live()
		return started && taken == (r.handler.sweeper.Load() != nil)
	})
	return r
}

// until asks until a condition holds, which nothing tells.
func (r *socketRig) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func (r *socketRig) publish(t *testing.T, n int, text string) {
	t.Helper()
	if _, ok := r.broker.Append(sourcetest.Message{Subject: "a", Data: fmt.Appendf(nil, "%d %s", n, text)}); !ok {
		t.Fatal("append was refused")
	}
}

func (r *socketRig) open(t *testing.T, query string) *ssetest.Stream {
	t.Helper()
	s, err := (&ssetest.Client{URL: r.url + query}).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// numbers reads records until the one numbered last, and returns an error if one
// is missing, doubled or out of order. The first one may be any.
func numbers(ctx context.Context, s *ssetest.Stream, last int) error {
	return numbersOf(func() (ssetest.Event, error) { return s.Next(ctx) }, last)
}

// numbersOf is numbers for whatever hands out events.
func numbersOf(next func() (ssetest.Event, error), last int) error {
	want := 0
	for want <= last {
		e, err := next()
		if err != nil {
			return fmt.Errorf("after record %d: %w", want-1, err)
		}
		if e.Type != "message" {
			continue
		}
		n := 0
		if _, err := fmt.Sscanf(e.Data, "%d ", &n); err != nil {
			return err
		}
		if want > 0 && n != want {
			return fmt.Errorf("got record %d, want %d", n, want)
		}
		want = n + 1
	}
	return nil
}

// sees is whether the handler has so many clients.
func (r *socketRig) sees(clients int) func() bool {
	return func() bool { return r.handler.Clients() == clients }
}

// The reason of it all: thousands of clients that wait must not cost a goroutine
// each, and each must get everything, in order, whoever else leaves meanwhile.
func TestSeatedClientsGetEverythingWithoutAGoroutineEach(t *testing.T) {
	const clients, records = 300, 400
	r := newSocketRig(t, Options{Heartbeat: time.Second}, 1<<20)
	before := runtime.NumGoroutine()
	streams := make([]*ssetest.Stream, clients)
	for i := range streams {
		streams[i] = r.open(t, []string{"", "?subject=a", "?names=off"}[i%3])
		if e, err := streams[i].Next(t.Context()); err != nil || e.Type != "connected" {
			t.Fatalf("got %q, %v", e, err)
		}
	}
	r.until(t, "all clients to be seated", func() bool { return runtime.NumGoroutine() < before+clients/10 })
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for i, s := range streams {
		wg.Go(func() {
			if i%10 == 0 { // hangs up in the midst of it
				_ = numbers(t.Context(), s, records/2)
				s.Close()
				return
			}
			errs <- numbers(t.Context(), s, records)
		})
	}
	for n := range records {
		r.publish(t, n+1, strings.Repeat("x", 200))
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	r.until(t, "those that hung up to be gone", r.sees(clients-clients/10))
}

// A client that hangs up is noticed though nothing is written to it, or a page
// that is closed would count until the next heartbeat.
func TestHangUpOfASeatedClientIsNoticed(t *testing.T) {
	r := newSocketRig(t, Options{Heartbeat: time.Hour}, 1<<20)
	a, b := r.open(t, ""), r.open(t, "")
	for _, s := range []*ssetest.Stream{a, b} {
		for e := (ssetest.Event{}); e.Type != "caught-up"; {
			var err error
			if e, err = s.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.Close()
	r.until(t, "a closed connection to be noticed", r.sees(1))
	if err := b.Reset(); err != nil {
		t.Fatal(err)
	}
	r.until(t, "a reset connection to be noticed", r.sees(0))
}

// More than fits into one write is not left until the next event comes.
func TestLargeBurstsReachSeatedClientsAtOnce(t *testing.T) {
	const records = 400
	r := newSocketRig(t, Options{Heartbeat: time.Hour}, 8<<20) // no sign of life comes to help
	s := r.open(t, "")
	for e := (ssetest.Event{}); e.Type != "caught-up"; {
		var err error
		if e, err = s.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var messages []sourcetest.Message
	for n := range records {
		messages = append(messages, sourcetest.Message{Subject: "a", Data: fmt.Appendf(nil, "%d %s", n+1, strings.Repeat("x", 10_000))})
	}
	for _, m := range messages { // 4 MB, as fast as the reader takes it
		r.broker.Append(m)
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second) // it takes some milliseconds
	defer stop()
	if err := numbers(ctx, s, records); err != nil {
		t.Error(err)
	}
}

// A phone in a tunnel reads nothing for a while. That costs nobody else anything,
// and it goes on exactly where it was, though the ring has long gone on.
func TestClientThatStopsReadingGoesOnExactly(t *testing.T) {
	const records = 3000
	r := newSocketRig(t, Options{WriteTimeout: time.Minute}, 64<<10)
	slow, quick := r.open(t, "?subject=a"), r.open(t, "?subject=a")
	for _, s := range []*ssetest.Stream{slow, quick} {
		if e, err := s.Next(t.Context()); err != nil || e.Type != "connected" {
			t.Fatalf("got %q, %v", e, err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- numbers(t.Context(), quick, records) }()
	for n := range records {
		r.publish(t, n+1, strings.Repeat("x", 4000)) // 12 MB, more than sockets hold
	}
	if err := <-done; err != nil {
		t.Errorf("the client that reads: %v", err)
	}
	if err := numbers(t.Context(), slow, records); err != nil {
		t.Errorf("the client that did not: %v", err)
	}
	if r.replay.Stats().Falls == 0 {
		t.Error("it never fell out of the ring: the test tests nothing")
	}
}

// Goodbyes reach seated clients, too, with a whole response.
func TestSeatedClientsAreDrained(t *testing.T) {
	r := newSocketRig(t, Options{Retry: 100 * time.Millisecond}, 1<<20)
	var streams []*ssetest.Stream
	for range 50 {
		s := r.open(t, "")
		if e, err := s.Next(t.Context()); err != nil || e.Type != "connected" {
			t.Fatalf("got %q, %v", e, err)
		}
		streams = append(streams, s)
	}
	drained := make(chan error, 1)
	go func() { drained <- r.handler.Drain(t.Context(), 0) }()
	for _, s := range streams {
		last := ssetest.Event{}
		for {
			e, err := s.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			last = e
		}
		if last.Type != "closing" || last.ID == "" {
			t.Errorf("the last event is %q, want closing with an id", last)
		}
		s.Close()
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// fakeSharer is a follower that has one batch for each poll.
type fakeSharer struct {
	group  *bridge.Group
	units  [][]byte
	polled int
	early  []time.Duration // of each time it was asked for a sign of life
}

func (f *fakeSharer) Next(ctx context.Context) (bridge.Batch, error) {
	<-ctx.Done()
	return bridge.Batch{}, context.Cause(ctx)
}
func (f *fakeSharer) ID() string           { return "" }
func (f *fakeSharer) Close()               {}
func (f *fakeSharer) Rest()                {}
func (f *fakeSharer) Told(string)          {}
func (f *fakeSharer) Group() *bridge.Group { return f.group }
func (f *fakeSharer) Beat(_ *bridge.Scratch, early time.Duration) bool {
	f.early = append(f.early, early)
	return false
}

func (f *fakeSharer) Poll(s *bridge.Scratch) bool {
	s.Restart()
	f.polled++
	s.Batch.Units = append(s.Batch.Units, f.units...)
	return true
}

// fakeLine keeps what clients are written; some fail.
type fakeLine struct {
	plainLine
	wrote map[*client]string
	fails map[*client]bool
}

func (l *fakeLine) try(s seating, p []byte) (int, error) {
	c := s.c
	if l.fails[c] {
		return 0, net.ErrClosed
	}
	l.wrote[c] += string(p)
	return len(p), nil
}

// What a write has cut is completed at the very byte, however little is taken, and
// each part is counted once.
func TestChunksAreCutWhereTheSocketCutThem(t *testing.T) {
	blocks := [][]byte{[]byte("a"), nil, bytes.Repeat([]byte("b"), 15), bytes.Repeat([]byte("c"), 16), bytes.Repeat([]byte("d"), 4096), nil}
	for _, stored := range []Coding{identity, Gzip, Zstd} {
		for _, before := range []string{"", "begin"} {
			p := &payload{before: before, blocks: blocks, stored: stored}
			head := []byte("HTTP/1.1 200 OK\r\n\r\n")
			var want, content []byte
			var part, room []byte
			want = append(want, head...)
			for i := range p.parts() {
				part, room = p.part(i, room)
				want, content = appendChunk(want, part), append(content, part...)
			}
			for size := 1; size < 40; size++ {
				for skip := range 50 {
					c := chunks{p: p, head: head}
					counted := c.pass(skip)
					got := slices.Clone(want[:skip])
					for !c.ended() {
						piece := c.fill(make([]byte, 0, size))
						if len(piece) == 0 || len(piece) > size {
							t.Fatalf("a piece of %d bytes, want 1 to %d", len(piece), size)
						}
						took := (len(piece) + 1) / 2
						got = append(got, piece[:took]...)
						counted += c.pass(took)
					}
					if !bytes.Equal(got, want) || counted != len(content) {
						t.Fatalf("stored %q, pieces of %d from %d on: %d bytes, want %d; counted %d, want %d", stored, size, skip, len(got), len(want), counted, len(content))
					}
				}
			}
			body, err := io.ReadAll(httputil.NewChunkedReader(io.MultiReader(bytes.NewReader(want[len(head):]), strings.NewReader(lastChunk))))
			if err != nil || !bytes.Equal(body, content) {
				t.Errorf("the chunks do not read back: %v", err)
			}
		}
	}
}

// Blocks are only taken for the same if they are those of the same group.
func TestFramesAreSharedWithinAGroupOnly(t *testing.T) {
	a, b, c := []byte("a"), []byte("b"), []byte("c")
	var f frames
	first := f.of(&payload{blocks: [][]byte{a, b, c}}, nil)
	if again := f.of(&payload{blocks: [][]byte{a, b, c}}, nil); &first[0] != &again[0] {
		t.Error("the same blocks were framed twice")
	}
	f.forget()
	if got, want := string(f.of(&payload{blocks: [][]byte{a, a, c}}, nil)), "1\r\na\r\n1\r\na\r\n1\r\nc\r\n"; got != want {
		t.Errorf("another group's blocks are %q, want %q", got, want)
	}
}

// A client that waits for something to happen keeps little: with thousands of them
// that is most of what the bridge takes.
func TestSeatedClientsKeepLittle(t *testing.T) {
	const clients, bound = 500, 2500 // bytes each, with the test's own end of the connection
	r := newSocketRig(t, Options{}, 1<<20)
	open := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/events"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for got := ""; !strings.Contains(got, "event: caught-up") || !strings.HasSuffix(got, "\n\n\r\n"); {
			var buf [512]byte
			n, err := conn.Read(buf[:])
			if err != nil {
				t.Fatal(err)
			}
			got += string(buf[:n])
		}
		return conn
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // of what pools held
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	open()
	before, goroutines := heap(), runtime.NumGoroutine()
	for range clients {
		open()
	}
	r.until(t, "all clients to be seated", func() bool { return runtime.NumGoroutine() < goroutines+10 })
	each := (heap() - before) / clients
	if each > bound {
		t.Errorf("a client keeps %d bytes, want at most %d", each, bound)
	}
	t.Logf("a client keeps %d bytes", each)
}

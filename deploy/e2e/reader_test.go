package e2e

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// reconnectPause is what a reader waits between two connections.
const reconnectPause = 20 * time.Millisecond

// reader follows one subscription in the background as an EventSource does: it
// connects again by its last event id whenever a connection ends, each time at
// the next of its addresses.
type reader struct {
	t    testing.TB
	stop context.CancelCauseFunc
	done chan struct{}

	mu      sync.Mutex
	urls    []string
	events  history
	opened  int // connections that got a response
	err     error
	cut     context.CancelFunc // ends the present connection
	heard   time.Time          // when the last record came
	silence time.Duration      // the longest time between two records
	changed chan struct{}      // closed and replaced when events, opened or err change
}

// read begins to follow the first of urls from an event id, which may be empty.
// It ends with the test.
func read(t testing.TB, id string, urls ...string) *reader {
	t.Helper()
	ctx, stop := context.WithCancelCause(context.Background())
	r := &reader{t: t, stop: stop, done: make(chan struct{}), urls: urls, changed: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.follow(ctx, &ssetest.Client{LastID: id})
	}()
	t.Cleanup(func() { r.close() })
	return r
}

func (r *reader) follow(ctx context.Context, c *ssetest.Client) {
	for i := 0; ; i++ {
		r.mu.Lock()
		c.URL = r.urls[i%len(r.urls)]
		r.mu.Unlock()
		if err := r.connect(ctx, c); err != nil {
			r.change(func() { r.err = err })
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reconnectPause):
		}
	}
}

// connect reads one connection to its end. An error ends the reader.
func (r *reader) connect(ctx context.Context, c *ssetest.Client) error {
	whole := ctx
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	r.change(func() { r.cut = cut })
	s, err := c.Open(ctx)
	if err != nil {
		return context.Cause(whole) // refused or cut: again
	}
	defer s.Close()
	if s.Status() != 200 {
		body, _ := s.ReadAll(ctx)
		return &statusError{s.Status(), string(body)}
	}
	r.change(func() { r.opened++ })
	for {
		e, err := s.Next(ctx)
		switch {
		case err == nil: // kept even when it is the last: the client has its id
			r.change(func() { r.take(e) })
		case ctx.Err() != nil:
			return context.Cause(whole)
		case errors.Is(err, io.EOF), errors.Is(err, ssetest.ErrCut):
			return nil
		default:
			return err
		}
	}
}

// take keeps an event. It is called with the lock held.
func (r *reader) take(e ssetest.Event) {
	r.events = append(r.events, e)
	if e.Type != "message" {
		return
	}
	now := time.Now()
	if !r.heard.IsZero() {
		r.silence = max(r.silence, now.Sub(r.heard))
	}
	r.heard = now
}

// move ends the present connection, so that the reader goes on at the next of
// its addresses.
func (r *reader) move() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut != nil {
		r.cut()
	}
}

// statusError is an answer that ends an EventSource for good.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return e.body }

func (r *reader) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits until what has been read so far is ok.
func (r *reader) await(what string, ok func(h history) bool) {
	r.t.Helper()
	late := time.After(patience)
	for {
		r.mu.Lock()
		h, changed, err := r.events, r.changed, r.err
		r.mu.Unlock()
		if ok(h) {
			return
		}
		if err != nil {
			r.t.Fatalf("reader ended waiting for %s: %v", what, err)
		}
		select {
		case <-changed:
		case <-late:
			r.t.Fatalf("waited %s for %s; read so far:\n%s", patience, what, h)
		}
	}
}

// awaitData waits for a record whose payload this is.
func (r *reader) awaitData(data string) {
	r.t.Helper()
	r.await("the record "+data, func(h history) bool {
		return slices.ContainsFunc(h, func(e ssetest.Event) bool { return e.Data == data })
	})
}

// awaitType waits for the nth event of a type.
func (r *reader) awaitType(name string, n int) {
	r.t.Helper()
	r.await("an event of type "+name, func(h history) bool { return len(h.only(name)) >= n })
}

// connections counts the connections so far that got a response.
func (r *reader) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opened
}

// close ends the reader and returns all that it read.
func (r *reader) close() history {
	r.stop(errStopped)
	<-r.done
	return r.events
}

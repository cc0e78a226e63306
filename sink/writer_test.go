package sink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// A proxy that cuts a response inside its head ends EventSource for good, so
// the head must not travel alone when there is something to send with it.
func TestHeadAndFirstBlockLeaveInOneWrite(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		b.open(b.client("/events"))
		writes := b.listener.written()
		if len(writes) != 1 || !bytes.HasPrefix(writes[0], []byte("HTTP/1.1 200 OK\r\n")) || !bytes.Contains(writes[0], []byte("id: 1\n\n")) {
			t.Errorf("writes %q, want head and first block in one", writes)
		}
	})
}

// A head that is cut in two ends EventSource for good if its type is not whole,
// so nothing may come in front of it, on whatever headers there are.
func TestTheTypeIsTheFirstHeader(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		origins, err := ParseOrigins([]string{"https://app.example"})
		if err != nil {
			t.Fatal(err)
		}
		b := start(t, Options{Origins: origins})
		c := b.client("/events")
		c.Header = map[string]string{"Origin": "https://app.example"}
		s, _ := b.open(c)
		if head := b.listener.written()[0]; !bytes.HasPrefix(head, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")) {
			t.Errorf("head begins %.200q, want the type in front", head)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-cache, no-transform", "Content-Security-Policy": "default-src 'none'", "Access-Control-Allow-Origin": "https://app.example",
		} {
			if got := s.Header(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
}

// A client must not be left without a sign of life while verdicts take long,
// and what comes first then comes all the same.
func TestHeadLeavesAloneAfterASecond(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		began := time.Now()
		s, err := b.client("/events").Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if waited := time.Since(began); waited != headWait || s.Status() != 200 {
			t.Errorf("status %d after %v, want 200 after %v", s.Status(), waited, headWait)
		}
		f := <-b.opened
		f.steps <- step{blocks: "data: a\nid: 2\n\n"}
		b.next(s, ssetest.Event{Type: "message", Data: "a", ID: "2"})
	})
}

// What a follower returns must reach the client at once and in whole chunks:
// some clients hand on nothing less.
func TestEveryStepIsFlushedAsOneChunk(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		s, f := b.open(b.client("/events"))
		go func() {
			f.steps <- step{blocks: ":\n"}
			f.steps <- step{blocks: "data: a\nid: 2\n\n"}
		}()
		b.next(s, ssetest.Event{Type: "message", Data: "a", ID: "2"})
		if s.Chunks() != 3 || s.Comments() != 1 {
			t.Errorf("%d chunks, %d heartbeats, want 3 and 1", s.Chunks(), s.Comments())
		}
	})
}

// The client's way out: its follower is closed, or its place in a group would
// be kept for ever.
func TestFollowerIsClosedWhenTheClientLeaves(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		s, f := b.open(b.client("/events"))
		s.Close()
		<-f.closed
		synctest.Wait()
		if n := b.handler.Clients(); n != 0 {
			t.Errorf("%d clients are left", n)
		}
	})
}

// A client that takes nothing must not hold what the bridge keeps for it.
func TestClientThatTakesNothingIsClosedAfterTheWriteTimeout(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{WriteTimeout: 10 * time.Second})
		s, f := b.open(b.client("/events"))
		began := time.Now()
		f.steps <- step{blocks: "data: a\nid: 2\n\n"} // and nobody reads it
		<-f.closed
		if _, err := s.Next(t.Context()); !errors.Is(err, ssetest.ErrCut) {
			t.Errorf("the client sees %v, want a cut", err)
		}
		if got := time.Since(began); got != 10*time.Second {
			t.Errorf("closed after %v, want 10s", got)
		}
	})
}

// Slow is not stuck: a large event over a thin line takes longer than the
// timeout as a whole.
func TestSlowClientIsNotClosedWhileItTakesBytes(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{WriteTimeout: 10 * time.Second})
		near, err := b.listener.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		send(near, "GET /events HTTP/1.0\r\nHost: bridge.test\r\n\r\n")
		f := <-b.opened
		block := "data: " + strings.Repeat("x", 256<<10) + "\n\n"
		f.steps <- step{blocks: block}
		go func() { f.steps <- step{err: bridge.ErrNoStream} }()
		var got []byte
		for buf := make([]byte, 4<<10); ; time.Sleep(2 * time.Second) {
			n, err := near.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		if _, body, _ := bytes.Cut(got, []byte("\r\n\r\n")); string(body) != block {
			t.Errorf("got %d bytes of %d", len(body), len(block))
		}
	})
}

// A response that ends after a long silence must not look cut to its client:
// some libraries give up then.
func TestEndAfterALongSilenceIsClean(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{WriteTimeout: 5 * time.Second})
		s, f := b.open(b.client("/events"))
		go func() {
			time.Sleep(time.Minute)
			f.steps <- step{err: bridge.ErrNoStream}
		}()
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want a clean end", err)
		}
	})
}

// nginx asks with HTTP/1.0 unless told otherwise, and knows no chunks there.
func TestHTTP10GetsABodyThatEndsWithTheConnection(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		c := b.client("/events")
		c.HTTP10 = true
		s, f := b.open(c)
		if s.Chunked() || s.Header("Content-Length") != "" {
			t.Errorf("chunked %v, length %q, want neither", s.Chunked(), s.Header("Content-Length"))
		}
		f.steps <- step{blocks: "data: a\n\n", err: bridge.ErrNoStream}
		b.next(s, ssetest.Event{Type: "message", Data: "a", ID: "1"})
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end", err)
		}
	})
}

// Over HTTP/2 a deadline that was only meant for a write must not end a stream
// that has nothing to say for longer.
func TestSilenceLongerThanTheWriteTimeoutOverHTTP2(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{WriteTimeout: 5 * time.Second})
		transport := &http.Transport{DialContext: b.listener.dial, Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://bridge.test/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			f := <-b.opened
			f.steps <- step{blocks: "data: a\n\n"}
			time.Sleep(time.Minute)
			f.steps <- step{blocks: "data: b\n\n", err: bridge.ErrNoStream}
		}()
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if resp.ProtoMajor != 2 || string(body) != "data: a\n\ndata: b\n\n" || err != nil {
			t.Errorf("%s: got %q, %v", resp.Proto, body, err)
		}
		stop()
		transport.CloseIdleConnections()
	})
}

// One error, two answers: a status while it can still be said, otherwise the
// last blocks and a clean end. Statuses other than 200 end EventSource, so they
// are kept for what does not pass by itself.
func TestErrorsOfTheFollower(t *testing.T) {
	reset := &bridge.ResetError{Stream: "orders", Finding: bridge.Finding{Reason: bridge.Recreated}}
	closing := "event: closing\ndata: {\"reason\":\"overload\"}\nretry: 6000\n"
	tests := []struct {
		name   string
		step   step
		status int
		body   string // part of it, if the error comes first
		after  string // whole, if it comes after the head
	}{
		{"no stream", step{err: bridge.ErrNoStream}, 404, `"code":"no-stream"`, ""},
		{"refused stream", step{err: bridge.ErrRefused}, 404, `"code":"refused-stream"`, ""},
		{"too many feeds", step{err: bridge.ErrTooManyFeeds, id: validID}, 200, closing + "id: " + validID + "\n\n", closing + "id: " + validID + "\n\n"},
		{"too many filters", step{err: bridge.ErrTooManyFilters}, 200, closing + "\n", closing + "\n"},
		{"reset", step{err: reset, blocks: "event: reset\ndata: {}\n\n"}, 410, `"code":"reset"`, "event: reset\ndata: {}\n\n"},
		{"unknown", step{err: errors.New("secret detail")}, 500, `"code":"internal"`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				b := start(t, Options{})
				go func() { (<-b.opened).steps <- tt.step }()
				s, body := b.get(b.client("/events"))
				if s.Status() != tt.status || !strings.Contains(body, tt.body) || strings.Contains(body, "secret") {
					t.Errorf("got %d %s, want %d with %s", s.Status(), body, tt.status, tt.body)
				}
				go func() {
					f := <-b.opened
					time.Sleep(2 * headWait)
					f.steps <- tt.step
				}()
				if s, body := b.get(b.client("/events")); s.Status() != 200 || body != tt.after {
					t.Errorf("after the head: got %d %q, want 200 %q", s.Status(), body, tt.after)
				}
			})
		})
	}
}

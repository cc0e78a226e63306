package ssetest

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// answer serves one connection: it reads the request head and writes text.
func answer(t *testing.T, text string, hold bool) (client *Client, request <-chan string) {
	t.Helper()
	requests := make(chan string, 2) // as many as a test connects
	return &Client{
		URL: "http://bridge:8480/events?stream=orders",
		Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			gone := make(chan struct{})
			t.Cleanup(func() {
				_, _ = near.Close(), far.Close()
				<-gone
			})
			go func() {
				defer close(gone)
				var head []byte
				for buf := make([]byte, 1024); !strings.HasSuffix(string(head), "\r\n\r\n"); {
					n, err := far.Read(buf)
					if err != nil {
						return
					}
					head = append(head, buf[:n]...)
				}
				requests <- string(head)
				_, _ = io.WriteString(far, text) // fails where the client cuts
				if !hold {
					far.Close()
				}
			}()
			return near, nil
		},
	}, requests
}

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"

// Chunk borders may fall anywhere in an event; what matters is the body, and
// that a complete response is told from one whose last chunk is missing.
func TestClientReadsChunksAndTellsEndFromCut(t *testing.T) {
	body := "9\r\nid: 1\ndat\r\n5;x=y\r\na: a\n\r\n1\r\n\n\r\n"
	for name, tt := range map[string]struct {
		tail string
		want error
	}{
		"ended":              {"0\r\n\r\n", io.EOF},
		"cut":                {"", ErrCut},
		"cut in last chunk":  {"0\r\n", ErrCut},
		"cut within a chunk": {"9\r\nid: 2\n", ErrCut},
		"bad size":           {"zz\r\n", errMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			c, request := answer(t, head+body+tt.tail, false)
			c.LastID = "0"
			s, err := c.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r := <-request; !strings.HasPrefix(r, "GET /events?stream=orders HTTP/1.1\r\n") || !strings.Contains(r, "\r\nLast-Event-ID: 0\r\n") {
				t.Errorf("request %q", r)
			}
			e, err := s.Next(t.Context())
			if want := (Event{"message", "a", "1"}); e != want || err != nil {
				t.Errorf("got %q, %v, want %q", e, err, want)
			}
			if _, err := s.Next(t.Context()); !errors.Is(err, tt.want) || errors.Is(err, io.EOF) && errors.Is(err, ErrCut) {
				t.Errorf("at the end got %v, want %v", err, tt.want)
			}
			if c.LastID != "1" {
				t.Errorf("last id %q, want 1", c.LastID)
			}
		})
	}
}

// Tests that cut at every byte rely on the exact count, and on an id that is
// not taken before its blank line was read.
func TestClientCutsAfterTheGivenByte(t *testing.T) {
	text := head + "10\r\ndata: a\nid: 17\n\n\r\n" + "0\r\n\r\n"
	commit := int64(strings.Index(text, "17\n\n") + len("17\n\n"))
	for cut := int64(1); cut <= int64(len(text)); cut++ {
		c, _ := answer(t, text, true)
		c.CutAfter = cut
		s, err := c.Open(t.Context())
		if err == nil {
			_, err = s.Next(t.Context())
		}
		if err == nil {
			_, err = s.Next(t.Context())
		}
		if cut < int64(len(text)) != errors.Is(err, ErrCut) {
			t.Errorf("cut after %d of %d: %v", cut, len(text), err)
		}
		if want := cut >= commit; (c.LastID == "17") != want {
			t.Errorf("cut after %d: last id %q, committed at %d", cut, c.LastID, commit)
		}
	}
}

// A body that ends with the connection is what HTTP/1.0 clients get.
func TestClientReadsOpenBody(t *testing.T) {
	c, _ := answer(t, "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n", false)
	c.HTTP10 = true
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e, err := s.Next(t.Context()); e.Data != "a" || err != nil {
		t.Errorf("got %q, %v", e, err)
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) || s.Chunked() {
		t.Errorf("got %v, chunked %v, want io.EOF", err, s.Chunked())
	}
}

// A wait that is given up must not lose what comes later.
func TestNextGoesOnAfterItsContextEnded(t *testing.T) {
	c, _ := answer(t, head+"5\r\ndata:\r\n", true)
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline of the context", err)
		}
		stop()
	}
}

// Bodies that are no event streams are for the test to read.
func TestClientKeepsOtherBodies(t *testing.T) {
	c, _ := answer(t, "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{}", true)
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if body, err := s.ReadAll(t.Context()); string(body) != "{}" || err != nil || s.Status() != 404 {
		t.Errorf("got %d %q, %v", s.Status(), body, err)
	}
}

// Follow is the browser's loop: it goes on by the last id until told to stop,
// and gives up on a refusal.
func TestFollowGoesOnWithTheLastID(t *testing.T) {
	c, requests := answer(t, head+"e\r\ndata: a\nid: 5\n\r\n1\r\n\n\r\n", false)
	seen := 0
	err := c.Follow(t.Context(), time.Millisecond, func(Event) bool { seen++; return seen < 2 })
	if err != nil || seen != 2 {
		t.Errorf("got %v after %d events, want 2", err, seen)
	}
	if r := <-requests; strings.Contains(r, "Last-Event-ID") {
		t.Errorf("first request has an id: %q", r)
	}
}

// A connection that ends before its first block, because of a cut or because
// somebody had nothing to say, must not cost the client its place.
func TestConnectionWithoutBlocksKeepsTheLastID(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":    "0\r\n\r\n",
		"comment":    "2\r\n:\n\r\n0\r\n\r\n",
		"half block": "10\r\ndata: a\nid: 123\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := answer(t, head+body, false)
			c.LastID = "7"
			s, err := c.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if e, err := s.Next(t.Context()); err == nil {
				t.Fatalf("got %+v, want an end", e)
			}
			if c.LastID != "7" {
				t.Errorf("last id %q, want 7", c.LastID)
			}
		})
	}
}

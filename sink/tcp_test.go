package sink

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// What holds over pipes must hold over sockets: the first event arrives, and a
// reset connection lets go of its follower.
func TestOverTCP(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &script{steps: make(chan step, 1), closed: make(chan struct{})}
	h := NewHandler(Options{Open: func(context.Context, *bridge.Subscription) (Follower, error) { return f, nil }})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(h, ServerOptions{}).Run(ctx, ln) }()

	f.steps <- step{blocks: "data: a\nid: 1\n\n"}
	c := &ssetest.Client{URL: "http://" + ln.Addr().String() + "/events"}
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e, err := s.Next(t.Context()); e.Data != "a" || err != nil {
		t.Errorf("got %q, %v", e, err)
	}
	if err := s.Reset(); err != nil {
		t.Error(err)
	}
	<-f.closed
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("server ended with %v", err)
	}
}

// A port that fails must end the process's part, not leave it deaf.
func TestServerRunTellsThatItsListenerFailed(t *testing.T) {
	ln := newPipeListener()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	err := NewServer(NewHandler(Options{}), ServerOptions{}).Run(t.Context(), ln)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want the listener's error", err)
	}
}

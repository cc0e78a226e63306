package sink

import (
	"errors"
	"net"
	"testing"
)

// readyListener has a connection at any time.
type readyListener struct {
	net.Listener
	closed bool
}

func (l *readyListener) Accept() (net.Conn, error) {
	if l.closed {
		return nil, net.ErrClosed
	}
	return nil, nil
}

func (l *readyListener) Close() error {
	l.closed = true
	return nil
}

// However many clients come at once, live ones have their turn in between.
func TestListenerLetsOthersRunInBetween(t *testing.T) {
	rests := 0
	l := &pacedListener{Listener: &readyListener{}, rest: func() { rests++ }}
	for i := range 10 * paceConnections {
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		if want := i / paceConnections; rests != want {
			t.Fatalf("others had %d turns before connection %d, want %d", rests, i+1, want)
		}
	}
}

// A server that ends must not wait in its listener, nor one that goes on.
func TestPacedListenerGoesOnAndEnds(t *testing.T) {
	l := paced(&readyListener{})
	for range 3 * paceConnections {
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 * paceConnections {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("a closed listener says %v", err)
		}
	}
}

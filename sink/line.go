package sink

import (
	"context"
	"sync"
	"time"
)

// line is how a shard reaches the connections of its clients: without waiting,
// and told when one ends.
type line interface {
	// try writes as much as the socket takes at once. Less than p is no error. It is
	// for the shard's goroutine.
	try(s seating, p []byte) (n int, err error)
	// watch begins to look after a client's connection, whoever serves it, until
	// unwatch. It returns false for one that has ended, or that cannot be watched.
	watch(c *client) bool
	unwatch(c *client)
	// run calls gone, after it has stopped the client, for each one that is watched
	// and whose connection ends, until ctx does.
	run(ctx context.Context, gone func(*client))
}

// plainLine is a line by nothing but net.Conn: it never takes a byte, so that all
// are written by goroutines that wait, and one more goroutine for each client
// waits for its end. It stands for the others in tests, over connections of any
// kind.
type plainLine struct {
	mu      sync.Mutex
	watches map[*client]chan struct{} // closed when the reader has ended
	gone    func(*client)
}

func (l *plainLine) try(seating, []byte) (int, error) { return 0, nil }

func (l *plainLine) watch(c *client) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watches == nil {
		l.watches = map[*client]chan struct{}{}
	}
	ended := make(chan struct{})
	l.watches[c] = ended
	_ = c.out.conn.SetReadDeadline(time.Time{})
	go func() { // unwatch waits for it
		defer close(ended)
		var b [1]byte
		for {
			if _, err := c.out.conn.Read(b[:]); err != nil {
				break
			}
		}
		l.mu.Lock()
		gone, watched := l.gone, l.watches[c] == ended
		l.mu.Unlock()
		if watched && gone != nil {
			c.stop(errClientGone)
			gone(c)
		}
	}()
	return true
}

func (l *plainLine) unwatch(c *client) {
	l.mu.Lock()
	ended := l.watches[c]
	delete(l.watches, c)
	l.mu.Unlock()
	_ = c.out.conn.SetReadDeadline(time.Unix(1, 0))
	<-ended
}

func (l *plainLine) run(ctx context.Context, gone func(*client)) {
	l.mu.Lock()
	l.gone = gone
	l.mu.Unlock()
	<-ctx.Done()
}

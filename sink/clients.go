package sink

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// closing is the reason with which the bridge ends a response. As the cause of
// a client's context it ends the client.
type closing string

const (
	closingDrain    closing = "drain"
	closingOverload closing = "overload"
	closingMaxAge   closing = "max-age"
)

func (c closing) Error() string { return "closing " + string(c) }

// errForced ends a client that a drain could not wait for.
var errForced = errors.New("drain was given up")

// client is one connection that is being served.
type client struct {
	number uint64 // in the order in which they came
	close  context.CancelCauseFunc
	abort  func() // makes its writes fail, one that is under way too
}

// clients are all connections that are being served, and the door to them.
type clients struct {
	max int

	mu       sync.Mutex
	rate     bucket
	last     uint64
	open     map[uint64]*client
	draining bool
	gone     chan struct{} // once draining: closed when open is empty
}

// enter lets c in, or says why not.
func (cs *clients) enter(c *client, now time.Time) (refused closing) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	switch {
	case cs.draining:
		return closingDrain
	case cs.max > 0 && len(cs.open) >= cs.max, !cs.rate.take(now):
		return closingOverload
	}
	if cs.open == nil {
		cs.open = map[uint64]*client{}
	}
	cs.last++
	c.number = cs.last
	cs.open[c.number] = c
	return ""
}

// leave lets c go.
func (cs *clients) leave(c *client) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c.number)
	if cs.draining && len(cs.open) == 0 {
		close(cs.gone)
	}
}

// drain closes the door. It returns who is inside, those that came first in
// front, and a channel that is closed when all have left.
func (cs *clients) drain() (inside []*client, gone <-chan struct{}) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !cs.draining {
		cs.draining = true
		cs.gone = make(chan struct{})
		if len(cs.open) == 0 {
			close(cs.gone)
		}
	}
	for _, c := range cs.open {
		inside = append(inside, c)
	}
	slices.SortFunc(inside, func(a, b *client) int { return cmp.Compare(a.number, b.number) })
	return inside, cs.gone
}

// isDraining reports whether the door is closed.
func (cs *clients) isDraining() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.draining
}

// count returns how many are inside.
func (cs *clients) count() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.open)
}

// bucket is a token bucket that holds up to one second's worth, full at first.
type bucket struct {
	perSecond float64 // 0: no bound
	tokens    float64
	at        time.Time // of tokens; zero: full
}

// take takes one token if there is one.
func (b *bucket) take(now time.Time) bool {
	if b.perSecond == 0 {
		return true
	}
	if b.at.IsZero() {
		b.tokens = b.perSecond
	} else {
		b.tokens = min(b.perSecond, b.tokens+now.Sub(b.at).Seconds()*b.perSecond)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

package sink

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// closing is the reason with which the bridge ends a response. As the cause of
// a client's context it ends the client.
type closing string

const (
	closingDrain      closing = "drain"
	closingOverload   closing = "overload"
	closingMaxAge     closing = "max-age"
	closingDisconnect closing = "disconnect"
)

func (c closing) Error() string { return "closing " + string(c) }

// errForced ends a client that a drain could not wait for.
var errForced = errors.New("drain was given up")

// client is one connection that is being served. Whoever serves it, a goroutine or
// a shard, has it alone but for what says otherwise.
type client struct {
	out response // first, as a delivery begins with its counters

	number uint64 // in the order in which they came
	who    peer
	sub    *bridge.Subscription
	f      Follower // nil until it is opened

	stopping
	age     *time.Timer // ends it; nil: never
	opened  atomic.Bool // f is there for anybody
	closing atomic.Bool // it is told, or will be at the next event boundary
	watched bool        // its line tells when the connection ends

	// Of a connection that was taken over.
	sweeper *sweeper              // nil: it was not
	shard   atomic.Pointer[shard] // in which it may sit; anybody reads it
	seats   *seats                // nil: it does not sit
	seat    int                   // index in seats
	sat     time.Time             // when it first did; zero: not yet
	key     uint64                // by which its line knows it
	late    *bridge.Batch         // whose rest is still to be written; nil: none
}

// close ends the client with a reason.
func (c *client) close(reason error) {
	c.closing.Store(true)
	c.stop(reason)
	if sh := c.shard.Load(); sh != nil {
		sh.end(c)
	}
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

// drain closes the door. It returns who is inside, in any order, and a channel
// that is closed when all have left.
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
	return slices.Collect(maps.Values(cs.open)), cs.gone
}

// inside returns who is inside, in any order.
func (cs *clients) inside() []*client {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return slices.Collect(maps.Values(cs.open))
}

// find returns the client of a number, nil if it is not inside.
func (cs *clients) find(number uint64) *client {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.open[number]
}

// sortClients puts those that came first in front.
func sortClients(list []*client) {
	slices.SortFunc(list, func(a, b *client) int { return cmp.Compare(a.number, b.number) })
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

// came returns how many were ever let in.
func (cs *clients) came() uint64 {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.last
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

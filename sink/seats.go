package sink

import (
	"syscall"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// Newcomers settle when a storm is over: in calmTime not more came than one for every
// calmPart that are there. Those of one that goes on settle after settleAfter.
const (
	calmTime    = 250 * time.Millisecond
	calmPart    = 32
	settleAfter = 5 * time.Second
)

// seats are the clients of one group in one shard. Those that have settled are
// written before newcomers, so that thousands that come at once do not hold them up.
//
//	clients  ┌─ settled ─────┬─ newcomers ──────────┐
//	         └────▲──────────┴────────▲─────────────┘
//	              first               next: owed of them, from here on and round
//
// Both begin at another client each time, so that none is always last.
type seats struct {
	group   *bridge.Group
	clients []seating
	settled int // so many have
	first   int // settled client with which the next sweep begins

	next  int           // newcomer whose turn it is
	owed  int           // turns that newcomers are to have: each that is owed one is among the next so many
	beats time.Duration // for those turns, as of [shard.sweep]
	due   bool          // it is in the shard's due

	unwatch func() // of group
	fresh   bool   // it is in the inbox; guarded by the shard's mu
}

// seating is a client that wants a seat, or has one.
type seating struct {
	c      *client
	f      sharer
	socket syscall.RawConn // of c: what each sweep needs lies together
}

// newcomers is how many there are.
func (g *seats) newcomers() int { return len(g.clients) - g.settled }

// add gives a client a seat. It has settled if it first sat before a time.
func (g *seats) add(s seating, before time.Time) {
	s.c.seats, s.c.seat = g, len(g.clients)
	g.clients = append(g.clients, s)
	if g.owed > 0 {
		g.owed++ // it may be in front of some that are owed one
	}
	g.settle(s.c, before)
}

// settle moves a newcomer to those that have settled if it first sat before a time. It
// is to be served after that, as it loses the turn that it is owed.
func (g *seats) settle(c *client, before time.Time) {
	if !c.sat.Before(before) {
		return
	}
	at := c.seat
	g.clients[at], g.clients[g.settled] = g.clients[g.settled], g.clients[at]
	g.clients[at].c.seat, c.seat = at, g.settled
	g.settled++
	g.oweAll()
}

// settleAll does so with all newcomers.
func (g *seats) settleAll(before time.Time) {
	for i := g.settled; i < len(g.clients); i++ {
		g.settle(g.clients[i].c, before)
	}
}

// remove takes the seat from a client. The last ones of the settled and of the
// newcomers close the rows.
func (g *seats) remove(c *client) {
	at, last := c.seat, len(g.clients)-1
	if at < g.settled {
		g.settled--
		g.move(g.settled, at)
		at = g.settled
	}
	if at != last {
		g.move(last, at)
	}
	g.clients[last] = seating{}
	g.clients = g.clients[:last]
	c.seats = nil
	g.oweAll()
}

func (g *seats) move(from, to int) {
	g.clients[to] = g.clients[from]
	g.clients[to].c.seat = to
}

// oweAll owes all newcomers a turn if any is owed one: they have changed places, and
// nobody knows any more which of them it was.
func (g *seats) oweAll() {
	if g.owed > 0 {
		g.owed = g.newcomers()
	}
}

// turn returns the newcomer whose turn it is, which it is owed.
func (g *seats) turn() seating {
	g.owed--
	if g.next < g.settled || g.next >= len(g.clients) {
		g.next = g.settled
	}
	g.next++
	return g.clients[g.next-1]
}

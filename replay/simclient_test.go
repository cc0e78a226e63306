package replay

import (
	"context"
	"slices"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// simClient is a client that comes back with the last id it committed, and the
// oracle of what it must be told.
type simClient struct {
	w      *simWorld
	number int
	names  []string
	filter bridge.Filter
	keys   []bool // by key: the filter matches it
	start  bridge.Start
	reset  bridge.OnReset

	id   string // last committed; empty: none yet
	pos  bridge.ID
	conn *simConn
	seen map[string]map[int32]*simSeen
}

// simSeen is what a client has been told of one partition, in the life of it
// that the client knows. The zero value begins at the first record.
type simSeen struct {
	start  bridge.Offset // nothing below is owed
	next   bridge.Offset // nothing below may come again
	exempt bridge.Offset // below it, what retention took is not owed: a rollback may hide behind it
	got    map[int]bridge.Offset
	gaps   [][2]bridge.Offset
}

func (c *simClient) of(stream string, partition int32) *simSeen {
	if c.seen[stream] == nil {
		c.seen[stream] = map[int32]*simSeen{}
	}
	s := c.seen[stream][partition]
	if s == nil {
		s = &simSeen{got: map[int]bridge.Offset{}}
		c.seen[stream][partition] = s
	}
	return s
}

// simConn is one connection of a client. Its goroutine calls Next whenever the
// scheduler asks for it.
type simConn struct {
	replica  *simReplica
	follower *Follower
	stop     context.CancelFunc
	pull     chan struct{}
	results  chan simResult
	ended    chan struct{}
	pulling  bool // Next is under way
	stuck    bool
	inbox    []simEvent
	since    int // the move that began it
	first    bool
	caughtUp int
}

type simResult struct {
	events []simEvent
	id     string // what the follower says of its position
	err    error
}

func (w *simWorld) connect(c *simClient, r *simReplica) {
	var from bridge.ID
	if c.id != "" {
		from, _ = bridge.ParseID(c.id)
	}
	w.log("c%d connects to r%d %v filter %v start %v reset %q from %s", c.number, r.number, c.names, c.filter.Patterns(), c.start.Kind, c.reset, c.id)
	ctx, stop := context.WithCancel(context.Background())
	k := &simConn{
		replica: r, stop: stop, since: w.moves, first: true,
		pull: make(chan struct{}), results: make(chan simResult, 1), ended: make(chan struct{}),
		follower: r.replay.Open(ctx, &bridge.Subscription{
			Names: c.names, Filter: c.filter, Form: bridge.Form{Encoder: simEncoder{}}, Control: true, From: from,
			Start: &c.start, OnReset: c.reset, Heartbeat: 15 * time.Second,
		}),
	}
	c.conn = k
	go func() {
		defer close(k.ended)
		for range k.pull {
			b, err := k.follower.Next(ctx)
			res := simResult{err: err, id: k.follower.ID()}
			for _, u := range b.Units {
				res.events = append(res.events, simDecode(u))
			}
			k.results <- res
		}
	}()
}

// cut ends the connection between two events: what was not committed is gone.
func (w *simWorld) cut(c *simClient) {
	k := c.conn
	k.stop()
	close(k.pull)
	<-k.ended
	if id := k.follower.ID(); id != "" && len(k.inbox) == 0 && len(k.results) == 0 && w.rnd.IntN(3) == 0 {
		// The bridge ends the response itself, with the position in the last block.
		c.end(id)
	}
	w.log("c%d is cut with %s", c.number, c.id)
	k.follower.Close()
	c.conn = nil
}

// end takes the position that the last block of a response carries.
func (c *simClient) end(id string) {
	pos, err := bridge.ParseID(id)
	if err != nil || c.id != "" && !reaches(id, c.id) {
		c.w.fail("POSITION c%d: ID() is %s in the end, after %s, %v", c.number, id, c.id, err)
		return
	}
	if c.conn.first {
		c.connected(pos)
	}
	c.id, c.pos = id, pos
}

// reaches reports whether an id stands at or behind another in every place that
// both have in the same life.
func reaches(a, b string) bool {
	above, err := bridge.ParseID(a)
	if err != nil {
		return false
	}
	below, err := bridge.ParseID(b)
	if err != nil {
		return false
	}
	for _, part := range below {
		now, ok := above.Lookup(part.Stream)
		for p, pl := range part.Position.Places {
			if !ok || now.Incarnation == part.Position.Incarnation && now.Place(int32(p)).Offset < pl.Offset {
				return false
			}
		}
	}
	return true
}

// pump lets a client read one event; it reports whether there was one.
func (w *simWorld) pump(c *simClient) bool {
	k := c.conn
	if len(k.inbox) == 0 {
		if !k.pulling {
			k.pulling = true
			k.pull <- struct{}{}
			synctest.Wait()
		}
		select {
		case res := <-k.results:
			k.pulling = false
			k.inbox = res.events
			for _, e := range slices.Backward(res.events) {
				if e.id != "" {
					if !reaches(res.id, e.id) {
						w.fail("POSITION c%d: ID() is %s after an event with %s", c.number, res.id, e.id)
					}
					break
				}
			}
			if res.err != nil {
				w.fail("ENDED c%d: %v", c.number, res.err)
			}
		default:
		}
	}
	if len(k.inbox) == 0 {
		return false
	}
	e := k.inbox[0]
	k.inbox = k.inbox[1:]
	w.log("   c%d <- %v", c.number, e)
	c.take(e)
	return true
}

// take is the oracle: what a client may be told in its present state.
func (c *simClient) take(e simEvent) {
	w := c.w
	if first := c.conn.first; first != (e.kind == "connected") && e.kind != "heartbeat" {
		w.fail("FIRST c%d: %v", c.number, e)
		return
	}
	id := c.pos
	if e.id != "" {
		var err error
		if id, err = bridge.ParseID(e.id); err != nil {
			w.fail("ID c%d: %v", c.number, err)
			return
		}
	} else if e.kind != "heartbeat" {
		w.fail("NO ID c%d: %v", c.number, e)
	}
	switch e.kind {
	case "connected":
		c.conn.first = false
		if c.id == "" && e.resume == "reset" {
			w.fail("FALSE RESET c%d, which has no position: %v", c.number, e)
		}
		c.connected(id)
	case "record":
		c.record(e, id)
	case "gap":
		c.gap(e, id)
	case "reset":
		c.resets(e, id)
	case "caught-up":
		if c.conn.caughtUp++; c.conn.caughtUp > 1 {
			w.fail("CAUGHT UP TWICE c%d", c.number)
		}
	}
	c.compare(e, id)
	if e.id != "" {
		c.id, c.pos = e.id, id
	}
}

// connected must tell the caller's own position, or where a new one starts.
func (c *simClient) connected(id bridge.ID) {
	if c.id == "" {
		for _, part := range id {
			for p, pl := range part.Position.Places {
				s := c.of(part.Stream, int32(p))
				s.start, s.next = pl.Offset, pl.Offset
			}
		}
		return
	}
	for _, part := range c.pos {
		now, _ := id.Lookup(part.Stream)
		for p, pl := range part.Position.Places {
			if now.Place(int32(p)) != pl || now.Incarnation != part.Position.Incarnation {
				c.w.fail("CONNECTED c%d: came with %s, told %s", c.number, c.id, id)
			}
		}
	}
}

func (c *simClient) record(e simEvent, id bridge.ID) {
	w, s := c.w, c.of(e.stream, e.partition)
	w.stats.records++
	if _, twice := s.got[e.uid]; twice {
		w.fail("DUPLICATE c%d %v", c.number, e)
	}
	if e.offset < s.next {
		w.fail("ORDER c%d %v after %d", c.number, e, s.next-1)
	}
	truth := w.truth[e.uid]
	if truth.stream != e.stream || truth.partition != e.partition || !c.keys[truth.key] {
		w.fail("WRONG RECORD c%d %v, truth %+v", c.number, e, truth)
	}
	if died := w.died[e.uid]; died > 0 && died < c.conn.since {
		w.fail("DEAD RECORD c%d %v, lost by the broker before the connection began", c.number, e)
	}
	if truth.aborted {
		w.fail("ABORTED c%d %v", c.number, e)
	}
	s.got[e.uid], s.next = e.offset, e.offset+1
	if at := placeIn(id, e.stream, e.partition); at.Offset != e.offset+1 {
		w.fail("RECORD ID c%d %v", c.number, e)
	}
}

func (c *simClient) gap(e simEvent, id bridge.ID) {
	w, s := c.w, c.of(e.stream, e.partition)
	w.stats.gaps++
	at := placeIn(id, e.stream, e.partition)
	if e.reason == bridge.TooLarge {
		if e.from != e.to || e.from < s.next || at.Offset != e.to+1 {
			w.fail("OVERSIZED c%d %v after %d", c.number, e, s.next-1)
		}
		uid := w.oversized[w.place(e.stream, positionIn(id, e.stream).Incarnation, e.partition, at)]
		if _, twice := s.got[uid]; uid == 0 || twice {
			w.fail("OVERSIZED c%d %v is u%d, twice %v", c.number, e, uid, twice)
		}
		s.got[uid], s.next = e.from, e.to+1
		return
	}
	b := w.brokers[e.stream]
	current := b.Incarnation() == positionIn(id, e.stream).Incarnation
	if first := b.Ends(e.partition).First; current && e.to >= first && !w.isWeak(e.stream) {
		w.fail("FALSE GAP c%d %v, log starts at %d", c.number, e, first)
	}
	if old := placeIn(c.pos, e.stream, e.partition); old.Offset > e.from {
		w.fail("GAP BOUND c%d %v, position was %d", c.number, e, old.Offset)
	}
	if e.from > e.to || at.Offset != e.to+1 {
		w.fail("GAP BOUND c%d %v", c.number, e)
	}
	for _, g := range s.gaps {
		if g[0] <= e.to && e.from <= g[1] {
			w.fail("GAP TWICE c%d %v", c.number, e)
		}
	}
	if w.rolledBack(e.stream, e.partition) {
		s.exempt = max(s.exempt, e.to+1)
	}
	s.gaps = append(s.gaps, [2]bridge.Offset{e.from, e.to})
	s.next = e.to + 1
}

func (c *simClient) resets(e simEvent, id bridge.ID) {
	w := c.w
	w.stats.resets++
	real := w.recreations[e.stream] > 0
	if e.reason == bridge.RolledBack {
		real = len(w.rollbacks[e.stream]) > 0
		if e.partition >= 0 {
			real = len(w.everRolled(e.stream, e.partition)) > 0
		}
	}
	if !real {
		w.fail("FALSE RESET c%d %v", c.number, e)
	}
	if e.open {
		for p, pl := range positionIn(id, e.stream).Places {
			if e.partition < 0 || int(e.partition) == p {
				c.seen[e.stream][int32(p)] = &simSeen{start: pl.Offset, next: pl.Offset, got: map[int]bridge.Offset{}}
			}
		}
		if e.partition < 0 {
			for p := range c.seen[e.stream] {
				if int(p) >= len(positionIn(id, e.stream).Places) {
					delete(c.seen[e.stream], p)
				}
			}
		}
		return
	}
	s, at := c.of(e.stream, e.partition), placeIn(id, e.stream, e.partition)
	if at.Offset != e.from || e.to < e.from {
		w.fail("RESET BOUND c%d %v", c.number, e)
	}
	if ends := w.brokers[e.stream].Ends(e.partition); !w.isWeak(e.stream) && !slices.Contains(w.everRolled(e.stream, e.partition), e.from) && e.from > ends.First {
		w.fail("RESET BOUND c%d %v, rolled back to %v", c.number, e, w.everRolled(e.stream, e.partition))
	}
	s.next, s.start = at.Offset, min(s.start, at.Offset)
	s.exempt = max(s.exempt, at.Offset)
	s.gaps = nil
	for uid, offset := range s.got {
		if offset >= at.Offset && w.reverts {
			delete(s.got, uid) // a second unclean election may bring it back
		}
	}
}

// compare checks that no id goes back or loses something.
func (c *simClient) compare(e simEvent, id bridge.ID) {
	for _, part := range c.pos {
		now, ok := id.Lookup(part.Stream)
		if !ok {
			c.w.fail("STREAM LEFT THE ID c%d %s after %s", c.number, e.id, c.id)
			return
		}
		if e.kind == "reset" && e.stream == part.Stream {
			continue
		}
		for p, pl := range part.Position.Places {
			if at := now.Place(int32(p)); at.Offset < pl.Offset && now.Incarnation == part.Position.Incarnation {
				c.w.fail("ID WENT BACK c%d %s after %s", c.number, e.id, c.id)
			}
		}
	}
}

// final checks that all the broker holds, or held, was delivered or reported.
func (c *simClient) final() {
	w := c.w
	for _, name := range c.names {
		if w.isWeak(name) {
			continue
		}
		b := w.brokers[name]
		for _, h := range b.History() {
			r := h.Record
			truth := w.truth[simUID(r.Data)]
			if !w.lives[name][h.Incarnation] || r.Kind != bridge.Data || !c.keys[truth.key] || h.Open {
				continue
			}
			s := c.of(name, r.Partition)
			if _, got := s.got[truth.uid]; got || r.Offset < s.start {
				continue
			}
			switch h.Fate {
			case sourcetest.Held:
				w.fail("LOST c%d %s/%d@%d u%d", c.number, name, r.Partition, r.Offset, truth.uid)
			case sourcetest.Trimmed:
				told := slices.ContainsFunc(s.gaps, func(g [2]bridge.Offset) bool { return g[0] <= r.Offset && r.Offset <= g[1] })
				if !told && r.Offset >= s.exempt && w.loss[name] != sourcetest.LossNone {
					w.fail("LOST c%d %s/%d@%d u%d, trimmed and no gap", c.number, name, r.Partition, r.Offset, truth.uid)
				}
			case sourcetest.Deleted, sourcetest.RolledBack, sourcetest.Removed:
			}
		}
	}
}

func positionIn(id bridge.ID, stream string) bridge.Position {
	pos, _ := id.Lookup(stream)
	return pos
}

func placeIn(id bridge.ID, stream string, partition int32) bridge.Place {
	return positionIn(id, stream).Place(partition)
}

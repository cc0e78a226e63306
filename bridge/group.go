package bridge

import (
	"slices"
	"sort"
)

// Group is the clients of a feed that share one filter. It keeps the numbers
// of the entries that they are shown, so that a record costs its matches and
// not all clients.
//
// A client holds its group from before it takes its target until it leaves:
// no matching entry is missed in between. While it holds it, it is
//
//	away ──Head──► walking ──Level──► level
//	  ▲                │                │ fell out of the ring,
//	  └────────────────┴────────────────┘ or its history is in doubt
//
// All methods are safe for concurrent use.
type Group struct {
	feed   *Feed
	filter Filter
	key    string
	hub    *Hub

	// guarded by feed.mu
	held    int // clients
	walkers int
	numbers []uint64 // of the entries shown, ascending
	dropped uint64   // how many were before numbers[0]
	signal  chan struct{}
	waited  bool // somebody has taken signal
	watched []*watch
	woken   bool // scratch of Feed.records
}

// bytes is what the group costs besides its nodes in the trie.
func (g *Group) bytes() int64 {
	n := groupBytes + 2*allocated(len(g.key)) // the patterns, and the key made of them
	return n + 24*int64(len(g.filter.patterns))
}

// trimStep is how many numbers that left the ring a group may hold before they
// are worth the work to forget them.
const trimStep = 64

// add notes an entry that the group is shown.
func (g *Group) add(number uint64) {
	g.numbers = append(g.numbers, number)
	g.feed.numbers++
}

// trim forgets numbers that left the ring, if there are at least so many, or no
// others; and the room that more of them had.
func (g *Group) trim(base uint64, least int) {
	n := sort.Search(len(g.numbers), func(i int) bool { return g.numbers[i] >= base })
	if n < least && n < len(g.numbers) || n == 0 {
		return
	}
	if left := len(g.numbers) - n; cap(g.numbers) > 4*left+2*trimStep {
		g.numbers = append(make([]uint64, 0, left+left/4), g.numbers[n:]...)
	} else {
		g.numbers = slices.Delete(g.numbers, 0, n)
	}
	g.dropped += uint64(n)
	g.feed.numbers -= n
}

// Streams returns the streams of the feed, sorted by name.
func (g *Group) Streams() []*Stream { return g.feed.streams }

// Target is one atomic snapshot of a feed.
type Target struct {
	Head       ID     // the vector of what this replica has read
	Number     uint64 // of the entry that comes next
	Generation uint64
}

// Head takes the target for a catch-up. The caller owns it.
func (g *Group) Head() Target {
	g.feed.mu.RLock()
	defer g.feed.mu.RUnlock()
	return Target{g.feed.cloneHead(), g.feed.number(), g.feed.generation}
}

// Generation is the feed's count of doubts about its streams' histories.
func (g *Group) Generation() uint64 {
	g.feed.mu.RLock()
	defer g.feed.mu.RUnlock()
	return g.feed.generation
}

// Changed returns a channel that is closed when the group has something new:
// an entry it is shown, a doubt, and while it has walkers any entry. Take it
// before looking.
func (g *Group) Changed() <-chan struct{} {
	g.feed.mu.Lock()
	defer g.feed.mu.Unlock()
	g.waited = true
	return g.signal
}

// watch is somebody who wants to be told by a call.
type watch struct{ notify func() }

// Watch lets notify be called when a channel of Changed would be closed, until
// stop is called. It is for one watcher of many clients: unlike the channel it
// costs nothing while it waits. notify is called under a lock of the feed: it must
// return at once and call nothing of the bridge.
func (g *Group) Watch(notify func()) (stop func()) {
	w := &watch{notify}
	g.feed.mu.Lock()
	defer g.feed.mu.Unlock()
	g.watched = append(g.watched, w)
	return func() {
		g.feed.mu.Lock()
		defer g.feed.mu.Unlock()
		g.watched = slices.DeleteFunc(g.watched, func(other *watch) bool { return other == w })
	}
}

// WalkState says how a walk or a cursor stands.
type WalkState uint8

// The states of a walk and of a cursor.
const (
	Going    WalkState = iota // entries were returned
	AtHead                    // there is nothing yet
	Evicted                   // what comes next has left the ring
	Doubtful                  // the generation is not the one given
)

// StartWalk and EndWalk bracket the time in which a client walks, so that it is
// told of entries that its filter does not match.
func (g *Group) StartWalk() { g.walk(1) }

// EndWalk ends what StartWalk began.
func (g *Group) EndWalk() { g.walk(-1) }

func (g *Group) walk(by int) {
	g.feed.mu.Lock()
	defer g.feed.mu.Unlock()
	g.walkers += by
	if g.walkers > 0 {
		g.feed.walked[g] = true
	} else {
		delete(g.feed.walked, g)
	}
}

// Walk appends to dst up to limit entries from number on, all of the feed's,
// with Match telling those that the group is shown.
func (g *Group) Walk(number, generation uint64, dst []Entry, limit int) ([]Entry, WalkState) {
	f := g.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.generation != generation:
		return dst, Doubtful
	case number < f.base:
		return dst, Evicted
	case number >= f.number():
		return dst, AtHead
	}
	next := sort.Search(len(g.numbers), func(i int) bool { return g.numbers[i] >= number })
	for end := min(number+uint64(limit), f.number()); number < end; number++ {
		e := f.ring[number-f.base]
		if next < len(g.numbers) && g.numbers[next] == number {
			e.Match = true
			next++
		}
		dst = append(dst, e)
	}
	return dst, Going
}

// Level returns a cursor that shares the group's bytes from entry number on.
// The caller's position must be the feed's vector before that entry.
func (g *Group) Level(number, generation uint64) (*Cursor, WalkState) {
	f := g.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.generation != generation:
		return nil, Doubtful
	case number < f.base:
		return nil, Evicted
	}
	next := sort.Search(len(g.numbers), func(i int) bool { return g.numbers[i] >= number })
	return &Cursor{group: g, next: g.dropped + uint64(next)}, Going
}

// Leave lets go of the group; nothing of it may be used afterwards.
func (g *Group) Leave() { g.hub.leave(g) }

// Cursor is one level client's moving place in its group; the zero Cursor is of no
// group. Its methods are for one goroutine, but Head may be called by any, only not
// at the same time as Again.
type Cursor struct {
	group *Group
	next  uint64 // how many of the group's entries, ever, are behind it; see Head
}

// Group returns the group that it is a place in, nil for the zero Cursor.
func (c *Cursor) Group() *Group { return c.group }

// Take appends to dst the entries that come next, until their bytes reach
// maxBytes, and moves behind them. It stops before an open reset (see
// [Finding]) unless that comes first.
func (c *Cursor) Take(dst []Entry, maxBytes int) ([]Entry, WalkState) {
	g, f := c.group, c.group.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	if c.next == g.dropped+uint64(len(g.numbers)) {
		return dst, AtHead
	}
	if c.next < g.dropped || g.numbers[c.next-g.dropped] < f.base {
		return dst, Evicted
	}
	n := len(dst)
	for size := 0; size < maxBytes && c.next < g.dropped+uint64(len(g.numbers)); c.next++ {
		e := f.ring[g.numbers[c.next-g.dropped]-f.base]
		if e.Loss != nil && e.Loss.Open && len(dst) > n {
			break
		}
		e.Match = true
		dst = append(dst, e)
		size += len(e.Unit)
		if e.Loss != nil && e.Loss.Open {
			c.next++
			break
		}
	}
	return dst, Going
}

// Place tells how many entries of the group, ever, are behind the cursor.
func (c *Cursor) Place() uint64 { return c.next }

// Mark notes in b that its units are the entries that the cursor has passed since
// it was at from.
func (c *Cursor) Mark(b *Batch, from uint64) { b.Group, b.From, b.To = c.group, from, c.next }

// Keep notes that other clients may have the batch in s, which is marked, and that
// it ends with the event id id. It must hold nothing that has to be noted for each
// of them.
func (c *Cursor) Keep(s *Scratch, id string) { s.group, s.id = c.group, id }

// Again passes what the batch in s holds, if that is what comes next, and returns
// the event id behind it. Then the batch is this client's, too.
func (c *Cursor) Again(s *Scratch) (id string, ok bool) {
	if s.group != c.group || s.Batch.From != c.next {
		return "", false
	}
	c.next = s.Batch.To // without the feed's lock, which would be asked for with every delivery
	return s.id, true
}

// Head returns the feed's vector as an event id if the cursor is behind all
// that its group is shown, so that the vector is the client's position too.
func (c *Cursor) Head() (id string, ok bool) {
	g, f := c.group, c.group.feed
	f.mu.Lock() // not RLock, under which Take moves next
	defer f.mu.Unlock()
	if c.next != g.dropped+uint64(len(g.numbers)) {
		return "", false
	}
	return f.text(), true
}

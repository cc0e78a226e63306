package sink

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// yieldAfter is after how many writes a sweep lets others run: one over ten
// thousand clients takes tens of milliseconds.
const yieldAfter = 64

// newcomerTurns is how many turns newcomers have, at least, before all else has its
// turn. In a storm paceConnections clients are taken in meanwhile: with twice as many
// turns, it took longer until all had caught up.
const newcomerTurns = 32

// newcomerBeats is how many times as early as others newcomers are given a sign of life,
// as their next turn may come late: at most by half a heartbeat.
const newcomerBeats = 4

// largeBatch is the size from which a batch may not be all that is pending, as
// followers bound what they hand out at once.
const largeBatch = 16 << 10

// A sharer is a [Follower] that needs no goroutine while its client is level. It
// is found by type assertion. Its methods are for whoever may call Next.
type sharer interface {
	Follower
	// Group is what to watch for news; nil: the client is not level.
	Group() *bridge.Group
	// Poll puts what there is to write into s, maybe nothing. It returns false when
	// Next has to be called.
	Poll(s *bridge.Scratch) bool
	// Beat puts a sign of life into s if its time comes within early.
	Beat(s *bridge.Scratch, early time.Duration) bool
	// Told notes that the last that the client was written is the sign of life of
	// another one of its group, with this event id, if any.
	Told(id string)
	// Rest lets go of what only Next needs.
	Rest()
}

// sweeper writes to clients that are level, without a goroutine for each. Its
// shards sweep over them: when a group has something new, each client of it is
// written all that it has pending, by one write that does not wait.
//
//	           level                       nothing pending for it,
//	following ───────► seated in a shard   no goroutine, no buffer
//	(goroutine) ◄───── at its group
//	           the socket takes no more: the rest is written, waiting
//	           it fell out of its ring: it catches up
//	           it hung up, or is told to go
//
// Following is what a client does in a goroutine of its own (see follow), with
// writes that wait. Both write the same bytes, and a client may go from the one to
// the other with every event.
type sweeper struct {
	handler *Handler
	shards  []*shard // at least one

	mu     sync.Mutex
	closed bool
	taken  int           // clients whose connections are ours
	next   int           // shard of the next client
	empty  chan struct{} // once closed: closed when taken is 0
}

// Run serves connections without a goroutine for each where that is possible,
// until ctx ends; then it cuts those that are left, waits for them, and returns
// context.Cause(ctx). A handler works without it, at a higher price. It is called
// once.
//
// Clients should have been seen off before ([Handler.Drain]).
func (h *Handler) Run(ctx context.Context) error {
	s := &sweeper{handler: h, empty: make(chan struct{})}
	for range runtime.GOMAXPROCS(0) {
		l, err := h.newLine()
		if err != nil {
			if !errors.Is(err, errors.ErrUnsupported) {
				h.log.Warn("a shard is missing, so others have more clients", "shards", len(s.shards), "error", err)
			}
			break
		}
		s.shards = append(s.shards, newShard(s, l))
	}
	if len(s.shards) == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	for _, sh := range s.shards {
		wg.Go(func() { sh.run(running) })
	}
	h.sweeper.Store(s)
	<-ctx.Done()
	s.close()
	stop()
	wg.Wait()
	return context.Cause(ctx)
}

// close lets no client in any more, and cuts those that are there.
func (s *sweeper) close() {
	s.mu.Lock()
	s.closed = true
	if s.taken == 0 {
		close(s.empty)
	}
	s.mu.Unlock()
	for _, c := range s.handler.clients.inside() {
		c.close(errForced)
		c.out.abort()
	}
	<-s.empty
}

// enter notes that a connection is ours. It returns false when there is no time
// for it any more.
func (s *sweeper) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.taken++
	}
	return !s.closed
}

// leave notes that such a connection has ended.
func (s *sweeper) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.closed && s.taken == 0 {
		close(s.empty)
	}
}

// shardFor returns the shard of the next client.
func (s *sweeper) shardFor() *shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.shards[s.next%len(s.shards)]
}

// shard has many clients, and one goroutine.
type shard struct {
	sweeper *sweeper
	line    line
	wake    chan struct{} // capacity 1: something is in the inbox

	mu    sync.Mutex
	inbox inbox

	// The rest belongs to run.
	groups  map[*bridge.Group]*seats
	due     []*seats // whose newcomers are owed turns
	ahead   int      // writes to settled clients since newcomers had turns and are owed others
	sitting int      // clients
	came    int      // new ones, since counted
	counted time.Time
	settles time.Time // who first sat before it has settled, or will by the next tick
	scratch bridge.Scratch
	frames  frames
	tally   tally
	writes  int
	near    uint64    // read and not used
	at      time.Time // when the write before ended, or others were let run
}

// inbox is what others want of a shard.
type inbox struct {
	seats []seating
	ended []*client // told to go, or hung up
	fresh []*seats  // whose groups have something new
}

func newShard(s *sweeper, l line) *shard {
	return &shard{sweeper: s, line: l, wake: make(chan struct{}, 1), groups: map[*bridge.Group]*seats{}, counted: time.Now(), tally: s.handler.metrics.tally()}
}

// send puts something into the inbox.
func (sh *shard) send(put func(*inbox)) {
	sh.mu.Lock()
	put(&sh.inbox)
	sh.mu.Unlock()
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// end asks for a client that is seated here, or may come to be, to be taken back.
// It may be called for one that is not.
func (sh *shard) end(c *client) {
	sh.send(func(in *inbox) { in.ended = append(in.ended, c) })
}

// run sweeps until ctx ends. By then the clients have left.
func (sh *shard) run(ctx context.Context) {
	var wg sync.WaitGroup // waited for before it returns, and not deferred: a panic would wait, too
	wg.Go(func() { sh.line.run(ctx, sh.end) })
	l := newLull()
	resting, rested := false, make(chan struct{}, 1) // waits for l, has waited
	beat := beatEvery(sh.sweeper.handler.opt.Heartbeat)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		beats, newcomers := false, false
		select {
		case <-ctx.Done():
			l.close()
			wg.Wait()
			return
		case <-sh.wake:
		case <-tick.C:
			beats = true
		case <-rested:
			resting, newcomers = false, true
		}
		sh.mu.Lock()
		in := sh.inbox
		sh.inbox = inbox{}
		for _, g := range in.fresh {
			g.fresh = false
		}
		sh.mu.Unlock()
		for _, s := range in.seats {
			sh.seat(s)
		}
		for _, c := range in.ended {
			sh.free(c)
		}
		if sh.count(time.Now()) {
			for _, g := range sh.groups {
				if g.owed == 0 {
					g.settleAll(sh.settles)
				}
			}
		}
		for _, g := range in.fresh {
			sh.sweep(g, 0)
		}
		if beats {
			for _, g := range sh.groups {
				g.settleAll(sh.settles)
				sh.sweep(g, beat)
			}
		}
		if newcomers {
			sh.serveNewcomers()
		}
		if len(sh.due) > 0 && !resting {
			resting = true
			wg.Go(func() {
				l.wait()
				rested <- struct{}{}
			})
		}
		sh.tally.flush()
		sh.frames.shrink()
	}
}

// beatEvery is how often it is looked for clients that need a sign of life.
func beatEvery(heartbeat time.Duration) time.Duration {
	return max(20*time.Millisecond, min(time.Second, heartbeat/8))
}

// count sets settles by how many came since it last did, if that is calmTime ago or
// longer: as long as nothing wakes the shard, a tick may pass.
func (sh *shard) count(now time.Time) (counted bool) {
	if now.Sub(sh.counted) < calmTime {
		return false
	}
	before := sh.counted
	if calmPart*sh.came > sh.sitting {
		before = now.Add(-settleAfter)
	}
	if before.After(sh.settles) {
		sh.settles = before
	}
	sh.counted, sh.came = now, 0
	return true
}

// seat gives a client a seat at its group, and writes what came meanwhile.
func (sh *shard) seat(s seating) {
	if s.c.stopped() != nil {
		sh.giveBack(s.c, nil, 0)
		return
	}
	group := s.f.Group()
	g := sh.groups[group]
	if g == nil {
		g = &seats{group: group}
		sh.groups[group] = g
		g.unwatch = group.Watch(func() { sh.again(g) })
	}
	s.c.out.enter(group)
	sh.restart()
	sh.sitting++
	if s.c.sat.IsZero() {
		s.c.sat = sh.at
		sh.came++
	}
	g.add(s, sh.settles)
	sh.serve(s, 0) // what came before somebody watched
}

// again asks for another sweep over a group.
func (sh *shard) again(g *seats) {
	sh.send(func(in *inbox) {
		if !g.fresh {
			g.fresh = true
			in.fresh = append(in.fresh, g)
		}
	})
}

// more asks for another turn for a client, and others that may need one with it.
func (sh *shard) more(c *client) {
	if c.seat < c.seats.settled {
		sh.again(c.seats)
	} else {
		sh.owe(c.seats)
	}
}

// free takes back a client that is seated here.
func (sh *shard) free(c *client) {
	if c.seats == nil {
		return
	}
	sh.unseat(c)
	sh.giveBack(c, nil, 0)
}

// unseat removes a client.
func (sh *shard) unseat(c *client) {
	g := c.seats
	sh.sitting--
	g.remove(c)
	if len(g.clients) == 0 {
		g.unwatch()
		delete(sh.groups, g.group)
	}
}

// sweep writes to every client of a group that has settled what it has pending, and
// owes newcomers a turn for that; with beats, also a sign of life to those that have
// nothing pending and need one within that time.
func (sh *shard) sweep(g *seats, beats time.Duration) {
	if sh.owe(g); g.owed > 0 {
		g.beats = max(g.beats, newcomerBeats*beats)
	}
	n := g.settled
	if n == 0 {
		return
	}
	sh.restart()
	g.first = (g.first + 1) % n
	before := sh.writes
	for i := range n {
		at := (g.first + i) % n
		for at < g.settled {
			s := g.clients[at]
			sh.serve(s, beats)
			if at < g.settled && g.clients[at].c == s.c {
				break
			} // else it left, and another one, whose turn may have been later, has its seat
		}
	}
	if len(sh.due) > 0 {
		sh.ahead += sh.writes - before
	}
}

// owe owes a group's newcomers a turn each.
func (sh *shard) owe(g *seats) {
	g.owed = g.newcomers()
	if g.owed > 0 && !g.due {
		g.due = true
		sh.due = append(sh.due, g)
	}
}

// serveNewcomers gives newcomers turns, as many as writes have gone to clients that
// have settled meanwhile: of one group after the other, so that none waits for another
// that is never done. Then all else has its turn: in a storm, newcomers are written
// more at a time rather than hold up those that are still to be served.
func (sh *shard) serveNewcomers() {
	turns := max(newcomerTurns, sh.ahead)
	sh.ahead = 0
	last := len(sh.due) // each group once
	i := 0
	for ; i < last && turns > 0; i++ {
		g := sh.due[i]
		sh.restart()
		for ; turns > 0 && g.owed > 0; turns-- {
			sh.serve(g.turn(), g.beats)
		}
		if g.owed > 0 {
			sh.due = append(sh.due, g)
		} else {
			g.due, g.beats = false, 0
		}
	}
	sh.due = slices.Delete(sh.due, 0, i)
}

// restart begins with clients of a group: what others were written before is not
// used again, as more may have come since.
func (sh *shard) restart() {
	sh.begin()
	sh.frames.forget()
	sh.scratch.Restart()
}

// begin takes the time for what is written next.
func (sh *shard) begin() {
	sh.at = time.Now()
	sh.scratch.Now = sh.at
}

// serve writes what one seated client has pending.
func (sh *shard) serve(s seating, beats time.Duration) {
	c := s.c
	sh.near = c.out.bytes.Load() // for the cache: it is fetched beside what Poll looks at
	if !s.f.Poll(&sh.scratch) {
		sh.unseat(c)
		sh.giveBack(c, nil, 0)
		return
	}
	b := &sh.scratch.Batch
	if len(b.Units) == 0 && (beats == 0 || !s.f.Beat(&sh.scratch, beats)) {
		return
	}
	p, id := c.out.payload(b, sh.at)
	if id != b.ID {
		s.f.Told(id)
	}
	frame := sh.frames.of(&p, b.Units)
	n, err := sh.line.try(s, frame)
	switch {
	case err != nil:
		sh.unseat(c)
		c.stop(errClientGone)
		sh.giveBack(c, nil, 0)
	case n < len(frame):
		late := *b // the slices of b are the scratch's
		late.Units, late.Traces = slices.Clone(b.Units), slices.Clone(b.Traces)
		p.blocks = slices.Clone(p.blocks)
		sh.unseat(c)
		c.late = &late
		sh.giveBack(c, &p, n)
	default:
		if sh.frames.text >= largeBatch {
			sh.more(c)
		}
		c.out.bytes.Add(uint64(sh.frames.bytes))
		c.out.events.Add(sh.frames.events)
		ended := time.Now()
		sh.tally.wrote(b, sh.frames.bytes, sh.at, ended)
		c.out.trace(b, sh.at, ended)
		sh.at = ended
	}
	if sh.writes++; sh.writes%yieldAfter == 0 {
		sh.tally.flush()
		runtime.Gosched()
		sh.begin()
	}
}

// giveBack lets a client follow in a goroutine, which first writes what a sweep
// has begun, if rest is not nil, from the byte skip of its chunks on.
func (sh *shard) giveBack(c *client, rest *payload, skip int) {
	h := sh.sweeper.handler
	go func() { // the sweeper waits for it: the client has entered
		if rest != nil {
			began := time.Now()
			if err := c.out.writeTaken(*rest, skip); err != nil {
				h.end(c, err)
				return
			}
			late := c.late
			c.late = nil
			c.out.delivered(*late, began)
		}
		h.run(c)
	}()
}

// frames makes the chunks of payloads, once for all clients of a group that are
// written the same one after each other.
type frames struct {
	buf    []byte
	bytes  int    // of the parts
	text   int    // bytes of the units that they are made of
	events uint64 // units that are no heartbeats

	blocks int // 0: there is nothing to be used again
	first  *byte
	last   *byte
	stored Coding
	before string
	room   []byte
}

// forget is called before the clients of a group: what blocks lie between the
// first and the last one depends on its filter.
func (f *frames) forget() { f.blocks, f.first, f.last = 0, nil, nil }

// shrink lets go of what a large record has made.
func (f *frames) shrink() {
	if cap(f.buf)+cap(f.room) > 8*pieceBytes {
		*f = frames{}
	}
}

// of returns the chunks of at least one block, until the next call. units are what
// they are made of.
func (f *frames) of(p *payload, units [][]byte) []byte {
	first, last := startOf(p.blocks[0]), startOf(p.blocks[len(p.blocks)-1])
	if f.blocks == len(p.blocks) && f.first == first && f.last == last && f.stored == p.stored && f.before == p.before {
		return f.buf
	}
	f.buf, f.bytes = f.buf[:0], 0
	var part []byte
	for i := range p.parts() {
		part, f.room = p.part(i, f.room)
		f.buf = appendChunk(f.buf, part)
		f.bytes += len(part)
	}
	f.text, f.events = sizeOf(units), countEvents(units)
	f.blocks, f.first, f.last, f.stored, f.before = len(p.blocks), first, last, p.stored, p.before
	return f.buf
}

// startOf is where a block lies, nil for an empty one.
func startOf(unit []byte) *byte {
	if len(unit) == 0 {
		return nil
	}
	return &unit[0]
}

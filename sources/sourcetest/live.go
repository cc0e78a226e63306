package sourcetest

import (
	"context"
	"errors"

	"github.com/ssebridge/ssebridge/bridge"
)

// step asks the goroutine of Tail for one move.
type step struct {
	partition int32 // or discover
	moved     chan bool
}

// discover as a step's partition stands for a look at how many there are.
const discover int32 = -1

// Step moves the live reader of one partition by one record, finding or move
// over a hole, and reports whether there was one. When it returns the receiver
// has been told everything. It reports false when no Tail runs, and panics on a
// source that runs free.
func (s *Source) Step(partition int32) bool { return s.ask(partition) }

// Discover lets the live reader notice new partitions and reports whether there
// were any. Otherwise it is like Step.
func (s *Source) Discover() bool { return s.ask(discover) }

func (s *Source) ask(partition int32) bool {
	if !s.o.Stepped {
		panic("sourcetest: a source that runs free cannot be stepped")
	}
	s.mu.Lock()
	ended := s.tail
	s.mu.Unlock()
	if ended == nil {
		return false
	}
	st := step{partition, make(chan bool, 1)}
	select {
	case s.steps <- st:
		return <-st.moved
	case <-ended:
		return false
	}
}

// Poke implements [bridge.Tailer]. A stepped source only counts it.
func (s *Source) Poke() {
	s.mu.Lock()
	s.pokes++
	s.mu.Unlock()
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Tail implements [bridge.Tailer]. It starts no goroutine. A second call while
// one runs panics.
func (s *Source) Tail(ctx context.Context, out bridge.Receiver) error {
	s.mu.Lock()
	if s.tail != nil {
		s.mu.Unlock()
		panic("sourcetest: Tail runs already")
	}
	ended := make(chan struct{})
	s.tail = ended
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.tail = nil
		s.mu.Unlock()
		close(ended)
	}()

	r := &reader{s: s, out: out}
	if s.o.Stepped {
		return r.runStepped(ctx)
	}
	return r.runFree(ctx)
}

// reader is the live reader of one Tail; only its goroutine uses it.
//
//	starting ──Started──► reading ──Waiting──► waiting
//	    └──Waiting──► (starting)  ◄──Doubted, Reading──┘
type reader struct {
	s       *Source
	out     bridge.Receiver
	started bool
	pos     bridge.Position
	reign   uint64 // the broker's when we last looked; another one is a doubt
	waiting error  // what Waiting told
}

func (r *reader) runStepped(ctx context.Context) error {
	r.look(ctx, discover, 1)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case st := <-r.s.steps:
			st.moved <- r.look(ctx, st.partition, 1)
		}
	}
}

func (r *reader) runFree(ctx context.Context) error {
	for ctx.Err() == nil {
		r.s.b.mu.Lock()
		changed := r.s.b.changed // taken before looking, so that no change is missed
		r.s.b.mu.Unlock()
		if r.lookAll(ctx) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-r.s.poke:
		}
	}
	return context.Cause(ctx)
}

// lookAll looks at every partition and reports whether there was anything new.
func (r *reader) lookAll(ctx context.Context) bool {
	moved := r.look(ctx, discover, 0)
	partitions := make([]int32, len(r.pos.Places))
	for i := range partitions {
		partitions[i] = int32(i)
	}
	batch := maxBatchRecords
	if rnd := r.s.o.Rand; rnd != nil {
		rnd.Shuffle(len(partitions), func(i, j int) { partitions[i], partitions[j] = partitions[j], partitions[i] })
		batch = 1 + rnd.IntN(maxBatchRecords)
	}
	for _, p := range partitions {
		if r.look(ctx, p, batch) {
			moved = true
		}
	}
	return moved
}

// look asks the broker what there is for one partition, up to n records, tells
// the receiver, and reports whether the reader got any further.
func (r *reader) look(ctx context.Context, partition int32, n int) bool {
	if err := r.s.before(ctx, OpTail); err != nil {
		return r.broken(ctx, err)
	}
	var told notices
	r.s.b.mu.Lock()
	moved := r.notice(&told, partition, n)
	r.s.b.mu.Unlock()
	err := run(ctx, r.s.o.After, OpTail)
	if ctx.Err() != nil {
		return false // the end: what was read is not told
	}
	told.tell(r.out)
	if err != nil {
		return r.broken(ctx, err)
	}
	return moved
}

// broken tells that the connection was lost. There is always more to do then.
func (r *reader) broken(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if r.waiting == nil {
		r.waiting = err
		r.out.Change(bridge.Change{Kind: bridge.Waiting, Err: err})
	}
	r.reign = 0 // no broker has it: the next look doubts
	return true
}

// notice adds what the receiver is to be told and moves the reader. The
// broker's lock is held.
func (r *reader) notice(told *notices, partition int32, n int) (moved bool) {
	b := r.s.b
	t, err := b.state()
	if err != nil {
		if r.waiting == nil || !errors.Is(r.waiting, errors.Unwrap(err)) {
			r.waiting = err
			told.change(bridge.Change{Kind: bridge.Waiting, Err: err})
		}
		return false
	}
	if !r.started {
		r.started, r.reign, r.waiting = true, b.reign, nil
		r.pos = t.ends()
		if b.o.Subjects != nil {
			told.change(bridge.Change{Kind: bridge.Spaced, Subjects: b.o.Subjects})
		}
		told.change(bridge.Change{Kind: bridge.Started, Position: r.pos.Clone()})
		told.change(bridge.Change{Kind: bridge.Reading})
		return true
	}
	if r.reign != b.reign {
		r.reign = b.reign
		told.change(bridge.Change{Kind: bridge.Doubted})
	}
	if r.waiting != nil {
		r.waiting = nil
		told.change(bridge.Change{Kind: bridge.Reading})
	}
	if partition == discover {
		return r.grow(told, t)
	}
	if int(partition) >= len(r.pos.Places) {
		return false
	}
	if f := t.judge(r.pos, partition, 0); f != nil {
		if f.Open {
			f.Next = t.choose(r.s.o.OnReset, f)
		}
		r.pos = f.Next.Clone()
		told.change(bridge.Change{Kind: bridge.Found, Finding: *f})
		return true
	}
	if r.pos.Incarnation != t.incarnation {
		r.pos.Incarnation = t.incarnation
		told.change(bridge.Change{Kind: bridge.Started, Position: r.pos.Clone()})
	}
	return r.read(told, t.logs[partition], partition, n)
}

// grow notices new partitions of the same stream.
func (r *reader) grow(told *notices, t table) bool {
	if r.pos.Incarnation != t.incarnation || len(t.logs) <= len(r.pos.Places) {
		return false
	}
	r.pos = r.pos.With(int32(len(t.logs)-1), bridge.Place{})
	told.change(bridge.Change{Kind: bridge.Grown, Partitions: len(t.logs)})
	return true
}

// read takes up to n records, and moves over what is hidden or gone behind them.
func (r *reader) read(told *notices, l *log, partition int32, n int) bool {
	place, stable := r.pos.Places[partition], l.stable()
	for _, e := range l.entries[l.search(place.Offset):] {
		if e.rec.Offset >= stable || len(told.records) == n {
			break
		}
		if e.control {
			continue
		}
		told.records = append(told.records, e.show())
		place = e.rec.Next()
	}
	if len(told.records) < n && stable > place.Offset {
		place = l.anchor(stable)
		told.move = &bridge.Change{Kind: bridge.Moved, Partition: partition, Place: place}
	}
	moved := r.pos.Places[partition] != place
	r.pos = r.pos.With(partition, place)
	return moved
}

// notices are what one look has to tell, in this order.
type notices struct {
	changes []bridge.Change
	records []bridge.Record
	move    *bridge.Change
}

func (n *notices) change(c bridge.Change) { n.changes = append(n.changes, c) }

// tell hands everything to out. The records' bytes end with the call, so they
// are spoilt: a receiver that kept them shows it.
func (n *notices) tell(out bridge.Receiver) {
	for _, c := range n.changes {
		out.Change(c)
	}
	if len(n.records) > 0 {
		out.Records(n.records)
		for i := range n.records {
			spoil(&n.records[i])
		}
	}
	if n.move != nil {
		out.Change(*n.move)
	}
}

func spoil(r *bridge.Record) {
	for _, b := range [][]byte{r.Key, r.Data} {
		for i := range b {
			b[i] = 0xDB
		}
	}
	for i := range r.Headers {
		for j := range r.Headers[i].Value {
			r.Headers[i].Value[j] = 0xDB
		}
		r.Headers[i] = bridge.Header{Key: "spoilt"}
	}
	*r = bridge.Record{Partition: -1, Offset: -1, Origin: "spoilt"}
}

package sourcetest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

var seedFlag = flag.Uint64("seed", 0, "run only this seed of the random schedules")

// follower is a receiver that keeps what one replica takes for history: the
// serial number of the record at each offset, from begin on.
type follower struct {
	begin []bridge.Offset
	got   []map[bridge.Offset]string
}

func (f *follower) Records(recs []bridge.Record) {
	for _, r := range recs {
		f.got[r.Partition][r.Offset] = string(r.Data)
	}
}

func (f *follower) Change(c bridge.Change) {
	switch c.Kind {
	case bridge.Started:
		if f.begin == nil {
			f.restart(c.Position)
		}
	case bridge.Grown:
		for len(f.begin) < c.Partitions {
			f.begin = append(f.begin, 0)
			f.got = append(f.got, map[bridge.Offset]string{})
		}
	case bridge.Found:
		fd := c.Finding
		switch {
		case fd.Partition == bridge.AllPartitions:
			f.restart(fd.Next)
		case fd.Reason.Reset():
			f.begin[fd.Partition] = min(f.begin[fd.Partition], fd.Next.Place(fd.Partition).Offset)
		}
	case bridge.Moved, bridge.Doubted, bridge.Waiting, bridge.Reading, bridge.Spaced:
	}
}

func (f *follower) restart(pos bridge.Position) {
	f.begin, f.got = nil, nil
	for _, pl := range pos.Places {
		f.begin = append(f.begin, pl.Offset)
		f.got = append(f.got, map[bridge.Offset]string{})
	}
}

// Whatever happens to a stream, and however far replicas lag, in the end each
// must have read exactly what the broker holds: simulations of the core take
// this for granted.
func TestEveryScheduleEndsWithTheTruth(t *testing.T) { everySeed(t, 300, runStepped) }

// The same with readers that run free, while answers come late, stale, or not
// at all.
func TestFreeReadersEndWithTheTruth(t *testing.T) { everySeed(t, 100, runFree) }

func everySeed(t *testing.T, n int, run func(t *testing.T, w *world)) {
	var seeds []uint64
	for seed := range uint64(n) {
		seeds = append(seeds, seed+1)
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) { run(t, newWorld(seed)) })
		if t.Failed() {
			t.Fatalf("again with: go test ./sources/sourcetest -run '^%s$' -seed %d", t.Name(), seed)
		}
	}
}

// world is a broker to which things happen.
type world struct {
	seed uint64
	rnd  *rand.Rand
	b    *Broker
	// A rewritten history is not seen through a hole where the proof was: that
	// limit of both brokers is no fault, so a world has only one of the two. For a
	// like reason nothing is reverted: a history that was put back may part from
	// ours below every epoch that the leader still knows.
	holes bool
	txns  []*Txn

	followers []*follower
	wg        sync.WaitGroup
	stop      context.CancelFunc
}

func newWorld(seed uint64) *world {
	rnd := rand.New(rand.NewPCG(seed, 0))
	return &world{
		seed: seed, rnd: rnd, holes: rnd.IntN(2) == 0,
		b: NewBroker(BrokerOptions{Kind: Kind(rnd.IntN(2)), Partitions: 1 + rnd.IntN(3)}),
	}
}

// start starts the live reader of each source.
func (w *world) start(ctx context.Context, sources []*Source) {
	ctx, w.stop = context.WithCancel(ctx)
	for _, s := range sources {
		f := &follower{}
		w.followers = append(w.followers, f)
		w.wg.Go(func() { _ = s.Tail(ctx, f) }) // ends with ctx
	}
	synctest.Wait()
}

// finish ends the readers and compares what they hold with the truth.
func (w *world) finish(t *testing.T) {
	t.Helper()
	w.stop()
	w.wg.Wait()
	for i, f := range w.followers {
		f.check(t, w.b, fmt.Sprintf("seed %d, %v, holes %v, replica %d", w.seed, w.b.Kind(), w.holes, i))
	}
}

// happen lets one thing happen to the stream.
func (w *world) happen(n int) {
	b := w.b
	p := int32(w.rnd.IntN(b.Partitions()))
	ends := b.Ends(p)
	between := func(from, to bridge.Offset) bridge.Offset {
		return from + bridge.Offset(w.rnd.Int64N(int64(max(to-from, 1))))
	}
	switch x := w.rnd.IntN(53); {
	case x < 30:
		b.Append(say(p, fmt.Sprint("record ", n)))
	case x < 33 && w.holes:
		b.Delete(p, between(ends.First, ends.End))
	case x < 35:
		b.Trim(p, between(ends.First, ends.End+1))
	case x < 36:
		b.Grow(b.Partitions() + 1)
	case x < 38:
		b.NewEpoch(p)
	case x < 40 && !w.holes:
		b.Rollback(p, between(ends.First, ends.End))
	case x < 41 && !w.holes:
		b.Restore()
	case x < 42:
		b.Recreate(1 + w.rnd.IntN(3))
		w.txns = nil
	case x < 43:
		b.Down()
	case x < 45:
		b.Up()
	case x < 48:
		if txn, ok := b.Begin(p); ok {
			txn.Append(say(p, fmt.Sprint("in a transaction ", n)))
			w.txns = append(w.txns, txn)
		}
	case len(w.txns) > 0:
		txn := w.txns[w.rnd.IntN(len(w.txns))]
		txn.Append(say(0, fmt.Sprint("more ", n)))
		if w.rnd.IntN(2) == 0 {
			txn.Abort()
		} else {
			txn.Commit()
		}
	}
}

// calm lets everything be readable.
func (w *world) calm() {
	w.b.Up()
	for _, txn := range w.txns {
		txn.Commit()
	}
}

func runStepped(t *testing.T, w *world) {
	var sources []*Source
	for range 3 {
		sources = append(sources, w.b.Source(SourceOptions{Stepped: true}))
	}
	w.start(t.Context(), sources)
	for n := range 250 {
		switch s := sources[w.rnd.IntN(len(sources))]; w.rnd.IntN(20) {
		case 0:
			s.Discover()
		case 1, 2, 3, 4, 5, 6, 7, 8, 9:
			s.Step(int32(w.rnd.IntN(w.b.Partitions())))
		default:
			w.happen(n)
		}
	}
	w.calm()
	for _, s := range sources {
		for moved := true; moved; {
			moved = s.Discover()
			for p := range int32(w.b.Partitions()) {
				moved = s.Step(p) || moved
			}
		}
	}
	w.finish(t)
}

func runFree(t *testing.T, w *world) {
	var sources []*Source
	for i := range uint64(2) {
		rnd := rand.New(rand.NewPCG(w.seed, i+1))
		hook := func(context.Context, Op) error {
			time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
			if rnd.IntN(50) == 0 {
				return bridge.ErrUnavailable
			}
			return nil
		}
		sources = append(sources, w.b.Source(SourceOptions{Rand: rnd, Before: hook, After: hook}))
	}
	w.start(t.Context(), sources)
	for n := range 250 {
		w.happen(n)
		if w.rnd.IntN(10) == 0 {
			sources[0].Poke()
		}
		time.Sleep(time.Duration(w.rnd.IntN(4)) * time.Millisecond)
	}
	w.calm()
	time.Sleep(time.Minute) // of the bubble's time: the readers are done long before
	w.finish(t)
}

func (f *follower) check(t *testing.T, b *Broker, what string) {
	t.Helper()
	if len(f.begin) != b.Partitions() {
		t.Errorf("%s: knows %d partitions of %d", what, len(f.begin), b.Partitions())
		return
	}
	for p := range f.begin {
		for _, e := range b.Held(int32(p)) {
			if e.Control || e.Open || e.Record.Offset < f.begin[p] {
				continue
			}
			if got, ok := f.got[p][e.Record.Offset]; !ok || got != string(e.Record.Data) {
				t.Errorf("%s: %d@%d is %q (%v), the broker holds %q", what, p, e.Record.Offset, got, ok, e.Record.Data)
			}
		}
	}
}

package sourcetest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

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
func TestEveryScheduleEndsWithTheTruth(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		for seed := range uint64(300) {
			seeds = append(seeds, seed+1)
		}
	}
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) { runSchedule(t, seed) })
		if t.Failed() {
			t.Fatalf("again with: go test ./sources/sourcetest -run TestEveryScheduleEndsWithTheTruth -seed %d", seed)
		}
	}
}

func runSchedule(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	kind := Kind(rnd.IntN(2))
	b := NewBroker(BrokerOptions{Kind: kind, Partitions: 1 + rnd.IntN(3)})
	// A rewritten history is not seen through a hole where the proof was: that
	// limit of both brokers is no fault, so a run has only one of the two. For a
	// like reason nothing is reverted: a history that was put back may part from
	// ours below every epoch that the leader still knows.
	holes := rnd.IntN(2) == 0

	ctx, cancel := context.WithCancel(t.Context())
	sources, followers := make([]*Source, 3), make([]*follower, 3)
	done := make(chan struct{}, len(sources)) // one for each Tail
	for i := range sources {
		sources[i], followers[i] = b.Source(SourceOptions{Stepped: true}), &follower{}
		go func() {
			_ = sources[i].Tail(ctx, followers[i]) // ends with ctx
			done <- struct{}{}
		}()
	}
	synctest.Wait()

	var txns []*Txn
	for n := range 250 {
		p := int32(rnd.IntN(b.Partitions()))
		ends := b.Ends(p)
		between := func(from, to bridge.Offset) bridge.Offset {
			return from + bridge.Offset(rnd.Int64N(int64(max(to-from, 1))))
		}
		switch x := rnd.IntN(100); {
		case x < 30:
			b.Append(say(p, fmt.Sprint("record ", n)))
		case x < 75:
			s := sources[rnd.IntN(len(sources))]
			s.Step(p)
		case x < 78:
			sources[rnd.IntN(len(sources))].Discover()
		case x < 81 && holes:
			b.Delete(p, between(ends.First, ends.End))
		case x < 83:
			b.Trim(p, between(ends.First, ends.End+1))
		case x < 84:
			b.Grow(b.Partitions() + 1)
		case x < 86:
			b.NewEpoch(p)
		case x < 88 && !holes:
			b.Rollback(p, between(ends.First, ends.End))
		case x < 90:
			b.Recreate(1 + rnd.IntN(3))
			txns = nil
		case x < 91:
			b.Down()
		case x < 93:
			b.Up()
		case x < 96:
			if txn, ok := b.Begin(p); ok {
				txn.Append(say(p, fmt.Sprint("in a transaction ", n)))
				txns = append(txns, txn)
			}
		case len(txns) > 0:
			txn := txns[rnd.IntN(len(txns))]
			txn.Append(say(0, fmt.Sprint("more ", n)))
			if rnd.IntN(2) == 0 {
				txn.Abort()
			} else {
				txn.Commit()
			}
		}
	}

	b.Up()
	for _, txn := range txns {
		txn.Commit()
	}
	for i, s := range sources {
		for moved := true; moved; {
			moved = s.Discover()
			for p := range int32(b.Partitions()) {
				moved = s.Step(p) || moved
			}
		}
		followers[i].check(t, b, fmt.Sprintf("seed %d, %v, holes %v, replica %d", seed, kind, holes, i))
	}
	cancel()
	for range sources {
		<-done
	}
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

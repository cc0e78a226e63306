package replay

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	runtimemetrics "runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// fountain is a source that makes its records when they are read, so that nothing
// of a test's heap is the broker's.
type fountain struct {
	bridge.Source
	sizes  func(bridge.Offset) int // of a record
	pushes chan int
	pushed chan struct{}
	ready  chan struct{}

	mu  sync.Mutex
	end bridge.Offset
}

const fountainLife = 7

func (f *fountain) record(o bridge.Offset) bridge.Record {
	return bridge.Record{
		Offset: o, Proof: bridge.ProofOf(int64(o)), Origin: fmt.Sprintf("s.%d.%d", o%50, o%7), Time: time.Unix(int64(o), 0),
		Key: []byte("key"), Data: bytes.Repeat([]byte{'x'}, f.sizes(o)),
	}
}

func (f *fountain) position(o bridge.Offset) bridge.Position {
	return bridge.Position{Incarnation: fountainLife, Places: []bridge.Place{{Offset: o, Proof: bridge.ProofOf(int64(o) - 1)}}}
}

func (f *fountain) at() bridge.Offset {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.end
}

func (f *fountain) Poke() {}

func (f *fountain) Tail(ctx context.Context, out bridge.Receiver) error {
	out.Change(bridge.Change{Kind: bridge.Spaced, Subjects: []string{"s.>"}})
	out.Change(bridge.Change{Kind: bridge.Started, Position: f.position(f.at())})
	close(f.ready)
	for {
		select {
		case n := <-f.pushes:
			for range n {
				r := f.record(f.at())
				out.Records([]bridge.Record{r})
				f.mu.Lock()
				f.end++
				f.mu.Unlock()
			}
			f.pushed <- struct{}{}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *fountain) Verify(_ context.Context, pos bridge.Position, _ bridge.Known) (bridge.Verdict, error) {
	return bridge.Verdict{Incarnation: fountainLife, Epochs: []uint64{1}}, nil
}

func (f *fountain) ReadChunk(_ context.Context, q bridge.ChunkQuery) (bridge.Chunk, error) {
	c := bridge.Chunk{From: q.From, End: q.From}
	for size := 0; c.End < q.Limit && size < q.MaxBytes; c.End++ {
		r := f.record(c.End)
		c.Records = append(c.Records, r)
		size += len(r.Data)
	}
	return c, nil
}

// heapBytes is what is reachable. A collection leaves what becomes garbage while it
// runs, and catch-ups read on for a while: so the least of a few counts.
func heapBytes() int64 {
	sample := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	least := int64(math.MaxInt64)
	for range 4 {
		runtime.GC()
		runtimemetrics.Read(sample)
		least = min(least, int64(sample[0].Value.Uint64()))
	}
	return least
}

// heapForm is one of many forms.
type heapForm struct {
	simEncoder
	number int
}

// A container that is killed for its memory takes all its clients with it. What
// strangers can make a bridge keep is the budget, however fat the records, many the
// feeds and filters, and slow the clients; besides it there is what a client costs
// that is connected, and the one event that it is being given.
func TestMemoryStaysWithinItsBudget(t *testing.T) {
	const (
		budget  = 32 << 20
		clients = 200
		// perClient is a client's state and goroutine, and what it is being written.
		perClient = 8 << 10
		most      = budget*5/4 + clients*perClient
	)
	for _, traffic := range []struct {
		name  string
		push  int // records at a time
		sizes func(bridge.Offset) int
	}{
		{"fat", 20, func(bridge.Offset) int { return 200 << 10 }},
		{"mixed", 100, func(o bridge.Offset) int { return []int{10, 100, 4 << 10, 10, 100 << 10}[o%5] }},
		{"thin", 2000, func(bridge.Offset) int { return 20 }},
	} {
		name, push, sizes := traffic.name, traffic.push, traffic.sizes
		t.Run(name, func(t *testing.T) {
			base := heapBytes()
			f := &fountain{sizes: sizes, pushes: make(chan int), pushed: make(chan struct{}), ready: make(chan struct{}), end: 20000}
			stream := bridge.NewStream("s", f, bridge.StreamOptions{})
			hub := bridge.NewHub([]*bridge.Stream{stream}, bridge.HubOptions{RingBytes: budget * 3 / 8, FilterBytes: budget / 8})
			r := New(hub, Options{CacheBytes: budget * 3 / 8, BatchBytes: budget / 8})
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = hub.Run(ctx) })
			<-f.ready
			rnd := rand.New(rand.NewPCG(1, 2))
			var open []*Follower
			for i := range clients {
				sub := bridge.Subscription{Form: bridge.Form{Encoder: heapForm{number: i % 20}}, Control: true, Heartbeat: time.Minute}
				if i%3 > 0 {
					sub.Filter = bridge.NewFilter(bridge.Pattern(fmt.Sprintf("s.%d.*", rnd.IntN(50))), bridge.Pattern(fmt.Sprintf("s.*.%d", rnd.IntN(7))))
				}
				if i%2 > 0 {
					sub.From = bridge.ID{{Stream: "s", Position: f.position(bridge.Offset(rnd.IntN(20000)))}}
				}
				open = append(open, r.Open(ctx, &sub))
			}
			var worst, chunks int64
			next := func(f *Follower) {
				ctx, stop := context.WithTimeout(ctx, 5*time.Millisecond) // between stalls
				defer stop()
				_, _ = f.Next(ctx)
			}
			for round := range 10 {
				var pulling sync.WaitGroup
				for i, c := range open {
					if i%5 != round%5 && round > 0 {
						continue // it stalls, with what it was last given
					}
					pulling.Go(func() { next(c) })
				}
				pulling.Wait()
				f.pushes <- push
				<-f.pushed // before it is measured: what is encoded makes garbage
				if now := heapBytes() - base; now > worst {
					worst, chunks = now, r.Stats().Bytes
				}
				if now := r.Stats().Bytes; now > budget*3/8 { // with what is encoded of them in 20 forms
					t.Errorf("%d bytes in chunks, want up to %d", now, budget*3/8)
				}
			}
			t.Logf("%s: %d MiB at most, of them %d in chunks; %d MiB allowed", name, worst>>20, chunks>>20, int64(most)>>20)
			if worst > most {
				t.Errorf("%d bytes at most, want up to %d: a quarter more than the budget, and %d for each client", worst, most, perClient)
			}
			for _, c := range open {
				c.Close()
			}
			r.Close()
			stop()
			running.Wait()
		})
	}
}

package replay

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"

	"github.com/ssebridge/ssebridge/bridge"
)

// Options configure a [Replay]. Zero values mean the defaults.
type Options struct {
	CacheBytes int64 // records kept for catch-up; default 64 MiB
	// BatchBytes is for what catch-ups have encoded and clients have not taken yet;
	// default 8 MiB. Each client gets its share of it; where events are larger than
	// that, clients wait for each other.
	BatchBytes int64
	Reads      int          // reads of one stream's broker at a time; default 4
	Meter      metric.Meter // nil: nothing is counted
	Logger     *slog.Logger // nil: none

	// Tests make these small, so that few records meet many borders.
	runOffsets bridge.Offset // 0: defaultRunOffsets
	takeEvents int           // 0: defaultTakeEvents
	places     int           // catch-ups that work at a time; 0: one for each processor
}

// Replay takes clients from any position to the live bytes of their group.
type Replay struct {
	hub        *bridge.Hub
	cache      *Cache
	batches    *budget
	turns      *turns
	takeEvents int
	log        *slog.Logger
	metrics    *metrics
	began      time.Time // from which followers count

	handOvers, falls atomic.Uint64
	catchUps         atomic.Int64 // under way, or waiting for their turn
}

// New returns a Replay over the streams of hub. Close it after its last follower.
func New(hub *bridge.Hub, o Options) *Replay {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = 8 << 20
	}
	if o.Reads == 0 {
		o.Reads = 4
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.runOffsets == 0 {
		o.runOffsets = defaultRunOffsets
	}
	if o.takeEvents == 0 {
		o.takeEvents = defaultTakeEvents
	}
	if o.places == 0 {
		o.places = runtime.GOMAXPROCS(0)
	}
	cache := newCache(o.CacheBytes, o.Reads, len(hub.Streams()), o.runOffsets)
	r := &Replay{
		hub: hub, cache: cache, batches: newBudget(o.BatchBytes), turns: newTurns(o.places), takeEvents: o.takeEvents, log: o.Logger, began: time.Now(),
	}
	r.metrics = newMetrics(o.Meter, r)
	return r
}

// batchBytes is about how much one catch-up hands on at once. While clients take
// what they are given that is as much as is good for it; when those that do not
// have half of the budget, each gets an equal part of the other half.
func (r *Replay) batchBytes() int {
	if r.batches.ample() {
		return takeBytes
	}
	return int(min(r.batches.limit*2/5/max(1, r.catchUps.Load()), takeBytes-1)) // and the slots of its units
}

// Close ends reads that are still under way and waits for them.
func (r *Replay) Close() { r.cache.Close() }

// Stats returns the counts of this moment.
func (r *Replay) Stats() Stats {
	s := r.cache.Stats()
	s.HandOvers, s.Falls = r.handOvers.Load(), r.falls.Load()
	return s
}

// Open begins to follow. It returns at once: whatever has to be waited for,
// [Follower.Next] waits for. The caller closes the follower, which
// shares sub with it. ctx only tells the
// span of the client's request, if it has one.
func (r *Replay) Open(ctx context.Context, sub *bridge.Subscription) *Follower {
	f := &Follower{replay: r, sub: sub, at: sub.From.String(), fresh: true, spoke: time.Since(r.began)}
	if sub.From == nil {
		f.at = ""
	}
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		f.traced = &bridge.RequestTrace{Span: span, Began: time.Now()}
	}
	f.away()
	return f
}

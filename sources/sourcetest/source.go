package sourcetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

var (
	_ bridge.Source        = (*Source)(nil)
	_ bridge.SubjectTeller = (*Source)(nil)
)

// Op names what a source is doing, for hooks and counts.
type Op string

// The operations of a source.
const (
	OpTail       Op = "tail" // one look of the live reader at a partition
	OpVerify     Op = "verify"
	OpBounds     Op = "bounds"
	OpReadChunk  Op = "read chunk"
	OpPositionAt Op = "position at"
	OpSubjects   Op = "subjects"
)

// Hook is called in the course of an operation, by the goroutine that does it,
// which holds no lock. It may wait (for ctx too) and may return an error, which
// then is the answer; errors that stand for a broken connection wrap
// [bridge.ErrUnavailable]. A live reader takes any error for one and tries
// again.
type Hook func(ctx context.Context, op Op) error

// SourceOptions are the settings of a [Source]. The zero value is a source
// whose live reader runs free and answers at once.
type SourceOptions struct {
	// Stepped: the live reader moves only by Step and Discover.
	Stepped bool
	// OnReset is where the live reader goes on when nobody knows where histories
	// part; empty, and fail, mean at the first record.
	OnReset bridge.OnReset
	// Before is called before the broker is asked, After before its answer is
	// handed on: by then it may be stale. nil: nothing happens there.
	Before, After Hook
	// Rand, if set, lets a free reader take partitions in random order and hand
	// out batches of random size. Only Tail uses it, while it runs.
	Rand *rand.Rand
}

// maxBatchRecords is the most that a free live reader hands out at once.
const maxBatchRecords = 256

// Source is a [bridge.Source] on a [Broker]: what one replica would have.
type Source struct {
	b     *Broker
	o     SourceOptions
	steps chan step
	poke  chan struct{} // capacity 1: calls are merged

	mu    sync.Mutex
	tail  chan struct{} // closed when the running Tail ends; nil: none runs
	pokes int
	asked map[Op]int
}

// Source returns another source on the broker's stream.
func (b *Broker) Source(o SourceOptions) *Source {
	return &Source{b: b, o: o, steps: make(chan step), poke: make(chan struct{}, 1), asked: map[Op]int{}}
}

// Asked returns how often an operation was begun.
func (s *Source) Asked(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[op]
}

// Pokes returns how often Poke was called.
func (s *Source) Pokes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pokes
}

// before begins an operation.
func (s *Source) before(ctx context.Context, op Op) error {
	s.mu.Lock()
	s.asked[op]++
	s.mu.Unlock()
	return run(ctx, s.o.Before, op)
}

func run(ctx context.Context, h Hook, op Op) error {
	if h != nil {
		if err := h(ctx, op); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// state returns the stream as it is now. The broker's lock must be held, for as
// long as the answer is used.
func (b *Broker) state() (table, error) {
	switch {
	case b.down:
		return table{}, fmt.Errorf("stream %q: %w", b.o.Name, bridge.ErrUnavailable)
	case b.life == nil:
		return table{}, fmt.Errorf("stream %q: %w", b.o.Name, bridge.ErrMissing)
	}
	return table{b.life, b.o.Kind, b.o.Loss}, nil
}

// ask does an operation that is one question to the broker.
func ask[T any](ctx context.Context, s *Source, op Op, question func(t table) (T, error)) (T, error) {
	var none T
	if err := s.before(ctx, op); err != nil {
		return none, err
	}
	answer, err := func() (T, error) {
		s.b.mu.Lock()
		defer s.b.mu.Unlock()
		t, err := s.b.state()
		if err != nil {
			return none, err
		}
		return question(t)
	}()
	if err != nil {
		return none, err
	}
	if err := run(ctx, s.o.After, op); err != nil {
		return none, err
	}
	return answer, nil
}

// Verify implements [bridge.Verifier]. As it knows the truth it need not watch
// a position beyond the end.
func (s *Source) Verify(ctx context.Context, pos bridge.Position, known bridge.Known) (bridge.Verdict, error) {
	var held bridge.Proof
	if place := pos.Place(0); known != nil && s.b.o.Kind == JetStreamLike && place.Proof != 0 {
		if proof, ok := known(ctx, 0, place.Offset-1); ok {
			held = proof
		}
	}
	return ask(ctx, s, OpVerify, func(t table) (bridge.Verdict, error) {
		v := bridge.Verdict{Incarnation: t.incarnation, Epochs: s.b.epochs()}
		for p := range int32(max(len(pos.Places), len(t.logs))) {
			f := t.judge(pos, p, held)
			if f == nil {
				continue
			}
			v.Findings = append(v.Findings, *f)
			if f.Partition == bridge.AllPartitions {
				break
			}
			pos = f.Next
		}
		return v, nil
	})
}

// epochs returns the read epochs: what a history never changes within.
func (b *Broker) epochs() []uint64 {
	var epochs []uint64
	for _, l := range b.life.logs {
		if b.o.Kind == KafkaLike {
			epochs = append(epochs, uint64(l.leader()))
		} else {
			epochs = append(epochs, b.reign)
		}
	}
	return epochs
}

// Bounds implements [bridge.Bounder]. The end of a Kafka-like partition is its
// last stable offset: what an open transaction holds back is yet to come.
func (s *Source) Bounds(ctx context.Context) (bridge.Bounds, error) {
	return ask(ctx, s, OpBounds, func(t table) (bridge.Bounds, error) {
		return bridge.Bounds{First: t.firsts(), End: t.ends()}, nil
	})
}

// PositionAt implements [bridge.Seeker].
func (s *Source) PositionAt(ctx context.Context, at time.Time) (bridge.Position, error) {
	return ask(ctx, s, OpPositionAt, func(t table) (bridge.Position, error) {
		return t.since(at), nil
	})
}

// Subjects implements [bridge.SubjectTeller]. A broker without subjects tells
// what stands for any.
func (s *Source) Subjects(ctx context.Context) ([]string, error) {
	return ask(ctx, s, OpSubjects, func(table) ([]string, error) {
		if s.b.o.Subjects == nil {
			return []string{">"}, nil
		}
		return slices.Clone(s.b.o.Subjects), nil
	})
}

// ReadChunk implements [bridge.ChunkReader].
func (s *Source) ReadChunk(ctx context.Context, q bridge.ChunkQuery) (bridge.Chunk, error) {
	c, err := ask(ctx, s, OpReadChunk, func(t table) (bridge.Chunk, error) {
		if err := t.is(q.Incarnation); err != nil {
			return bridge.Chunk{}, err
		}
		if q.Partition < 0 || int(q.Partition) >= len(t.logs) {
			return bridge.Chunk{}, fmt.Errorf("partition %d is not listed: %w", q.Partition, bridge.ErrUnavailable)
		}
		return t.logs[q.Partition].chunk(q, t.loss), nil
	})
	if err != nil {
		return bridge.Chunk{}, fmt.Errorf("read partition %d from %d: %w", q.Partition, q.From, err)
	}
	// It may have become another stream while it was read.
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	t, err := s.b.state()
	if err == nil {
		err = t.is(q.Incarnation)
	}
	if err != nil {
		return bridge.Chunk{}, fmt.Errorf("read partition %d from %d: %w", q.Partition, q.From, err)
	}
	return c, nil
}

// is returns an error if this is not the incarnation asked for.
func (t table) is(asked bridge.Incarnation) error {
	if asked != t.incarnation {
		return fmt.Errorf("incarnation is %d, not %d: %w", t.incarnation, asked, bridge.ErrHistoryChanged)
	}
	return nil
}

// chunk reads [q.From, q.Limit), as far as that can be read now.
func (l *log) chunk(q bridge.ChunkQuery, loss Loss) bridge.Chunk {
	from := q.From
	// Nothing was ever below the base, and where only superseded records leave
	// there is nothing to miss below the first.
	if l.first > l.base() && loss != LossNone {
		from = max(from, min(l.first, q.Limit))
	}
	c := bridge.Chunk{From: from, End: max(from, min(q.Limit, l.stable()))}
	if e := l.at(from - 1); e != nil {
		c.Before = e.rec.Proof
	}
	size := 0
	for _, e := range l.entries[l.search(from):] {
		if e.rec.Offset >= c.End {
			break
		}
		if e.control {
			continue
		}
		r := e.show()
		c.Records = append(c.Records, r)
		if size += r.MemoryBytes(); size >= q.MaxBytes {
			c.End = r.Offset + 1
			break
		}
	}
	if next := l.next(c.End); next > c.End {
		c.Skip = next
	}
	return c
}

package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// errEnough is the cause with which tests end a Tail.
var errEnough = errors.New("the test has seen enough")

// follower keeps what a Tail tells.
type follower struct {
	mu       sync.Mutex
	told     chan struct{} // closed, and replaced, by each call
	pos      bridge.Position
	started  bool
	records  map[int32][]bridge.Record
	findings []bridge.Finding
	changes  []bridge.Change
	slow     func() // called without the lock before records are taken; nil: nothing
}

func (f *follower) notify() {
	close(f.told)
	f.told = make(chan struct{})
}

func (f *follower) Records(recs []bridge.Record) {
	if f.slow != nil {
		f.slow()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	own := slices.Clone(recs)
	detach(own)
	for _, r := range own {
		if r.Offset < f.pos.Place(r.Partition).Offset {
			panic(fmt.Sprintf("record %d@%d below the live place %+v", r.Partition, r.Offset, f.pos.Place(r.Partition)))
		}
		f.records[r.Partition] = append(f.records[r.Partition], r)
		f.pos = f.pos.With(r.Partition, r.Next())
	}
	f.notify()
}

// detach is own, but for what is oversized.
func detach(recs []bridge.Record) { own(recs) }

func (f *follower) Change(c bridge.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, c)
	switch c.Kind {
	case bridge.Started:
		f.started, f.pos = true, c.Position.Clone()
	case bridge.Moved:
		f.pos = f.pos.With(c.Partition, c.Place)
	case bridge.Found:
		f.findings = append(f.findings, c.Finding)
		f.pos = c.Finding.Next.Clone()
	case bridge.Grown:
		f.pos = f.pos.With(int32(c.Partitions-1), bridge.Place{})
	case bridge.Doubted, bridge.Waiting, bridge.Reading, bridge.Spaced:
	}
	f.notify()
}

// follow runs a Tail until the test ends and waits until it has started.
func follow(t testing.TB, s *Source) *follower {
	t.Helper()
	f := attach(t, s)
	f.until(t, "Started", func() bool { return f.started })
	return f
}

// attach runs a Tail until the test ends.
func attach(t testing.TB, s *Source) *follower {
	t.Helper()
	f := &follower{told: make(chan struct{}), records: map[int32][]bridge.Record{}}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Tail(ctx, f) }()
	t.Cleanup(func() {
		cancel(errEnough)
		if err := <-done; !errors.Is(err, errEnough) {
			t.Errorf("Tail returned %v, want the cause of its context", err)
		}
	})
	return f
}

// until waits until claim holds; it is evaluated under the follower's lock.
func (f *follower) until(t testing.TB, what string, claim func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		f.mu.Lock()
		holds, told := claim(), f.told
		summary := fmt.Sprintf("live at %+v, findings %+v", f.pos, f.findings)
		for _, c := range f.changes[max(0, len(f.changes)-4):] {
			summary += fmt.Sprintf("; change %d %v", c.Kind, c.Err)
		}
		f.mu.Unlock()
		if holds {
			return
		}
		select {
		case <-told:
		case <-deadline.C:
			t.Fatalf("no %s; %s", what, summary)
		}
	}
}

// reaches waits until the live place of each partition is at least this.
func (f *follower) reaches(t testing.TB, ends ...bridge.Offset) {
	t.Helper()
	f.until(t, fmt.Sprintf("arrival at %v", ends), func() bool {
		for p, end := range ends {
			if f.pos.Place(int32(p)).Offset < end {
				return false
			}
		}
		return true
	})
}

// texts returns the payloads of a partition's records.
func (f *follower) texts(partition int32) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return texts(f.records[partition])
}

func texts(recs []bridge.Record) []string {
	var out []string
	for _, r := range recs {
		out = append(out, string(r.Data))
	}
	return out
}

// replay reads a partition by chunks of at most so many bytes.
func replay(t testing.TB, s *Source, partition int32, maxBytes int) []bridge.Record {
	t.Helper()
	b, err := s.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	q := bridge.ChunkQuery{
		Partition: partition, From: b.First.Place(partition).Offset, Limit: b.End.Place(partition).Offset,
		MaxBytes: maxBytes, Incarnation: b.First.Incarnation,
	}
	var recs []bridge.Record
	for q.From < q.Limit {
		c, err := s.ReadChunk(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if c.From != q.From || c.End <= q.From || c.End > q.Limit {
			t.Fatalf("chunk of [%d,%d) is [%d,%d)", q.From, q.Limit, c.From, c.End)
		}
		recs = append(recs, c.Records...)
		q.From = c.End
	}
	return recs
}

// wantExact checks that a position is exact.
func wantExact(t testing.TB, s *Source, pos bridge.Position) {
	t.Helper()
	v, err := s.Verify(t.Context(), pos, nil)
	if err != nil || len(v.Findings) > 0 {
		t.Errorf("verdict on %+v is %+v, %v; want exact", pos, v.Findings, err)
	}
}

// sameRecord reports whether two ways of reading show the same.
func sameRecord(a, b bridge.Record) bool {
	return a.Partition == b.Partition && a.Offset == b.Offset && a.Proof == b.Proof && a.Kind == b.Kind && a.Origin == b.Origin &&
		a.Time.Equal(b.Time) && bytes.Equal(a.Key, b.Key) && (a.Key == nil) == (b.Key == nil) && bytes.Equal(a.Data, b.Data) &&
		slices.EqualFunc(a.Headers, b.Headers, func(x, y bridge.Header) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) })
}

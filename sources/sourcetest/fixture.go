package sourcetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// fixture is a subject with the truth about its stream: what the suite put into
// it and has not removed.
type fixture struct {
	Subject
	base bridge.Offset // of the first record ever

	mu   sync.Mutex
	logs []truth // by partition
}

// truth is what one partition holds.
type truth struct {
	first, end bridge.Offset
	sent       []sent // in offset order
}

// sent is a record that the broker has accepted.
type sent struct {
	offset  bridge.Offset
	message Message
}

func newFixture(t *testing.T, s Subject) *fixture {
	t.Helper()
	s.Partitions = max(s.Partitions, 1)
	if s.Gap == "" {
		s.Gap = bridge.Retention
	}
	f := &fixture{Subject: s}
	f.base = f.bounds(t).First.Place(0).Offset
	f.renew(s.Partitions)
	return f
}

// renew forgets everything: the stream is empty and has n partitions.
func (f *fixture) renew(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs = nil
	for range n {
		f.logs = append(f.logs, truth{first: f.base, end: f.base})
	}
}

// partitions is how many there are, for ranging over them.
func (f *fixture) partitions() int32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int32(len(f.logs))
}

// log returns a copy of the truth about a partition.
func (f *fixture) log(partition int32) truth {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.logs[partition]
	l.sent = slices.Clone(l.sent)
	return l
}

// put publishes a message and notes it. It tries once.
func (f *fixture) put(ctx context.Context, m Message) error {
	if m.Subject == "" && !f.Keyed {
		m.Subject = "plain"
	}
	offset, err := f.Publish(ctx, m)
	if err != nil {
		return fmt.Errorf("publish to partition %d: %w", m.Partition, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := &f.logs[m.Partition]
	i := len(l.sent)
	for i > 0 && l.sent[i-1].offset > offset { // acknowledgements of several producers cross
		i--
	}
	l.sent = slices.Insert(l.sent, i, sent{offset, m})
	l.end = max(l.end, offset+1)
	return nil
}

// publish puts messages until the broker has them, one after the other.
func (f *fixture) publish(t *testing.T, ms ...Message) {
	t.Helper()
	for _, m := range ms {
		if err := f.put(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// fill publishes n numbered messages to every partition.
func (f *fixture) fill(t *testing.T, n int, prefix string) {
	t.Helper()
	for i := range n {
		for p := range f.partitions() {
			f.publish(t, Message{Partition: p, Data: fmt.Appendf(nil, "%s %d/%d", prefix, p, i)})
		}
	}
}

// delete removes the i-th record of a partition.
func (f *fixture) delete(t *testing.T, partition int32, i int) {
	t.Helper()
	f.Delete(t, partition, f.log(partition).sent[i].offset)
	f.mu.Lock()
	defer f.mu.Unlock()
	l := &f.logs[partition]
	l.sent = slices.Delete(l.sent, i, i+1)
}

// trim removes the first n records of a partition.
func (f *fixture) trim(t *testing.T, partition int32, n int) {
	t.Helper()
	l := f.log(partition)
	l.first = l.end
	if n < len(l.sent) {
		l.first = l.sent[n].offset
	}
	f.Trim(t, partition, l.first)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[partition].first = l.first
	f.logs[partition].sent = l.sent[n:]
}

// keep remembers the log, for rolling it back.
func (f *fixture) keep(t *testing.T) (rollBack func()) {
	t.Helper()
	toThen := f.Keep(t)
	var kept []truth
	for p := range f.partitions() {
		kept = append(kept, f.log(p))
	}
	return func() {
		t.Helper()
		toThen()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.logs = kept
	}
}

func (f *fixture) recreate(t *testing.T) {
	t.Helper()
	f.Recreate(t)
	f.renew(f.Partitions)
}

// answer asks until the broker answers, or patience ends.
func answer[T any](t *testing.T, question func(ctx context.Context) (T, error)) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		a, err := question(ctx)
		if err == nil {
			return a
		}
		if !errors.Is(err, bridge.ErrUnavailable) && !errors.Is(err, bridge.ErrMissing) || ctx.Err() != nil {
			t.Fatalf("no answer: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond): // between two questions to a broker that is away
		}
	}
}

func (f *fixture) bounds(t *testing.T) bridge.Bounds {
	t.Helper()
	return answer(t, f.Source.Bounds)
}

func (f *fixture) verify(t *testing.T, pos bridge.Position, known bridge.Known) bridge.Verdict {
	t.Helper()
	before := pos.Clone()
	v := answer(t, func(ctx context.Context) (bridge.Verdict, error) { return f.Source.Verify(ctx, pos, known) })
	if !pos.Equal(before) {
		t.Errorf("Verify changed its argument %+v to %+v", before, pos)
	}
	return v
}

// proofs returns the proofs of all records that the stream holds, by offset.
func (f *fixture) proofs(t *testing.T, partition int32) map[bridge.Offset]bridge.Proof {
	t.Helper()
	proofs := map[bridge.Offset]bridge.Proof{}
	for _, r := range f.read(t, f.Source, partition) {
		proofs[r.Offset] = r.Proof
	}
	return proofs
}

// read reads all that a partition holds, in one range after the other.
func (f *fixture) read(t *testing.T, s bridge.Source, partition int32) []bridge.Record {
	t.Helper()
	b := f.bounds(t)
	q := bridge.ChunkQuery{
		Partition: partition, From: b.First.Place(partition).Offset, Limit: b.End.Place(partition).Offset,
		MaxBytes: 1 << 20, Incarnation: b.First.Incarnation,
	}
	var recs []bridge.Record
	for q.From < q.Limit {
		c := answer(t, func(ctx context.Context) (bridge.Chunk, error) { return s.ReadChunk(ctx, q) })
		if c.End <= q.From {
			t.Fatalf("chunk of [%d,%d) ends at %d: no progress", q.From, q.Limit, c.End)
		}
		recs = append(recs, c.Records...)
		q.From = c.End
	}
	return recs
}

// match compares records that a source showed with what was sent.
func (f *fixture) match(t *testing.T, what string, got []bridge.Record, want []sent) {
	t.Helper()
	got = slices.DeleteFunc(slices.Clone(got), func(r bridge.Record) bool { return r.Kind == bridge.Hidden })
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("%s: %d records, want %d; the first that lacks is offset %d, %.40q", what, len(got), len(want), want[i].offset, want[i].message.Data)
			return
		case i >= len(want):
			t.Errorf("%s: %d records, want %d; the first too many is %s", what, len(got), len(want), brief(got[i]))
			return
		}
		if err := f.like(got[i], want[i]); err != nil {
			t.Errorf("%s: record %d of %d: %v", what, i, len(want), err)
			return
		}
	}
}

// like returns in what a record differs from what was sent.
func (f *fixture) like(r bridge.Record, s sent) error {
	m := s.message
	switch {
	case r.Partition != m.Partition || r.Offset != s.offset:
		return fmt.Errorf("%s, want %d@%d %.40q", brief(r), m.Partition, s.offset, m.Data)
	case r.Proof == 0:
		return fmt.Errorf("%s has no proof", brief(r))
	case r.Time.IsZero():
		return fmt.Errorf("%s has no time", brief(r))
	case r.Subject != "" || r.Name != "":
		return fmt.Errorf("%s has subject %q and name %q, which are not the source's to fill in", brief(r), r.Subject, r.Name)
	case f.Keyed && (!bytes.Equal(r.Key, m.Key) || (r.Key == nil) != (m.Key == nil)):
		return fmt.Errorf("%s has key %#v, want %#v", brief(r), r.Key, m.Key)
	case !f.Keyed && r.Origin != m.Subject:
		return fmt.Errorf("%s has origin %q, want %q", brief(r), r.Origin, m.Subject)
	case r.Origin == "":
		return fmt.Errorf("%s has no origin", brief(r))
	case m.Tombstone != (r.Kind == bridge.Delete):
		return fmt.Errorf("%s has kind %d, tombstone %v", brief(r), r.Kind, m.Tombstone)
	case m.Tombstone:
		return nil // how a broker says so is its own
	case r.Kind != bridge.Data:
		return fmt.Errorf("%s has kind %d, want data", brief(r), r.Kind)
	case !bytes.Equal(r.Data, m.Data):
		return fmt.Errorf("%d@%d has data %.80q (%d bytes), want %.80q (%d)", r.Partition, r.Offset, r.Data, len(r.Data), m.Data, len(m.Data))
	case !slices.EqualFunc(byKey(r.Headers), byKey(m.Headers), sameHeader):
		return fmt.Errorf("%s has headers %q, want %q", brief(r), byKey(r.Headers), byKey(m.Headers))
	}
	return nil
}

// byKey orders headers by key, values of one key as they came: not every broker
// keeps the order of keys.
func byKey(hs []bridge.Header) []bridge.Header {
	hs = slices.Clone(hs)
	slices.SortStableFunc(hs, func(a, b bridge.Header) int { return cmp.Compare(a.Key, b.Key) })
	return hs
}

func sameHeader(a, b bridge.Header) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }

// same reports whether two sources, or two ways of one, show the same record.
func same(a, b bridge.Record) bool {
	return a.Partition == b.Partition && a.Offset == b.Offset && a.Proof == b.Proof && a.Kind == b.Kind &&
		a.Origin == b.Origin && a.Time.Equal(b.Time) &&
		bytes.Equal(a.Key, b.Key) && (a.Key == nil) == (b.Key == nil) && bytes.Equal(a.Data, b.Data) &&
		slices.EqualFunc(byKey(a.Headers), byKey(b.Headers), sameHeader)
}

func brief(r bridge.Record) string {
	return fmt.Sprintf("%d@%d %.40q", r.Partition, r.Offset, r.Data)
}

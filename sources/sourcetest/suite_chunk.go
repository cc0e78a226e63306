package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
)

var chunkChecks = []check{
	{"ChunkOfEveryRange", chunkOfEveryRange, nil},
	{"ChunkOfEveryRangeWithHoles", chunkWithHoles, canDelete},
	{"ChunkOfEveryRangeOfATrimmedLog", chunkTrimmed, canTrim},
	{"ChunkOfEveryRangeOfALogTrimmedToNothing", chunkTrimmedAway, canTrim},
	{"ChunkIsBoundedInBytes", chunkIsBounded, nil},
	{"ChunkKeepsPayloads", chunkKeepsPayloads, nil},
	{"ChunkBelongsToTheCaller", chunkBelongsToTheCaller, nil},
	{"ChunkOfAnotherIncarnation", chunkOfAnotherIncarnation, nil},
	{"EndedContextIsAnAnswer", endedContext, nil},
}

// awkward are messages that a careless reader damages.
func awkward(partition int32) []Message {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	h := func(key, value string) bridge.Header { return bridge.Header{Key: key, Value: []byte(value)} }
	ms := []Message{
		{Data: []byte{}},
		{Data: []byte("plain"), Key: []byte("k")},
		{Data: []byte("\x00")},
		{Data: []byte("a\rb\nc\r\nd\n\n")},
		{Data: all, Key: []byte{}},
		{Data: []byte("\xff\xfe\xc0\x80"), Key: []byte("\xff\x00")},
		{Data: []byte("data: x\nid: 7\n\n")},
		{Data: bytes.Repeat([]byte("0123456789abcdef"), 1<<16)},
		{Data: []byte("with headers"), Headers: []bridge.Header{h("a", "1"), h("b", ""), h("a", "2"), h("Traceparent", "00-x")}},
		// Some clients take an empty message with a status for one of the broker's own.
		{Data: []byte{}, Headers: []bridge.Header{h("Status", "100")}},
		{Data: []byte{}, Headers: []bridge.Header{h("Status", "200")}},
		{Data: []byte{}, Headers: []bridge.Header{h("Status", "408")}},
		{Data: []byte{}, Headers: []bridge.Header{h("Status", "503")}},
		{Tombstone: true, Key: []byte("gone")},
		{Data: []byte("after all of them")},
	}
	for i := range ms {
		ms[i].Partition = partition
		ms[i].Subject = "awkward.subject-" + strings.Repeat("x", i)
	}
	return ms
}

// everyRange reads each range of offsets of each partition, in one chunk and in
// as many as it takes, and compares with the truth.
func everyRange(t *testing.T, f *fixture) {
	t.Helper()
	inc := f.bounds(t).First.Incarnation
	for p := range f.partitions() {
		l, proofs := f.log(p), f.proofs(t, p)
		for from := f.base; from <= l.end+1; from++ {
			for limit := from; limit <= l.end+2; limit++ {
				q := bridge.ChunkQuery{Partition: p, From: from, Limit: limit, MaxBytes: 1 << 20, Incarnation: inc}
				if err := walk(t, f, q, l, proofs); err != nil {
					t.Fatalf("partition %d holds [%d,%d), read [%d,%d): %v", p, l.first, l.end, from, limit, err)
				}
			}
		}
	}
}

// walk reads a range to its end and checks each chunk on the way.
func walk(t *testing.T, f *fixture, q bridge.ChunkQuery, l truth, proofs map[bridge.Offset]bridge.Proof) error {
	t.Helper()
	for {
		c := answer(t, func(ctx context.Context) (bridge.Chunk, error) { return f.Source.ReadChunk(ctx, q) })
		if err := f.checkChunk(c, q, l, proofs); err != nil {
			return fmt.Errorf("chunk of [%d,%d) is [%d,%d) with %d records: %w", q.From, q.Limit, c.From, c.End, len(c.Records), err)
		}
		if c.End >= min(q.Limit, l.end) {
			return nil
		}
		q.From = c.End
	}
}

// checkChunk says in what a chunk breaks the contract.
func (f *fixture) checkChunk(c bridge.Chunk, q bridge.ChunkQuery, l truth, proofs map[bridge.Offset]bridge.Proof) error {
	from := q.From
	if q.From < l.first && l.first > f.base {
		from = min(l.first, q.Limit)
	}
	if c.From != from {
		return fmt.Errorf("want it to begin at %d", from)
	}
	if c.End < c.From || c.End > max(q.Limit, from) || c.End > max(l.end, from) {
		return errors.New("it ends where it cannot")
	}
	if c.From < min(q.Limit, l.end) && c.End == c.From {
		return errors.New("it makes no progress")
	}
	var want []sent
	for _, s := range l.sent {
		if s.offset >= c.From && s.offset < c.End {
			want = append(want, s)
		}
		if c.Skip != 0 && s.offset >= c.End && s.offset < c.Skip {
			return fmt.Errorf("it skips to %d over record %d", c.Skip, s.offset)
		}
	}
	if c.Skip != 0 && c.Skip <= c.End {
		return fmt.Errorf("it skips to %d", c.Skip)
	}
	if c.Before != 0 && c.Before != proofs[c.From-1] {
		return fmt.Errorf("before it is %v, want %v or none", c.Before, proofs[c.From-1])
	}
	if len(c.Records) != len(want) {
		return fmt.Errorf("want %d records", len(want))
	}
	for i := range want {
		if err := f.like(c.Records[i], want[i]); err != nil {
			return err
		}
	}
	return nil
}

// Whatever is asked for, a chunk has all of it or says where it ends: nobody
// else will notice what it lacks.
func chunkOfEveryRange(t *testing.T, f *fixture) {
	everyRange(t, f) // of an empty log
	f.fill(t, 12, "r")
	everyRange(t, f)
}

func chunkWithHoles(t *testing.T, f *fixture) {
	f.fill(t, 12, "r")
	for p := range f.partitions() {
		for _, i := range []int{9, 5, 4, 2} {
			f.delete(t, p, i)
		}
	}
	everyRange(t, f)
}

// A chunk that begins above what was asked for is how a client learns of a loss
// in the middle of its catch-up.
func chunkTrimmed(t *testing.T, f *fixture) {
	f.fill(t, 12, "r")
	for p := range f.partitions() {
		f.trim(t, p, 5+int(p))
	}
	everyRange(t, f)
}

func chunkTrimmedAway(t *testing.T, f *fixture) {
	f.fill(t, 6, "r")
	for p := range f.partitions() {
		f.trim(t, p, 6)
	}
	everyRange(t, f)
}

// The memory of catch-up is what the operator allowed, and a record larger than
// that must still get through.
func chunkIsBounded(t *testing.T, f *fixture) {
	const size = 1000
	for p := range f.partitions() {
		for range 10 {
			f.publish(t, Message{Partition: p, Data: bytes.Repeat([]byte("x"), size)})
		}
	}
	inc := f.bounds(t).First.Incarnation
	for p := range f.partitions() {
		l, proofs := f.log(p), f.proofs(t, p)
		for _, maxBytes := range []int{1, size, 2*size + 1, 5 * size, 100 * size} {
			q := bridge.ChunkQuery{Partition: p, From: l.first, Limit: l.end, MaxBytes: maxBytes, Incarnation: inc}
			if err := walk(t, f, q, l, proofs); err != nil {
				t.Errorf("max %d bytes: %v", maxBytes, err)
			}
			c := answer(t, func(ctx context.Context) (bridge.Chunk, error) { return f.Source.ReadChunk(ctx, q) })
			if n := len(c.Records); n < 1 || (n-1)*size >= maxBytes {
				t.Errorf("max %d bytes: %d records of %d bytes; want it to stop after the one that reaches the limit", maxBytes, n, size)
			}
		}
	}
}

// Nothing between the producer and the client may touch a byte.
func chunkKeepsPayloads(t *testing.T, f *fixture) {
	for p := range f.partitions() {
		f.publish(t, awkward(p)...)
	}
	inc := f.bounds(t).First.Incarnation
	for p := range f.partitions() {
		l, proofs := f.log(p), f.proofs(t, p)
		if err := walk(t, f, bridge.ChunkQuery{Partition: p, From: l.first, Limit: l.end, MaxBytes: 64 << 20, Incarnation: inc}, l, proofs); err != nil {
			t.Errorf("all: %v", err)
		}
		for _, s := range l.sent {
			if err := walk(t, f, bridge.ChunkQuery{Partition: p, From: s.offset, Limit: s.offset + 1, MaxBytes: 1, Incarnation: inc}, l, proofs); err != nil {
				t.Errorf("alone: %v", err)
			}
		}
	}
}

// Chunks are kept in a cache and their records prepared in place.
func chunkBelongsToTheCaller(t *testing.T, f *fixture) {
	f.fill(t, 3, "r")
	b := f.bounds(t)
	q := bridge.ChunkQuery{From: b.First.Place(0).Offset, Limit: b.End.Place(0).Offset, MaxBytes: 1 << 20, Incarnation: b.First.Incarnation}
	l, proofs := f.log(0), f.proofs(t, 0)
	c := answer(t, func(ctx context.Context) (bridge.Chunk, error) { return f.Source.ReadChunk(ctx, q) })
	for i := range c.Records {
		spoil(&c.Records[i])
	}
	if err := walk(t, f, q, l, proofs); err != nil {
		t.Errorf("after the first chunk was overwritten: %v", err)
	}
}

// A chunk of another stream under the same offsets would be history that never
// was.
func chunkOfAnotherIncarnation(t *testing.T, f *fixture) {
	f.fill(t, 3, "r")
	b := f.bounds(t)
	q := bridge.ChunkQuery{From: b.First.Place(0).Offset, Limit: b.End.Place(0).Offset, MaxBytes: 1 << 20, Incarnation: b.First.Incarnation + 1}
	if c, err := f.Source.ReadChunk(t.Context(), q); !errors.Is(err, bridge.ErrHistoryChanged) {
		t.Errorf("chunk is %+v, %v; want ErrHistoryChanged", c, err)
	}
}

// Who has gone must not be waited for.
func endedContext(t *testing.T, f *fixture) {
	b := f.bounds(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	for what, err := range asking(ctx, f.Source, b) {
		if !errors.Is(err, errStop) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v, want the context's error", what, err)
		}
	}
}

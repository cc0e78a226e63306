package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// chunkLeast and chunkMost bound what one fetch of replay asks for. A batch that
	// is larger comes whole.
	chunkLeast = 64 << 10
	chunkMost  = 1 << 20
	// chunkRead is how much is read at most for one chunk when nothing of it can be
	// shown, such as an aborted transaction: the chunk then ends within it.
	chunkRead = 16 << 20
)

// ReadChunk implements [bridge.ChunkReader]. It reads from one offset earlier
// than asked for, so that the chunk tells the proof of the record before it.
func (s *Source) ReadChunk(ctx context.Context, q bridge.ChunkQuery) (bridge.Chunk, error) {
	if ctx.Err() != nil {
		return bridge.Chunk{}, context.Cause(ctx)
	}
	var c bridge.Chunk
	err := s.cold.insist(ctx, func(ctx context.Context) (err error) {
		c, err = s.readChunk(ctx, q)
		return err
	})
	if err != nil {
		return bridge.Chunk{}, fmt.Errorf("topic %q: read partition %d from %d: %w", s.opt.Topic, q.Partition, q.From, err)
	}
	own(c.Records)
	return c, nil
}

func (s *Source) readChunk(ctx context.Context, q bridge.ChunkQuery) (bridge.Chunk, error) {
	g, err := s.ground(ctx)
	if err != nil {
		return bridge.Chunk{}, err
	}
	if g.incarnation != q.Incarnation || int(q.Partition) >= len(g.parts) {
		if g, err = s.cold.look(ctx); err != nil {
			return bridge.Chunk{}, err
		}
	}
	switch {
	case g.incarnation != q.Incarnation:
		return bridge.Chunk{}, bridge.ErrHistoryChanged
	case q.Partition < 0 || int(q.Partition) >= len(g.parts):
		return bridge.Chunk{}, &CodeError{"Fetch", g.topic, q.Partition, int16(codeUnknownTopic)}
	}
	r := chunkReader{s: s, g: g, q: q, bytes: max(q.MaxBytes, 1)}
	r.chunk = bridge.Chunk{From: q.From, End: q.From}
	if err := r.read(ctx); err != nil {
		return bridge.Chunk{}, err
	}
	if g.id == [16]byte{} || r.version < 13 { // what was read is by name: is it still that topic?
		v, err := s.cold.view(ctx, anyBroker)
		if err != nil {
			return bridge.Chunk{}, err
		}
		if v.incarnation != q.Incarnation {
			return bridge.Chunk{}, bridge.ErrHistoryChanged
		}
	}
	return r.chunk, nil
}

// groundAge is how old the list of leaders may be that a chunk is read by: what
// is read is checked by the broker against the topic's id and leader epoch.
const groundAge = time.Second

func (s *Source) ground(ctx context.Context) (*ground, error) {
	if g := s.cold.last.Load(); g != nil && time.Since(g.asked) < groundAge {
		return g, nil
	}
	return s.cold.look(ctx)
}

// chunkReader reads one chunk.
type chunkReader struct {
	s       *Source
	g       *ground
	q       bridge.ChunkQuery
	bytes   int          // still to be taken
	raw     int          // read so far
	version int16        // of Fetch
	chunk   bridge.Chunk // End is how far it is complete
}

// read reads until the chunk is full or the log ends.
func (r *chunkReader) read(ctx context.Context) error {
	c := &r.chunk
	if c.End >= r.q.Limit {
		return nil
	}
	from := max(int64(c.From)-1, 0)
	for c.End < r.q.Limit && r.bytes > 0 && (r.raw < chunkRead || c.End == c.From) {
		f, err := r.fetch(ctx, from)
		if err != nil {
			return err
		}
		if f.err == codeOutOfRange {
			return r.outOfRange(ctx, from)
		}
		end := c.End
		if err := r.add(f); err != nil {
			return err
		}
		if c.End == end && from >= int64(end) { // the end of what can be read
			return nil
		}
		from = int64(c.End)
	}
	return nil
}

// outOfRange finds out what an offset is that the log does not have.
func (r *chunkReader) outOfRange(ctx context.Context, from int64) error {
	g, err := r.s.cold.look(ctx)
	if err != nil {
		return err
	}
	if g.incarnation != r.q.Incarnation || int(r.q.Partition) >= len(g.parts) {
		return bridge.ErrHistoryChanged
	}
	first, c := bridge.Offset(g.firsts[r.q.Partition]), &r.chunk
	switch {
	case len(c.Records) > 0 || c.End > r.q.From:
		return nil // the rest is another chunk's
	case r.q.From < first:
		c.From = min(first, r.q.Limit)
		c.End = c.From
		r.g = g
		if c.From == r.q.Limit {
			return nil
		}
	case from < int64(first): // only the one before it is gone
	default: // above the end
		return nil
	}
	return r.readOn(ctx)
}

// readOn reads a chunk without the record before it, which is gone.
func (r *chunkReader) readOn(ctx context.Context) error {
	c := &r.chunk
	for c.End < r.q.Limit && r.bytes > 0 && (r.raw < chunkRead || c.End == c.From) {
		f, err := r.fetch(ctx, int64(c.End))
		if err != nil {
			return err
		}
		if f.err == codeOutOfRange {
			if c.End > c.From { // trimmed while it was read: what there is, is whole
				return nil
			}
			return &CodeError{"Fetch", r.g.topic, r.q.Partition, int16(codeOffsetNotAvailable)} // look again
		}
		end := c.End
		if err := r.add(f); err != nil {
			return err
		}
		if c.End == end {
			return nil
		}
	}
	return nil
}

// fetch reads from an offset on.
func (r *chunkReader) fetch(ctx context.Context, from int64) (*fetched, error) {
	l, err := r.g.leader(r.q.Partition)
	if err != nil {
		return nil, err
	}
	size := int32(min(max(r.bytes, chunkLeast), chunkMost))
	r.s.stats.chunks.Add(1)
	limits := fetchLimits{isolation: r.s.cluster.opt.isolation(), bytes: size}
	v, err := r.s.cold.link.versions(ctx, l.broker)
	if err != nil {
		return nil, err
	}
	r.version = v.fetch
	parts, err := r.s.cold.fetch(ctx, l.broker, limits, fetchTopic{name: r.g.topic, id: r.g.id, partitions: []fetchPartition{
		{index: r.q.Partition, leader: l.epoch, last: noEpoch, offset: from, bytes: size},
	}})
	if err != nil {
		return nil, err
	}
	for i := range parts {
		f := &parts[i]
		if f.partition != r.q.Partition {
			continue
		}
		if f.err != codeNone && f.err != codeOutOfRange {
			r.s.cold.last.CompareAndSwap(r.g, nil) // whoever leads, it is not as we thought
			return nil, &CodeError{"Fetch", r.g.topic, r.q.Partition, int16(f.err)}
		}
		r.raw += len(f.records)
		return f, nil
	}
	return nil, fmt.Errorf("fetch: no answer for the partition: %w", bridge.ErrUnavailable)
}

// add takes over what was fetched and moves the chunk's end.
func (r *chunkReader) add(f *fetched) error {
	filter := newAbortFilter(f.aborted)
	for rest := f.records; len(rest) > 0; {
		b, next, err := nextBatch(rest)
		if errors.Is(err, errPartial) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", err, bridge.ErrUnavailable)
		}
		rest = next
		shows, err := filter.shows(&b)
		if err != nil {
			return fmt.Errorf("%w: %w", err, bridge.ErrUnavailable)
		}
		full, err := r.take(&b, shows)
		if err != nil {
			return fmt.Errorf("%w: %w", err, bridge.ErrUnavailable)
		}
		if full {
			return nil
		}
	}
	return nil
}

// take takes over one batch. full means that the chunk wants no more.
func (r *chunkReader) take(b *batch, shows bool) (full bool, err error) {
	c := &r.chunk
	if b.last() < int64(c.From)-1 {
		return false, nil
	}
	records := newRecordReader(b, r.s.opt.MaxRecordBytes)
	defer records.close()
	if !shows && b.last() >= int64(c.From) { // only its end counts
		records.left = 0
	}
	for records.next() {
		switch o := bridge.Offset(records.rec.offset); {
		case o == c.From-1:
			c.Before = proofOf(b.epoch)
		case o < c.End || !shows:
		case o >= r.q.Limit:
			r.skip(o)
			return true, nil
		default:
			rec := r.s.shown(r.q.Partition, b.epoch, &records.rec)
			c.Records = append(c.Records, rec)
			c.End = o + 1
			if r.bytes -= rec.MemoryBytes(); r.bytes <= 0 {
				return true, nil
			}
		}
	}
	if records.err != nil {
		return false, records.err
	}
	if end := bridge.Offset(b.last() + 1); end >= r.q.Limit {
		r.skip(end)
		return true, nil
	} else if end > c.End {
		c.End = end
	}
	return false, nil
}

// skip ends the chunk at its limit: nothing can be shown up to an offset that is
// not below it.
func (r *chunkReader) skip(to bridge.Offset) {
	r.chunk.End = r.q.Limit
	if to > r.q.Limit {
		r.chunk.Skip = to
	}
}

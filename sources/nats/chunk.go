package nats

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// lagWait is how long a replica that lags behind is given before it is asked
	// again.
	lagWait = 30 * time.Millisecond
	// lagTries is how often it is asked again before the leader is read instead,
	// record by record.
	lagTries = 2
	// foreignTries is how often an answer that cannot be trusted is asked for again
	// before a consumer is made instead.
	foreignTries = 2
)

// ReadChunk implements [bridge.ChunkReader]. It reads from one record earlier
// than asked for, so that the chunk tells the proof of the record before it.
func (s *Source) ReadChunk(ctx context.Context, q bridge.ChunkQuery) (bridge.Chunk, error) {
	if q.Partition != 0 {
		return bridge.Chunk{}, fmt.Errorf("stream %q: partition %d: a JetStream stream has only partition 0: %w", s.opt.Stream, q.Partition, bridge.ErrMissing)
	}
	r := chunkReader{s: s, q: q, from: max(q.From, 1), bytes: max(q.MaxBytes, 1)}
	defer r.close(ctx)
	r.chunk = bridge.Chunk{From: r.from, End: max(q.From, min(r.from, q.Limit))}
	if err := r.read(ctx); err != nil {
		return bridge.Chunk{}, fmt.Errorf("stream %q: read from %d: %w", s.opt.Stream, q.From, err)
	}
	// Asked after the read: what was read is history of the life that is asked for
	// only if the stream still lives it.
	v, err := s.cold.view(ctx)
	if err != nil {
		return bridge.Chunk{}, err
	}
	if v.incarnation != q.Incarnation {
		return bridge.Chunk{}, fmt.Errorf("stream %q: read from %d: %w", s.opt.Stream, q.From, bridge.ErrHistoryChanged)
	}
	r.trim(v)
	if r.chunk.From == r.from {
		r.chunk.From = q.From // 0 reads as 1
	}
	return r.chunk, nil
}

// chunkReader reads one chunk.
type chunkReader struct {
	s     *Source
	q     bridge.ChunkQuery
	from  bridge.Offset // of the chunk, at least 1
	bytes int           // still to be read
	chunk bridge.Chunk  // End is how far it is complete
	run   *run          // nil until a consumer is needed
}

func (r *chunkReader) close(ctx context.Context) {
	if r.run != nil {
		r.run.close(ctx)
		r.run = nil
	}
}

// read reads until the chunk is full or the log ends.
func (r *chunkReader) read(ctx context.Context) error {
	next := max(r.from-1, 1)
	for lags := 0; r.chunk.End < r.q.Limit && r.bytes > 0; {
		got, err := r.fetch(ctx, next)
		if err != nil {
			return err
		}
		r.add(got.records)
		if n := len(got.records); n > 0 {
			next = got.records[n-1].Offset + 1
		}
		if !got.tail || r.chunk.End >= r.q.Limit || r.bytes <= 0 {
			continue
		}
		// Whoever answered has no more. Only the leader knows whether there is any.
		next = max(next, r.from)
		done, err := r.ask(ctx, next, lags >= lagTries)
		if done || err != nil {
			return err
		}
		next = r.chunk.End
		if lags++; lags <= lagTries {
			if err := sleep(ctx, lagWait); err != nil {
				return err
			}
		}
	}
	return nil
}

// add takes over records in [from, limit) and moves the chunk's end.
func (r *chunkReader) add(records []bridge.Record) {
	for i := range records {
		rec := &records[i]
		switch {
		case rec.Offset < r.from:
			if rec.Offset == r.from-1 {
				r.chunk.Before = rec.Proof
			}
			continue
		case rec.Offset >= r.q.Limit:
			r.skip(rec.Offset)
			return
		case r.bytes <= 0:
			return
		}
		r.chunk.Records = append(r.chunk.Records, *rec)
		r.chunk.End = rec.Offset + 1
		r.bytes -= rec.MemoryBytes()
	}
}

// skip ends the chunk at its limit: there are no records up to an offset that is
// not below it.
func (r *chunkReader) skip(to bridge.Offset) {
	r.chunk.End = r.q.Limit
	if to > r.q.Limit {
		r.chunk.Skip = to
	}
}

// ask asks the leader what comes at or after an offset where another server had
// nothing. done means that the chunk ends there. Otherwise End is moved over the
// hole, and over the record too if take is set, which is then taken as it is.
func (r *chunkReader) ask(ctx context.Context, next bridge.Offset, take bool) (done bool, err error) {
	v, err := r.s.cold.view(ctx) // before the record: what is written later is not in it
	if err != nil {
		return false, err
	}
	m, err := r.s.cold.next(ctx, next, ">")
	if err != nil {
		return false, err
	}
	if m == nil {
		r.chunk.End = max(r.chunk.End, min(r.q.Limit, v.end))
		if v.end > r.q.Limit {
			r.skip(v.end)
		}
		return true, nil
	}
	at := bridge.Offset(m.Seq)
	if at >= r.q.Limit {
		r.skip(at)
		return true, nil
	}
	r.chunk.End = max(r.chunk.End, at)
	if take {
		r.add([]bridge.Record{r.s.stored(m)})
	}
	return false, nil
}

// trim takes back what the log has lost since, if that counts as a loss.
func (r *chunkReader) trim(v *view) {
	c := &r.chunk
	_, to, gone := v.lost(c.From)
	if !gone {
		return
	}
	c.From, c.Before = min(to+1, r.q.Limit), 0
	c.End = max(c.End, c.From)
	keep := 0
	for keep < len(c.Records) && c.Records[keep].Offset < c.From {
		keep++
	}
	c.Records = c.Records[keep:]
}

// fetch reads one batch in the way that works.
func (r *chunkReader) fetch(ctx context.Context, next bridge.Offset) (batch, error) {
	s := r.s
	number := s.cold.link.number() + 1
	v := s.cold.last.Load()
	if v == nil {
		var err error
		if v, err = s.cold.view(ctx); err != nil {
			return batch{}, err
		}
	}
	records, bytes := r.size(next, v), min(batchBytes, r.bytes)
	if r.run == nil && v.allowDirect && s.noDirect.Load() != number {
		got, err := s.direct(ctx, next, records, bytes)
		for try := 0; errors.Is(err, errForeign) && try < foreignTries; try++ {
			got, err = s.direct(ctx, next, records, bytes)
		}
		switch {
		case err == nil:
			return got, nil
		case errors.Is(err, errNoDirect):
			s.noDirect.Store(number)
			s.log.Debug("replay reads by consumer", "error", err)
		case !errors.Is(err, errForeign):
			return batch{}, err
		}
	}
	if r.run != nil && r.run.next != next {
		r.close(ctx)
	}
	if r.run == nil {
		run, err := s.startRun(ctx, v, next)
		if err != nil {
			return batch{}, err
		}
		r.run = run
	}
	got, err := r.run.read(ctx, records, bytes)
	if err != nil && !errors.Is(err, bridge.ErrUnavailable) && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", err, bridge.ErrUnavailable)
	}
	return got, err
}

// size is how many records to ask for: in a log with many holes fewer of them
// fit below the limit than there are offsets.
func (r *chunkReader) size(next bridge.Offset, v *view) int {
	span := float64(r.q.Limit - next)
	n := int(math.Min(batchRecords, span*v.density+8))
	return max(1, min(n, batchRecords, int(r.q.Limit-next)))
}

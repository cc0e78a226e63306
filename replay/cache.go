package replay

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// defaultRunOffsets is how many offsets one run of chunks is aligned to. JetStream
	// serves up to 1,024 records a batch; half of that keeps a single client's
	// first event near.
	defaultRunOffsets = 512
	// maxChunkBytes bounds one read, so that large records do not fill the cache at
	// once; minChunkBytes is the least to which a small cache of many streams brings it.
	maxChunkBytes = 1 << 20
	minChunkBytes = 64 << 10
	// readsShare is the part of the cache's size that reads under way may take besides.
	readsShare = 8
	// chunkOverheadBytes and runOverheadBytes are what a chunk and a run cost besides
	// their records.
	chunkOverheadBytes = 192
	runOverheadBytes   = 384
	// readTimeout bounds one read of a chunk.
	readTimeout = 9 * time.Second
)

// Cache holds chunks of older records, shared by all clients: each is read once
// however many ask for it at the same time, and kept until its bytes are needed
// for another.
//
// A key names an aligned run of offsets; its chunks follow one
// another from the beginning of the run, as far as they have been read:
//
//	run 512…1023:  [512,700) [700,840)   …read on from 840 when somebody needs it
//
// Where records are so large that reads end by their bytes, a run may be more than
// the cache has room for. Then reads begin where somebody is, and the run has holes.
//
// A chunk never reaches past the replica's own live position, so that whatever
// it holds, a change of it is noticed by the replica's reader.
type Cache struct {
	limit      int64
	chunkBytes int // of one read
	runOffsets bridge.Offset
	reads      int // under way at a time, of each stream

	mu      sync.Mutex
	streams map[*bridge.Stream]*streamRuns
	recent  *list.List // of *run, least recently used first
	stats   Stats
	closed  bool
	reading sync.WaitGroup
	ctx     context.Context // ends with the cache, not with the client that began a read
	stop    context.CancelFunc
}

// Stats counts what a [Replay] did since it was made.
type Stats struct {
	Reads     uint64 // chunks read from brokers
	Hits      uint64 // chunks found
	Shared    uint64 // times somebody waited for a read that another had begun
	Bytes     int64  // of chunks, held now
	HandOvers uint64 // times a client came to share its group's bytes
	Falls     uint64 // times what such a client needed next had left the ring
}

// streamRuns are one stream's runs in its present generation.
type streamRuns struct {
	stats      Stats // Reads, Hits and Shared of this stream
	generation uint64
	slots      chan struct{} // one for each read under way: a broker that hangs holds up no other
	epochs     []uint64      // read epochs of the newest verdict
	runs       map[runKey]*run
	vouched    map[vouchKey]*vouching
	large      bool // the newest read ended by its bytes
}

type runKey struct {
	incarnation bridge.Incarnation
	partition   int32
	epoch       uint64
	index       bridge.Offset
}

type run struct {
	stream *bridge.Stream
	key    runKey
	chunks []*held // in order
	bytes  int64
	flight chan struct{} // closed when the read under way has ended; nil: none
	err    error         // of the last read
	elem   *list.Element
}

// held is a chunk with the place that it was asked for from: what the log had
// lost below the chunk's own From was lost already. Its forms are in form.go.
type held struct {
	*bridge.Chunk
	asked bridge.Offset
	cut   bool // the read ended by its bytes

	// Guarded by the cache's mu.
	run    *run  // that it is counted in; nil: it is not in the cache any more
	bytes  int64 // with its forms
	forms  map[formKey]*encoded
	formed int64 // bytes of the forms, part of bytes
}

// newCache returns a cache of at most limitBytes of records, with at most reads
// reads of each of so many streams at a time, in runs of runOffsets.
func newCache(limitBytes int64, reads, streams int, runOffsets bridge.Offset) *Cache {
	ctx, stop := context.WithCancel(context.Background())
	return &Cache{
		limit: limitBytes, chunkBytes: int(min(max(limitBytes/int64(readsShare*reads*max(1, streams)), minChunkBytes), maxChunkBytes)), runOffsets: runOffsets, reads: reads, streams: map[*bridge.Stream]*streamRuns{},
		recent: list.New(), ctx: ctx, stop: stop,
	}
}

// Close ends the reads under way and waits for them. Nothing may be asked afterwards.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.reading.Wait()
}

// streamStats returns the counts of one stream.
func (c *Cache) streamStats(s *bridge.Stream) Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sr := c.streams[s]; sr != nil {
		return sr.stats
	}
	return Stats{}
}

// Stats returns the counts of this moment.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// At says under which conditions a chunk may be shared.
type At struct {
	Generation  uint64
	Incarnation bridge.Incarnation
	Epoch       uint64
}

// Chunk returns the chunk of a partition that is authoritative for offset, or,
// when the log now begins behind it, the first one there is: then its From is
// above offset. It is shared and must not be changed. Offset must be below the
// stream's live position. by is whose doing a read is.
//
// ours tells that it was read for this call; others that wait for the same read find
// it in the cache, if it is still there when they get to it.
//
// It returns bridge.ErrHistoryChanged when the stream is no longer what at says,
// and otherwise the errors of the source.
func (c *Cache) Chunk(ctx context.Context, by bridge.RequestTrace, s *bridge.Stream, partition int32, offset bridge.Offset, at At) (h *held, ours bool, err error) {
	key := runKey{at.Incarnation, partition, at.Epoch, offset / c.runOffsets}
	joined := false
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, false, context.Canceled
		}
		sr := c.of(s)
		if sr.generation != at.Generation {
			c.mu.Unlock()
			return nil, false, bridge.ErrHistoryChanged
		}
		r := sr.runs[key]
		if r == nil {
			r = &run{stream: s, key: key}
			r.elem = c.recent.PushBack(r)
			sr.runs[key] = r
			c.take(r, runOverheadBytes)
			c.evict(r)
		}
		if ch := r.holding(offset); ch != nil {
			c.recent.MoveToBack(r.elem)
			if !joined {
				c.stats.Hits++
				sr.stats.Hits++
			}
			c.mu.Unlock()
			return ch, ours, nil
		}
		if r.flight == nil {
			c.begin(by, r, offset, at)
			ours = true
		} else if !joined {
			c.stats.Shared++
			sr.stats.Shared++
		}
		joined = true
		flight := r.flight
		c.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
		c.mu.Lock()
		err := r.err
		c.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
	}
}

// find is Chunk without waiting: nil means that Chunk has to be called.
func (c *Cache) find(s *bridge.Stream, partition int32, offset bridge.Offset, at At) *held {
	c.mu.Lock()
	defer c.mu.Unlock()
	sr := c.of(s)
	if c.closed || sr.generation != at.Generation {
		return nil
	}
	r := sr.runs[runKey{at.Incarnation, partition, at.Epoch, offset / c.runOffsets}]
	if r == nil {
		return nil
	}
	ch := r.holding(offset)
	if ch != nil {
		c.recent.MoveToBack(r.elem)
		c.stats.Hits++
		sr.stats.Hits++
	}
	return ch
}

// of returns the runs of a stream, dropping those of an older generation.
func (c *Cache) of(s *bridge.Stream) *streamRuns {
	generation := s.Generation()
	sr := c.streams[s]
	if sr == nil {
		sr = &streamRuns{generation: generation, slots: make(chan struct{}, c.reads), runs: map[runKey]*run{}, vouched: map[vouchKey]*vouching{}}
		c.streams[s] = sr
	}
	if sr.generation != generation {
		for _, r := range sr.runs {
			c.drop(r)
		}
		sr.generation, sr.runs, sr.vouched = generation, map[runKey]*run{}, map[vouchKey]*vouching{}
	}
	return sr
}

// holding returns the chunk that covers offset, or the next one if the log was
// trimmed up to there before it was read.
func (r *run) holding(offset bridge.Offset) *held {
	for _, ch := range r.chunks {
		if offset < ch.End {
			if offset < ch.asked {
				break
			}
			return ch
		}
	}
	return nil
}

// missing returns what to read for an offset that is not held: from behind the
// chunk before it, so that others find the rest, or from itself where records are
// large; up to the chunk behind it or the end of the run.
func (r *run) missing(offset bridge.Offset, runOffsets bridge.Offset, large bool) (from, limit bridge.Offset) {
	from, limit = r.key.index*runOffsets, (r.key.index+1)*runOffsets
	for _, ch := range r.chunks {
		if offset < ch.asked {
			limit = ch.asked
			break
		}
		from = ch.End
	}
	if large {
		from = offset
	}
	return from, limit
}

// begin starts the read that comes to offset, for the client of a request. The
// caller holds mu.
func (c *Cache) begin(by bridge.RequestTrace, r *run, offset bridge.Offset, at At) {
	flight := make(chan struct{})
	r.flight, r.err = flight, nil
	sr := c.of(r.stream)
	from, limit := r.missing(offset, c.runOffsets, sr.large)
	slots := sr.slots
	c.reading.Go(func() {
		h, err := c.read(by, r, from, limit, at, slots)
		c.mu.Lock()
		defer c.mu.Unlock()
		defer close(flight)
		r.flight, r.err = nil, err
		if err == nil && c.of(r.stream).generation != at.Generation {
			r.err = bridge.ErrHistoryChanged // read under a history that is in doubt now
		}
		if r.err == nil {
			c.store(r, h)
		}
	})
}

// read asks the source for what follows from, up to limit or the live position. The
// span of the read is the doing of the client that asked first.
func (c *Cache) read(by bridge.RequestTrace, r *run, from, limit bridge.Offset, at At, slots chan struct{}) (h *held, err error) {
	ctx, cancel := context.WithTimeoutCause(c.ctx, readTimeout, fmt.Errorf("read chunk: %w", bridge.ErrUnavailable))
	defer cancel()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	live, incarnation := r.stream.LivePlace(r.key.partition)
	if incarnation != at.Incarnation {
		return nil, bridge.ErrHistoryChanged
	}
	limit = min(limit, live.Offset)
	if limit <= from {
		return nil, bridge.ErrHistoryChanged
	}
	ctx, span := startSpan(ctx, by, r.stream, "read")
	defer func() { endRead(span, r.key.partition, from, h, err) }()
	ch, err := r.stream.Source().ReadChunk(ctx, bridge.ChunkQuery{
		Partition: r.key.partition, From: from, Limit: limit, MaxBytes: c.chunkBytes, Incarnation: at.Incarnation,
	})
	c.mu.Lock()
	c.stats.Reads++
	c.of(r.stream).stats.Reads++
	c.mu.Unlock()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	if ch.End <= from {
		return nil, fmt.Errorf("read chunk at %d: nothing returned: %w", from, bridge.ErrUnavailable)
	}
	r.stream.Prepare(ch.Records)
	h = &held{Chunk: &ch, asked: from, bytes: chunkOverheadBytes + int64(cap(ch.Records)-len(ch.Records))*bridge.RecordOverheadBytes}
	for i := range ch.Records {
		h.bytes += int64(ch.Records[i].MemoryBytes())
	}
	h.cut = ch.End < limit && h.bytes >= int64(c.chunkBytes)*3/4
	return h, nil
}

// store keeps a chunk that was read.
func (c *Cache) store(r *run, h *held) {
	c.of(r.stream).large = h.cut
	i := 0
	for i < len(r.chunks) && r.chunks[i].asked < h.asked {
		i++
	}
	r.chunks = slices.Insert(r.chunks, i, h)
	h.run = r
	c.take(r, h.bytes)
	c.makeRoom(h)
}

// makeRoom lets go of what is beyond the limit, but not of keep: other runs, least
// recently used first, and then other chunks of its run.
func (c *Cache) makeRoom(keep *held) {
	r := keep.run
	c.recent.MoveToBack(r.elem)
	c.evict(r)
	// What is left is this run alone, or runs that are being read.
	for c.stats.Bytes > c.limit && len(r.chunks) > 1 {
		oldest := 0
		if r.chunks[0] == keep {
			oldest = 1
		}
		c.take(r, -r.chunks[oldest].bytes)
		r.chunks[oldest].run = nil
		r.chunks = slices.Delete(r.chunks, oldest, oldest+1)
	}
}

// take counts bytes that a run holds more.
func (c *Cache) take(r *run, bytes int64) {
	r.bytes += bytes
	c.stats.Bytes += bytes
}

// evict lets go of the least recently used runs beyond the limit, but not of keep.
func (c *Cache) evict(keep *run) {
	for e := c.recent.Front(); e != nil && c.stats.Bytes > c.limit; {
		next := e.Next()
		if old := e.Value.(*run); old != keep && old.flight == nil {
			c.drop(old)
			delete(c.streams[old.stream].runs, old.key)
		}
		e = next
	}
}

// drop gives back what a run holds.
func (c *Cache) drop(r *run) {
	c.recent.Remove(r.elem)
	c.stats.Bytes -= r.bytes
	for _, ch := range r.chunks {
		ch.run = nil
	}
	r.bytes, r.chunks = 0, nil
}

// setEpochs notes the read epochs of a verdict, so that a later one can be
// prepared from the chunks that were read under them.
func (c *Cache) setEpochs(s *bridge.Stream, epochs []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(s).epochs = epochs
}

// epoch returns what setEpochs noted for a partition.
func (c *Cache) epoch(s *bridge.Stream, partition int32) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bridge.Verdict{Epochs: c.of(s).epochs}.Epoch(partition)
}

type vouchKey struct {
	incarnation bridge.Incarnation
	partition   int32
	epoch       uint64
	place       bridge.Place
}

type vouching struct {
	done  chan struct{}
	exact bool
	err   error
}

// Vouch reports whether the broker agrees with a place of the replica's own
// feed. Agreement is asked for once per place, generation and read epoch, and
// shared.
func (c *Cache) Vouch(ctx context.Context, s *bridge.Stream, partition int32, pl bridge.Place, at At) (bool, error) {
	c.mu.Lock()
	sr := c.of(s)
	if sr.generation != at.Generation {
		c.mu.Unlock()
		return false, nil
	}
	key := vouchKey{at.Incarnation, partition, at.Epoch, pl}
	v := sr.vouched[key]
	if v == nil && !c.closed {
		v = &vouching{done: make(chan struct{})}
		if len(sr.vouched) >= 1024 {
			clear(sr.vouched) // places pass; nobody asks for old ones again
		}
		sr.vouched[key] = v
		c.reading.Go(func() {
			ctx, cancel := context.WithTimeoutCause(c.ctx, readTimeout, bridge.ErrUnavailable)
			defer cancel()
			var verdict bridge.Verdict
			verdict, v.err = s.Source().Verify(ctx, bridge.Position{Incarnation: at.Incarnation}.With(partition, pl), nil)
			v.exact = v.err == nil && verdict.Incarnation == at.Incarnation && !anyReset(verdict, partition)
			if !v.exact { // ask again next time: a leader that was just elected may know better soon
				c.mu.Lock()
				if sr.vouched[key] == v { // another generation may have begun
					delete(sr.vouched, key)
				}
				c.mu.Unlock()
			}
			close(v.done)
		})
	}
	c.mu.Unlock()
	if v == nil {
		return false, context.Canceled
	}
	select {
	case <-v.done:
		return v.exact, v.err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// anyReset reports whether a verdict resets a partition, or any of them for
// [bridge.AllPartitions]. Gaps do not count.
func anyReset(v bridge.Verdict, partition int32) bool {
	for _, fd := range v.Findings {
		if fd.Reason.Reset() && (fd.Partition == partition || fd.Partition == bridge.AllPartitions || partition == bridge.AllPartitions) {
			return true
		}
	}
	return false
}

// passing reports whether an error of a source says only that it should be asked again.
func passing(err error) bool {
	return errors.Is(err, bridge.ErrUnavailable) || errors.Is(err, bridge.ErrMissing) ||
		errors.Is(err, context.DeadlineExceeded)
}

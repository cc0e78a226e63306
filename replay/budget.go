package replay

import "sync"

// budget bounds the memory of what clients are being given in catch-up: put
// together for one client alone, and not yet written to it. There is always room
// for an equal part of half of it for each (see Replay.batchBytes); where single
// events are larger than that, the clients take turns, and one that takes nothing
// holds its turn until its writer gives it up.
type budget struct {
	limit int64

	mu   sync.Mutex
	used int64
	more chan struct{} // closed when there is more; nil: nobody waits for that

	full sync.Pool // of *room for a whole batch
}

// room is what one batch is put together in.
type room struct {
	bytes   []byte
	units   [][]byte
	counted int64
}

// slotBytes is what a unit costs besides its bytes.
const slotBytes = 24

func newBudget(limit int64) *budget { return &budget{limit: limit} }

// fullBytes is what a room for takeBytes costs.
const fullBytes = takeBytes + slotBytes*defaultTakeEvents

// ample reports whether there is room for a whole batch without the half of the
// budget that is for everybody.
func (b *budget) ample() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used+fullBytes <= b.limit/2
}

// take returns room for so many bytes, if that is left, or if nobody has any. If
// not, it returns a channel that is closed when there is more.
func (b *budget) take(bytes int) (*room, <-chan struct{}) {
	counted := int64(bytes + bytes/4) // with the slots of its units
	if bytes == takeBytes {
		counted = fullBytes
	}
	b.mu.Lock()
	if b.used > 0 && b.used+counted > b.limit {
		defer b.mu.Unlock()
		if b.more == nil {
			b.more = make(chan struct{})
		}
		return nil, b.more
	}
	b.used += counted
	b.mu.Unlock()
	if bytes != takeBytes {
		return &room{bytes: make([]byte, 0, bytes), counted: counted}, nil
	}
	r, _ := b.full.Get().(*room)
	if r == nil {
		r = &room{bytes: make([]byte, 0, bytes), units: make([][]byte, 0, defaultTakeEvents), counted: counted}
	}
	return r, nil
}

// fit moves units out of r into a room that is no larger than they are.
func (b *budget) fit(r *room, units [][]byte) (*room, [][]byte) {
	size := 0
	for _, u := range units {
		size += len(u)
	}
	counted := int64(size + slotBytes*len(units))
	if r == nil || 2*counted > r.counted {
		return r, units
	}
	small := &room{bytes: make([]byte, 0, size), units: make([][]byte, 0, len(units)), counted: counted}
	for _, u := range units {
		start := len(small.bytes)
		small.bytes = append(small.bytes, u...)
		small.units = append(small.units, small.bytes[start:len(small.bytes):len(small.bytes)])
	}
	b.mu.Lock()
	b.used += counted
	b.mu.Unlock()
	b.give(r)
	return small, small.units
}

// give gives back what take had returned, when nobody reads it any more. r may be
// nil.
func (b *budget) give(r *room) {
	if r == nil {
		return
	}
	counted := r.counted
	if cap(r.bytes) == takeBytes && cap(r.units) == defaultTakeEvents {
		clear(r.units[:cap(r.units)])
		r.bytes, r.units = r.bytes[:0], r.units[:0]
		b.full.Put(r)
	}
	b.uncount(counted)
}

// abandon is give where somebody may still read it: nobody else will write to it. r
// may be nil.
func (b *budget) abandon(r *room) {
	if r != nil {
		b.uncount(r.counted)
	}
}

func (b *budget) uncount(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= bytes
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
}

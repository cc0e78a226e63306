package replay

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// chunksAtOnce is through how many chunks a catch-up goes before it is others' turn,
// and what it has found, be it only a position, is handed on.
const chunksAtOnce = 4

// endBytes is room for what an encoder puts around an event id.
const endBytes = 16

// read delivers what lies between own and the target, partition by partition,
// from chunks. The target does not move while it is read, so reading ends.
func (c *catchUp) read(ctx context.Context) (step, error) {
	for i := range c.streams {
		goals := c.target.Head[i].Position.Places
		for len(c.own[i].Position.Places) < len(goals) {
			// Born since the verdict: from its first record.
			c.own[i].Position.Places = append(c.own[i].Position.Places, bridge.Place{})
		}
		for p := range goals {
			next, err := c.readPartition(ctx, i, int32(p))
			if next != toTarget || err != nil {
				return next, err
			}
		}
	}
	return toWalk, nil
}

// readPartition delivers one partition up to the target; toTarget means done.
func (c *catchUp) readPartition(ctx context.Context, i int, partition int32) (step, error) {
	s := c.streams[i]
	goal := c.target.Head[i].Position.Place(partition)
	own := c.own[i].Position.Place(partition)
	at := At{s.Generation(), c.own[i].Position.Incarnation, c.states[i].verdict.Epoch(partition)}
	if c.group.Generation() != c.target.Generation {
		return toVerify, nil
	}
	// next runs over holes; own, and with it every id, only ever stands behind a
	// record that exists or at the target.
	next := own.Offset
	for read := 1; next < goal.Offset; read++ {
		if c.group.Generation() != c.target.Generation {
			return toVerify, nil
		}
		ch, err := c.chunk(ctx, s, partition, next, at)
		if errors.Is(err, bridge.ErrHistoryChanged) {
			return toVerify, c.awaitReader(ctx, i, retryFirst)
		}
		if err != nil {
			return 0, err
		}
		if next < ch.From && !c.mayLeap(i, partition) {
			return toVerify, nil // the log was trimmed since the verdict
		}
		if !agrees(ch, c.own[i].Position.Place(partition)) {
			// Not DoubtOnce: this very chunk must go, whatever the reign, or the next
			// round would find it again.
			s.Doubt()
			return toVerify, c.pause(ctx, nil, retryFirst)
		}
		// The chunk is not kept while the client takes its time: a thousand slow ones
		// would keep a thousand chunks that the cache has long let go of.
		var full bool
		var more <-chan struct{}
		next, full, more = c.deliver(i, partition, ch, next, goal.Offset)
		if full || next < goal.Offset && read%chunksAtOnce == 0 {
			if err := c.flush(ctx); err != nil {
				return 0, err
			}
		}
		if more != nil {
			if err := c.await(ctx, more); err != nil {
				return 0, err
			}
		}
	}
	return c.arrive(ctx, i, partition, goal, at)
}

// mayLeap reports whether the part of the log that is missing at a place is no
// loss: the broker, asked about exactly this place after it had seen the log
// begin later, said "exact". The first time it only notes the place.
func (c *catchUp) mayLeap(i int, partition int32) bool {
	st := &c.states[i]
	own := c.own[i].Position.Place(partition)
	if st.leaps && st.leapPart == partition && st.leap == own {
		return true
	}
	st.leaps, st.leapPart, st.leap = true, partition, own
	return false
}

// chunk asks the cache, again and again while the broker does not answer.
func (c *catchUp) chunk(ctx context.Context, s *bridge.Stream, partition int32, offset bridge.Offset, at At) (*held, error) {
	for {
		if c.group.Generation() != c.target.Generation {
			return nil, bridge.ErrHistoryChanged
		}
		if ch := c.f.replay.cache.find(s, partition, offset, at); ch != nil {
			return ch, nil
		}
		if err := c.leave(ctx); err != nil {
			return nil, err
		}
		var ch *held
		var ours, changed bool
		err := c.repeat(ctx, s, "", func(ctx context.Context) (err error) { // a read has a span of its own
			ch, ours, err = c.f.replay.cache.Chunk(ctx, c.trip.request, s, partition, offset, at)
			changed = errors.Is(err, bridge.ErrHistoryChanged) || err != nil && c.group.Generation() != c.target.Generation
			if changed {
				return nil
			}
			return err
		})
		if err == nil && ours && !changed {
			c.trip.turn.claim() // with it in hand nobody waits: others keep it out of what the cache counts
			return ch, nil
		}
		if err2 := c.trip.turn.resume(ctx); err == nil {
			err = err2
		}
		if err == nil && changed {
			err = bridge.ErrHistoryChanged
		}
		if err != nil {
			return nil, err
		}
	}
}

// deliver adds the records of a chunk in [from, below) to what is handed on, until
// that is full, and returns where to read on. When there is no room for the first
// of them, more tells when there is; what is pending has to be handed on first.
func (c *catchUp) deliver(i int, partition int32, ch *held, from, below bridge.Offset) (next bridge.Offset, full bool, more <-chan struct{}) {
	pos := c.own[i].Position
	units := c.f.replay.cache.form(ch, c.own[i].Stream, pos.Incarnation, formKey{c.f.sub.Form, len(c.own) == 1 && len(pos.Places) == 1})
	defer c.f.replay.cache.settle(ch, units)
	c.makeID()
	c.trail.Aim(c.own, i, partition)
	n, _ := slices.BinarySearchFunc(ch.Records, from, func(r bridge.Record, o bridge.Offset) int { return cmp.Compare(r.Offset, o) })
	for ; n < len(ch.Records) && ch.Records[n].Offset < below; n++ {
		r := &ch.Records[n]
		var unit []byte
		shown := r.Kind != bridge.Hidden && c.f.sub.Filter.Match(r.Subject)
		if shown && r.Kind != bridge.Oversized {
			unit = units.unit(n, r)
			if len(unit) > 0 {
				if full, more := c.makeRoom(len(unit)); full {
					return r.Offset, full, more
				}
			}
		}
		pos.Places[partition] = r.Next()
		switch {
		case !shown:
		case r.Kind == bridge.Oversized:
			c.put(bridge.Event{Kind: bridge.LossEvent, Stream: c.own[i].Stream, Finding: &bridge.Finding{
				Reason: bridge.TooLarge, Partition: partition, From: r.Offset, To: r.Offset, Next: pos,
			}}, true)
		case len(unit) > 0:
			c.addShared(unit, !units.key.alone, r)
		}
		if c.full() {
			return r.Offset + 1, true, nil
		}
	}
	return min(max(ch.End, ch.Skip), below), false, nil
}

// makeRoom sees to it that a unit of so many bytes, and its end, can be added. If
// it cannot, what is pending is full: either of bytes, or there is no room for
// more before more is closed.
func (c *catchUp) makeRoom(unit int) (full bool, more <-chan struct{}) {
	need := unit + c.trail.MaxBytes() + endBytes
	if r := c.pending.room; r != nil {
		return len(r.bytes)+need > cap(r.bytes), nil
	}
	r, more := c.f.replay.batches.take(max(need, c.f.replay.batchBytes()))
	if r == nil {
		return true, more
	}
	c.pending.room, c.pending.Units = r, append(r.units, c.pending.Units...)
	return false, nil
}

// addShared adds a copy of a chunk's unit, which has no end of its own if open.
// Slices of the chunk itself would keep the whole of it for as long as the client
// takes.
func (c *catchUp) addShared(unit []byte, open bool, r *bridge.Record) {
	room := c.pending.room
	start := len(room.bytes)
	room.bytes = append(room.bytes, unit...)
	if open {
		c.id = c.trail.Append(c.id[:0], r.Next())
		room.bytes = c.f.sub.Form.Encoder.AppendEnd(room.bytes, string(c.id))
	}
	c.add(room.bytes[start:len(room.bytes):len(room.bytes)], "")
	c.behind, c.idless = r.Next(), true
	c.addRecord(r.Trace)
}

// arrive moves own to the target's place once all below it is delivered. The
// proof at the target may be another record's than own's, or of another history:
// a feed that has not noticed a rewritten log would hand its old proof to a
// client of the new one. So the broker must agree with it first.
func (c *catchUp) arrive(ctx context.Context, i int, partition int32, goal bridge.Place, at At) (step, error) {
	own := c.own[i].Position.Place(partition)
	if own == goal || own.Offset > goal.Offset || own.Offset == goal.Offset && goal.Proof == 0 {
		return toTarget, nil
	}
	var exact bool
	err := c.insist(ctx, c.streams[i], "vouch", func(ctx context.Context) (err error) {
		exact, err = c.f.replay.cache.Vouch(ctx, c.streams[i], partition, goal, at)
		return err
	})
	if err != nil {
		return 0, err
	}
	if !exact {
		return toVerify, c.awaitReader(ctx, i, retryMost)
	}
	c.own[i].Position.Places[partition] = goal
	return toTarget, nil
}

// awaitReader gives this replica's reader, if it follows another history than the
// broker's, some time to find that out.
func (c *catchUp) awaitReader(ctx context.Context, i int, atMost time.Duration) error {
	if err := c.flush(ctx); err != nil {
		return err
	}
	changed := c.group.Changed()
	if c.group.Generation() != c.target.Generation {
		return nil
	}
	c.streams[i].Source().Poke()
	return c.pause(ctx, changed, atMost)
}

// disagree reports whether both proofs are known and differ.
func disagree(a, b bridge.Proof) bool { return a != 0 && b != 0 && a != b }

// agrees reports whether a chunk and a place mean the same record, as far as
// both know it.
func agrees(ch *held, pl bridge.Place) bool {
	if pl.Offset == ch.From {
		return !disagree(ch.Before, pl.Proof)
	}
	held, ok := proofAt(ch, pl.Offset-1)
	return !ok || !disagree(held, pl.Proof)
}

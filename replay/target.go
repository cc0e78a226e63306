package replay

import (
	"context"
	"errors"

	"github.com/ssebridge/ssebridge/bridge"
)

// read delivers what lies between own and the target, partition by partition,
// from chunks. The target does not move while it is read, so reading ends.
func (c *catchUp) read(ctx context.Context) (step, error) {
	for i := range c.streams {
		for p := range c.target.Head[i].Position.Places {
			next, err := c.readPartition(ctx, i, int32(p))
			if next != toTarget || err != nil {
				return next, err
			}
		}
	}
	if err := c.flush(ctx); err != nil {
		return 0, err
	}
	return toWalk, nil
}

// readPartition delivers one partition up to the target; toTarget means done.
func (c *catchUp) readPartition(ctx context.Context, i int, partition int32) (step, error) {
	s := c.streams[i]
	goal := c.target.Head[i].Position.Place(partition)
	own := c.own[i].Position.Place(partition)
	if own.Offset >= goal.Offset {
		if own.Offset == goal.Offset && disagree(own.Proof, goal.Proof) {
			s.Doubt() // the feed and the broker's verdict tell two histories
			return toVerify, nil
		}
		return toTarget, nil
	}
	if !c.states[i].asked {
		return toVerify, nil
	}
	at := At{s.Generation(), c.own[i].Position.Incarnation, c.states[i].verdict.Epoch(partition)}
	if c.group.Generation() != c.target.Generation {
		return toVerify, nil
	}
	// at reads on over holes; own, and with it every id, only ever stands behind
	// a record that exists or at the target.
	for at2 := own.Offset; at2 < goal.Offset; {
		if c.group.Generation() != c.target.Generation {
			return toVerify, nil
		}
		ch, err := c.chunk(ctx, s, partition, at2, at)
		if errors.Is(err, bridge.ErrHistoryChanged) {
			return toVerify, nil
		}
		if err != nil {
			return 0, err
		}
		if at2 < ch.From && !c.mayLeap(i, partition, own, at2) {
			return toVerify, nil // the log was trimmed since the verdict
		}
		if !agrees(ch, c.own[i].Position.Place(partition)) {
			s.Doubt()
			return toVerify, nil
		}
		if err := c.deliver(ctx, i, partition, ch, at2, goal.Offset); err != nil {
			return 0, err
		}
		at2 = min(max(ch.End, ch.Skip), goal.Offset)
		if err := c.flush(ctx); err != nil {
			return 0, err
		}
	}
	return c.arrive(ctx, i, partition, goal, at)
}

// mayLeap reports whether the part of the log that is missing at a place is no
// loss: the broker, asked about exactly this place after it had seen the log
// begin later, said "exact". The first time it only notes the place.
func (c *catchUp) mayLeap(i int, partition int32, own bridge.Place, offset bridge.Offset) bool {
	st := &c.states[i]
	if offset != own.Offset {
		// Read cursor in the middle of a hole: what is missing began behind own.
		own = c.own[i].Position.Place(partition)
	}
	if st.leaps && st.leapPart == partition && st.leap == own {
		return true
	}
	st.leaps, st.leapPart, st.leap = true, partition, own
	return false
}

// chunk asks the cache, again and again while the broker does not answer.
func (c *catchUp) chunk(ctx context.Context, s *bridge.Stream, partition int32, offset bridge.Offset, at At) (ch *bridge.Chunk, err error) {
	var changed bool
	err = c.insist(ctx, func(ctx context.Context) error {
		ch, err = c.f.replay.cache.Chunk(ctx, s, partition, offset, at)
		if errors.Is(err, bridge.ErrHistoryChanged) || c.group.Generation() != c.target.Generation {
			changed = true
			return nil
		}
		return err
	})
	if err == nil && changed {
		err = bridge.ErrHistoryChanged
	}
	return ch, err
}

// deliver hands on the records of a chunk in [from, below).
func (c *catchUp) deliver(ctx context.Context, i int, partition int32, ch *bridge.Chunk, from, below bridge.Offset) error {
	for n := range ch.Records {
		r := &ch.Records[n]
		if r.Offset < from {
			continue
		}
		if r.Offset >= below {
			break
		}
		c.own[i].Position.Places[partition] = r.Next()
		if r.Kind == bridge.Hidden || !c.f.sub.Filter.Match(r.Subject) {
			continue
		}
		ev := bridge.Event{Kind: bridge.RecordEvent, Stream: c.own[i].Stream, Record: r}
		if r.Kind == bridge.Oversized {
			ev = bridge.Event{Kind: bridge.LossEvent, Stream: c.own[i].Stream, Finding: &bridge.Finding{
				Reason: bridge.TooLarge, Partition: partition, From: r.Offset, To: r.Offset, Next: c.own[i].Position,
			}}
		}
		c.put(ev, true)
		if c.full() {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// arrive moves own to the target's place once all below it is delivered. Over a
// hole the proof at the target is another record's than own's, so the broker
// must agree with it first: a feed that has not noticed a rewritten log would
// hand its old proof to a client of the new one.
func (c *catchUp) arrive(ctx context.Context, i int, partition int32, goal bridge.Place, at At) (step, error) {
	own := c.own[i].Position.Place(partition)
	if own == goal {
		return toTarget, nil
	}
	if own.Offset == goal.Offset && disagree(own.Proof, goal.Proof) {
		c.streams[i].Doubt()
		return toVerify, nil
	}
	if own.Offset < goal.Offset {
		var exact bool
		err := c.insist(ctx, func(ctx context.Context) (err error) {
			exact, err = c.f.replay.cache.Vouch(ctx, c.streams[i], partition, goal, at)
			return err
		})
		if err != nil {
			return 0, err
		}
		if !exact {
			c.streams[i].Source().Poke()
			return toVerify, nil
		}
	}
	if own.Offset < goal.Offset || own.Proof == 0 {
		c.own[i].Position.Places[partition] = goal
	}
	return toTarget, nil
}

// disagree reports whether both proofs are known and differ.
func disagree(a, b bridge.Proof) bool { return a != 0 && b != 0 && a != b }

// agrees reports whether a chunk and a place mean the same record, as far as
// both know it.
func agrees(ch *bridge.Chunk, pl bridge.Place) bool {
	if pl.Offset == ch.From {
		return !disagree(ch.Before, pl.Proof)
	}
	held, ok := proofAt(ch, pl.Offset-1)
	return !ok || !disagree(held, pl.Proof)
}

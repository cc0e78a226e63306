package replay

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// unitOverheadBytes is about what an encoded event has besides its payload.
const unitOverheadBytes = 256

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
	at := At{s.Generation(), c.own[i].Position.Incarnation, c.states[i].verdict.Epoch(partition)}
	if c.group.Generation() != c.target.Generation {
		return toVerify, nil
	}
	// next runs over holes; own, and with it every id, only ever stands behind a
	// record that exists or at the target.
	for next := own.Offset; next < goal.Offset; {
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
			return toVerify, pause(ctx, nil, retryFirst)
		}
		// The chunk is not kept while the client takes its time: a thousand slow ones
		// would keep a thousand chunks that the cache has long let go of.
		var room <-chan struct{}
		next, room = c.deliver(i, partition, ch, next, goal.Offset)
		if err := c.flush(ctx); err != nil {
			return 0, err
		}
		if room != nil {
			select {
			case <-room:
			case <-ctx.Done():
				return 0, context.Cause(ctx)
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
func (c *catchUp) chunk(ctx context.Context, s *bridge.Stream, partition int32, offset bridge.Offset, at At) (ch *bridge.Chunk, err error) {
	var changed bool
	err = c.insist(ctx, s, "", func(ctx context.Context) error { // a read has a span of its own
		ch, err = c.f.replay.cache.Chunk(ctx, c.f.request, s, partition, offset, at)
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

// deliver adds the records of a chunk in [from, below) to what is handed on, until
// that is enough, and returns where to read on. When there is no room for the first
// of them, room tells when there is more.
func (c *catchUp) deliver(i int, partition int32, ch *bridge.Chunk, from, below bridge.Offset) (next bridge.Offset, room <-chan struct{}) {
	n, _ := slices.BinarySearchFunc(ch.Records, from, func(r bridge.Record, o bridge.Offset) int { return cmp.Compare(r.Offset, o) })
	for ; n < len(ch.Records) && ch.Records[n].Offset < below; n++ {
		r := &ch.Records[n]
		shown := r.Kind != bridge.Hidden && c.f.sub.Filter.Match(r.Subject)
		if shown {
			bytes := int64(len(r.Data)*3/2 + unitOverheadBytes) // as base64, at most
			if room := c.f.replay.batches.take(bytes); room != nil {
				return r.Offset, room
			}
			c.pending.reserved += bytes
		}
		c.own[i].Position.Places[partition] = r.Next()
		if !shown {
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
			return r.Offset + 1, nil
		}
	}
	return min(max(ch.End, ch.Skip), below), nil
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
	return pause(ctx, changed, atMost)
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

package replay

import (
	"context"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// aheadKey names a place.
type aheadKey struct {
	stream    int
	partition int32
}

// walk goes through the ring from the target on, until the feed's vector is at
// or above own in every place. Places in which own is ahead, because another
// replica had read further, are skipped up to own and compared when the feed
// crosses them.
func (c *catchUp) walk(ctx context.Context) (step, error) {
	ahead := c.ahead()
	if len(ahead) == 0 {
		c.caughtUp()
		return toLevel, nil
	}
	c.group.StartWalk()
	defer c.group.EndWalk()
	var entries []bridge.Entry
	heartbeat := time.NewTimer(c.f.sub.Heartbeat)
	defer heartbeat.Stop()
	for {
		changed := c.group.Changed()
		var state bridge.WalkState
		entries, state = c.group.Walk(c.target.Number, c.target.Generation, entries[:0], walkEntries)
		switch state {
		case bridge.Doubtful, bridge.Evicted:
			return toVerify, c.flush(ctx)
		case bridge.AtHead:
			c.caughtUp()
			if err := c.leave(ctx); err != nil {
				return 0, err
			}
			beat := false
			select {
			case <-changed:
			case <-heartbeat.C:
				beat = true
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
			if err := c.trip.turn.resume(ctx); err != nil {
				return 0, err
			}
			if beat {
				heartbeat.Reset(c.f.sub.Heartbeat)
				exact, err := c.stillExact(ctx, ahead)
				if err != nil || !exact {
					return toVerify, err
				}
			}
		case bridge.Going:
			for n := range entries {
				ok, err := c.pass(ctx, &entries[n], ahead)
				if err != nil {
					return 0, err
				}
				if !ok {
					return toVerify, c.flush(ctx)
				}
				c.target.Number++
				if len(ahead) == 0 { // own is the feed's vector now
					c.caughtUp()
					return toLevel, nil
				}
			}
		}
	}
}

// ahead returns the places in which own is above the target.
func (c *catchUp) ahead() map[aheadKey]bool {
	ahead := map[aheadKey]bool{}
	for i := range c.own {
		for p, pl := range c.own[i].Position.Places {
			if pl.Offset > c.target.Head[i].Position.Place(int32(p)).Offset {
				ahead[aheadKey{i, int32(p)}] = true
			}
		}
	}
	return ahead
}

// caughtUp tells once a connection that its history is delivered.
func (c *catchUp) caughtUp() {
	if c.f.told {
		return
	}
	c.f.told = true
	if c.f.sub.Control {
		c.put(bridge.Event{Kind: bridge.CaughtUpEvent}, true)
	}
}

// pass goes past one entry of the ring, delivering it if it is not below own.
// It returns false when the entry and own are of two histories.
func (c *catchUp) pass(ctx context.Context, e *bridge.Entry, ahead map[aheadKey]bool) (ok bool, err error) {
	if e.Partition < 0 {
		return false, nil // a reset of the whole stream: its generation has passed, too
	}
	key := aheadKey{e.Stream, e.Partition}
	own := c.own[e.Stream].Position.Place(e.Partition)
	if ahead[key] {
		if e.Place.Offset < own.Offset {
			return true, nil // below own: another replica gave it
		}
		ok, err := c.cross(ctx, e, own, key)
		if err != nil || !ok {
			return ok, err
		}
		delete(ahead, key)
	}
	gap := e.Loss != nil && (e.Loss.Reason == bridge.Retention || e.Loss.Reason == bridge.Limits)
	if e.Place.Offset > own.Offset || (e.Place.Offset == own.Offset && own.Proof == 0) {
		c.own[e.Stream].Position = c.own[e.Stream].Position.With(e.Partition, e.Place)
	}
	switch {
	case gap:
		fd := *e.Loss
		fd.From = max(fd.From, own.Offset)
		if fd.From <= fd.To {
			fd.Next = c.own[e.Stream].Position
			c.put(bridge.Event{Kind: bridge.LossEvent, Stream: c.own[e.Stream].Stream, Finding: &fd}, true)
		}
	case e.Match && e.Offset >= own.Offset:
		id := c.own.String()
		unit := append(make([]byte, 0, len(e.Unit)+16), e.Body()...)
		c.add(c.f.sub.Form.Encoder.AppendEnd(unit, id), id)
		if e.Loss == nil {
			c.addRecord(e.Trace)
		} else {
			c.f.replay.metrics.told(c.own[e.Stream].Stream, e.Loss.Reason, 1)
		}
	}
	if c.full() {
		return true, c.flush(ctx)
	}
	return true, nil
}

// cross compares the feed with own where the feed comes to own's place: the
// record right before it must be the same one. If the feed jumps over it, the
// broker is asked.
func (c *catchUp) cross(ctx context.Context, e *bridge.Entry, own bridge.Place, key aheadKey) (bool, error) {
	switch {
	case own.Proof == 0:
		return true, nil
	case e.Offset == own.Offset-1 && e.Loss == nil && e.Place.Proof == own.Proof:
		return true, nil
	}
	return c.stillExact(ctx, map[aheadKey]bool{key: true})
}

// stillExact asks the brokers again about the streams in which own is ahead:
// a log that was rolled back below own and above this replica's own place
// shows itself in no other way.
func (c *catchUp) stillExact(ctx context.Context, ahead map[aheadKey]bool) (bool, error) {
	asked := map[int]bool{}
	for key := range ahead {
		if asked[key.stream] {
			continue
		}
		asked[key.stream] = true
		exact := true
		err := c.insist(ctx, c.streams[key.stream], "verify", func(ctx context.Context) error {
			v, err := c.streams[key.stream].Source().Verify(ctx, c.own[key.stream].Position, nil)
			if err == nil {
				for _, fd := range v.Findings {
					exact = exact && !fd.Reason.Reset()
				}
				exact = exact && v.Incarnation == c.own[key.stream].Position.Incarnation
			}
			return err
		})
		if err != nil || !exact {
			return false, err
		}
	}
	return true, nil
}

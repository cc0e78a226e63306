package nats

import (
	"context"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// beyondFor is how long a position has to lie beyond the end of the log before
	// that counts: a leader that has just been elected may not know its own end.
	beyondFor = 2 * time.Second
	// beyondPoll is how often the end is asked for meanwhile.
	beyondPoll = 200 * time.Millisecond
)

// Verify implements [bridge.Verifier].
func (s *Source) Verify(ctx context.Context, pos bridge.Position, known bridge.Known) (bridge.Verdict, error) {
	if ctx.Err() != nil {
		return bridge.Verdict{}, context.Cause(ctx)
	}
	v, f, err := s.verify(ctx, s.cold, pos, known)
	if err != nil {
		return bridge.Verdict{}, err
	}
	return v.verdict(f), nil
}

// vouched reports whether what this replica holds is history in the reign that v
// shows: the live reader has verified its place in it. Before that the replica
// may hold records of a stream that has been made again, or rolled back.
func (s *Source) vouched(v *view) bool {
	epoch := s.verified.Load()
	return epoch == 0 || epoch == v.epoch
}

func (v *view) verdict(f *bridge.Finding) bridge.Verdict {
	out := bridge.Verdict{Incarnation: v.incarnation, Epochs: []uint64{v.epoch}}
	if f != nil {
		out.Findings = []bridge.Finding{*f}
	}
	return out
}

// verify judges a position on what the leader says from now on, and returns
// what it was judged by. A finding is only given when a second answer shows the
// same life and the same reign: between two questions a stream can be deleted
// and made again.
func (s *Source) verify(ctx context.Context, a *asker, pos bridge.Position, known bridge.Known) (*view, *bridge.Finding, error) {
	var since *view // the first of the answers in a row that show pos beyond the end
	v, err := a.view(ctx)
	for {
		if err != nil {
			return nil, nil, err
		}
		f, beyond, err2 := s.judge(ctx, a, v, pos, known)
		if err2 != nil {
			return nil, nil, err2
		}
		if f == nil && !beyond {
			return v, nil, nil
		}
		if !beyond {
			since = nil
		} else if since == nil || !since.same(v) {
			since = v
		}
		if beyond {
			if v.asked.Sub(since.asked) >= beyondFor {
				return v, rolledBack(v, pos), nil
			}
			if err := sleep(ctx, beyondPoll); err != nil {
				return nil, nil, err
			}
		}
		before := v
		v, err = a.view(ctx)
		if err == nil && f != nil && before.same(v) {
			return before, f, nil
		}
	}
}

// same reports whether both views show the same life of the stream in one reign.
func (v *view) same(w *view) bool { return v.incarnation == w.incarnation && v.epoch == w.epoch }

// judge applies the resume table to a position, by one view and, where that is
// not enough, the record before the position. beyond means that the position is
// above the end of the log, which counts only when it lasts.
func (s *Source) judge(ctx context.Context, a *asker, v *view, pos bridge.Position, known bridge.Known) (f *bridge.Finding, beyond bool, err error) {
	pl := pos.Place(0)
	want := max(pl.Offset, 1)
	same := pos.Incarnation == 0 || pos.Incarnation == v.incarnation
	if from, to, gone := v.lost(want); gone && same {
		return &bridge.Finding{Reason: v.loss, From: from, To: to, Next: v.from(pos, bridge.Place{Offset: to + 1})}, false, nil
	}
	// Only the record at exactly want-1 proves anything: an older one may have
	// been the last before it only because those between were deleted.
	if anchor := want - 1; pl.Proof != 0 && anchor >= v.first && anchor < v.end {
		// The leader has told the time of its last record along with the end, which
		// spares most questions: readers that are level stand there.
		if want == v.end && proofOf(v.lastTime) == pl.Proof {
			return nil, false, nil
		}
		proof, held := bridge.Proof(0), false
		if known != nil && same && s.vouched(v) { // what the caller holds is of the life it knows
			proof, held = known(ctx, 0, anchor)
		}
		if held && proof == pl.Proof {
			return nil, false, nil
		}
		m, err := a.at(ctx, anchor)
		if err != nil {
			return nil, false, err
		}
		if m != nil && proofOf(m.Time) == pl.Proof {
			return nil, false, nil
		}
		if m != nil && same {
			return &bridge.Finding{
				Reason: bridge.RolledBack, From: anchor, To: anchor,
				Next: v.from(pos, bridge.Place{Offset: v.first}), Open: true, Since: sinceOf(pl.Proof),
			}, false, nil
		}
	}
	if !same {
		return recreated(v, pos), false, nil
	}
	return nil, want > v.end, nil
}

// from is where reading goes on: a place in this life of the stream. Places of
// other partitions, which JetStream has not, are carried as they came.
func (v *view) from(pos bridge.Position, pl bridge.Place) bridge.Position {
	next := pos.With(0, pl)
	next.Incarnation = v.incarnation
	return next
}

func recreated(v *view, pos bridge.Position) *bridge.Finding {
	pl := pos.Place(0)
	return &bridge.Finding{
		Reason: bridge.Recreated, Partition: bridge.AllPartitions, From: max(pl.Offset, 1), To: bridge.UnknownOffset,
		Next: v.from(pos, bridge.Place{Offset: v.first}), Open: true, Since: sinceOf(pl.Proof),
	}
}

func rolledBack(v *view, pos bridge.Position) *bridge.Finding {
	pl := pos.Place(0)
	return &bridge.Finding{
		Reason: bridge.RolledBack, From: v.end, To: pl.Offset - 1,
		Next: v.from(pos, bridge.Place{Offset: v.first}), Open: true, Since: sinceOf(pl.Proof),
	}
}

// sinceOf is the time that a proof tells, 0 where it tells none.
func sinceOf(p bridge.Proof) int64 {
	ms, ok := p.Value()
	if !ok {
		return 0
	}
	return ms
}

// sleep waits for d or the end of ctx, whose cause it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

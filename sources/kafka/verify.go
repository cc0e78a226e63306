package kafka

import (
	"context"
	"slices"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// beyondFor is how long a place has to lie above the end of the log before that
	// counts: a leader that has just been elected may not know its own end.
	beyondFor = 2 * time.Second
	// beyondPoll is how often the end is asked for meanwhile.
	beyondPoll = 200 * time.Millisecond
)

// Verify implements [bridge.Verifier]. What the caller knows of single records
// is not needed: the ends of leader epochs are answers for all of its clients.
func (s *Source) Verify(ctx context.Context, pos bridge.Position, _ bridge.Known) (bridge.Verdict, error) {
	if ctx.Err() != nil {
		return bridge.Verdict{}, context.Cause(ctx)
	}
	// Clients that come at once share this question, and most need no other: the
	// ends of epochs are known from those who came before.
	g, err := s.cold.look(ctx)
	if err != nil {
		return bridge.Verdict{}, err
	}
	if g.same(pos) {
		if js, err := s.cold.judge(ctx, g, pos, nil, true); err == nil && allExact(js) {
			return g.verdict(nil), nil
		}
	}
	g, findings, err := s.cold.verify(ctx, pos)
	if err != nil {
		return bridge.Verdict{}, err
	}
	return g.verdict(findings), nil
}

// same reports whether a position is of this life of the topic, as far as it
// says.
func (v *view) same(pos bridge.Position) bool {
	return pos.Incarnation == 0 || pos.Incarnation == v.incarnation
}

func (v *view) verdict(findings []bridge.Finding) bridge.Verdict {
	return bridge.Verdict{Incarnation: v.incarnation, Findings: findings, Epochs: v.epochs()}
}

func allExact(js map[int32]judgement) bool {
	for _, j := range js {
		if j.ruling != exact {
			return false
		}
	}
	return true
}

// verify judges a position on what the leaders say from now on.
func (a *asker) verify(ctx context.Context, pos bridge.Position) (g *ground, findings []bridge.Finding, err error) {
	err = a.insist(ctx, func(ctx context.Context) error {
		g, err = a.look(ctx)
		if err != nil {
			return err
		}
		if !g.same(pos) {
			if g, err = a.confirmed(ctx, g); err != nil {
				return err
			}
			findings = []bridge.Finding{g.recreated(pos)}
			return nil
		}
		var js map[int32]judgement
		if g, js, err = a.settled(ctx, g, pos, nil); err != nil {
			return err
		}
		findings, err = a.findings(ctx, g, pos, js)
		return err
	})
	return g, findings, err
}

// confirmed makes sure of the topic's id by asking those who must know: its
// leaders. Another broker may still tell of a topic that has been deleted.
func (a *asker) confirmed(ctx context.Context, g *ground) (*ground, error) {
	l, err := g.leader(0)
	if err != nil {
		return nil, err
	}
	v, err := a.view(ctx, l.broker)
	if err != nil {
		return nil, err
	}
	if v.id != g.id {
		return nil, &CodeError{"Metadata", g.topic, 0, int16(codeInconsistentID)} // ask again
	}
	return g, nil
}

// settled judges, and watches places that lie above the end until they do not
// any more, or have for [beyondFor] under the same leader.
func (a *asker) settled(ctx context.Context, g *ground, pos bridge.Position, wanted []int32) (*ground, map[int32]judgement, error) {
	since := map[int32]time.Time{}
	epochs := g.parts
	for {
		asked := time.Now()
		js, err := a.judge(ctx, g, pos, wanted, false)
		if err != nil {
			return nil, nil, err
		}
		waiting := false
		for p, j := range js {
			begun, ok := since[p]
			switch {
			case !j.lasting():
				delete(since, p)
			case !ok || epochs[p] != g.parts[p]:
				since[p], waiting = asked, true
			case asked.Sub(begun) < a.source.beyondFor:
				waiting = true
			}
		}
		if !waiting {
			return g, js, nil
		}
		epochs = g.parts
		if err := sleep(ctx, min(beyondPoll, a.source.beyondFor)); err != nil {
			return nil, nil, err
		}
		if g, err = a.lookAt(ctx, wanted); err != nil {
			return nil, nil, err
		}
		if !g.same(pos) || len(g.parts) < len(epochs) {
			return nil, nil, &CodeError{"Metadata", g.topic, 0, int16(codeInconsistentID)} // begin again
		}
	}
}

// findings turns judgements into what is to be told, partition by partition.
func (a *asker) findings(ctx context.Context, g *ground, pos bridge.Position, js map[int32]judgement) ([]bridge.Finding, error) {
	partitions := make([]int32, 0, len(js))
	parting := map[int32]int64{} // the offsets before where histories part
	for p, j := range js {
		partitions = append(partitions, p)
		if j.ruling == diverged && j.end > j.first {
			parting[p] = j.end - 1
		}
	}
	slices.Sort(partitions)
	// The proof of the place to go on at: the epoch that the broker named with it
	// may hold no records.
	before := map[int32]cover{}
	if len(parting) > 0 {
		var err error
		if before, err = a.covers(ctx, g.view, parting); err != nil {
			return nil, err
		}
	}
	next := pos.Clone()
	next.Incarnation = g.incarnation
	var out []bridge.Finding
	for _, p := range partitions {
		f := js[p].finding(p, next, before[p])
		if f == nil {
			continue
		}
		next = f.Next
		out = append(out, *f)
	}
	return out, nil
}

// finding says what a judgement means for partition p of a position, nil if
// nothing. before is what stands before the place where histories part.
func (j judgement) finding(p int32, pos bridge.Position, before cover) *bridge.Finding {
	want := pos.Place(p).Offset
	f := &bridge.Finding{Reason: bridge.RolledBack, Partition: p, To: want - 1, Open: true}
	next := bridge.Place{Offset: bridge.Offset(j.first)}
	switch j.ruling {
	case exact:
		return nil
	case expired:
		f.Reason, f.From, f.To, f.Open = bridge.Retention, want, next.Offset-1, false
	case diverged:
		f.From, f.Open = bridge.Offset(j.end), false
		next.Offset = f.From
		if before.held {
			next.Proof = proofOf(before.epoch)
		}
	case beyond:
		f.From = bridge.Offset(j.end)
	case other, foreign:
		f.From = want - 1
	}
	f.Next = pos.With(p, next)
	return f
}

// recreated is the finding about a position in another life of the topic.
func (g *ground) recreated(pos bridge.Position) bridge.Finding {
	from := bridge.UnknownOffset
	if len(pos.Places) <= 1 {
		from = pos.Place(0).Offset
	}
	return bridge.Finding{
		Reason: bridge.Recreated, Partition: bridge.AllPartitions, From: from, To: bridge.UnknownOffset,
		Next: g.position(g.firsts), Open: true,
	}
}

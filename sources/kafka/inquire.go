package kafka

import (
	"context"
	"errors"

	"github.com/ssebridge/ssebridge/bridge"
)

// inquiry is what a tail wants to know at one moment.
type inquiry struct {
	started bool
	pos     bridge.Position
	doubted []int32 // partitions whose place is to be judged
}

// outcome is the answer.
type outcome struct {
	inquiry
	err      error
	view     *view
	start    bridge.Position // where live begins, if it had not
	findings []bridge.Finding
	judged   map[int32]judgement
}

// inquire asks the brokers what a tail wants to know.
func (s *Source) inquire(ctx context.Context, q inquiry) (o outcome) {
	o.inquiry = q
	a := s.live
	o.err = a.insist(ctx, func(ctx context.Context) error {
		o = outcome{inquiry: q}
		if q.started && len(q.doubted) == 0 {
			v, err := a.view(ctx, anyBroker)
			if err != nil {
				return err
			}
			if o.view = v; v.same(q.pos) {
				return nil
			}
		}
		g, err := a.look(ctx)
		if err != nil {
			return err
		}
		o.view = g.view
		if !q.started {
			o.start, err = a.end(ctx, g)
			return err
		}
		if !g.same(q.pos) {
			return a.remade(ctx, g, &o)
		}
		if g, o.judged, err = a.settled(ctx, g, q.pos, q.doubted); err != nil {
			return err
		}
		o.view = g.view
		if o.findings, err = a.findings(ctx, g, q.pos, o.judged); err != nil {
			return err
		}
		return a.choose(ctx, g, o.findings)
	})
	return o
}

// end is where live begins: by read_committed before the first open transaction,
// not at the high watermark, or its records would count as read. The proofs are
// those of the batches before, not the epochs that ListOffsets names.
func (a *asker) end(ctx context.Context, g *ground) (bridge.Position, error) {
	ends, err := a.offsets(ctx, g.view, latest, nil)
	if err != nil {
		return bridge.Position{}, err
	}
	before := map[int32]int64{}
	for p, end := range ends {
		if end > g.firsts[p] {
			before[int32(p)] = end - 1
		}
	}
	pos := g.position(ends)
	if len(before) == 0 {
		return pos, nil
	}
	covers, err := a.covers(ctx, g.view, before)
	if err != nil {
		return bridge.Position{}, err
	}
	for p, c := range covers {
		if c.held {
			pos.Places[p].Proof = proofOf(c.epoch)
		}
	}
	return pos, nil
}

// remade finds that the topic is another one, and where to go on.
func (a *asker) remade(ctx context.Context, g *ground, o *outcome) error {
	g, err := a.confirmed(ctx, g)
	if err != nil {
		return err
	}
	f := g.recreated(o.pos)
	if a.source.opt.OnReset == bridge.ResetNew {
		if f.Next, err = a.end(ctx, g); err != nil {
			return err
		}
	}
	o.findings = []bridge.Finding{f}
	return nil
}

// choose applies the reset policy to findings that leave open where to go on.
func (a *asker) choose(ctx context.Context, g *ground, findings []bridge.Finding) error {
	if a.source.opt.OnReset != bridge.ResetNew {
		return nil
	}
	for i := range findings {
		if f := &findings[i]; f.Open {
			end, err := a.end(ctx, g)
			if err != nil {
				return err
			}
			f.Next = f.Next.With(f.Partition, end.Place(f.Partition))
		}
	}
	return nil
}

// denied reports whether an error says that a permission is missing.
func denied(err error) bool {
	e, ok := errors.AsType[*CodeError](err)
	return ok && e.Denied()
}

package kafka

import (
	"context"
	"errors"
	"maps"
	"sync"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

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
	err      error // there is none
	view     *view
	start    bridge.Position // where live begins, if it had not
	findings []bridge.Finding
	judged   map[int32]judgement
	unjudged error // why places in doubt are missing from judged
}

// inquire asks the brokers what a tail wants to know.
func (s *Source) inquire(ctx context.Context, q inquiry) (o outcome) {
	a := s.live
	span := trace.Span(noop.Span{}) // none for the look-around every few seconds
	switch {
	case !q.started:
		ctx, span = bridge.StartTailSpan(ctx, "start")
	case len(q.doubted) > 0:
		ctx, span = bridge.StartTailSpan(ctx, "verify")
	}
	defer func() { bridge.EndSpan(span, errors.Join(o.err, o.unjudged)) }()
	err := a.insist(ctx, func(ctx context.Context) error {
		o = outcome{inquiry: q}
		if !q.started {
			g, err := a.look(ctx)
			if err != nil {
				return err
			}
			o.view = g.view
			o.start, err = a.end(ctx, g)
			return err
		}
		v, err := a.view(ctx, anyBroker)
		if err != nil {
			return err
		}
		if o.view = v; !v.same(q.pos) {
			return a.remade(ctx, &o)
		}
		a.judgeByLeader(ctx, &o)
		return nil
	})
	o.err = err
	return o
}

// judgeByLeader judges the places in doubt, those of each leader by themselves: a
// leader that is away holds up only its own.
func (a *asker) judgeByLeader(ctx context.Context, o *outcome) {
	byLeader := map[int32][]int32{}
	for _, p := range o.doubted {
		if int(p) >= len(o.view.parts) {
			continue
		}
		l, err := o.view.leader(p)
		if err != nil {
			o.unjudged = err
			continue
		}
		byLeader[l.broker] = append(byLeader[l.broker], p)
	}
	o.judged = map[int32]judgement{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, partitions := range byLeader {
		wg.Go(func() {
			js, findings, err := a.judgeSome(ctx, o.pos, partitions)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				o.unjudged = err
			}
			maps.Copy(o.judged, js)
			o.findings = append(o.findings, findings...)
		})
	}
	wg.Wait()
}

func (a *asker) judgeSome(ctx context.Context, pos bridge.Position, partitions []int32) (js map[int32]judgement, findings []bridge.Finding, err error) {
	err = a.insist(ctx, func(ctx context.Context) error {
		g, err := a.lookAt(ctx, partitions)
		if err != nil {
			return err
		}
		if !g.same(pos) {
			return &CodeError{"Metadata", g.topic, -1, int16(codeInconsistentID)} // the next inquiry sees it
		}
		var judged map[int32]judgement
		if g, judged, err = a.settled(ctx, g, pos, partitions); err != nil {
			return err
		}
		found, err := a.findings(ctx, g, pos, judged)
		if err != nil {
			return err
		}
		if err := a.choose(ctx, g, found); err != nil {
			return err
		}
		js, findings = judged, found
		return nil
	})
	return js, findings, err
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
func (a *asker) remade(ctx context.Context, o *outcome) error {
	g, err := a.look(ctx)
	if err != nil {
		return err
	}
	if g.same(o.pos) {
		return &CodeError{"Metadata", g.topic, 0, int16(codeInconsistentID)} // brokers disagree: ask again
	}
	if g, err = a.confirmed(ctx, g); err != nil {
		return err
	}
	o.view = g.view
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

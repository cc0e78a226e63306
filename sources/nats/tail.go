package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	firstWait   = 50 * time.Millisecond // after a session that failed; doubles with each
	longestWait = time.Second
	// refusedWait is the pause when a stream cannot be served as it is: an operator
	// has to change it first.
	refusedWait = 5 * time.Second
	// goodbyeTimeout bounds the deletion of the consumer. If it fails, the consumer
	// goes by itself after inactiveThreshold.
	goodbyeTimeout = time.Second
	// settleWait is how long a gap that an idle reader's check shows has to last
	// while nothing arrives: records that were sent before they expired may still
	// be on their way.
	settleWait = 200 * time.Millisecond
)

// errAgain ends a session whose reader knows what to do next: begin another.
var errAgain = errors.New("begin again")

// tail is a running [Source.Tail].
//
//	 ┌────────────────────────────────────────────┐ connection, leader,
//	 ▼                                            │ doubt, silence, error
//	verify place ─► make consumer ─► verify ─► read ─► verify when idle, poked
//	 │      ▲                                            │
//	 └wait──┘ no answer, no stream, refused              └─► gap, reset: tell, go on
//
// A session is one way through it, with one consumer.
type tail struct {
	s   *Source
	out bridge.Receiver

	started      bool
	pos          bridge.Position // next to read
	last         time.Time       // of the record before it, exact; zero if not known
	reign        [3]uint64       // under which pos was last verified
	leader       uint64          // epoch of the last view, 0 if none
	subjects     []string        // as last told
	waits        string          // what Waiting told last
	reading      bool            // Reading was told last, not Waiting
	awaited      uint64          // record that the leader has and the consumer has not delivered
	awaitedSince time.Time       // when that was first seen
	stale        []string        // consumers that could not be deleted yet
	records      []bridge.Record // scratch
	spare        []*natsgo.Msg   // scratch
}

// Tail implements [bridge.Tailer].
func (s *Source) Tail(ctx context.Context, out bridge.Receiver) error {
	t := &tail{s: s, out: out}
	defer t.deleteStale(ctx, "")
	wait := firstWait
	for {
		changed := s.cluster.watch()
		read, err := t.session(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if read {
			wait = firstWait
		}
		if errors.Is(err, errAgain) {
			continue
		}
		// After reading it may be over in a moment, and so it may at the start. A
		// first dial that takes long is told like one that fails.
		calm := read || !t.started && wait < longestWait && errors.Is(err, errDialling)
		if text := err.Error(); !calm && (t.reading || text != t.waits) {
			t.reading, t.waits = false, text
			out.Change(bridge.Change{Kind: bridge.Waiting, Err: err})
		}
		pause := wait
		if errors.Is(err, bridge.ErrRefused) {
			pause = refusedWait
		}
		t.pause(ctx, pause, changed)
		wait = min(2*wait, longestWait)
	}
}

// pause waits between two sessions, less long when something happens.
func (t *tail) pause(ctx context.Context, d time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-changed:
	case <-t.s.poke:
	}
}

// session verifies the place, makes a consumer there and reads it until it is
// of no more use. read tells whether the consumer was ever heard of.
func (t *tail) session(ctx context.Context) (read bool, err error) {
	s := t.s
	changed := s.cluster.watch()
	nc, err := s.live.link.conn()
	if err != nil {
		return false, err
	}
	in, err := openInbox(nc)
	if err != nil {
		return false, err
	}
	defer in.close()
	name, err := t.makeConsumer(ctx)
	if err != nil {
		return false, err
	}
	p := &puller{nc: nc, inbox: in, subject: s.cluster.api + "CONSUMER.MSG.NEXT." + s.opt.Stream + "." + name}
	t.deleteStale(ctx, name)
	err = t.read(ctx, p, changed)
	return p.heard, err
}

// makeConsumer makes a consumer at the place, which it verifies before and after.
func (t *tail) makeConsumer(ctx context.Context) (name string, err error) {
	s := t.s
	ctx, span := bridge.StartTailSpan(ctx, "create consumer")
	defer func() { bridge.EndSpan(span, err) }()
	t.doubt(s.reign())
	v, err := t.verify(ctx)
	if err != nil {
		return "", err
	}
	name = s.cluster.consumerName(s.opt.Instance)
	s.stats.consumers.Add(1)
	t.stale = append(t.stale, name) // also if it fails: it may have been made all the same
	if err := s.live.link.createConsumer(ctx, v, name, max(t.pos.Place(0).Offset, 1), s.opt.Filter); err != nil {
		if hasCode(err, codeMaxConsumers) { // our own old ones may be too many
			t.deleteStale(ctx, "")
		}
		return "", fmt.Errorf("stream %q: %w", s.opt.Stream, err)
	}
	// A consumer dies with its stream, so if this is still the stream that was
	// verified before, the consumer is of that stream and no other.
	// A gap is left to the reader, or a log that loses its beginning fast enough
	// would never be read.
	again, f, err := s.verify(ctx, s.live, t.pos, nil)
	if err != nil {
		return "", err
	}
	if err := t.look(ctx, again); err != nil {
		return "", err
	}
	if f != nil && f.Reason.Reset() || again.incarnation != t.pos.Incarnation {
		return "", errAgain
	}
	if f == nil {
		s.verified.Store(again.epoch)
	}
	return name, nil
}

// read hands on what the consumer delivers until something is wrong with it.
func (t *tail) read(ctx context.Context, p *puller, changed <-chan struct{}) error {
	s := t.s
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	denied := make(chan error, 1)
	defer s.live.link.denials.wait(p.subject, func(err error) {
		select {
		case denied <- err:
		default:
		}
	})()
	if err := p.refill(); err != nil {
		return err
	}
	if !t.reading {
		t.reading = true
		t.out.Change(bridge.Change{Kind: bridge.Reading})
	}
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	poll := time.NewTimer(s.opt.Poll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.inbox.arrived:
			quiet.Reset(silence)
			if err := t.consume(ctx, p); err != nil {
				t.distrust(err)
				return err
			}
		case err := <-denied:
			return fmt.Errorf("pull: %w", err)
		case <-quiet.C:
			err := fmt.Errorf("the consumer has said nothing for %s: %w", silence, bridge.ErrUnavailable)
			t.distrust(err)
			return err
		case <-changed:
			changed = s.cluster.watch()
			if _, err := s.live.link.conn(); err != nil {
				return err
			}
			if s.reign()[0] != t.reign[0] { // another connection, or this one is about to end
				return errAgain
			}
			if err := t.check(ctx, p); err != nil {
				return err
			}
		case <-s.poke:
			if err := t.check(ctx, p); err != nil {
				return err
			}
		case <-poll.C:
			if err := t.check(ctx, p); err != nil {
				return err
			}
			poll.Reset(s.opt.Poll)
		}
	}
}

// distrust notes that a consumer ended in a way that a restart of its server
// would explain: the reign ends, though no connection may have noticed.
func (t *tail) distrust(err error) {
	if !errors.Is(err, errAgain) {
		t.s.doubts.Add(1)
		t.s.log.Debug("reading broke off", "error", err)
	}
}

// deleteStale removes consumers that are not used any more, all but keep. It is
// called when a new one is there, or at the end: a broker in trouble must not
// hold up the reader over old ones.
func (t *tail) deleteStale(ctx context.Context, keep string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	t.stale = slices.DeleteFunc(t.stale, func(name string) bool {
		return name != keep && t.s.live.link.deleteConsumer(ctx, t.s.opt.Stream, name) == nil
	})
	if extra := len(t.stale) - 16; extra > 0 { // older ones are gone by themselves
		t.stale = t.stale[extra:]
	}
}

// doubt tells when the reign is another than the one that was verified.
func (t *tail) doubt(reign [3]uint64) {
	if reign == t.reign {
		return
	}
	t.reign = reign
	if t.started {
		t.out.Change(bridge.Change{Kind: bridge.Doubted})
	}
}

// look takes note of a new view: of another leader, other subjects, the start.
func (t *tail) look(ctx context.Context, v *view) error {
	if v.reign != t.reign {
		t.doubt(v.reign)
	} else if t.leader != 0 && v.epoch != t.leader && t.started {
		t.out.Change(bridge.Change{Kind: bridge.Doubted})
	}
	t.leader = v.epoch
	subjects := t.s.subjects(v)
	if t.subjects == nil || !slices.Equal(subjects, t.subjects) {
		t.subjects = append([]string{}, subjects...)
		t.out.Change(bridge.Change{Kind: bridge.Spaced, Subjects: slices.Clone(subjects)})
	}
	if !t.started {
		end, err := t.s.live.endPlace(ctx, v)
		if err != nil {
			return err
		}
		t.pos, t.started = v.position(end), true
		if end.Proof != 0 {
			t.last = v.lastTime
		}
		t.out.Change(bridge.Change{Kind: bridge.Started, Position: t.pos.Clone()})
	}
	return nil
}

// verify asks the leader what became of the place, tells what it finds, and
// leaves the place where reading goes on. It sets the start when there is none.
func (t *tail) verify(ctx context.Context) (*view, error) {
	if !t.started {
		v, err := t.s.live.view(ctx)
		if err != nil {
			return nil, err
		}
		if err := t.look(ctx, v); err != nil {
			return nil, err
		}
	}
	v, f, err := t.s.verify(ctx, t.s.live, t.pos, nil)
	if err != nil {
		return nil, err
	}
	if err := t.look(ctx, v); err != nil {
		return nil, err
	}
	switch {
	case f != nil:
		return v, t.found(ctx, v, *f)
	case v.incarnation != t.pos.Incarnation:
		// Another life with the same records, such as a backup that was restored:
		// the place is exact and only has another name.
		t.pos.Incarnation = v.incarnation
		t.out.Change(bridge.Change{Kind: bridge.Started, Position: t.pos.Clone()})
	}
	return v, nil
}

// found tells a gap or a reset. After a reset it chooses where to go on.
func (t *tail) found(ctx context.Context, v *view, f bridge.Finding) error {
	if f.Open {
		pl, err := t.resume(ctx, v)
		if err != nil {
			return err
		}
		f.Next = v.from(f.Next, pl)
	}
	t.pos, t.last = f.Next.Clone(), time.Time{}
	t.out.Change(bridge.Change{Kind: bridge.Found, Finding: f})
	return nil
}

// resume applies the reset policy.
func (t *tail) resume(ctx context.Context, v *view) (bridge.Place, error) {
	switch {
	case t.s.opt.OnReset == bridge.ResetNew:
		return t.s.live.endPlace(ctx, v)
	case t.s.opt.OnReset == bridge.ResetAll || t.last.IsZero():
		return bridge.Place{Offset: v.first}, nil
	}
	return t.s.seek(ctx, t.s.live, v, t.last.Add(1))
}

// check verifies the place of a running reader. What it finds ends the session.
func (t *tail) check(ctx context.Context, p *puller) error {
	if err := t.consume(ctx, p); err != nil { // what has arrived counts as read
		t.distrust(err)
		return err
	}
	reign, at := t.s.reign(), t.pos.Place(0)
	t.doubt(reign)
	for patience := 1; ; {
		v, f, err := t.s.verify(ctx, t.s.live, t.pos, nil)
		if err != nil {
			if errors.Is(err, bridge.ErrMissing) || errors.Is(err, bridge.ErrRefused) {
				return err
			}
			t.s.log.Debug("no answer to a check", "error", err)
			return nil // the consumer's silence tells soon enough
		}
		if err := t.look(ctx, v); err != nil {
			return nil //nolint:nilerr // as above
		}
		switch {
		case f == nil && v.incarnation != t.pos.Incarnation:
			return errAgain
		case f == nil:
			t.s.verified.Store(v.epoch)
			if stale, err := t.move(ctx, v, p); !stale {
				return err
			}
			continue
		case !f.Reason.Reset() && patience > 0:
			patience--
			if err := sleep(ctx, settleWait); err != nil {
				return err
			}
			if err := t.consume(ctx, p); err != nil {
				t.distrust(err)
				return err
			}
			if t.pos.Place(0) != at {
				return nil
			}
			continue
		}
		if err := t.found(ctx, v, *f); err != nil {
			return err
		}
		return errAgain
	}
}

// move follows the end of the log over records that were deleted there, or that
// a filter leaves out: nothing will be delivered for those. It does not when the
// view is stale: retention has taken records from the place on since, the leader or
// the stream is another, or the end has gone back.
func (t *tail) move(ctx context.Context, v *view, p *puller) (stale bool, err error) {
	at := t.pos.Place(0)
	if at.Offset >= v.end {
		return false, nil
	}
	filters := t.s.opt.Filter
	if len(filters) == 0 {
		filters = []string{">"}
	}
	for _, f := range filters {
		m, err := t.s.live.next(ctx, max(at.Offset, 1), f)
		if err != nil {
			return false, nil //nolint:nilerr // without an answer nothing moves
		}
		if m != nil {
			return false, t.await(m)
		}
	}
	if err := t.consume(ctx, p); err != nil {
		t.distrust(err)
		return false, err
	}
	if t.pos.Place(0) != at { // it had been on its way, and was deleted since
		return false, nil
	}
	// Nothing is left, by an answer that is younger than the view: only one that is
	// younger still tells whether the log begins at or below the place all the same.
	now, err := t.s.live.view(ctx)
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	if _, _, gone := now.lost(max(at.Offset, 1)); gone || !now.same(v) || now.end < v.end {
		return true, nil
	}
	pl, err := t.s.live.prove(ctx, v, bridge.Place{Offset: v.end})
	if err != nil {
		return false, nil //nolint:nilerr // the next check moves it
	}
	t.pos, t.last = t.pos.With(0, pl), time.Time{}
	if pl.Proof != 0 {
		t.last = v.lastTime
	}
	t.out.Change(bridge.Change{Kind: bridge.Moved, Place: pl})
	return false, nil
}

// await notes a record that is on its way. A consumer that does not deliver it
// for long, because somebody paused it or it lost its place, is given up.
func (t *tail) await(m *storedMessage) error {
	if m.Seq != t.awaited {
		t.awaited, t.awaitedSince = m.Seq, time.Now()
		return nil
	}
	if time.Since(t.awaitedSince) < silence {
		return nil
	}
	t.awaited = 0
	err := fmt.Errorf("the consumer does not deliver record %d: %w", m.Seq, bridge.ErrUnavailable)
	t.distrust(err)
	return err
}

// consume hands on what has arrived. Records before an error are handed on too.
func (t *tail) consume(ctx context.Context, p *puller) (err error) {
	msgs := p.inbox.take(t.spare)
	defer func() { t.spare = msgs }()
	t.records = t.records[:0]
	defer func() { t.flush() }()
	var v *view // asked for once a batch, when a hole makes it necessary
	for _, m := range msgs {
		d, ok := parseDelivery(m.Reply)
		if !ok {
			if err := p.control(m); err != nil {
				return err
			}
			continue
		}
		if err := p.deliver(m, d); err != nil {
			return err
		}
		want := max(t.pos.Place(0).Offset, 1)
		if d.offset < want {
			return fmt.Errorf("the consumer delivered offset %d, want %d or more: %w", d.offset, want, bridge.ErrUnavailable)
		}
		if d.offset > want && len(t.s.opt.Filter) == 0 {
			if v == nil {
				if v, err = t.s.live.view(ctx); err != nil {
					return err
				}
			}
			if v.incarnation != t.pos.Incarnation {
				return errAgain
			}
			// The answer is younger than the record: if the log began at or below the
			// place then, it did so when the record was sent, and the hole is inside.
			from, to, gone := v.lost(want)
			if to = min(to, d.offset-1); gone && from <= to {
				t.flush()
				f := bridge.Finding{Reason: v.loss, From: from, To: to, Next: v.from(t.pos, bridge.Place{Offset: to + 1})}
				if err := t.found(ctx, v, f); err != nil {
					return err
				}
			}
		}
		r := t.s.delivered(m, d)
		t.records = append(t.records, r)
		t.pos.Places[0] = r.Next()
		t.last = r.Time
	}
	t.flush()
	if p.orphaned > 0 {
		if err := sleep(ctx, time.Duration(p.orphaned)*firstWait); err != nil {
			return err
		}
	}
	return p.refill()
}

// flush hands on the records that have been gathered.
func (t *tail) flush() {
	if len(t.records) == 0 {
		return
	}
	t.out.Records(t.records)
	clear(t.records)
	t.records = t.records[:0]
}

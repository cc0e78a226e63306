package bridge

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// DefaultLinger is how long an on-demand stream is read on when nobody follows it
	// any more: longer than a client needs to come back after a cut.
	DefaultLinger = time.Minute
	// idleLook is how often the broker of an idle stream is asked for its subjects,
	// by which requests find it.
	idleLook = time.Minute
	// lookTimeout bounds that question.
	lookTimeout = 5 * time.Second
)

// errIdle ends the reading of a stream that nobody follows.
var errIdle = errors.New("nobody follows the stream")

// A SubjectTeller is a [Source] that can be asked for the stream's own subjects
// while nothing is read. It is found by type assertion; brokers without subjects
// need none.
type SubjectTeller interface {
	// Subjects returns what [Spaced] would tell.
	Subjects(ctx context.Context) ([]string, error)
}

// Demand is what one client keeps from falling idle: the on-demand streams that
// it follows, or waits for. The zero Demand keeps none. It is not safe for
// concurrent use.
type Demand struct {
	held []*Stream
}

// hold keeps one stream more.
func (d *Demand) hold(s *Stream) {
	if s.opt.OnDemand && !slices.Contains(d.held, s) {
		d.held = append(d.held, s)
		s.want(1)
	}
}

// keep lets go of all streams but these.
func (d *Demand) keep(streams []*Stream) {
	d.held = slices.DeleteFunc(d.held, func(s *Stream) bool {
		if slices.Contains(streams, s) {
			return false
		}
		s.want(-1)
		return true
	})
}

// Release lets go of all streams. Whoever is in a group leaves it first.
func (d *Demand) Release() { d.keep(nil) }

// want counts those who want the stream to be read.
func (s *Stream) want(by int) {
	s.mu.Lock()
	s.wanted += by
	turned := s.wanted == 0 || by > 0 && s.wanted == by
	if turned {
		s.turnedAt = time.Now()
	}
	s.mu.Unlock()
	if turned {
		select {
		case s.turned <- struct{}{}:
		default: // Run has yet to look at an earlier one
		}
	}
}

// runOnDemand reads a stream while somebody wants it to be read, at first and
// afterwards for the linger without anybody, until ctx ends.
//
//	reading ──nobody for the linger──► idle
//	   ▲                                 │
//	   └───────── somebody comes ────────┘
//
// A stream that is idle has no place and no feed, as if this process had just
// begun. When it is read again the reader begins at the end of the log, and whoever
// comes with an event id is verified and given what lies between from the broker:
// there is no other way into a feed. So nothing that happens while nobody looks
// can be missed, however long that is.
func (h *Hub) runOnDemand(ctx context.Context, s *Stream) {
	s.mu.Lock()
	s.turnedAt = time.Now()
	s.mu.Unlock()
	for ctx.Err() == nil {
		reading, stop := context.WithCancelCause(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.Run(reading) // returns only when stopped
		}()
		h.linger(ctx, s)
		stop(errIdle)
		<-ended
		if ctx.Err() == nil {
			s.idle(ctx)
		}
	}
}

// linger waits until the stream has been let go of.
func (h *Hub) linger(ctx context.Context, s *Stream) {
	for {
		left, over := h.rest(s)
		if over {
			s.log.Info("stream is idle", "linger", s.opt.Linger.String())
			s.notify()
			return
		}
		var passed <-chan time.Time // never, while somebody wants it
		if left > 0 {
			passed = time.After(left)
		}
		select {
		case <-passed:
		case <-s.turned:
		case <-ctx.Done():
			return
		}
	}
}

// rest lets go of a stream that nobody has wanted for its linger, or returns how
// much of that is left, 0 while somebody wants it. What its reader still says until it has ended goes nowhere.
//
// A client wants a stream before it asks whether it has started, and until it has
// left its group: so nobody is in the feeds that are closed here, and nobody can
// join one meanwhile.
func (h *Hub) rest(s *Stream) (left time.Duration, over bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if left, over = s.rest(); over {
		for key, f := range h.feeds {
			if slices.Contains(f.streams, s) {
				h.drop(key, f)
			}
		}
	}
	return left, over
}

func (s *Stream) rest() (left time.Duration, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted > 0 {
		return 0, false
	}
	now := time.Now()
	if left = s.opt.Linger - now.Sub(s.turnedAt); left > 0 {
		return left, false
	}
	s.resting, s.since = true, now
	s.rests++
	s.generation++ // what was read until now is of a history that nobody watches any more
	return 0, true
}

// forget makes the stream one that was never read, but for its subjects and what
// it has counted. Its reader has ended.
func (s *Stream) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live, s.started = Position{}, false
	s.newest, s.atEnd = nil, nil
	s.reading, s.err = false, nil
	s.doubted = Verdict{}
}

// idle waits until the stream is wanted, and looks at its subjects now and then.
func (s *Stream) idle(ctx context.Context) {
	s.forget()
	look := time.NewTicker(idleLook)
	defer look.Stop()
	for {
		s.mu.Lock()
		if s.wanted > 0 {
			s.resting, s.since = false, time.Now()
		}
		resting := s.resting
		s.mu.Unlock()
		if !resting || ctx.Err() != nil {
			return
		}
		select {
		case <-s.turned:
		case <-look.C:
			s.look(ctx)
		case <-ctx.Done():
		}
	}
}

// look asks for the subjects of an idle stream, which may have changed. Without
// an answer those that were told before stand.
func (s *Stream) look(ctx context.Context) {
	teller, ok := s.source.(SubjectTeller)
	if !ok || s.opt.Subject != nil && !s.opt.Subject.UsesSubject() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	subjects, err := teller.Subjects(ctx)
	if err != nil {
		s.log.Debug("no answer about the subjects of an idle stream", "error", err)
		return
	}
	s.spaced(subjects)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// The pace of the two streams, and how long one publish may take.
const (
	hostInterval   = time.Second
	priceInterval  = time.Second / 20
	publishTimeout = 5 * time.Second
	// recreateTimeout is how long a stream may take to be deleted and made again.
	recreateTimeout = 30 * time.Second
)

// errUnconfirmed reports that it is not known whether the newest record is
// stored. If it were, its number would come again in the next life of the stream.
var errUnconfirmed = errors.New("the broker has not confirmed the newest record; try again in a moment")

// history is where the records of one stream are kept.
type history interface {
	// Ends returns the oldest and the newest record of a subject, nil if there is
	// none.
	Ends(ctx context.Context, subject string) (first, last []byte, err error)
	// Append stores the record of a subject that has this running number.
	Append(ctx context.Context, subject string, number uint64, data []byte) error
	// Delete deletes the stream with all it holds and returns when it is gone; one
	// that is gone already will do.
	Delete(ctx context.Context) error
	// Make makes the stream, empty, after Delete.
	Make(ctx context.Context) error
}

// series publishes the records of one stream. Every record carries, as "n", its
// running number on its subject, 1 for the first: who follows a subject sees at
// once whether a record is missing or came twice. Numbers go on where an earlier
// run in the same data directory stopped, and when the stream is made again.
// Whatever the broker confirms is stated in truth. A series is used by one
// goroutine, but for Recreate.
type series struct {
	stream  string
	history history
	truth   *truth
	log     *slog.Logger
	last    map[string]uint64 // by subject, the number of its newest record

	life    life
	broken  bool        // the newest record is not confirmed; it is logged once
	errands chan errand // what every is to do in between
}

// life is how far a stream has been made again. What fails leaves it where it is,
// to go on from: nothing is published until it is whole.
//
//	whole ──► deleting ──► making ──► whole
type life int

const (
	whole life = iota
	deleting
	making
)

// errand is something that the publisher's goroutine does for another one; the
// answer arrives on reply.
type errand struct {
	do    func(context.Context) error
	reply chan error
}

func newSeries(stream string, h history, t *truth, log *slog.Logger) *series {
	return &series{stream: stream, history: h, truth: t, log: log, last: map[string]uint64{}, errands: make(chan errand)}
}

// Open finds the last number of a subject. It returns the record that bears it,
// nil if there is none.
func (s *series) Open(ctx context.Context, subject string) ([]byte, error) {
	first, last, err := s.history.Ends(ctx, subject)
	if err != nil {
		return nil, err
	}
	if last == nil {
		s.truth.Opened(s.stream, subject, 1, 0)
		return nil, nil
	}
	var oldest, newest struct {
		Number uint64 `json:"n"`
	}
	if err := errors.Join(json.Unmarshal(first, &oldest), json.Unmarshal(last, &newest)); err != nil {
		return nil, fmt.Errorf("read the ends of %s: %w", subject, err)
	}
	s.last[subject] = newest.Number
	s.truth.Opened(s.stream, subject, oldest.Number, newest.Number)
	return last, nil
}

// Recreate deletes the stream and makes it again, between two records. It may be
// called by any goroutine while the series publishes; when ctx ends, the work
// goes on all the same.
func (s *series) Recreate(ctx context.Context) error {
	e := errand{do: s.recreate, reply: make(chan error, 1)} // one answer, which the publisher must not wait to hand over
	select {
	case s.errands <- e:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-e.reply:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *series) recreate(ctx context.Context) error {
	if s.life == whole {
		if s.broken {
			return errUnconfirmed
		}
		s.life = deleting
	}
	ctx, cancel := context.WithTimeout(ctx, recreateTimeout)
	defer cancel()
	if s.life == deleting {
		if err := s.history.Delete(ctx); err != nil {
			return err
		}
		s.truth.Recreated(s.stream) // before the first record of the new life
		s.life = making
	}
	if err := s.history.Make(ctx); err != nil {
		return err
	}
	s.life, s.broken = whole, false
	s.log.Info("stream made again", "stream", s.stream)
	return nil
}

// Publish sends the next record of a subject. A number is used up only when the
// broker has confirmed the record, so none is ever skipped. A stream that has not
// been made again is first.
func (s *series) Publish(ctx context.Context, subject string, encode func(number uint64) []byte) {
	if s.life != whole {
		if err := s.recreate(ctx); err != nil {
			s.failed(ctx, subject, fmt.Errorf("make the stream again: %w", err))
			return
		}
	}
	number := s.last[subject] + 1
	within, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := s.history.Append(within, subject, number, encode(number)); err != nil {
		s.failed(ctx, subject, err)
		return
	}
	s.last[subject] = number
	s.broken = false
	s.truth.Published(s.stream, subject, number)
}

// failed notes that a record was not published, and logs the first of several.
func (s *series) failed(ctx context.Context, subject string, err error) {
	if ctx.Err() == nil && !s.broken {
		s.log.Error("cannot publish", "subject", subject, "error", err)
	}
	s.broken = true
}

// publishHost publishes this machine's counters once a second until ctx ends.
func publishHost(ctx context.Context, s *series) error {
	reader := newHostReader()
	opened := map[string]bool{}
	unreadable := ""
	return every(ctx, hostInterval, s.errands, func() error {
		metrics, err := reader.Read()
		if err != nil && err.Error() != unreadable {
			unreadable = err.Error()
			s.log.Warn("some metrics of this machine cannot be read", "error", err)
		}
		for _, m := range metrics {
			subject := "host." + m.Name
			if !opened[subject] {
				if _, err := s.Open(ctx, subject); err != nil {
					return err
				}
				opened[subject] = true
			}
			s.Publish(ctx, subject, func(number uint64) []byte { return m.appendJSON(nil, number) })
		}
		return nil
	})
}

// publishPrices publishes a price twenty times a second until ctx ends, of each
// symbol in turn.
func publishPrices(ctx context.Context, s *series, m *market) error {
	for _, symbol := range m.Symbols() {
		data, err := s.Open(ctx, priceSubject(symbol))
		if err != nil {
			return err
		}
		var last quote
		if data != nil && json.Unmarshal(data, &last) == nil {
			m.Restore(last)
		}
	}
	return every(ctx, priceInterval, s.errands, func() error {
		q := m.Next()
		s.Publish(ctx, priceSubject(q.Symbol), func(number uint64) []byte {
			q.Number = number
			return q.encode()
		})
		return nil
	})
}

// every calls f at once and then at each interval, and does errands in between,
// until ctx ends (nil) or f returns an error.
func every(ctx context.Context, interval time.Duration, errands <-chan errand, f func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := f(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case e := <-errands:
				e.reply <- e.do(ctx)
			case <-tick.C:
				waiting = false
			}
		}
	}
}

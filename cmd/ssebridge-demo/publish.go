package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// The pace of the two streams, and how long one publish may take.
const (
	hostInterval   = time.Second
	priceInterval  = time.Second / 20
	publishTimeout = 5 * time.Second
)

// history is where the records of one stream are kept.
type history interface {
	// Last returns the newest record of a subject, nil if there is none.
	Last(ctx context.Context, subject string) ([]byte, error)
	// Append stores the record of a subject that has this running number.
	Append(ctx context.Context, subject string, number uint64, data []byte) error
}

// series publishes the records of one stream. Every record carries, as "n", its
// running number on its subject, 1 for the first: who follows a subject sees at
// once whether a record is missing or came twice. Numbers go on where an earlier
// run in the same data directory stopped. A series is used by one goroutine.
type series struct {
	history history
	log     *slog.Logger
	last    map[string]uint64 // by subject, the number of its newest record

	broken bool // the last publish failed; it is logged once
}

func newSeries(h history, log *slog.Logger) *series {
	return &series{history: h, log: log, last: map[string]uint64{}}
}

// Open finds the last number of a subject. It returns the record that bears it,
// nil if there is none.
func (s *series) Open(ctx context.Context, subject string) ([]byte, error) {
	data, err := s.history.Last(ctx, subject)
	if err != nil || data == nil {
		return nil, err
	}
	var record struct {
		Number uint64 `json:"n"`
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return nil, fmt.Errorf("read last record of %s: %w", subject, err)
	}
	s.last[subject] = record.Number
	return data, nil
}

// Publish sends the next record of a subject. A number is used up only when the
// broker has confirmed the record, so none is ever skipped.
func (s *series) Publish(ctx context.Context, subject string, encode func(number uint64) []byte) {
	number := s.last[subject] + 1
	within, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := s.history.Append(within, subject, number, encode(number)); err != nil {
		if ctx.Err() == nil && !s.broken {
			s.log.Error("cannot publish", "subject", subject, "error", err)
		}
		s.broken = true
		return
	}
	s.last[subject] = number
	s.broken = false
}

// publishHost publishes this machine's counters once a second until ctx ends.
func publishHost(ctx context.Context, s *series) error {
	reader := newHostReader()
	opened := map[string]bool{}
	unreadable := ""
	return every(ctx, hostInterval, func() error {
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
	return every(ctx, priceInterval, func() error {
		q := m.Next()
		s.Publish(ctx, priceSubject(q.Symbol), func(number uint64) []byte {
			q.Number = number
			return q.encode()
		})
		return nil
	})
}

// every calls f at once and then at each interval, until ctx ends (nil) or f
// returns an error.
func every(ctx context.Context, interval time.Duration, f func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := f(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// checkTimeout bounds the check of a stream, connecting included.
const checkTimeout = 5 * time.Second

// checkPause is the time between two questions while the broker does not answer.
const checkPause = 100 * time.Millisecond

// check validates the configuration and asks the brokers. It prints a line for
// each stream, and fails if any of them could not be served now.
func check(ctx context.Context, _ []string, stdout, _ io.Writer) error {
	c, problems := readConfig()
	if err := problemsError(problems); err != nil {
		// What cannot be started fails the check; it is not called wrongly.
		return errors.New(err.Error())
	}
	u, err := openUpstream(c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	reports := make([]checkReport, len(u.streams))
	errs := make([]error, len(u.streams))
	_ = u.run(ctx, func(ctx context.Context) error {
		var wg sync.WaitGroup
		for i, s := range u.streams {
			wg.Go(func() { reports[i], errs[i] = checkStream(ctx, s, int(c.Process.MaxIDBytes)) })
		}
		wg.Wait()
		return nil
	})

	p, failed := printer{w: stdout}, 0
	for i, s := range c.Streams {
		if errs[i] != nil {
			failed++
		}
		p.report(s.Mapping, reports[i], errs[i])
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s cannot be served", failed, counted(len(c.Streams), "stream"))
	}
	return p.err
}

// checkReport is what a broker said of a stream, in words.
type checkReport struct {
	summary  string   // what it holds
	details  []string // a line each
	warnings []string // what works, but worse than it could
}

// report prints a line about a stream, and one for each thing to know or to mend.
func (p *printer) report(m Mapping, r checkReport, err error) {
	if err != nil {
		p.printf("%s: failed\n", m)
		for _, problem := range problemsOf("  problem", err) {
			p.printf("%s\n", problem)
		}
	} else {
		p.printf("%s: ok, %s\n", m, r.summary)
	}
	for _, text := range r.details {
		p.printf("  %s\n", text)
	}
	for _, text := range r.warnings {
		p.printf("  warning: %s\n", text)
	}
}

// checkStream asks until the broker answers.
func checkStream(ctx context.Context, s *bridge.Stream, maxIDBytes int) (checkReport, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var last error
	for {
		report, err := examine(ctx, s, maxIDBytes)
		if ctx.Err() != nil && last != nil {
			return report, last // says more than that time is up
		}
		if err == nil || denied(err) || !errors.Is(err, bridge.ErrUnavailable) {
			return report, err
		}
		last = err
		select {
		case <-time.After(checkPause):
		case <-ctx.Done():
			return report, err
		}
	}
}

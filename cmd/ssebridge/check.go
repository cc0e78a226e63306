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
	"github.com/ssebridge/ssebridge/sources/nats"
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
	u, err := openUpstream(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	reports := make([]nats.CheckReport, len(u.sources))
	errs := make([]error, len(u.sources))
	_ = u.run(ctx, func(ctx context.Context) error {
		var wg sync.WaitGroup
		for i, source := range u.sources {
			wg.Go(func() { reports[i], errs[i] = checkStream(ctx, source) })
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

// report prints a line about a stream, and one for each thing to know or to mend.
func (p *printer) report(m Mapping, r nats.CheckReport, err error) {
	switch {
	case err != nil:
		p.printf("%s: failed\n", m)
		for _, problem := range problemsOf("  problem", err) {
			p.printf("%s\n", problem)
		}
	case r.Records == 0:
		p.printf("%s: ok, no records\n", m)
	default:
		p.printf("%s: ok, %d records in sequences %d to %d\n", m, r.Records, r.First, r.Last)
	}
	for _, text := range r.Warnings {
		p.printf("  warning: %s\n", text)
	}
}

// checkStream asks until the broker answers.
func checkStream(ctx context.Context, source *nats.Source) (nats.CheckReport, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var last error
	for {
		report, err := source.Check(ctx)
		if ctx.Err() != nil && last != nil {
			return report, last // says more than that time is up
		}
		_, denied := errors.AsType[*nats.PermissionError](err)
		if err == nil || denied || !errors.Is(err, bridge.ErrUnavailable) {
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

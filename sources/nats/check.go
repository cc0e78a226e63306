package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// CheckReport is what [Source.Check] found out about a stream.
type CheckReport struct {
	Stream      string
	Retention   string   // limits, workqueue or interest
	Subjects    []string // empty for a mirror or an aggregate
	Mirror      bool     // the stream copies one other, or Sources
	First, Last uint64   // sequences the broker holds
	Records     uint64
	// Limits of the whole stream; 0 or less means none.
	MaxAge        time.Duration
	MaxMessages   int64
	MaxBytes      int64
	MaxPerSubject int64
	AllowDirect   bool // replay needs no consumers
	// GapReason is the reason of the gaps that a client may be told of; empty means
	// that the stream's holes are never losses and are not told.
	GapReason bridge.Reason
	// Warnings name what works, but worse than it could.
	Warnings []string
}

// Check looks whether the stream can be served: that it exists, is of a kind
// that can be followed, and that the account may do everything that following
// it needs. The error joins everything that is wrong; a refused permission is a
// [PermissionError], which names the subject to allow. The report is as full as
// the answers were.
func (s *Source) Check(ctx context.Context) (CheckReport, error) {
	report := CheckReport{Stream: s.opt.Stream}
	l, stream := s.cold.link, s.opt.Stream
	reign := s.reign()
	info, err := l.streamInfo(ctx, stream)
	if err != nil {
		return report, fmt.Errorf("stream %q: %w", stream, err)
	}
	v := newView(stream, time.Now(), info, reign)
	c := &info.Config
	report.Retention, report.Subjects, report.Mirror = c.Retention, c.Subjects, len(c.Mirror) > 0 || len(c.Sources) > 0
	report.First, report.Last, report.Records = info.State.FirstSeq, info.State.LastSeq, info.State.Messages
	report.MaxAge, report.MaxMessages, report.MaxBytes, report.MaxPerSubject = c.MaxAge, c.MaxMessages, c.MaxBytes, c.MaxPerSubject
	report.AllowDirect, report.GapReason = c.AllowDirect, v.loss
	if v.refused != nil {
		return report, v.refused
	}
	var errs []error
	fail := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("stream %q: %s: %w", stream, what, err))
		}
	}
	_, err = l.get(ctx, stream, getQuestion{Seq: uint64(max(v.end-1, 1))})
	fail("verify positions", err)
	fail("read live", s.checkConsumer(ctx, v))
	if c.AllowDirect {
		_, err := s.direct(ctx, v.first, 1, 1)
		switch {
		case errors.Is(err, errNoDirect):
			report.Warnings = append(report.Warnings, fmt.Sprintf("older records are read by consumers, which costs the server more: %v", err))
		case !errors.Is(err, errForeign): // an answer from a mirror shows that asking is allowed
			fail("read older records", err)
		}
	} else {
		report.Warnings = append(report.Warnings, "older records are read by consumers, which costs the server more: set allow_direct on the stream")
	}
	if len(s.opt.Filter) > 0 {
		report.Warnings = append(report.Warnings, "a filter is set, so records that are removed before they are read live may go unnoticed until the reader verifies its place")
	}
	return report, errors.Join(errs...)
}

// checkConsumer makes a consumer as the reader does, pulls from it, and deletes it.
func (s *Source) checkConsumer(ctx context.Context, v *view) error {
	l := s.cold.link
	name := s.cluster.consumerName(s.opt.Instance)
	s.stats.consumers.Add(1)
	if err := l.createConsumer(ctx, v, name, v.first, s.opt.Filter); err != nil {
		return err
	}
	nc, err := l.conn()
	if err != nil {
		return err
	}
	in, err := openInbox(nc)
	if err != nil {
		return err
	}
	defer in.close()
	r := &run{s: s, name: name, next: v.first, inbox: in, pull: &puller{nc: nc, inbox: in, subject: s.cluster.api + "CONSUMER.MSG.NEXT." + s.opt.Stream + "." + name}}
	_, pullErr := r.read(ctx, 1, batchBytes)
	return errors.Join(pullErr, l.deleteConsumer(ctx, s.opt.Stream, name))
}

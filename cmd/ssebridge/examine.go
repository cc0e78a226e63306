package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka"
	"github.com/ssebridge/ssebridge/sources/nats"
)

// examine asks the broker of one stream what it holds and whether it may be
// read. maxIDBytes is the longest event id that clients may get. The report has
// what is known, also beside an error.
func examine(ctx context.Context, s *bridge.Stream, maxIDBytes int) (checkReport, error) {
	switch source := s.Source().(type) {
	case *nats.Source:
		return examineNATS(ctx, source)
	case *kafka.Source:
		return examineKafka(ctx, s.Name(), source, maxIDBytes)
	}
	return checkReport{}, fmt.Errorf("check of %T: %w", s.Source(), errors.ErrUnsupported)
}

// denied reports whether a broker refused for lack of permission, which asking
// again does not change.
func denied(err error) bool {
	if _, ok := errors.AsType[*nats.PermissionError](err); ok {
		return true
	}
	refusal, ok := errors.AsType[*kafka.CodeError](err)
	return ok && refusal.Denied()
}

func examineNATS(ctx context.Context, source *nats.Source) (checkReport, error) {
	r, err := source.Check(ctx)
	report := checkReport{summary: "no records", warnings: r.Warnings}
	if r.Records > 0 {
		report.summary = fmt.Sprintf("%d records in sequences %d to %d", r.Records, r.First, r.Last)
	}
	return report, err
}

func examineKafka(ctx context.Context, name string, source *kafka.Source, maxIDBytes int) (checkReport, error) {
	r, err := source.Check(ctx)
	report := checkReport{warnings: r.Warnings}
	if len(r.Partitions) == 0 {
		return report, err
	}
	var offsets []string
	var records bridge.Offset
	for _, p := range r.Partitions {
		records += p.End - p.First
		if p.First == p.End {
			offsets = append(offsets, fmt.Sprintf("none before %d", p.End))
		} else {
			offsets = append(offsets, fmt.Sprintf("%d to %d", p.First, p.End-1))
		}
	}
	// Offsets of transactions, and those that compaction has freed, have no record.
	report.summary = fmt.Sprintf("%s, at most %d records", counted(len(r.Partitions), "partition"), records)
	report.details = append(report.details, "offsets by partition: "+strings.Join(offsets, ", "))
	if r.CleanupPolicy != "" {
		report.details = append(report.details, "retention: "+describeRetention(r))
	}
	size := r.IDBytes(name)
	report.details = append(report.details, fmt.Sprintf("event ids: up to %d bytes", size))
	if size > maxIDBytes {
		err = errors.Join(err, fmt.Errorf("event ids would be longer than SSEBRIDGE_MAX_ID_BYTES=%d, so clients are refused", maxIDBytes))
	}
	if err == nil {
		report.details = append(report.details, "permissions: Describe and Read are granted")
	}
	return report, err
}

// describeRetention says when records go, as in "delete after 168h, no limit of
// bytes".
func describeRetention(r kafka.CheckReport) string {
	age, bytes := "no limit of age", "no limit of bytes"
	if r.RetentionTime > 0 {
		age = "after " + formatDuration(r.RetentionTime)
	}
	if r.RetentionBytes > 0 {
		bytes = Size(r.RetentionBytes).String() + " per partition"
	}
	return fmt.Sprintf("%s, %s, %s", r.CleanupPolicy, age, bytes)
}

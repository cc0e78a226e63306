package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/ssebridge/ssebridge/bridge"
)

// CheckReport is what [Source.Check] found out about a topic.
type CheckReport struct {
	Topic      string
	Partitions []CheckPartition
	// CleanupPolicy is delete, compact, or both; empty when it could not be read.
	CleanupPolicy string
	// Limits of the log; negative means none, 0 that they could not be read.
	RetentionTime  time.Duration
	RetentionBytes int64 // of each partition
	// End is the end of the log, from which the size of event ids follows.
	End bridge.Position
	// Warnings name what works, but worse than it could.
	Warnings []string
}

// CheckPartition is one partition of a [CheckReport].
type CheckPartition struct {
	Partition   int32
	First, End  bridge.Offset // the log has [First, End)
	Leader      int32         // broker id
	LeaderEpoch int32
}

// IDBytes estimates how long the event ids of clients will be that follow
// nothing but this topic, under the name stream.
func (r *CheckReport) IDBytes(stream string) int {
	pos := r.End.Clone()
	for i := range pos.Places {
		pos.Places[i].Proof = proofOf(r.Partitions[i].LeaderEpoch)
	}
	return bridge.ID{{Stream: stream, Position: pos}}.ExpectedBytes()
}

// Check looks whether the topic can be served: that it exists, has leaders, and
// that the user may read it. The error joins everything that is wrong; a denied
// permission is a [CodeError] that names topic and operation. The report is as
// full as the answers were.
func (s *Source) Check(ctx context.Context) (CheckReport, error) {
	report := CheckReport{Topic: s.opt.Topic}
	b, err := s.Bounds(ctx)
	if err != nil {
		return report, err
	}
	g, err := s.cold.look(ctx)
	if err != nil {
		return report, err
	}
	report.End = b.End
	var errs []error
	for p := range min(len(b.End.Places), len(g.parts)) {
		report.Partitions = append(report.Partitions, CheckPartition{
			Partition: int32(p), First: b.First.Place(int32(p)).Offset, End: b.End.Place(int32(p)).Offset,
			Leader: g.parts[p].broker, LeaderEpoch: g.parts[p].epoch,
		})
	}
	if err := s.checkRead(ctx, g, b.End); err != nil {
		errs = append(errs, err)
	}
	if _, err := s.Verify(ctx, b.End, nil); err != nil {
		errs = append(errs, fmt.Errorf("verify positions: %w", err))
	}
	if err := s.checkConfig(ctx, &report); err != nil {
		report.Warnings = append(report.Warnings, fmt.Sprintf("retention cannot be told, for which the user needs DescribeConfigs on the topic: %v", err))
	}
	if reduced := s.Reduced(); reduced != "" {
		report.Warnings = append(report.Warnings, reduced)
	}
	if s.cluster.opt.isolation() == 0 {
		report.Warnings = append(report.Warnings, "isolation is read_uncommitted: clients get the records of transactions that are aborted later")
	}
	return report, errors.Join(errs...)
}

// checkRead reads a little at the end of each partition.
func (s *Source) checkRead(ctx context.Context, g *ground, end bridge.Position) error {
	at := map[int32]int64{}
	for p := range g.parts {
		at[int32(p)] = max(int64(end.Place(int32(p)).Offset)-1, g.firsts[p])
	}
	_, err := s.cold.covers(ctx, g.view, at)
	return err
}

// checkConfig asks for the topic's limits. Everything here is told as a warning:
// following a topic does not need it.
func (s *Source) checkConfig(ctx context.Context, report *CheckReport) error {
	ctx, cancel := context.WithTimeout(ctx, pieceTimeout)
	defer cancel()
	client := kafkago.Client{Addr: s.cold.link.addr, Transport: s.cold.link.transport}
	got, err := client.DescribeConfigs(ctx, &kafkago.DescribeConfigsRequest{Resources: []kafkago.DescribeConfigRequestResource{{
		ResourceType: kafkago.ResourceTypeTopic, ResourceName: s.opt.Topic,
		ConfigNames: []string{"cleanup.policy", "retention.ms", "retention.bytes"},
	}}})
	if err != nil {
		return err
	}
	for _, r := range got.Resources {
		if r.Error != nil {
			return r.Error
		}
		for _, e := range r.ConfigEntries {
			n, _ := strconv.ParseInt(e.ConfigValue, 10, 64) // 0 for what is no number
			switch e.ConfigName {
			case "cleanup.policy":
				report.CleanupPolicy = e.ConfigValue
			case "retention.ms":
				report.RetentionTime = time.Duration(min(n, int64(1<<63-1)/int64(time.Millisecond))) * time.Millisecond
			case "retention.bytes":
				report.RetentionBytes = n
			}
		}
	}
	return nil
}

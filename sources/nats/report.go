package nats

import "github.com/ssebridge/ssebridge/bridge"

// ReportPartitions implements [bridge.PartitionReporter]. The end is that of the
// newest answer to whoever asked, which is at most [SourceOptions].Poll old
// while the stream is read.
func (s *Source) ReportPartitions() []bridge.PartitionReport {
	v := s.live.last.Load()
	if cold := s.cold.last.Load(); v == nil || cold != nil && cold.asked.After(v.asked) {
		v = cold
	}
	if v == nil {
		return nil
	}
	return []bridge.PartitionReport{{End: v.end, Asked: v.asked, Leader: v.leader}}
}

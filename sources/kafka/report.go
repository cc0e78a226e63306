package kafka

import (
	"strconv"

	"github.com/ssebridge/ssebridge/bridge"
)

var (
	_ bridge.PartitionReporter = (*Source)(nil)
	_ bridge.GuaranteeReporter = (*Source)(nil)
)

// ReportPartitions implements [bridge.PartitionReporter]. The end is the high
// watermark.
func (s *Source) ReportPartitions() []bridge.PartitionReport {
	var reports []bridge.PartitionReport
	for _, st := range s.Status() {
		for int(st.Partition) >= len(reports) {
			reports = append(reports, bridge.PartitionReport{End: bridge.UnknownOffset})
		}
		r := bridge.PartitionReport{End: bridge.UnknownOffset, Err: st.Err, OpenTransaction: st.Held}
		if st.HighWatermark >= 0 {
			r.End = st.HighWatermark
		}
		if st.Leader >= 0 {
			r.Leader = strconv.Itoa(int(st.Leader))
		}
		reports[st.Partition] = r
	}
	return reports
}

// ReducedGuarantees implements [bridge.GuaranteeReporter].
func (s *Source) ReducedGuarantees() []string {
	if text := s.Reduced(); text != "" {
		return []string{text}
	}
	return nil
}

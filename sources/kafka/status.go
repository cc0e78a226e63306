package kafka

import (
	"slices"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// PartitionStatus is how the live reader stands in one partition.
type PartitionStatus struct {
	Partition int32
	Place     bridge.Place // the next offset to read
	// HighWatermark is the offset behind the last record that all replicas have,
	// -1 as long as the leader has not told it.
	HighWatermark bridge.Offset
	// Lag counts the offsets from Place to the high watermark: what has not been
	// read yet, or waits for an open transaction.
	Lag         int64
	Leader      int32 // broker id, -1: none
	LeaderEpoch int32
	// Held is since when the place stands before an open transaction that must end
	// first; zero when it does not. The records of others behind it wait too.
	Held time.Time
	// Err is why the partition cannot be read at the moment, nil if it can.
	Err error
}

// Status returns how the live reader stands, by partition; nil before it has
// found the topic. The caller owns it.
func (s *Source) Status() []PartitionStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.status)
}

// Reduced says which guarantee is weaker than it should be because a broker is
// too old, "" if none. It is known once the broker has answered.
func (s *Source) Reduced() string {
	version, ok := s.cluster.live.oldestFetch()
	if !ok {
		version, ok = s.cluster.cold.oldestFetch()
	}
	switch {
	case !ok || version >= 13:
		return ""
	case version == 12:
		return "a broker reads by topic name only (Kafka before 3.1): a topic that is deleted and made again may be read on for some seconds before that is noticed"
	}
	return "a broker neither reads by topic id nor checks leader epochs (Kafka before 2.7): a topic that is made again, or a log whose end was lost, may be read on for some seconds before that is noticed"
}

// oldestFetch returns the lowest version of Fetch among the brokers that have
// answered.
func (l *link) oldestFetch() (version int16, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.spoken {
		if !ok || v.fetch < version {
			version, ok = v.fetch, true
		}
	}
	return version, ok
}

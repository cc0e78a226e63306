package bridge

import "time"

// note counts a live record. The caller holds mu.
func (s *Stream) note(r *Record) {
	s.records++
	s.bytes += uint64(len(r.Key) + len(r.Data))
	for int(r.Partition) >= len(s.newest) {
		s.newest = append(s.newest, time.Time{})
	}
	if !r.Time.IsZero() {
		s.newest[r.Partition] = r.Time
	}
}

// Lag is how far the live reader is behind the broker in one partition.
type Lag struct {
	Partition int32
	// Records counts the offsets that have not been read yet: as logs may have
	// holes, it is the most that are missing. Known is false as long as the broker
	// has not told the end.
	Records Offset
	Known   bool
	// Age is 0 for a reader at the end of the log. Behind it, it is how old the
	// newest record is that was read, by the record's own time, but no more than the
	// time since the reader was last seen at the end: producers' clocks may be wrong,
	// and a stream may have slept. While the stream waits for its broker, it is no
	// less than how long it has waited.
	Age time.Duration
}

// Lags returns the lag of every partition that is known, by partition, and
// remembers which ones are read to the end; none while the stream is idle. It asks
// no broker.
func (s *Stream) Lags() []Lag {
	var reports []PartitionReport // before the position, which moves on meanwhile
	if r, ok := s.source.(PartitionReporter); ok {
		reports = r.ReportPartitions()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting {
		return nil
	}
	now := time.Now()
	lags := make([]Lag, 0, len(s.live.Places))
	for p, pl := range s.live.Places {
		l := Lag{Partition: int32(p)}
		if p < len(reports) && reports[p].End != UnknownOffset {
			l.Records, l.Known = max(0, reports[p].End-pl.Offset), true
		}
		for p >= len(s.atEnd) {
			s.atEnd = append(s.atEnd, s.startedAt)
		}
		if l.Records == 0 {
			s.atEnd[p] = now
		}
		l.Age = now.Sub(s.atEnd[p])
		if p < len(s.newest) && !s.newest[p].IsZero() {
			l.Age = min(l.Age, max(0, now.Sub(s.newest[p])))
		}
		if s.err != nil {
			l.Age = max(l.Age, now.Sub(s.since))
		}
		lags = append(lags, l)
	}
	return lags
}

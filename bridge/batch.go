package bridge

import "time"

// Batch is what a client is written at once. The slices are valid until the
// next one is asked for; what they hold is shared and must not be changed.
type Batch struct {
	Units   [][]byte
	Records int // units that carry a record
	// Received is when this replica got the oldest of the records that it has read
	// live; zero if there are none.
	Received time.Time
	// Traces are of the records whose producers were sampled. Whoever writes the
	// batch tells them so ([RecordTrace.Delivered]).
	Traces []*RecordTrace
}

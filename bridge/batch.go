package bridge

import "time"

// Batch is what a client is written at once. The slices are valid until the
// next one is asked for; what they hold is shared and must not be changed.
type Batch struct {
	Units   [][]byte
	Records int // units that carry a record
	// Received is when this replica got the oldest of the records, if they are
	// shared by a group; zero for those of a client that catches up.
	Received time.Time
	// Traces are of the records whose producers were sampled. Whoever writes the
	// batch tells them so ([RecordTrace.Delivered]).
	Traces []*RecordTrace
}

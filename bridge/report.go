package bridge

import "time"

// A PartitionReporter is a [Source] that can tell operators more of its
// partitions than where the stream has been read to. Sources implement it if
// they can; it is found by type assertion.
type PartitionReporter interface {
	// ReportPartitions returns what the source last learned of each partition,
	// indexed by partition; none before the broker has first answered. It asks no
	// broker and returns at once; it may be called from any goroutine, also while
	// nothing is read. The caller owns the slice.
	ReportPartitions() []PartitionReport
}

// PartitionReport is what a source last learned of one partition. Every field
// may be missing: brokers differ in what they tell.
type PartitionReport struct {
	End    Offset    // end of the log, also behind an open transaction; [UnknownOffset]: not known
	Asked  time.Time // when the broker told End; zero: not known
	Leader string    // the broker's own name of the server that leads it; empty: not known
	// Err is why the partition could not be read when that was last tried, and
	// ErrAt when that was, if it is known. A source may keep both after reading
	// goes on; nil: nothing was wrong.
	Err   error
	ErrAt time.Time
	// OpenTransaction is since when the reader has waited at a transaction that is
	// neither committed nor aborted; zero: it waits at none.
	OpenTransaction time.Time
}

// A GuaranteeReporter is a [Source] whose broker may be too old, or too unlike
// the real one, for everything that is promised. It is found by type assertion.
type GuaranteeReporter interface {
	// ReducedGuarantees returns a sentence for each promise that does not hold with
	// the brokers as they last answered, and what is done instead. It asks no
	// broker and may be called from any goroutine.
	ReducedGuarantees() []string
}

// FollowerStatus is what can be told of a client's way through its subscription
// at one moment.
type FollowerStatus struct {
	State string // entering, catching-up or level
	ID    string // event id of the client's position; empty: it has none yet
	// Lag counts the offsets between the position and what this replica has read.
	// As logs have holes and filters leave records out, it is the most records that
	// the client has still to get. LagKnown is false while that cannot be told.
	Lag      Offset
	LagKnown bool
}

package bridge

import (
	"context"
	"time"
)

// A Source is one upstream stream as the bridge sees it. It is made of small
// roles, all of them safe for concurrent use; only Tail may run once at a time.
//
// Errors of every method wrap [ErrUnavailable] (ask again), [ErrMissing] or
// [ErrRefused], or are the context's own.
type Source interface {
	Tailer
	Verifier
	Bounder
	ChunkReader
	Seeker
}

// A Tailer follows one upstream stream.
//
// Tail starts at the end of the log, tells it by a [Started] change, and then
// reports records in offset order within each partition until ctx ends. It
// rides out broker outages by itself. Whenever it reconnects it first reports
// [Doubted], then verifies its own position by the rules of a resume; what it
// finds (gap, reset, new partitions) it reports in order with the records. out
// is called by one goroutine at a time. Tail returns context.Cause(ctx); by then
// every goroutine it started has ended.
//
// Poke asks a running Tail to verify its position soon, because a client's
// position did not fit. It returns at once; calls may be merged.
type Tailer interface {
	Tail(ctx context.Context, out Receiver) error
	Poke()
}

// A Receiver takes what a [Tailer] reads. The slice and all bytes handed to it
// are valid until the call returns.
type Receiver interface {
	Records(recs []Record)
	Change(c Change)
}

// ChangeKind says what a [Change] is about.
type ChangeKind uint8

const (
	// Started tells where live begins: Position, the end of the log. Only Waiting,
	// Reading and Spaced may come before it. It is sent once, and again only when
	// the stream has another incarnation with the same history up to the live
	// position (a backup was restored), which Position then names.
	Started ChangeKind = iota
	// Moved says that the live place of Partition moved on to Place over offsets
	// that hold no record to show (deleted at the end of the log, control batches).
	Moved
	// Found is a gap or a reset, as Finding says. The live position is its Next.
	// Where the broker does not name the place to go on the finding is Open, and
	// Next is what the reader has chosen.
	Found
	// Grown says that the stream has Partitions partitions now; new ones begin at
	// place 0.
	Grown
	// Doubted says that the connection or the leader changed, so what was read
	// before may not be history any more.
	Doubted
	// Waiting says that nothing can be read for now; Err is what is waited for.
	Waiting
	// Reading says that the stream is being read (again).
	Reading
	// Spaced says that the broker told the stream's own subjects, Subjects. It comes before
	// Started, and again when they change; brokers without subjects never send it.
	Spaced
)

// Change is what a [Tailer] reports besides records. Kind says which fields hold.
type Change struct {
	Kind       ChangeKind
	Position   Position // Started
	Partition  int32    // Moved
	Place      Place    // Moved
	Partitions int      // Grown
	Finding    Finding  // Found
	Subjects   []string // Spaced: patterns
	Err        error    // Waiting
}

// Reason says why records were lost or a position could not be honoured.
type Reason string

// Reasons of gaps, then of resets. They are part of the contract with clients.
const (
	Retention    Reason = "retention"     // the broker no longer holds the records
	Limits       Reason = "limits"        // the same, where some may only be superseded values
	TooLarge     Reason = "oversized"     // a record over SSEBRIDGE_MAX_EVENT_BYTES
	Recreated    Reason = "recreated"     // the stream was deleted and made again
	RolledBack   Reason = "rolled-back"   // the log lost its end, or was rewritten
	UnreadableID Reason = "unreadable-id" // the event id could not be read
)

// Reasons lists them all.
func Reasons() []Reason {
	return []Reason{Retention, Limits, TooLarge, Recreated, RolledBack, UnreadableID}
}

// Reset reports whether the reason belongs to a reset; otherwise it is a gap's.
func (r Reason) Reset() bool { return r == Recreated || r == RolledBack || r == UnreadableID }

// AllPartitions stands for the whole stream in [Finding].Partition.
const AllPartitions int32 = -1

// UnknownOffset stands for an offset that nobody knows in [Finding].From and To.
const UnknownOffset Offset = -1

// Finding is one loss or one broken position.
//
// Example: the stream holds 5 to 9 and a client wants 3. Records 3 and 4 are
// gone: {Reason: Retention, Partition: 0, From: 3, To: 4}, and Next is 5.
//
// From and To, both included, are the offsets that are lost (gap), or known to
// be no longer the same (reset). A recreated stream has From = the place that
// was wanted and To = UnknownOffset. JetStream rolled back below the place:
// From = the end of the log, To = want-1; rewritten under it: both want-1.
type Finding struct {
	Reason    Reason
	Partition int32 // or AllPartitions
	From, To  Offset
	// Next is where reading goes on: the stream's whole position, in the
	// incarnation of the broker. For a single partition the other places are
	// those that the caller had.
	Next Position
	// Open says that the broker does not name the place to go on (a reset whose
	// point of divergence nobody knows): Next is then its first record, and the
	// reader may choose another by its reset policy.
	Open bool
	// Since is, for an Open finding, the time in Unix milliseconds of the last
	// record that the position had read, 0 when its proof is not a time.
	Since int64
}

// A Verifier judges positions by the resume table, asking the broker's leader.
type Verifier interface {
	// Verify returns what became of pos. known, if not nil, tells what the caller
	// already holds of single records, so that an exact verdict needs no read;
	// every other verdict is confirmed at the leader. Verify takes as long as
	// that needs (a position beyond the end is watched for 2 s).
	Verify(ctx context.Context, pos Position, known Known) (Verdict, error)
}

// Known returns the proof of the record at exactly this offset. held is false
// when the caller does not know; held with the zero Proof means that there is
// no record at the offset. It speaks of the incarnation of the position that is
// verified: in another one it proves nothing. It may read from the broker and so
// take a while.
type Known func(ctx context.Context, partition int32, offset Offset) (p Proof, held bool)

// Verdict is what a resume found for a position. No findings means exact: go on
// with the same places in Incarnation.
type Verdict struct {
	Incarnation Incarnation // of the stream now
	Findings    []Finding   // in the order in which to tell them; each Next builds on the one before
	// Epochs names, by partition, the reign under which chunks may be shared: the
	// leader epoch, or the number of the broker connection and leader. A history
	// never changes within one.
	Epochs []uint64
}

// Epoch returns the read epoch of a partition, 0 where the verdict has none.
func (v Verdict) Epoch(partition int32) uint64 {
	if int(partition) >= len(v.Epochs) {
		return 0
	}
	return v.Epochs[partition]
}

// Bounds are the ends of a stream's log, as its leader tells them.
type Bounds struct {
	First Position // the oldest records the broker holds
	End   Position // the next offsets to be written
}

// A Bounder tells the ends of the log.
type Bounder interface {
	Bounds(ctx context.Context) (Bounds, error)
}

// ChunkQuery asks for the records of one partition in [From, Limit).
type ChunkQuery struct {
	Partition   int32
	From, Limit Offset
	MaxBytes    int // stop after the record that reaches it; at least one record is read
	Incarnation Incarnation
}

// Chunk is a run of records read from the broker. It is authoritative for
// [From, End): it has every record the broker holds there. From is above the
// queried one only when the log begins later and records were lost below; End
// is at most Limit. A source that knows of a hole behind End says so with Skip:
// there are no records in [End, Skip).
type Chunk struct {
	From, End Offset
	Skip      Offset // zero: not known
	Before    Proof  // of the record at exactly From-1; zero if there is none or it was not read along
	Records   []Record
}

// A ChunkReader reads older records. It returns [ErrHistoryChanged] when the
// stream is not the incarnation asked for, before or after the read. The caller
// owns the chunk.
type ChunkReader interface {
	ReadChunk(ctx context.Context, q ChunkQuery) (Chunk, error)
}

// A Seeker finds positions by time.
type Seeker interface {
	// PositionAt returns, for every partition, the place of the first record at
	// or after t, or the end of the log as it was before the question.
	PositionAt(ctx context.Context, t time.Time) (Position, error)
}

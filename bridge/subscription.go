package bridge

import (
	"errors"
	"time"
)

// StartKind says where a stream without a place in the event id begins.
type StartKind uint8

// The kinds of starts.
const (
	StartNew StartKind = iota // after this replica's newest record
	StartAll                  // at the oldest record the broker holds
	StartAt                   // at the first record at or after a time
)

// Start is where a stream without a place in the event id begins.
type Start struct {
	Kind StartKind
	At   time.Time // for StartAt
}

// OnReset says where to go on after a reset whose point of divergence the
// broker does not tell.
type OnReset string

// The reset policies.
const (
	ResetSince OnReset = "since" // the first record newer than the proof; without one, all
	ResetAll   OnReset = "all"
	ResetNew   OnReset = "new"
	ResetFail  OnReset = "fail" // tell it and end
)

// Subscription is what one client asked for. It does not change once opened.
type Subscription struct {
	Names  []string // only these configured streams; empty: all whose subjects Filter may meet
	Filter Filter
	Form   Form
	// Control: connected, position and caught-up are sent.
	Control bool
	// From is the parsed event id, nil when the client has none.
	From ID
	// Unreadable: the client sent an id that nobody can read. It is told so, and
	// begins as Start says.
	Unreadable bool
	Start      *Start        // nil: each stream's own
	OnReset    OnReset       // empty: each stream's own
	Heartbeat  time.Duration // longest silence of a connection; must be positive
	Retry      time.Duration // sent with connected; zero: none
}

// ErrNoStream reports a subscription that no stream's subjects can ever match.
var ErrNoStream = errors.New("no stream has subjects that match")

// ErrIDTooLong reports a subscription whose event ids would be longer than
// clients may be given: over too many streams, or too many partitions.
var ErrIDTooLong = errors.New("event ids over so many partitions would be too long")

// ResetError reports a position that could not be honoured to a client that
// asked to fail in that case ([ResetFail]).
type ResetError struct {
	Stream  string
	Finding Finding
}

func (e *ResetError) Error() string {
	return "stream " + e.Stream + ": reset " + string(e.Finding.Reason)
}

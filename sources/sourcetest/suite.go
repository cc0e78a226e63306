package sourcetest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ssebridge/ssebridge/bridge"
)

// patience is how long the suite waits for something that must happen. It is
// long, because a loaded machine must not fail a test; nothing measures it.
const patience = 30 * time.Second

// Subject is a source under test on a stream of its own, and the means to make
// things happen to that stream. Functions that are nil say that the broker
// cannot do it; what they are for is not run then. The others end the test with
// t when they fail. They may return before the source has noticed.
type Subject struct {
	Source     bridge.Source
	Partitions int // 0 means 1

	// Publish appends a record and returns its offset when the broker has it. It
	// may be called from several goroutines at once.
	Publish func(ctx context.Context, m Message) (bridge.Offset, error)
	// Keyed: records have keys, and the stream's name for their origin. Otherwise
	// they have subjects.
	Keyed bool
	// Gap is what a loss by retention is told as; empty means retention.
	Gap bridge.Reason

	// Replica returns another source on the same stream, as of another replica.
	Replica func(t *testing.T) bridge.Source

	// Delete removes one record that is neither the first nor the last.
	Delete func(t *testing.T, partition int32, offset bridge.Offset)
	// Trim removes all records below to, which is an offset that is held, or the
	// end.
	Trim func(t *testing.T, partition int32, to bridge.Offset)
	// Keep remembers the log as it is and returns a function that brings the
	// broker back to that: all that was published since is lost.
	Keep func(t *testing.T) (rollBack func())
	// Recreate deletes the stream and makes it again, empty.
	Recreate func(t *testing.T)
	// Remove deletes the stream; Recreate makes it again.
	Remove func(t *testing.T)
	// Restore deletes the stream and makes it again with the same records.
	Restore func(t *testing.T)
	// Grow adds partitions until there are n.
	Grow func(t *testing.T, n int)
	// Restart lets the broker go and come back with all it had.
	Restart func(t *testing.T)
	// Down makes the broker unreachable until Up. Publish works again when Up has
	// returned.
	Down, Up func(t *testing.T)

	// Goroutines are what may go on running after a Tail, such as those of the
	// broker's client library.
	Goroutines []goleak.Option
}

// check is one promise of the contract.
type check struct {
	name  string
	test  func(t *testing.T, f *fixture)
	needs func(s *Subject) bool // nil: nothing
}

// Run runs the contract of [bridge.Source] against what open returns: each time
// a fresh and empty stream, that nobody else uses, with a source on it. It is
// called once more than there are tests, to see what the subject can do.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	var can Subject
	if t.Run("Open", func(t *testing.T) { can = open(t) }); t.Failed() {
		return
	}
	if can.Source == nil { // left out by -run, as when one check is run alone
		can = open(t)
	}
	for _, checks := range [][]check{tailChecks, chunkChecks, verifyChecks, seekChecks, faultChecks} {
		for _, c := range checks {
			if c.needs != nil && !c.needs(&can) {
				continue
			}
			t.Run(c.name, func(t *testing.T) { c.test(t, newFixture(t, open(t))) })
		}
	}
}

func canDelete(s *Subject) bool   { return s.Delete != nil }
func canTrim(s *Subject) bool     { return s.Trim != nil }
func canRollBack(s *Subject) bool { return s.Keep != nil }
func canRecreate(s *Subject) bool { return s.Recreate != nil }
func canRemove(s *Subject) bool   { return s.Remove != nil && s.Recreate != nil }
func canRestore(s *Subject) bool  { return s.Restore != nil }
func canGrow(s *Subject) bool     { return s.Grow != nil }
func canRestart(s *Subject) bool  { return s.Restart != nil }
func canGoAway(s *Subject) bool   { return s.Down != nil && s.Up != nil }
func hasReplica(s *Subject) bool  { return s.Replica != nil }
func hasSeveral(s *Subject) bool  { return s.Partitions > 1 }

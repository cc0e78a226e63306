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

	// Group is set if the units are the same for every client of this group at the
	// same place, which is a count of the entries that the group was ever shown: unit
	// i is the entry at From+i. A sign of life is between entries, so that To is From,
	// and ID is the event id that it carries, if any.
	Group    *Group
	From, To uint64
	ID       string
}

// Scratch is room for batches that clients are given one after the other, so that
// a client which waits keeps none of its own. It is used by one goroutine.
type Scratch struct {
	Batch   Batch
	Entries []Entry
	Now     time.Time // when the batch is taken

	// Clients of a group that are at the same place, as most are, need not look for
	// the batch again.
	group *Group // nil: nobody may have it again
	id    string // behind it

	// The last sign of life, and what of: clients that are at the same place are given
	// the same one.
	sign []byte
	of   signOf
}

type signOf struct {
	encoder Encoder
	kind    EventKind
	id      string
}

// Sign returns the unit of a heartbeat or a position.
func (s *Scratch) Sign(e Encoder, ev Event) []byte {
	if of := (signOf{e, ev.Kind, ev.ID}); s.of != of {
		s.sign, s.of = e.AppendEvent(nil, ev), of
	}
	return s.sign
}

// Restart empties the batch; its slices are used again.
func (s *Scratch) Restart() {
	s.group = nil
	clear(s.Batch.Traces)
	clear(s.Batch.Units)
	s.Batch = Batch{Units: s.Batch.Units[:0], Traces: s.Batch.Traces[:0]}
}

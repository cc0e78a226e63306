package sourcetest

import "github.com/ssebridge/ssebridge/bridge"

// Fate says what became of a record.
type Fate uint8

// The fates of records.
const (
	Held       Fate = iota // it is in the log
	Deleted                // it was removed from the middle
	Trimmed                // retention took it
	RolledBack             // the log lost it
	Removed                // its stream was deleted
)

// Entry is one record that was ever written, for oracles.
type Entry struct {
	Record      bridge.Record      // as sources show it; Kind is Hidden for aborted records and markers
	Serial      int                // number of the record in the whole history, from 1
	Incarnation bridge.Incarnation // in which it was written
	Fate        Fate
	Control     bool // a transaction marker, which sources leave out
	Open        bool // its transaction is not decided, so it cannot be read yet
}

// History returns every record ever written, in the order of writing.
func (b *Broker) History() []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tell(b.history)
}

// Held returns the records that a partition holds, in offset order.
func (b *Broker) Held(partition int32) []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.log(partition); l != nil {
		return b.tell(l.entries)
	}
	return nil
}

func (b *Broker) tell(entries []*entry) []Entry {
	told := make([]Entry, len(entries))
	for i, e := range entries {
		told[i] = Entry{Record: e.show(), Serial: e.serial, Incarnation: e.incarnation, Fate: e.fate, Control: e.control}
		if l := b.log(e.rec.Partition); l != nil && e.txn != nil && e.fate == Held {
			_, told[i].Open = l.open[e.txn]
		}
	}
	return told
}

// Partitions returns how many partitions there are, 0 while the stream does not
// exist.
func (b *Broker) Partitions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.life == nil {
		return 0
	}
	return len(b.life.logs)
}

// Incarnation returns the present life of the stream, 0 while it does not exist.
func (b *Broker) Incarnation() bridge.Incarnation {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.life == nil {
		return 0
	}
	return b.life.incarnation
}

// Ends are the offsets that bound a partition's log.
type Ends struct {
	First  bridge.Offset // the oldest the broker holds
	Stable bridge.Offset // below it everything is readable
	End    bridge.Offset // the next to be written
}

// Ends returns the bounds of a partition, all zero where there is none.
func (b *Broker) Ends(partition int32) Ends {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.log(partition); l != nil {
		return Ends{l.first, l.stable(), l.end}
	}
	return Ends{}
}

package sourcetest

import (
	"bytes"
	"maps"
	"slices"

	"github.com/ssebridge/ssebridge/bridge"
)

// log is one partition in one life of the stream. Its broker's lock guards it.
type log struct {
	kind       Kind
	first, end bridge.Offset // the oldest offset, and the next to be written
	entries    []*entry      // in offset order; offsets without one are holes
	epochs     []epoch       // Kafka: leader epochs that wrote something, and the present one
	open       map[*Txn]bridge.Offset
	fork       *log // the log before the last rollback
}

// epoch is the reign of one leader, over offsets from start on.
type epoch struct {
	number int64
	start  bridge.Offset
}

// entry is one record that was ever written.
type entry struct {
	rec         bridge.Record
	serial      int
	incarnation bridge.Incarnation
	txn         *Txn // nil: outside of any
	control     bool // a transaction marker
	fate        Fate
}

// hidden reports that clients are never shown the record.
func (e *entry) hidden() bool { return e.control || e.txn != nil && e.txn.aborted }

// show returns the record as sources show it, sharing no bytes with it. An
// aborted record keeps its place but not what it said.
func (e *entry) show() bridge.Record {
	r := e.rec
	if e.hidden() {
		return bridge.Record{Partition: r.Partition, Offset: r.Offset, Proof: r.Proof, Origin: r.Origin, Time: r.Time, Kind: bridge.Hidden}
	}
	r.Key, r.Data = bytes.Clone(r.Key), bytes.Clone(r.Data)
	r.Headers = cloneHeaders(r.Headers)
	return r
}

func newLog(kind Kind) *log {
	if kind == JetStreamLike {
		return &log{kind: kind, first: 1, end: 1}
	}
	return &log{kind: kind, epochs: []epoch{{}}, open: map[*Txn]bridge.Offset{}}
}

// base is the offset of the first record that the log ever had.
func (l *log) base() bridge.Offset {
	if l.kind == JetStreamLike {
		return 1
	}
	return 0
}

// search returns the index of the first entry at or after offset.
func (l *log) search(offset bridge.Offset) int {
	i, _ := slices.BinarySearchFunc(l.entries, offset, func(e *entry, o bridge.Offset) int {
		return int(e.rec.Offset - o)
	})
	return i
}

// at returns the entry at exactly this offset, nil where there is a hole.
func (l *log) at(offset bridge.Offset) *entry {
	if i := l.search(offset); i < len(l.entries) && l.entries[i].rec.Offset == offset {
		return l.entries[i]
	}
	return nil
}

// next returns the offset of the first record at or after offset that sources
// show, or else the end of what can be read.
func (l *log) next(offset bridge.Offset) bridge.Offset {
	stable := l.stable()
	for _, e := range l.entries[l.search(offset):] {
		if !e.control {
			return min(e.rec.Offset, stable)
		}
	}
	return stable
}

// stable is the offset below which everything is decided and readable.
func (l *log) stable() bridge.Offset {
	stable := l.end
	for _, first := range l.open {
		stable = min(stable, first)
	}
	return stable
}

func (l *log) append(e *entry) {
	e.rec.Offset = l.end
	if l.kind == JetStreamLike {
		e.rec.Proof = bridge.ProofOf(e.rec.Time.UnixMilli())
	} else {
		e.rec.Proof = bridge.ProofOf(l.leader())
	}
	l.entries = append(l.entries, e)
	l.end++
}

func (l *log) delete(offset bridge.Offset) bool {
	e := l.at(offset)
	if e == nil || l.kind == KafkaLike && offset == l.end-1 {
		return false
	}
	e.fate = Deleted
	i := l.search(offset)
	l.entries = slices.Delete(l.entries, i, i+1)
	l.skipHoles()
	return true
}

func (l *log) trim(to bridge.Offset) bool {
	if to = min(to, l.stable()); to <= l.first {
		return false
	}
	i := l.search(to)
	for _, e := range l.entries[:i] {
		e.fate = Trimmed
	}
	l.entries = slices.Clone(l.entries[i:])
	l.first = to
	l.skipHoles()
	return true
}

// skipHoles keeps JetStream's rule that a stream begins with a record.
func (l *log) skipHoles() {
	if l.kind != JetStreamLike {
		return
	}
	l.first = l.end
	if len(l.entries) > 0 {
		l.first = l.entries[0].rec.Offset
	}
}

// rollback loses [to, end) and remembers it for revert.
func (l *log) rollback(to bridge.Offset) {
	fork := *l
	fork.entries, fork.epochs, fork.open = slices.Clone(l.entries), slices.Clone(l.epochs), maps.Clone(l.open)
	fork.fork = nil // only the last rollback can be undone
	l.fork = &fork
	i := l.search(to)
	for _, e := range l.entries[i:] {
		e.fate = RolledBack
	}
	l.entries = slices.Clone(l.entries[:i])
	l.end = to
	maps.DeleteFunc(l.open, func(_ *Txn, first bridge.Offset) bool { return first >= to && first != noRecord })
	l.newEpoch(to)
}

// revert returns the log before the last rollback, under a leader newer than
// any. What retention or compaction took meanwhile stays gone.
func (l *log) revert() *log {
	old := l.fork
	for _, e := range l.entries {
		if e.fate == Held {
			e.fate = RolledBack
		}
	}
	old.first = min(max(old.first, l.first), old.end)
	old.entries = slices.DeleteFunc(old.entries, func(e *entry) bool {
		if e.fate == RolledBack {
			e.fate = Held
		}
		if e.fate == Held && e.rec.Offset < old.first {
			e.fate = Trimmed
		}
		return e.fate != Held
	})
	maps.DeleteFunc(old.open, func(x *Txn, _ bridge.Offset) bool { return x.ended })
	old.epochs = append(old.epochs, epoch{l.leader(), old.end}) // the number that newEpoch counts from
	old.newEpoch(old.end)
	return old
}

// leader is the present leader epoch.
func (l *log) leader() int64 { return l.epochs[len(l.epochs)-1].number }

// newEpoch begins a leader epoch at an offset. Epochs that wrote nothing below
// it leave no trace, as on a leader that took over from another.
func (l *log) newEpoch(start bridge.Offset) {
	if l.kind != KafkaLike {
		return
	}
	number := l.leader() + 1
	l.epochs = slices.DeleteFunc(l.epochs, func(e epoch) bool { return e.start >= start })
	l.epochs = append(l.epochs, epoch{number, start})
}

// epochEnd answers as OffsetForLeaderEpoch (KIP-320): the largest epoch up to
// the one asked for and where it ended; for one newer than the present (-1, -1).
func (l *log) epochEnd(asked int64) (number int64, end bridge.Offset) {
	if asked > l.leader() {
		return -1, -1
	}
	number, end = asked, l.epochs[0].start // older than everything known
	for i, e := range l.epochs {
		if e.number > asked {
			break
		}
		number, end = e.number, l.end
		if i+1 < len(l.epochs) {
			end = l.epochs[i+1].start
		}
	}
	return number, max(end, l.first)
}

// anchor returns the place at offset with what the broker can prove of the
// record before it. JetStream proves by that very record, Kafka by the epoch
// that wrote the offset, which outlives compaction.
func (l *log) anchor(offset bridge.Offset) bridge.Place {
	place := bridge.Place{Offset: offset}
	if l.kind == JetStreamLike {
		if e := l.at(offset - 1); e != nil {
			place.Proof = e.rec.Proof
		}
		return place
	}
	if offset <= l.first || offset > l.end {
		return place
	}
	for _, e := range l.epochs {
		if e.start < offset {
			place.Proof = bridge.ProofOf(e.number)
		}
	}
	return place
}

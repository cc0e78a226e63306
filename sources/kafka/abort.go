package kafka

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
)

// markerAbort is the type of the control record that ends an aborted
// transaction; 1 ends a committed one.
const markerAbort = 0

// abortFilter tells the batches of aborted transactions from the others: a
// broker sends both, and names the transactions, whatever the isolation level.
//
// One filter is for one partition of one response. Each response lists all
// aborted transactions that overlap it, also those that began before it, so
// nothing is carried over to the next.
type abortFilter struct {
	ahead []abortedTxn       // not reached yet, by first offset
	open  map[int64]struct{} // producers that are inside an aborted transaction
}

func newAbortFilter(aborted []abortedTxn) abortFilter {
	if len(aborted) == 0 {
		return abortFilter{}
	}
	ahead := slices.Clone(aborted) // brokers do not sort it
	slices.SortFunc(ahead, func(a, b abortedTxn) int { return cmp.Compare(a.first, b.first) })
	return abortFilter{ahead: ahead, open: map[int64]struct{}{}}
}

// shows reports whether a batch holds records for readers. Every batch has to be
// shown to the filter, in the order of the log.
func (f *abortFilter) shows(b *batch) (bool, error) {
	for len(f.ahead) > 0 && f.ahead[0].first <= b.last() {
		f.open[f.ahead[0].producer] = struct{}{}
		f.ahead = f.ahead[1:]
	}
	if b.control() {
		if _, open := f.open[b.producer]; !open {
			return false, nil
		}
		kind, err := marker(b)
		if err == nil && kind == markerAbort {
			delete(f.open, b.producer)
		}
		return false, err
	}
	_, aborted := f.open[b.producer]
	return !aborted || !b.transactional(), nil
}

// marker reads the type of a control batch; -1 when compaction has emptied it.
func marker(b *batch) (int16, error) {
	kind := int16(-1)
	r := newRecordReader(b, recordLimit)
	defer r.close()
	for r.next() {
		if len(r.rec.key) < 4 { // version int16, type int16
			return -1, errors.New("control record without a type")
		}
		kind = int16(binary.BigEndian.Uint16(r.rec.key[2:]))
	}
	return kind, r.err
}

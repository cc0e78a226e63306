package sourcetest

import (
	"math"

	"github.com/ssebridge/ssebridge/bridge"
)

// noRecord is the first offset of a transaction that has written nothing.
const noRecord bridge.Offset = math.MaxInt64

// Txn is a transaction of a Kafka-like broker in one partition. Nothing at or
// above the first record of an open transaction is readable. Its methods do
// nothing once it has ended, or when the log lost all of it.
type Txn struct {
	b         *Broker
	partition int32
	aborted   bool
	ended     bool
}

// Begin opens a transaction. It reports false when the broker has none.
func (b *Broker) Begin(partition int32) (*Txn, bool) {
	x := &Txn{b: b, partition: partition}
	return x, b.changeLog(partition, func(l *log) bool {
		if l.kind != KafkaLike {
			return false
		}
		l.open[x] = noRecord
		return true
	})
}

// Append writes a record of the transaction. The message's partition is that of
// the transaction.
func (x *Txn) Append(m Message) bool {
	m.Partition = x.partition
	return x.b.changeLog(x.partition, func(l *log) bool {
		first, open := l.open[x]
		if !open {
			return false
		}
		l.open[x] = min(first, l.end)
		x.b.write(l, m, x, false)
		return true
	})
}

// Commit ends the transaction and makes its records readable. A transaction
// that wrote something ends with a marker in the log.
func (x *Txn) Commit() bool { return x.finish(false) }

// Abort ends the transaction as Commit does, but its records are never shown.
func (x *Txn) Abort() bool { return x.finish(true) }

func (x *Txn) finish(aborted bool) bool {
	return x.b.changeLog(x.partition, func(l *log) bool {
		first, open := l.open[x]
		if !open {
			return false
		}
		delete(l.open, x)
		x.aborted, x.ended = aborted, true
		if first != noRecord {
			x.b.write(l, Message{Partition: x.partition}, nil, true)
		}
		return true
	})
}

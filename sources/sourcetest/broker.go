package sourcetest

import (
	"bytes"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// Kind says after which broker a [Broker] is modelled.
type Kind uint8

// The kinds of brokers.
const (
	// JetStreamLike has one partition, counts from 1 and proves with the record's
	// time in milliseconds.
	JetStreamLike Kind = iota
	// KafkaLike has partitions that count from 0, leader epochs as proofs, and
	// transactions.
	KafkaLike
)

func (k Kind) String() string {
	if k == KafkaLike {
		return "kafka-like"
	}
	return "jetstream-like"
}

// Loss says what a place below the first record means to clients.
type Loss uint8

// The kinds of loss, by the limits of the stream.
const (
	LossRetention Loss = iota // a gap with reason retention
	LossLimits                // a gap with reason limits: some records may only be superseded
	LossNone                  // nothing: only superseded records ever leave, as in a bucket of keys
)

// BrokerOptions are the settings of a [Broker]. The zero value is a stream
// called "memory" on a JetStream-like broker.
type BrokerOptions struct {
	Name       string // the broker's own name of the stream, part of its incarnation; empty: "memory"
	Kind       Kind
	Partitions int              // of a Kafka-like broker, 0 means 1; JetStream always has one
	Loss       Loss             // what expiry means
	Subjects   []string         // the stream's own subjects, told by Spaced; nil: not told
	Now        func() time.Time // clock of records without a time; nil: time.Now
}

// Broker holds one stream, every record it ever had, and the sources on it. Its
// methods never block and may be called at once from anywhere. Operations that
// make no sense in the present state (an unknown partition, an offset that is
// not held) do nothing and say so in their result.
type Broker struct {
	o BrokerOptions

	mu      sync.Mutex
	life    *life // nil: the stream does not exist
	lives   int   // how many there have been
	down    bool
	reign   uint64        // number of the connection and leader: nothing is rewritten within one
	changed chan struct{} // closed, and replaced, by every change
	history []*entry      // all records ever written, in order
}

// life is a stream between its creation and its deletion.
type life struct {
	incarnation bridge.Incarnation
	logs        []*log
}

// NewBroker returns a broker that is up and has an empty stream.
func NewBroker(o BrokerOptions) *Broker {
	if o.Name == "" {
		o.Name = "memory"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Broker{o: o, reign: 1, changed: make(chan struct{})}
	b.create(o.Partitions)
	return b
}

// Kind returns the kind of broker this is.
func (b *Broker) Kind() Kind { return b.o.Kind }

// create begins a new life of the stream.
func (b *Broker) create(partitions int) {
	if b.o.Kind == JetStreamLike || partitions < 1 {
		partitions = 1
	}
	b.lives++
	b.life = &life{incarnation: incarnationOf(b.o.Name, b.lives)}
	for range partitions {
		b.life.logs = append(b.life.logs, newLog(b.o.Kind))
	}
}

// incarnationOf hashes what identifies a life; 0 is kept for "not known".
func incarnationOf(name string, number int) bridge.Incarnation {
	h := fnv.New32a()
	h.Write([]byte(name + "." + strconv.Itoa(number)))
	return bridge.Incarnation(max(h.Sum32(), 1))
}

// change runs f under the lock and, where f did something, wakes the sources.
func (b *Broker) change(f func() bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !f() {
		return false
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return true
}

// changeLog is change for one partition's log.
func (b *Broker) changeLog(partition int32, f func(l *log) bool) bool {
	return b.change(func() bool {
		l := b.log(partition)
		return l != nil && f(l)
	})
}

// log returns the log of a partition, nil if there is none.
func (b *Broker) log(partition int32) *log {
	if b.life == nil || partition < 0 || int(partition) >= len(b.life.logs) {
		return nil
	}
	return b.life.logs[partition]
}

// Message is what a producer sends.
type Message struct {
	Partition int32  // 0 on JetStream
	Subject   string // JetStream: the record's origin. Kafka's is the topic
	Key       []byte // Kafka only
	Headers   []bridge.Header
	Data      []byte
	Tombstone bool      // the record deletes what its subject or key named; Data is dropped
	Time      time.Time // zero: the broker's clock
}

// Append writes a record and returns it as sources show it. It reports false
// when there is no such partition. The message's bytes are copied.
//
// Without a time of its own a record gets the clock's, but at least a
// millisecond after the last record that the stream ever had: a clock that
// stands still must not make the proofs of two histories equal.
func (b *Broker) Append(m Message) (rec bridge.Record, ok bool) {
	ok = b.changeLog(m.Partition, func(l *log) bool {
		rec = b.write(l, m, nil, false).show()
		return true
	})
	return rec, ok
}

// write appends an entry to a log.
func (b *Broker) write(l *log, m Message, txn *Txn, control bool) *entry {
	at := m.Time
	if at.IsZero() {
		at = b.o.Now()
		if n := len(b.history); n > 0 {
			if least := b.history[n-1].rec.Time.Add(time.Millisecond); at.Before(least) {
				at = least
			}
		}
	}
	e := &entry{
		serial:      len(b.history) + 1,
		incarnation: b.life.incarnation,
		txn:         txn,
		control:     control,
		rec: bridge.Record{
			Partition: m.Partition,
			Origin:    m.Subject,
			Time:      at.Round(0).UTC(),
			Headers:   cloneHeaders(m.Headers),
			Data:      append([]byte{}, m.Data...),
		},
	}
	if b.o.Kind == KafkaLike {
		e.rec.Origin = b.o.Name
		e.rec.Key = bytes.Clone(m.Key)
		e.rec.Time = e.rec.Time.Truncate(time.Millisecond)
	}
	if m.Tombstone {
		e.rec.Kind, e.rec.Data = bridge.Delete, nil
	}
	l.append(e)
	b.history = append(b.history, e)
	return e
}

// Delete removes one record from the middle of a log, as compaction, a limit
// per subject or an operator does. A Kafka-like log keeps its newest record.
func (b *Broker) Delete(partition int32, offset bridge.Offset) bool {
	return b.changeLog(partition, func(l *log) bool { return l.delete(offset) })
}

// Trim lets retention take every record below to, at most up to the last stable
// offset.
func (b *Broker) Trim(partition int32, to bridge.Offset) bool {
	return b.changeLog(partition, func(l *log) bool { return l.trim(to) })
}

// Grow adds partitions until there are n. JetStream-like streams never grow.
func (b *Broker) Grow(n int) bool {
	return b.change(func() bool {
		if b.o.Kind != KafkaLike || b.life == nil || n <= len(b.life.logs) {
			return false
		}
		for len(b.life.logs) < n {
			b.life.logs = append(b.life.logs, newLog(b.o.Kind))
		}
		return true
	})
}

// NewEpoch moves a partition to another leader without loss.
func (b *Broker) NewEpoch(partition int32) bool {
	return b.changeLog(partition, func(l *log) bool {
		l.newEpoch(l.end)
		b.reign++
		return true
	})
}

// Rollback loses every record at or above to, at least the log's first: a crash
// before the disk was synced, or an unclean election. Offsets from to on will
// be given to other records, under a new leader epoch.
func (b *Broker) Rollback(partition int32, to bridge.Offset) bool {
	return b.changeLog(partition, func(l *log) bool {
		if to < l.first || to >= l.end {
			return false
		}
		l.rollback(to)
		b.reign++
		return true
	})
}

// Revert undoes the last Rollback of a Kafka-like partition, and everything
// written to it since: a second unclean election, which the replica wins that
// had missed the first. Two histories share offsets, and the leader knows only
// the epochs of its own.
func (b *Broker) Revert(partition int32) bool {
	return b.change(func() bool {
		l := b.log(partition)
		if l == nil || l.fork == nil || b.o.Kind != KafkaLike {
			return false
		}
		b.life.logs[partition] = l.revert()
		b.reign++
		return true
	})
}

// Recreate deletes the stream, if it exists, and makes it again, empty, with
// this many partitions and another incarnation.
func (b *Broker) Recreate(partitions int) {
	b.change(func() bool {
		b.end()
		b.create(partitions)
		return true
	})
}

// Restore deletes a JetStream-like stream and makes it again from a backup of
// this moment: the same records in another incarnation. Kafka has no such thing.
func (b *Broker) Restore() bool {
	return b.change(func() bool {
		if b.o.Kind != JetStreamLike || b.life == nil {
			return false
		}
		l := b.life.logs[0]
		b.reign++
		b.create(1)
		b.life.logs[0] = l
		return true
	})
}

// Remove deletes the stream. Sources answer [bridge.ErrMissing] until Recreate.
func (b *Broker) Remove() {
	b.change(func() bool {
		b.end()
		return true
	})
}

// end ends the life of the stream.
func (b *Broker) end() {
	b.reign++
	if b.life == nil {
		return
	}
	for _, l := range b.life.logs {
		for _, e := range l.entries {
			e.fate = Removed
		}
	}
	b.life = nil
}

// Down makes the broker unreachable for its sources: they answer
// [bridge.ErrUnavailable]. The operations of Broker itself go on working.
func (b *Broker) Down() {
	b.change(func() bool {
		b.down = true
		return true
	})
}

// Up ends Down. Sources find themselves on a new connection.
func (b *Broker) Up() {
	b.change(func() bool {
		if b.down {
			b.reign++
		}
		b.down = false
		return true
	})
}

// cloneHeaders returns headers that share no bytes with hs.
func cloneHeaders(hs []bridge.Header) []bridge.Header {
	hs = slices.Clone(hs)
	for i := range hs {
		hs[i].Value = bytes.Clone(hs[i].Value)
	}
	return hs
}

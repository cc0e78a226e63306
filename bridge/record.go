package bridge

import (
	"slices"
	"time"
)

// RecordKind tells an ordinary record from those that are shown differently.
type RecordKind uint8

const (
	// Data is an ordinary record.
	Data RecordKind = iota
	// Delete is a tombstone: a Kafka null value, a JetStream KV delete or TTL
	// marker. Clients get a delete event with subject and key.
	Delete
	// Oversized is a record over the size limit, whose Data was dropped. Clients
	// whose filter it matches get a gap with reason oversized.
	Oversized
	// Hidden only moves the position: nobody is shown it.
	Hidden
)

// Header is one header of a record, as the broker keeps it.
type Header struct {
	Key   string
	Value []byte
}

// Record is one upstream message with its metadata. A source fills in all
// fields but Subject, Name and Trace, which the [Stream] derives.
type Record struct {
	Partition int32
	Offset    Offset
	Proof     Proof  // of this record: what a place at Offset+1 carries
	Origin    string // the broker's own address of it: NATS subject or Kafka topic
	Subject   string // public subject
	Name      string // event name; empty means the default, message
	Time      time.Time
	Key       []byte // nil means none; differs from empty
	Headers   []Header
	Data      []byte
	Kind      RecordKind

	Trace *RecordTrace // set by the [Stream]; nil unless the producer was sampled
	shown bool         // some group is shown it; noted for traced records only
}

// Header returns the value of the last header called key, and whether there is one.
func (r *Record) Header(key string) ([]byte, bool) {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == key {
			return h.Value, true
		}
	}
	return nil, false
}

// Next returns the place right behind the record.
func (r *Record) Next() Place { return Place{r.Offset + 1, r.Proof} }

// RecordOverheadBytes is what a Record costs besides the bytes it refers to.
const RecordOverheadBytes = 192

// MemoryBytes estimates the memory that keeping the record costs.
func (r *Record) MemoryBytes() int {
	n := RecordOverheadBytes
	for _, size := range [...]int{len(r.Origin), len(r.Subject), len(r.Name), len(r.Key), len(r.Data)} {
		n += int(allocated(size))
	}
	if r.Trace != nil {
		n += traceBytes
	}
	for i := range r.Headers {
		n += 40 + int(allocated(len(r.Headers[i].Key))+allocated(len(r.Headers[i].Value)))
	}
	return n
}

package kafka

import (
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// shown makes the record that readers see. Its bytes are r's.
func (s *Source) shown(partition int32, epoch int32, r *record) bridge.Record {
	rec := bridge.Record{
		Partition: partition,
		Offset:    bridge.Offset(r.offset),
		Proof:     proofOf(epoch),
		Origin:    s.opt.Topic,
		Time:      time.UnixMilli(r.time).UTC(),
		Key:       r.key,
		Headers:   r.headers,
		Data:      r.value,
	}
	switch {
	case r.oversized:
		rec.Kind = bridge.Oversized
	case r.value == nil: // a null value deletes what the key names; an empty one is a value
		rec.Kind = bridge.Delete
	}
	return rec
}

// own gives records bytes of their own, all in one piece, so that a few records
// do not keep a whole response in memory.
func own(records []bridge.Record) {
	size, headers := 0, 0
	for i := range records {
		r := &records[i]
		size += len(r.Key) + len(r.Data)
		headers += len(r.Headers)
		for j := range r.Headers {
			size += len(r.Headers[j].Value)
		}
	}
	bytes, heads := make([]byte, 0, size), make([]bridge.Header, 0, headers)
	clone := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		from := len(bytes)
		bytes = append(bytes, b...)
		return bytes[from:len(bytes):len(bytes)]
	}
	for i := range records {
		r := &records[i]
		r.Key, r.Data = clone(r.Key), clone(r.Data)
		if r.Headers == nil {
			continue
		}
		from := len(heads)
		for _, h := range r.Headers {
			heads = append(heads, bridge.Header{Key: h.Key, Value: clone(h.Value)})
		}
		r.Headers = heads[from:len(heads):len(heads)]
	}
}

package nats

import (
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/bridge"
)

// Headers with a meaning, from nats-server/server/stream.go and ADR-8 (KV),
// ADR-43 (time to live), ADR-51 (schedules).
const (
	headerStream     = "Nats-Stream"
	headerSubject    = "Nats-Subject"
	headerSequence   = "Nats-Sequence"
	headerTimeStamp  = "Nats-Time-Stamp"
	headerNumPending = "Nats-Num-Pending"
	headerLastSeq    = "Nats-Last-Sequence"

	headerKV       = "KV-Operation"       // DEL or PURGE: the key was deleted
	headerMarker   = "Nats-Marker-Reason" // the subject's last record expired or was removed
	headerSchedule = "Nats-Schedule"      // not a record but an order to make one later
)

// added are the headers that direct get appends to the record's own.
var added = [...]string{headerStream, headerSubject, headerSequence, headerTimeStamp, headerNumPending, headerLastSeq}

// record makes a record of what one of the three ways of reading brought. All
// three give equal records: header holds the headers as they were published.
func (s *Source) record(o bridge.Offset, at time.Time, subject string, header natsgo.Header, data []byte) bridge.Record {
	r := bridge.Record{
		Offset: o, Proof: proofOf(at), Origin: subject, Time: at.UTC(), Key: kvKey(s.opt.Stream, subject), Headers: headersOf(header), Data: data,
	}
	switch {
	case len(header) == 0:
	case len(header[headerSchedule]) > 0:
		r.Kind = bridge.Hidden
	case len(header[headerMarker]) > 0 || lastValue(header, headerKV) == "DEL" || lastValue(header, headerKV) == "PURGE":
		r.Kind = bridge.Delete
	}
	return r
}

// kvKey returns the key of a record of a KV bucket: KV_<bucket> keeps key k
// under $KV.<bucket>.k, or under another bucket's name if it is a mirror.
func kvKey(stream, subject string) []byte {
	if !strings.HasPrefix(stream, "KV_") {
		return nil
	}
	rest, ok := strings.CutPrefix(subject, "$KV.")
	if !ok {
		return nil
	}
	_, key, ok := strings.Cut(rest, ".")
	if !ok {
		return nil
	}
	return []byte(key)
}

// headersOf lists headers by name; values of one name keep their order.
func headersOf(header natsgo.Header) []bridge.Header {
	if len(header) == 0 {
		return nil
	}
	list := make([]bridge.Header, 0, len(header))
	for key, values := range header {
		for _, v := range values {
			list = append(list, bridge.Header{Key: key, Value: []byte(v)})
		}
	}
	slices.SortStableFunc(list, func(a, b bridge.Header) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// lastValue returns the last value of a header: the server appends its own to
// those that were published, so only the last one can be trusted.
func lastValue(header natsgo.Header, key string) string {
	values := header[key]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// stripAdded removes what direct get appended, and nothing that was published.
func stripAdded(header natsgo.Header) {
	for _, key := range added {
		if values := header[key]; len(values) > 1 {
			header[key] = values[:len(values)-1]
		} else {
			delete(header, key)
		}
	}
}

// delivered makes the record of a message that a consumer delivered.
func (s *Source) delivered(m *natsgo.Msg, d delivery) bridge.Record {
	return s.record(d.offset, time.Unix(0, d.nanos), m.Subject, m.Header, m.Data)
}

// stored makes the record of what the leader answered. Headers that cannot be
// parsed are left out, as the library does with a delivered record's.
func (s *Source) stored(m *storedMessage) bridge.Record {
	var header natsgo.Header
	if len(m.Header) > 0 {
		if h, err := natsgo.DecodeHeadersMsg(m.Header); err == nil {
			header = h
		}
	}
	return s.record(bridge.Offset(m.Seq), m.Time, m.Subject, header, m.Data)
}

package nats

import (
	"testing"

	natsgo "github.com/nats-io/nats.go"
)

// A reader that believes records are on their way asks for no more, and stands
// still until the consumer's silence gives it away. One that forgets what it
// asked for fills the memory.
func TestPullerAsksForWhatIsUsedUp(t *testing.T) {
	control := func(status, text, records, bytes string) func(*puller) error {
		return func(p *puller) error {
			return p.control(&natsgo.Msg{Header: natsgo.Header{
				"Status": {status}, "Description": {text}, "Nats-Pending-Messages": {records}, "Nats-Pending-Bytes": {bytes},
			}})
		}
	}
	used := func(records, bytes int) func(*puller) error {
		return func(p *puller) error {
			p.records -= records
			p.bytes -= bytes
			return nil
		}
	}
	for _, c := range []struct {
		name           string
		happens        func(*puller) error // to a puller that has just asked for everything
		records, bytes int                 // asked for next, 0 for nothing
	}{
		{"a few records", used(10, 1000), 0, 0},
		{"half of the records", used(pullRecords/2, 1000), pullRecords / 2, 1000},
		{"half of the bytes", used(10, pullBytes/2), 10, pullBytes / 2},
		{"all bytes, to the last one", used(10, pullBytes), pullRecords, pullBytes},
		{"more bytes than all", used(10, pullBytes+1), pullRecords, pullBytes},
		{"the pull timed out", control("408", "Request Timeout", "2000", "4194304"), pullRecords, pullBytes},
		{"the pull is complete", control("409", "Batch Completed", "0", "4194304"), pullRecords, pullBytes},
		{"the next record is too large", control("409", "Message Size Exceeds MaxBytes", "2000", "4194304"), 1, 0},
		{"nobody listens", control("503", "", "", ""), pullRecords, pullBytes},
	} {
		p := new(puller)
		if q, ok := p.next(); !ok || q.Batch != pullRecords || q.MaxBytes != pullBytes {
			t.Fatalf("first asks for %+v", q)
		}
		if err := c.happens(p); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		q, ok := p.next()
		if ok != (c.records > 0) || ok && (q.Batch != c.records || q.MaxBytes != c.bytes) {
			t.Errorf("%s: asks for %d records and %d bytes (%v), want %d and %d", c.name, q.Batch, q.MaxBytes, ok, c.records, c.bytes)
		}
		if p.records > pullRecords || p.bytes > pullBytes {
			t.Errorf("%s: %d records and %d bytes are on their way, over the bound", c.name, p.records, p.bytes)
		}
	}
}

// Whatever else a consumer says, it is over.
func TestPullerGivesUpConsumersThatEnded(t *testing.T) {
	for _, h := range []natsgo.Header{
		{"Status": {"409"}, "Description": {"Consumer Deleted"}},
		{"Status": {"409"}, "Description": {"Leadership Change"}},
		{"Status": {"409"}, "Description": {"Server Shutdown"}, "Nats-Pending-Messages": {"5"}, "Nats-Pending-Bytes": {"5"}},
		{"Status": {"400"}, "Description": {"Bad Request"}},
		{"Status": {"100"}, "Nats-Last-Consumer": {"8"}}, // of which 7 arrived
		nil,
	} {
		if err := (&puller{seq: 7}).control(&natsgo.Msg{Header: h}); err == nil {
			t.Errorf("%v is passed over", h)
		}
	}
	if err := (&puller{seq: 7}).control(&natsgo.Msg{Header: natsgo.Header{"Status": {"100"}, "Nats-Last-Consumer": {"7"}}}); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
}

package nats

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/bridge"
)

// What the live reader asks for at a time. Both bound the records that wait in
// memory; half of either is asked for again when it is used up.
const (
	pullRecords   = 2000
	pullBytes     = 4 << 20
	pullExpires   = 30 * time.Second
	pullHeartbeat = 2 * time.Second
	// silence is how long a consumer may say nothing before it is taken for gone:
	// two heartbeats, and one second for a busy machine.
	silence = 2*pullHeartbeat + time.Second
	// noResponderTries is how often a pull is put again when nobody listens: the
	// interest of a consumer that was just made may not have spread yet.
	noResponderTries = 5
)

// pullQuestion asks a consumer for records (ADR-42, CONSUMER.MSG.NEXT).
type pullQuestion struct {
	Batch     int           `json:"batch"`
	MaxBytes  int           `json:"max_bytes,omitempty"`
	Expires   time.Duration `json:"expires,omitempty"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
	NoWait    bool          `json:"no_wait,omitempty"`
}

// puller keeps a consumer delivering: it counts what was asked for and has not
// come, and asks for more. It is used by one goroutine.
type puller struct {
	nc       *natsgo.Conn
	inbox    *inbox
	subject  string // of the consumer's pulls
	seq      uint64 // of the last record delivered, in the consumer's count
	records  int    // asked for and not come
	bytes    int
	heard    bool // the consumer has delivered a record or a heartbeat
	tooLarge bool // the next record is larger than a whole pull
	orphaned int  // pulls in a row that nobody heard
}

// deliver takes note of a record. An error means that records are missing.
func (p *puller) deliver(m *natsgo.Msg, d delivery) error {
	if d.consumerSeq != p.seq+1 {
		return fmt.Errorf("the consumer delivered its record %d after %d: %w", d.consumerSeq, p.seq, bridge.ErrUnavailable)
	}
	p.seq, p.heard = d.consumerSeq, true
	p.records--
	p.bytes -= m.Size()
	p.orphaned = 0
	return nil
}

// control takes note of a message that is no record. An error means that the
// consumer is of no more use.
func (p *puller) control(m *natsgo.Msg) error {
	status, text := lastValue(m.Header, "Status"), lastValue(m.Header, "Description")
	switch status {
	case "100": // idle heartbeat: nothing was sent after record Nats-Last-Consumer
		p.heard = true
		last, err := strconv.ParseUint(lastValue(m.Header, "Nats-Last-Consumer"), 10, 64)
		if err == nil && last > p.seq {
			return fmt.Errorf("the consumer has delivered its record %d, and %d arrived last: %w", last, p.seq, bridge.ErrUnavailable)
		}
		return nil
	case "408", "409": // a pull has ended, or the consumer has
		records, err := strconv.Atoi(lastValue(m.Header, "Nats-Pending-Messages"))
		if err != nil || text == "Server Shutdown" {
			break
		}
		bytes, _ := strconv.Atoi(lastValue(m.Header, "Nats-Pending-Bytes"))
		p.records -= records
		p.bytes -= bytes
		p.tooLarge = p.tooLarge || text == "Message Size Exceeds MaxBytes"
		return nil
	case "503":
		if p.orphaned++; p.orphaned < noResponderTries {
			p.records, p.bytes = 0, 0
			return nil
		}
	}
	return fmt.Errorf("the consumer ended: %s %s: %w", status, text, bridge.ErrUnavailable)
}

// refill asks for more when half is used up.
func (p *puller) refill() error {
	q, ok := p.next()
	if !ok {
		return nil
	}
	return p.ask(q)
}

// next is what to ask for now; ok is false when enough is asked for already.
func (p *puller) next() (q pullQuestion, ok bool) {
	if p.bytes <= 0 { // a pull whose bytes are used up ends, whatever it lacks in records
		p.records, p.bytes = 0, 0
	}
	p.records = max(p.records, 0)
	q = pullQuestion{Expires: pullExpires, Heartbeat: pullHeartbeat}
	switch {
	case p.tooLarge && p.records == 0:
		// One record, whatever its size. It is not counted in bytes.
		q.Batch, p.tooLarge = 1, false
	case p.records <= pullRecords/2 || p.bytes <= pullBytes/2:
		q.Batch, q.MaxBytes = pullRecords-p.records, pullBytes-p.bytes
		if q.Batch <= 0 || q.MaxBytes <= 0 {
			return q, false
		}
	default:
		return q, false
	}
	p.records += q.Batch
	p.bytes += q.MaxBytes
	return q, true
}

func (p *puller) ask(q pullQuestion) error {
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if err := p.nc.PublishRequest(p.subject, p.inbox.subject, body); err != nil {
		return fmt.Errorf("pull: %w: %w", err, bridge.ErrUnavailable)
	}
	return nil
}

package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/bridge"
)

// What replay asks for at a time: a batch is read inside the server's read loop
// of our connection, so a large one would hold up everything else on it.
const (
	batchRecords = 1024
	batchBytes   = 4 << 20
)

// errNoDirect reports that direct get is of no use on this connection: it is
// denied, or answered by a server that knows no batches.
var errNoDirect = errors.New("direct get does not work here")

// errForeign reports an answer that does not come from our stream or cannot be
// trusted: from a mirror, which may hold less, from nobody, or with records
// missing. Another try may go to another server.
var errForeign = errors.New("direct get was answered by another stream, or not completely")

// batch is what one read brought.
type batch struct {
	records []bridge.Record
	// tail: whoever answered has nothing after the last of the records. It may be
	// a replica that lags behind.
	tail bool
}

// directQuestion asks DIRECT.GET for a batch (ADR-31; nats-server 2.11).
type directQuestion struct {
	Seq      uint64 `json:"seq"`
	Batch    int    `json:"batch"`
	MaxBytes int    `json:"max_bytes"`
}

// direct reads a batch by direct get: from any server that holds the stream, in
// one question. Replies are checked one by one, because they come without flow
// control, from whoever answers first.
func (s *Source) direct(ctx context.Context, from bridge.Offset, records, bytes int) (got batch, err error) {
	ctx, span := s.cold.link.startSpan(ctx, "DIRECT.GET")
	defer func() { bridge.EndSpan(span, err) }()
	nc, err := s.cold.link.conn()
	if err != nil {
		return batch{}, err
	}
	in, err := openInbox(nc)
	if err != nil {
		return batch{}, err
	}
	defer in.close()
	s.stats.batches.Add(1)
	subject := s.directSubject
	ctx, deny := context.WithCancelCause(ctx)
	defer deny(nil)
	defer s.cold.link.denials.wait(subject, deny)()
	body, err := json.Marshal(directQuestion{uint64(from), records, bytes})
	if err != nil {
		return batch{}, fmt.Errorf("ask %s: %w", subject, err)
	}
	if err := nc.PublishRequest(subject, in.subject, body); err != nil {
		return batch{}, fmt.Errorf("ask %s: %w: %w", subject, err, bridge.ErrUnavailable)
	}
	d := directReader{source: s, from: from}
	quiet := time.NewTimer(requestTimeout)
	defer quiet.Stop()
	var spare []*natsgo.Msg
	for {
		select {
		case <-ctx.Done():
			err := context.Cause(ctx)
			if _, denied := errors.AsType[*PermissionError](err); denied {
				return batch{}, fmt.Errorf("%w: %w", errNoDirect, err)
			}
			return batch{}, err
		case <-quiet.C:
			return batch{}, fmt.Errorf("ask %s: no answer within %s: %w", subject, requestTimeout, bridge.ErrUnavailable)
		case <-in.arrived:
			quiet.Reset(requestTimeout)
		}
		spare = in.take(spare)
		for _, m := range spare {
			done, err := d.take(m)
			if err != nil {
				return batch{}, err
			}
			if done {
				return d.got, nil
			}
		}
	}
}

// directReader puts the replies of one batch together.
type directReader struct {
	source *Source
	from   bridge.Offset
	last   uint64 // sequence of the last reply
	got    batch
}

// take reads one reply. done means that it was the last.
func (d *directReader) take(m *natsgo.Msg) (done bool, err error) {
	if m.Header == nil { // of a record whose headers the library cannot parse
		return false, errForeign
	}
	text := lastValue(m.Header, headerSequence)
	if text == "" { // a record always has one, whatever other headers it carries
		return d.control(m.Header)
	}
	if lastValue(m.Header, headerNumPending) == "" {
		return false, fmt.Errorf("%w: the server knows no batches (before 2.11)", errNoDirect)
	}
	seq, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return false, errForeign
	}
	before, err := strconv.ParseUint(lastValue(m.Header, headerLastSeq), 10, 63)
	if err != nil || before != d.last || seq <= d.last || bridge.Offset(seq) < d.from || lastValue(m.Header, headerStream) != d.source.opt.Stream {
		return false, errForeign
	}
	at, err := time.Parse(time.RFC3339Nano, lastValue(m.Header, headerTimeStamp))
	if err != nil {
		return false, errForeign
	}
	d.last = seq
	subject := lastValue(m.Header, headerSubject)
	stripAdded(m.Header)
	d.got.records = append(d.got.records, d.source.record(bridge.Offset(seq), at, subject, m.Header, m.Data))
	return false, nil
}

// control reads a reply that is no record.
func (d *directReader) control(h natsgo.Header) (done bool, err error) {
	switch lastValue(h, "Status") {
	case "204": // end of the batch
		last, err := strconv.ParseUint(lastValue(h, headerLastSeq), 10, 63)
		if err != nil || last != d.last {
			return false, errForeign
		}
		d.got.tail = lastValue(h, headerNumPending) == "0"
		return true, nil
	case "404": // nothing at or after the offset
		d.got.tail = true
		return true, nil
	case "503": // nobody listens
		return false, errForeign
	}
	return false, fmt.Errorf("%w: %s %s", errNoDirect, lastValue(h, "Status"), lastValue(h, "Description"))
}

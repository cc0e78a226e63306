package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/ssebridge/ssebridge/bridge"
)

// headWait is how long the head of a response waits for its first block. They
// leave in one write then, as a head that a proxy cuts in two ends a browser's
// EventSource for good.
const headWait = time.Second

// pieceBytes is how much is written under one deadline. It bounds how slow a
// client may be without being cut: this much in every write timeout.
const pieceBytes = 16 << 10

// errHeadWait is the cause of a first wait that took too long.
var errHeadWait = errors.New("first block takes long")

// errClientGone reports a client that takes no more bytes.
var errClientGone = errors.New("client takes no more bytes")

// follow writes what f returns to out until either ends, or ctx does, and
// returns the reason. Last blocks that come with an error are written only if
// the response has begun, because until then a status can say it.
//
// seat is asked before each wait; when it returns true, the sweeper has the
// client, and follow returns errTaken. nil: it never does.
func follow(ctx context.Context, f Follower, out *response, seat func() bool) error {
	first, stop := ctx, func() {}
	if !out.begun {
		first, stop = context.WithTimeoutCause(ctx, headWait, errHeadWait)
	}
	batch, err := f.Next(first)
	stop()
	if errors.Is(err, errHeadWait) {
		if err := out.say(nil); err != nil {
			return err
		}
		batch, err = f.Next(ctx)
	}
	level, _ := f.(sharer)
	for {
		if level != nil {
			out.enter(level.Group())
		}
		if len(batch.Units) > 0 && (err == nil || out.begun) {
			id, err := out.deliver(batch)
			if err != nil {
				return err
			}
			if level != nil && id != batch.ID {
				level.Told(id)
			}
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if seat != nil && seat() {
			return errTaken
		}
		batch, err = f.Next(ctx)
	}
}

// countEvents counts the units that are no heartbeats.
func countEvents(units [][]byte) (n uint64) {
	for _, unit := range units {
		if len(unit) > 0 && unit[0] != ':' {
			n++
		}
	}
	return n
}

// response writes an event stream: through an http.ResponseWriter, or by hand over
// a connection that was taken over. All methods but abort are for whoever serves
// the client; the counters may be read by anybody.
type response struct {
	bytes, events atomic.Uint64 // written: bytes of blocks, and blocks that are no heartbeats
	metrics       *metrics      // of all responses

	w       http.ResponseWriter // nil once the connection is taken over
	take    func() bool         // whether it may be, asked when the response begins; nil: it may not
	head    []byte              // of such a connection, until it has been written
	timeout time.Duration
	shared  bool  // the connection carries other responses too (HTTP/2)
	body    *body // its content coding; nil: none
	begun   bool  // the head is written, though it may not have left

	request trace.Span // of the request; it ends when the head has left, and then only has its context
	since   time.Time  // when the request came

	mu      sync.Mutex
	control *http.ResponseController // whose deadlines mu guards; nil once the connection is taken over
	conn    net.Conn                 // that was taken over, likewise
	socket  syscall.RawConn          // of conn; nil: it cannot be sent to without waiting
	ended   bool                     // aborted, or finished: no deadline is set any more
}

// begin writes the head, once.
func (o *response) begin() {
	if o.begun {
		return
	}
	o.begun = true
	header := o.w.Header()
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	header.Set("Cache-Control", "no-cache, no-transform")
	header.Set("X-Accel-Buffering", "no") // nginx holds back the whole stream without it
	if o.body != nil {
		header.Set("Content-Encoding", string(o.body.coding))
	}
	if o.take != nil && o.take() {
		return
	}
	putFirst(header, "Content-Type")
	o.w.WriteHeader(http.StatusOK)
}

// putFirst makes net/http write the field called name before all others, so that
// a head that is cut in two has the rest of its type in front of the cut as often
// as can be: browsers give up for good on any type but text/event-stream.
//
// net/http sorts fields by name, capitals first, and capitals mean nothing in a
// name (RFC 9110, section 5.1): those that would come earlier go in small letters.
// Connection is left alone, as net/http looks for it.
func putFirst(header http.Header, name string) {
	for key, values := range header {
		if key < name && key != "Connection" {
			delete(header, key)
			header[strings.ToLower(key)] = values
		}
	}
}

// deliver writes a batch, and counts and traces that. id is as payload returns it.
func (o *response) deliver(b bridge.Batch) (id string, err error) {
	began := time.Now()
	p, id := o.payload(&b, began)
	if err := o.write(p); err != nil {
		return "", err
	}
	o.delivered(b, began)
	return id, nil
}

// enter notes in which group the client is level.
func (o *response) enter(group *bridge.Group) {
	if o.body != nil && group != nil {
		o.body.enter(group)
	}
}

// payload returns what the client is to be written for a batch, and takes its
// content behind it. id is that of a sign of life, see [body.next].
func (o *response) payload(b *bridge.Batch, now time.Time) (p payload, id string) {
	if o.body == nil {
		return payload{blocks: b.Units}, b.ID
	}
	if id, ok := o.body.next(b, now, &p); ok {
		return p, id
	}
	return o.body.alone(b.Units), b.ID
}

// delivered counts and traces a batch that was written, from began to now.
func (o *response) delivered(b bridge.Batch, began time.Time) (ended time.Time) {
	ended = time.Now()
	o.events.Add(countEvents(b.Units))
	o.metrics.wrote(b, began, ended)
	o.trace(&b, began, ended)
	return ended
}

// trace traces a batch that was written.
func (o *response) trace(b *bridge.Batch, began, ended time.Time) {
	for _, t := range b.Traces {
		t.Delivered(bridge.RequestTrace{Span: o.request.SpanContext(), Began: o.since}, began, ended)
	}
}

// count counts bytes of blocks that were written.
func (o *response) count(bytes int) {
	o.bytes.Add(uint64(bytes))
	o.metrics.bytes.Add(int64(bytes))
}

// say sends blocks to this client alone, as write does.
func (o *response) say(units [][]byte) error { return o.write(o.body.alone(units)) }

// write sends something, and the head before it, to the client. It fails when the
// client takes nothing for the timeout.
func (o *response) write(p payload) error {
	o.begin()
	if err := o.writeBegun(p); err != nil {
		return err
	}
	if o.request.IsRecording() {
		endRequest(o.request, http.StatusOK)
		// Its name lives on, for links, and what it recorded need not.
		o.request = trace.SpanFromContext(trace.ContextWithSpanContext(context.Background(), o.request.SpanContext()))
	}
	return nil
}

func (o *response) writeBegun(p payload) error {
	if o.conn != nil {
		return o.writeTaken(p, 0)
	}
	if err := o.extend(); err != nil {
		return err
	}
	written := 0
	var part, room []byte
	for i := range p.parts() {
		part, room = p.part(i, room)
		for len(part) > 0 {
			if written >= pieceBytes {
				written = 0
				if err := o.extend(); err != nil {
					return err
				}
			}
			n, err := o.w.Write(part[:min(len(part), pieceBytes-written)])
			o.count(n)
			if err != nil {
				return fmt.Errorf("%w: %w", errClientGone, err)
			}
			part, written = part[n:], written+n
		}
	}
	if err := o.control.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	if o.shared {
		// An HTTP/2 stream is reset when its deadline passes, whether or not there
		// is something to write.
		return o.setDeadline(time.Time{})
	}
	return nil
}

// extend gives the client the whole timeout again.
func (o *response) extend() error { return o.setDeadline(time.Now().Add(o.timeout)) }

func (o *response) setDeadline(t time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return errClientGone
	}
	if o.conn != nil {
		if err := o.conn.SetWriteDeadline(t); err != nil {
			return fmt.Errorf("%w: %w", errClientGone, err)
		}
		return nil
	}
	if err := o.control.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}

// abort makes writes fail, one that is under way too. It may be called at any
// time and from any goroutine.
func (o *response) abort() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	o.ended = true
	if o.conn != nil {
		_ = o.conn.Close()
		return
	}
	_ = o.control.SetWriteDeadline(time.Unix(1, 0))
}

// finish ends the response. Where net/http has it, that is called before the
// handler returns, and leaves time for the end, which net/http writes then. whole
// tells that the client was written all that was begun.
func (o *response) finish(whole bool) {
	if o.conn != nil {
		o.finishTaken(whole)
		return
	}
	if o.begun {
		_ = o.extend()
		if whole && o.body != nil {
			n, _ := o.w.Write(o.body.appendEnd(nil)) // if it fails, net/http will say so
			o.count(n)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

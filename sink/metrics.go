package sink

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ssebridge/ssebridge/bridge"
)

// latencyBounds are the buckets of times in seconds.
var latencyBounds = [...]float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// The reasons for which connections are closed, besides those that clients are
// told (closing).
const (
	leftClient  = "client"  // it went away
	leftSlow    = "slow"    // it took nothing for the write timeout
	leftReset   = "reset"   // its position was gone, and it had asked to fail then
	leftRefused = "refused" // what it asked for turned out not to be served
	leftError   = "error"   // a mistake of the bridge
)

// metrics counts clients and what they are written. Labels are words of the
// bridge, never what clients say.
type metrics struct {
	opened, closed, refused metric.Int64Counter
	writes, delays          *bridge.Histogram

	// What every write counts is read by a callback, so that counting is one
	// addition.
	records, bytes atomic.Int64
}

// newMetrics makes the instruments. Their names are valid, so a meter has no
// reason to refuse one; if it does, the instrument counts nothing.
func newMetrics(m metric.Meter, h *Handler) *metrics {
	in := bridge.NewInstruments(m)
	counter, observed, gauge := in.Counter, in.Observed, in.Gauge
	ms := &metrics{
		opened:  counter("ssebridge.connections.opened", "{connection}", "Connections of clients that were let in."),
		closed:  counter("ssebridge.connections.closed", "{connection}", "Connections that have ended, by the reason."),
		refused: counter("ssebridge.requests.refused", "{request}", "Requests that were answered by a problem or sent away at once, by the code. One that had to wait for that was a connection, too."),
		writes:  in.Histogram("ssebridge.write.duration", "Time that the writes to clients took, with what made them ready.", latencyBounds[:]...),
		delays:  in.Histogram("ssebridge.delivery.delay", "Time from the receipt of a live record by this replica to the end of the write to a client, of the oldest in each write.", latencyBounds[:]...),
	}
	// From the first moment on, so that the first of a kind is an increase.
	for _, reason := range []string{
		string(closingDrain), string(closingOverload), string(closingMaxAge), string(closingDisconnect),
		leftClient, leftSlow, leftReset, leftRefused, leftError,
	} {
		ms.leave(reason, 0)
	}
	for code := range kinds {
		ms.refuse(code, 0)
	}
	ms.refuse(string(closingDrain), 0)
	var (
		clients  = gauge("ssebridge.clients", "{client}", "Clients that are being served.")
		draining = gauge("ssebridge.draining", "", "1 while the process says goodbye to its clients.")
		squeezes = gauge("ssebridge.compressors", "{compressor}", "Compressors, each shared by the clients of a filter.")
		squeezed = gauge("ssebridge.compression.memory", "By", "Memory that is set aside for compressors.")
		records  = observed("ssebridge.events.delivered", "{event}", "Events that carry a record, written to clients.")
		bytes    = observed("ssebridge.bytes.sent", "By", "Bytes of events and heartbeats written to clients, in their content coding, without the framing of HTTP.")
	)
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(clients, int64(h.Clients()))
		over := int64(0)
		if h.Draining() {
			over = 1
		}
		o.ObserveInt64(draining, over)
		n, memory := h.squeeze.active()
		o.ObserveInt64(squeezes, int64(n))
		o.ObserveInt64(squeezed, memory)
		o.ObserveInt64(records, ms.records.Load())
		o.ObserveInt64(bytes, ms.bytes.Load())
		return nil
	}, clients, draining, squeezes, squeezed, records, bytes)
	if err := in.Err(err); err != nil {
		h.log.Error("some metrics are missing", "error", err)
	}
	return ms
}

// leave counts connections that have ended.
func (ms *metrics) leave(reason string, n int64) {
	ms.closed.Add(context.Background(), n, metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", reason))))
}

// refuse counts requests that were not let in.
func (ms *metrics) refuse(code string, n int64) {
	ms.refused.Add(context.Background(), n, metric.WithAttributeSet(attribute.NewSet(attribute.String("code", code))))
}

// wrote counts a batch that was written. Its bytes are counted as they are.
func (ms *metrics) wrote(b bridge.Batch, began, ended time.Time) {
	ms.records.Add(int64(b.Records))
	ms.writes.Record(ended.Sub(began))
	if !b.Received.IsZero() {
		ms.delays.Record(max(0, ended.Sub(b.Received)))
	}
}

// tally counts what one shard writes. Thousands of writes a sweep would cost more
// if each were counted where all shards do; so that has them when the shard lets
// others run.
type tally struct {
	of             *metrics
	records, bytes int64
	writes, delays *bridge.Tally
}

func (ms *metrics) tally() tally {
	return tally{of: ms, writes: ms.writes.Tally(), delays: ms.delays.Tally()}
}

// wrote counts as that of metrics does, and the bytes too.
func (t *tally) wrote(b *bridge.Batch, bytes int, began, ended time.Time) {
	t.records += int64(b.Records)
	t.bytes += int64(bytes)
	t.writes.Record(ended.Sub(began))
	if !b.Received.IsZero() {
		t.delays.Record(max(0, ended.Sub(b.Received)))
	}
}

// flush hands over what was counted.
func (t *tally) flush() {
	t.of.records.Add(t.records)
	t.of.bytes.Add(t.bytes)
	t.records, t.bytes = 0, 0
	t.writes.Flush()
	t.delays.Flush()
}

// leftBecause is the reason for which a connection ended, for counts.
func leftBecause(err error) string {
	reason, told := errors.AsType[closing](err)
	switch {
	case told:
		return string(reason)
	case errors.Is(err, errForced):
		return string(closingDrain)
	case errors.Is(err, errClientGone) && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)):
		return leftSlow
	case errors.Is(err, errClientGone):
		return leftClient
	}
	switch problemOf(err).Code {
	case codeReset:
		return leftReset
	case codeOverload:
		return string(closingOverload)
	case codeInternal:
		return leftError
	default:
		return leftRefused
	}
}

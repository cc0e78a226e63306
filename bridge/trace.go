package bridge

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const (
	// DefaultTraceDeliveries is how many deliveries of one record get a span.
	DefaultTraceDeliveries = 16
	// processHold is how long the process span of a record stays open for
	// deliveries to be counted on it. It ends with the last of them.
	processHold = 5 * time.Second
	// maxOpenTraces bounds the process spans that a stream has open; the oldest ends
	// when one more begins.
	maxOpenTraces = 1024
	// maxLinks bounds the links of a span over many records, as the SDK does
	// (OTEL_SPAN_LINK_COUNT_LIMIT).
	maxLinks = 128
)

// TraceOptions say how the records of a [Stream] are traced. The zero value
// traces nothing, and costs nothing.
type TraceOptions struct {
	Tracer trace.Tracer // nil: no spans
	// System and Server are the attributes messaging.system and server.address of
	// spans. Both may be empty.
	System, Server string
	// Deliveries bounds the spans of deliveries of one record; the others are only
	// counted. 0: none gets one.
	Deliveries int
}

// tracing makes the spans of one stream's records, whose producers decide which
// ones are traced: those with a sampled trace context in their headers.
//
//	receive orders       a batch that holds such records   links: the producers
//	  └ process orders   each such record                  link: its producer
//	      ├ deliver orders   a client it was written to    links: its producer, the client's request
//	      └ deliver orders   …
//
// The producers are linked and not parents: their traces end long before a
// client is back that gets the record (OpenTelemetry's semantic conventions for
// messaging ask for the same where records are read in batches).
type tracing struct {
	opt    TraceOptions
	stream string

	mu    sync.Mutex
	open  []*RecordTrace // process spans that have not ended, oldest first
	timer *time.Timer    // ends the oldest; nil while there is none
}

func newTracing(stream string, o TraceOptions) *tracing {
	if o.Tracer == nil {
		return nil
	}
	return &tracing{opt: o, stream: stream}
}

// RecordTrace is what is traced of one record whose producer was sampled. All
// methods may be called on nil, which traces nothing, and from any goroutine.
type RecordTrace struct {
	tracing  *tracing
	producer trace.SpanContext
	spans    atomic.Int64 // of deliveries that began

	mu         sync.Mutex
	process    trace.Span        // nil: it has ended, or the record was read again for a replay
	parent     trace.SpanContext // of deliveries; not valid: a replay's record has none
	until      time.Time         // when the process span ends at the latest
	deliveries int64
	last       time.Time // when the span's work was done so far
}

// sampled reports whether the producer of a record was sampled, by its
// traceparent header. It is cheap and lets some garbage pass, which producerOf
// finds.
func (r *Record) sampled() bool {
	for i := range r.Headers {
		// version 2, "-", trace id 32, "-", parent id 16, "-", flags 2: bit 0 is sampled
		// (https://www.w3.org/TR/trace-context/#traceparent-header).
		if v := r.Headers[i].Value; len(v) >= 55 && isHeader(r.Headers[i].Key, traceparent) {
			c := v[54]
			return c >= '0' && c <= '9' && c&1 == 1 || c >= 'a' && c <= 'f' && c&1 == 0
		}
	}
	return false
}

const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// isHeader compares a header's name with one in small letters. Libraries of
// producers write it as they like.
func isHeader(key, small string) bool {
	if len(key) != len(small) {
		return false
	}
	for i := range len(key) {
		if c := key[i]; c != small[i] && (c < 'A' || c > 'Z' || c|0x20 != small[i]) {
			return false
		}
	}
	return true
}

// headerCarrier shows a record's headers to a propagator.
type headerCarrier struct{ r *Record }

var _ propagation.TextMapCarrier = headerCarrier{}

// Get implements [propagation.TextMapCarrier]. A header that is there twice has
// no value, as nobody knows which one is meant.
func (c headerCarrier) Get(key string) string {
	found := -1
	for i := range c.r.Headers {
		if isHeader(c.r.Headers[i].Key, key) {
			if found >= 0 {
				return ""
			}
			found = i
		}
	}
	if found < 0 {
		return ""
	}
	return string(c.r.Headers[found].Value)
}

// Set implements [propagation.TextMapCarrier] and does nothing.
func (headerCarrier) Set(string, string) {}

// Keys implements [propagation.TextMapCarrier].
func (headerCarrier) Keys() []string { return []string{traceparent, tracestate} }

// producerOf returns the trace context that a record's producer has put into
// its headers; it is not valid when there is none.
func producerOf(r *Record) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(), headerCarrier{r})
	return trace.SpanContextFromContext(ctx)
}

// TraceContext returns the W3C trace context in the record's headers as text, for
// those who hand it on: empty where it is missing or malformed. state is
// empty as well where only that is so.
func (r *Record) TraceContext() (parent, state string) {
	for i := range r.Headers {
		if isHeader(r.Headers[i].Key, traceparent) {
			sc := producerOf(r)
			if !sc.IsValid() {
				return "", ""
			}
			return headerCarrier{r}.Get(traceparent), sc.TraceState().String()
		}
	}
	return "", ""
}

// begin starts the spans of a batch of live records that were received now, and puts a RecordTrace into
// each whose producer was sampled. The caller ends the batch's span when the
// feeds have it. Without sampled producers it allocates nothing.
func (t *tracing) begin(recs []Record, now time.Time) trace.Span {
	if t == nil {
		return noop.Span{}
	}
	var links []trace.Link
	for i := range recs {
		if recs[i].Kind == Hidden || !recs[i].sampled() {
			continue
		}
		if sc := producerOf(&recs[i]); sc.IsSampled() {
			recs[i].Trace = &RecordTrace{tracing: t, producer: sc}
			if len(links) < maxLinks {
				links = append(links, trace.Link{SpanContext: sc})
			}
		}
	}
	if links == nil {
		return noop.Span{}
	}
	ctx, span := t.opt.Tracer.Start(context.Background(), "receive "+t.stream,
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(now), trace.WithLinks(links...),
		trace.WithAttributes(t.attributes("receive",
			semconv.MessagingOperationTypeReceive, semconv.MessagingBatchMessageCount(len(recs)))...))
	for i := range recs {
		rt := recs[i].Trace
		switch {
		case rt == nil:
		case span.IsRecording():
			rt.start(ctx, &recs[i], now)
		default:
			recs[i].Trace = nil // the sampler of this process wants no part of it
		}
	}
	return span
}

// attributes are those that all spans of the stream have, and more.
func (t *tracing) attributes(operation string, more ...attribute.KeyValue) []attribute.KeyValue {
	list := append(make([]attribute.KeyValue, 0, 12),
		semconv.MessagingOperationName(operation), attribute.String("ssebridge.stream", t.stream))
	if t.opt.System != "" {
		list = append(list, semconv.MessagingSystemKey.String(t.opt.System))
	}
	if t.opt.Server != "" {
		list = append(list, semconv.ServerAddress(t.opt.Server))
	}
	return append(list, more...)
}

// ofRecord are the attributes that tell which record a span is about.
func (t *tracing) ofRecord(r *Record) []attribute.KeyValue {
	list := []attribute.KeyValue{
		semconv.MessagingDestinationName(SpanText(r.Origin)),
		semconv.MessagingDestinationPartitionID(strconv.Itoa(int(r.Partition))),
		semconv.MessagingMessageBodySize(len(r.Data)),
	}
	if t.opt.System == semconv.MessagingSystemKafka.Value.AsString() {
		list = append(list, semconv.MessagingKafkaOffset(int(r.Offset)))
		if r.Kind == Delete {
			list = append(list, semconv.MessagingKafkaMessageTombstone(true))
		}
		return list
	}
	return append(list, attribute.Int64("ssebridge.offset", int64(r.Offset)))
}

// start begins the process span.
func (rt *RecordTrace) start(ctx context.Context, r *Record, now time.Time) {
	t := rt.tracing
	_, span := t.opt.Tracer.Start(ctx, "process "+t.stream,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(now), trace.WithLinks(trace.Link{SpanContext: rt.producer}),
		trace.WithAttributes(t.attributes("process", semconv.MessagingOperationTypeProcess)...),
		trace.WithAttributes(t.ofRecord(r)...))
	rt.process, rt.parent, rt.last, rt.until = span, span.SpanContext(), now, now.Add(processHold)
}

// hold keeps the process spans of a batch open for deliveries, and ends those
// of records that no group is shown.
func (t *tracing) hold(recs []Record) {
	if t == nil {
		return
	}
	for i := range recs {
		rt := recs[i].Trace
		if rt == nil || rt.process == nil {
			continue
		}
		if !recs[i].shown {
			rt.end()
			continue
		}
		t.mu.Lock()
		t.open = append(t.open, rt)
		var oldest *RecordTrace
		if len(t.open) > maxOpenTraces {
			oldest = t.pop()
		}
		if t.timer == nil {
			t.timer = time.AfterFunc(processHold, t.expire)
		}
		t.mu.Unlock()
		oldest.end()
	}
}

// pop takes out the oldest open trace. The caller holds mu.
func (t *tracing) pop() *RecordTrace {
	rt := t.open[0]
	t.open[0] = nil
	t.open = t.open[1:]
	return rt
}

// expire ends the process spans whose time is up.
func (t *tracing) expire() {
	now := time.Now()
	for {
		t.mu.Lock()
		if len(t.open) == 0 {
			t.open, t.timer = nil, nil
			t.mu.Unlock()
			return
		}
		if wait := t.open[0].until.Sub(now); wait > 0 {
			t.timer.Reset(wait)
			t.mu.Unlock()
			return
		}
		rt := t.pop()
		t.mu.Unlock()
		rt.end()
	}
}

// endAll ends all process spans, when the stream is read no more.
func (t *tracing) endAll() {
	if t == nil {
		return
	}
	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	for _, rt := range open {
		rt.end()
	}
}

// end ends the process span, with what is known of deliveries by now.
func (rt *RecordTrace) end() {
	if rt == nil {
		return
	}
	rt.mu.Lock()
	span, n, last := rt.process, rt.deliveries, rt.last
	rt.process = nil
	rt.mu.Unlock()
	if span == nil {
		return
	}
	span.SetAttributes(attribute.Int64("ssebridge.deliveries", n))
	span.End(trace.WithTimestamp(last))
}

// again returns the trace of a record that was read again for a replay: it has
// no process span, but its deliveries may have spans. nil if its producer was not
// sampled.
func (t *tracing) again(r *Record) *RecordTrace {
	if t == nil || r.Kind == Hidden || !r.sampled() {
		return nil
	}
	sc := producerOf(r)
	if !sc.IsSampled() {
		return nil
	}
	return &RecordTrace{tracing: t, producer: sc}
}

// RequestTrace is the trace that a client's request belongs to. The zero value is
// that of a client that is not traced.
type RequestTrace struct {
	Span  trace.SpanContext // of the request
	Began time.Time
}

// openingFor bounds how long what a client causes belongs to the trace of its
// request. Connections last for days; traces must not.
const openingFor = time.Minute

// Opening reports whether what the client causes now belongs to the trace of its
// request. Later it is linked to that.
func (r RequestTrace) Opening() bool { return time.Since(r.Began) < openingFor }

// Delivered notes that the record was written to a client, from begun to ended.
// The first of them get spans of their own.
func (rt *RecordTrace) Delivered(r RequestTrace, begun, ended time.Time) {
	if rt == nil {
		return
	}
	begun = later(begun, ended.Add(-LongestSpan))
	rt.mu.Lock()
	parent := rt.parent
	if rt.process != nil {
		rt.deliveries++
		if ended.After(rt.last) {
			rt.last = ended
		}
	}
	rt.mu.Unlock()
	t := rt.tracing
	if rt.spans.Add(1) > int64(t.opt.Deliveries) {
		return
	}
	ctx := context.Background()
	links := []trace.Link{{SpanContext: rt.producer}}
	switch {
	case !parent.IsValid() && r.Span.IsSampled() && r.Opening():
		ctx = trace.ContextWithSpanContext(ctx, r.Span) // a replay is the request's doing
	case r.Span.IsValid():
		ctx = trace.ContextWithSpanContext(ctx, parent)
		links = append(links, trace.Link{SpanContext: r.Span})
	default:
		ctx = trace.ContextWithSpanContext(ctx, parent)
	}
	_, span := t.opt.Tracer.Start(ctx, "deliver "+t.stream,
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(begun), trace.WithLinks(links...),
		trace.WithAttributes(t.attributes("deliver", semconv.MessagingOperationTypeSend)...))
	span.End(trace.WithTimestamp(ended))
}

// StartSpan begins the span of an operation on the stream, below the span in
// ctx if there is one; opts add to it. Where nothing is traced, the span returned
// does nothing. The caller ends it, by [EndSpan] where it may fail. If it has not
// ended within [LongestSpan] it ends by itself and says so.
func (s *Stream) StartSpan(ctx context.Context, operation string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	t := s.trace
	if t == nil {
		return ctx, noop.Span{}
	}
	all := append([]trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(t.attributes(operation)...),
	}, opts...)
	return Bounded(t.opt.Tracer.Start(ctx, operation+" "+s.name, all...))
}

// tailKey is the key of the [Stream] whose [Tailer] a context is for.
type tailKey struct{}

// StartTailSpan begins the span of something that a Tailer does by itself, such
// as making a consumer: the first of a trace. ctx is that of Tail. As to the
// rest it is like [Stream.StartSpan].
func StartTailSpan(ctx context.Context, operation string) (context.Context, trace.Span) {
	s, ok := ctx.Value(tailKey{}).(*Stream)
	if !ok {
		return ctx, noop.Span{}
	}
	return s.StartSpan(ctx, operation, trace.WithNewRoot())
}

// StartSpan begins the span of a question to a broker, below the span in ctx. If
// that is not recorded, nothing is. As to the rest it is like [Stream.StartSpan].
func StartSpan(ctx context.Context, question string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, noop.Span{}
	}
	return Bounded(parent.TracerProvider().Tracer(TracerName).Start(ctx, question,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...)))
}

// EndSpan ends a span, as failed if there is an error. A question that nobody
// waits for any more has not failed.
func EndSpan(span trace.Span, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		span.SetStatus(codes.Error, SpanText(err.Error()))
	}
	span.End()
}

// spanTextBytes bounds what a span quotes.
const spanTextBytes = 256

// SpanText makes text that strangers choose fit for a span: UTF-8, without which
// an exporter drops everything that it would send along, and not too much of it.
func SpanText(text string) string {
	if len(text) > spanTextBytes {
		text = text[:spanTextBytes] + "…"
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// LongestSpan is how long a span of the bridge lasts at most. What takes longer,
// such as a broker that does not answer, would be seen only when it is over.
const LongestSpan = 9 * time.Second

// boundedSpan is a span that ends by itself in time.
type boundedSpan struct {
	trace.Span
	timer *time.Timer
}

// End implements [trace.Span].
func (b boundedSpan) End(opts ...trace.SpanEndOption) {
	b.timer.Stop()
	b.Span.End(opts...)
}

// Bounded lets a span end by itself within [LongestSpan]. It is for spans that are
// begun elsewhere.
func Bounded(ctx context.Context, span trace.Span) (context.Context, trace.Span) {
	if !span.IsRecording() {
		return ctx, span
	}
	return ctx, boundedSpan{span, time.AfterFunc(LongestSpan, func() {
		span.SetAttributes(attribute.Bool("ssebridge.unfinished", true))
		span.End()
	})}
}

// TracerName is the instrumentation scope of all spans and metrics of the bridge.
const TracerName = "github.com/ssebridge/ssebridge"

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Producer returns the trace context of the record's producer; it is not valid
// where nothing is traced.
func (rt *RecordTrace) Producer() trace.SpanContext {
	if rt == nil {
		return trace.SpanContext{}
	}
	return rt.producer
}

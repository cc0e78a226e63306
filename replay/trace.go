package replay

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/ssebridge/ssebridge/bridge"
)

// startSpan begins the span of something that a client causes. While the client
// opens it belongs to the trace of its request; later it is linked to that. Who is
// not sampled causes none.
func startSpan(ctx context.Context, r bridge.RequestTrace, s *bridge.Stream, operation string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	switch {
	case !r.Span.IsSampled():
		return ctx, noop.Span{}
	case r.Opening():
		return s.StartSpan(trace.ContextWithSpanContext(ctx, r.Span), operation, opts...)
	}
	return s.StartSpan(ctx, operation, append(opts, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: r.Span}))...)
}

// traceVerdict tells a verdict on the span in ctx.
func traceVerdict(ctx context.Context, v bridge.Verdict) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	word := "exact"
	for _, fd := range v.Findings {
		if word != "reset" {
			word = "gap"
		}
		if fd.Reason.Reset() {
			word = "reset"
		}
		span.AddEvent(word, trace.WithAttributes(
			attribute.String("ssebridge.reason", string(fd.Reason)), attribute.Int("ssebridge.partition", int(fd.Partition)),
			attribute.Int64("ssebridge.from", int64(fd.From)), attribute.Int64("ssebridge.to", int64(fd.To))))
	}
	span.SetAttributes(attribute.String("ssebridge.verdict", word))
}

// traceEnd makes the span of a catch-up that has ended with a client that is
// level. Of one that took longer than a span may, it covers the end.
func (c *catchUp) traceEnd(ctx context.Context) {
	now := time.Now()
	took := now.Sub(c.began)
	_, span := startSpan(ctx, c.trip.request, c.streams[0], "catch up",
		trace.WithSpanKind(trace.SpanKindInternal), trace.WithTimestamp(now.Add(-min(took, bridge.LongestSpan))))
	if span.IsRecording() {
		names := make([]string, 0, len(c.streams))
		for _, s := range c.streams {
			names = append(names, s.Name())
		}
		span.SetAttributes(attribute.String("ssebridge.streams", strings.Join(names, ",")),
			attribute.Int("ssebridge.records", c.records), attribute.Float64("ssebridge.duration", took.Seconds()))
	}
	span.End(trace.WithTimestamp(now))
}

// endRead ends the span of a read of a chunk, which links the producers of the
// records that it brought as far as they were sampled.
func endRead(span trace.Span, partition int32, from bridge.Offset, ch *held, err error) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(semconv.MessagingOperationTypeReceive,
		semconv.MessagingDestinationPartitionID(strconv.Itoa(int(partition))), attribute.Int64("ssebridge.from", int64(from)))
	if ch != nil {
		span.SetAttributes(semconv.MessagingBatchMessageCount(len(ch.Records)), attribute.Int64("ssebridge.end", int64(ch.End)))
		for i := range ch.Records {
			if producer := ch.Records[i].Trace.Producer(); producer.IsValid() {
				span.AddLink(trace.Link{SpanContext: producer})
			}
		}
	}
	bridge.EndSpan(span, err)
}

package kafka

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/ssebridge/ssebridge/bridge"
)

// startSpan begins the span of a question, named for its API.
func startSpan(ctx context.Context, q question) (context.Context, trace.Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, noop.Span{}
	}
	attributes := []attribute.KeyValue{semconv.MessagingSystemKafka, semconv.MessagingOperationName(q.api.name)}
	if q.broker != anyBroker {
		attributes = append(attributes, attribute.String("ssebridge.broker", strconv.Itoa(int(q.broker))))
	}
	return bridge.StartSpan(ctx, q.api.name, attributes...)
}

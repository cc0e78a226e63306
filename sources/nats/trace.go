package nats

import (
	"context"
	"strings"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/ssebridge/ssebridge/bridge"
)

// startSpan begins the span of a question to the API at subject (without its
// prefix): CONSUMER.CREATE.ORDERS.ssebridge-7 is CONSUMER.CREATE, as names of
// spans are few and names of consumers are not.
func (l *link) startSpan(ctx context.Context, subject string) (context.Context, trace.Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, noop.Span{}
	}
	tokens := strings.Split(subject, ".")
	words := 2
	if len(tokens) > 2 && tokens[1] == "MSG" { // STREAM.MSG.GET, CONSUMER.MSG.NEXT
		words = 3
	}
	name := strings.Join(tokens[:min(words, len(tokens))], ".")
	return bridge.StartSpan(ctx, name, semconv.MessagingSystemKey.String("nats"), semconv.MessagingOperationName(name))
}

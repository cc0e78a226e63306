package sink

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/ssebridge/ssebridge/bridge"
)

// A response lasts for hours or days, and a span that long is seen when it is
// over and says little. So the span of a request ends when its head is out, and a
// short one, linked to it, tells how the connection ended
// (open-telemetry/semantic-conventions#3703 has the reasons).

// startRequest begins the span of a request, below that of the caller if the
// request brings one. The query is left out: it may hold what is nobody's
// business.
func (h *Handler) startRequest(r *http.Request, route string) (context.Context, trace.Span) {
	if h.opt.Tracer == nil {
		return r.Context(), noop.Span{}
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	attributes := []attribute.KeyValue{
		methodAttribute(r.Method), semconv.URLPath(bridge.SpanText(r.URL.Path)), semconv.URLScheme(scheme(r)),
		semconv.NetworkProtocolName("http"), semconv.NetworkProtocolVersion(strings.TrimSuffix(strings.TrimPrefix(r.Proto, "HTTP/"), ".0")),
		semconv.ClientAddress(host(r.RemoteAddr)), semconv.UserAgentOriginal(bridge.SpanText(r.UserAgent())),
	}
	if name, port, err := net.SplitHostPort(r.Host); err == nil {
		attributes = append(attributes, semconv.ServerAddress(bridge.SpanText(name)))
		if n, err := strconv.Atoi(port); err == nil {
			attributes = append(attributes, semconv.ServerPort(n))
		}
	} else {
		attributes = append(attributes, semconv.ServerAddress(bridge.SpanText(r.Host)))
	}
	name := knownMethod(r.Method)
	if route != "" {
		name += " " + route
		attributes = append(attributes, semconv.HTTPRoute(route))
	}
	return bridge.Bounded(h.opt.Tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...)))
}

// endRequest ends the span of a request that was answered by a status. It does
// nothing if it has ended already.
func endRequest(span trace.Span, status int) {
	span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
		span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
	}
	span.End()
}

// traceClose makes the short span that tells how a connection ended.
func (h *Handler) traceClose(request trace.SpanContext, reason string, lasted time.Duration, events, bytes uint64) {
	if h.opt.Tracer == nil || !request.IsSampled() {
		return
	}
	_, span := h.opt.Tracer.Start(context.Background(), "close "+h.opt.Path,
		trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: request}), trace.WithAttributes(
			attribute.String("ssebridge.reason", reason), attribute.Float64("ssebridge.duration", lasted.Seconds()),
			attribute.Int64("ssebridge.events", int64(events)), attribute.Int64("ssebridge.bytes", int64(bytes))))
	span.End()
}

// knownMethod keeps the names of spans few, whatever a client sends.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodTrace:
		return method
	}
	return "HTTP"
}

func methodAttribute(method string) attribute.KeyValue {
	if knownMethod(method) == method {
		return semconv.HTTPRequestMethodKey.String(method)
	}
	return semconv.HTTPRequestMethodOther
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// host is an address without its port.
func host(address string) string {
	if name, _, err := net.SplitHostPort(address); err == nil {
		return name
	}
	return address
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

// noTelemetry is for tests of other parts.
var noTelemetry = &telemetry{meter: noop.Meter{}, metrics: http.NotFoundHandler()}

// otelEnv replaces whatever OTEL_* the machine has.
func otelEnv(t *testing.T, entries ...string) {
	t.Helper()
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL",
		"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES",
	} {
		t.Setenv(name, "")
	}
	for _, e := range entries {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
}

// An exporter that nobody asked for dials localhost for ever, and one that was
// asked for and does not run is a dark dashboard.
func TestExporterIsTheOneThatIsNamed(t *testing.T) {
	for _, tc := range []struct {
		env             []string
		traces, metrics string
	}{
		{nil, "", ""},
		{[]string{"OTEL_SERVICE_NAME=bridge", "OTEL_RESOURCE_ATTRIBUTES=a=b", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "", ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"}, "otlp", "otlp"},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:4318"}, "otlp", ""},
		{[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4318"}, "", "otlp"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "OTEL_METRICS_EXPORTER=none"}, "otlp", ""},
		{[]string{"OTEL_TRACES_EXPORTER=console"}, "console", ""},
		{[]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_SDK_DISABLED=true"}, "", ""},
	} {
		otelEnv(t, tc.env...)
		if got := exporterOf("TRACES"); got != tc.traces {
			t.Errorf("%q: traces go to %q, want %q", tc.env, got, tc.traces)
		}
		if got := exporterOf("METRICS"); got != tc.metrics {
			t.Errorf("%q: metrics go to %q, want %q", tc.env, got, tc.metrics)
		}
	}
}

// A typo in a variable of the SDK's must not mean localhost, or no spans, in
// silence.
func TestBadTelemetryVariablesStopTheStart(t *testing.T) {
	for _, tc := range []struct{ env, want string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318", "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=ftp://collector", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
		{"OTEL_TRACES_EXPORTER=zipkin", "OTEL_TRACES_EXPORTER"},
		{"OTEL_METRICS_EXPORTER=statsd", "OTEL_METRICS_EXPORTER"},
	} {
		otelEnv(t, tc.env)
		tel, err := newTelemetry(t.Context(), slog.New(slog.DiscardHandler))
		if err == nil {
			tel.shutdown(t.Context(), slog.New(slog.DiscardHandler))
			t.Errorf("%s: no error", tc.env)
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, tc.want) || !strings.Contains(text, "want ") {
			t.Errorf("%s: %s, want it to begin with %s and say what was expected", tc.env, text, tc.want)
		}
	}
}

// Prometheus needs no variable at all.
func TestMetricsAreServedWithoutAnyVariable(t *testing.T) {
	otelEnv(t)
	tel, err := newTelemetry(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer tel.shutdown(t.Context(), slog.New(slog.DiscardHandler))
	if tel.tracer != nil {
		t.Error("there is a tracer, though nobody takes spans")
	}
	w := httptest.NewRecorder()
	tel.metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{"\nssebridge_build_info{go_version=\"go", "\ngo_goroutines ", "\nprocess_open_fds "} {
		if body := w.Body.String(); !strings.Contains(body, want) {
			t.Errorf("/metrics has no %q:\n%s", want, body)
		}
	}
}

// A collector that is away for a night is some dozens of lines in the log, not
// thousands, however its errors differ.
func TestTroublesOfExportAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c := &changes{log: slog.New(slog.NewTextHandler(&log, nil))}
		lines := func() int { return strings.Count(log.String(), "\n") }
		for port := range 100 {
			c.warn("spans cannot be exported", fmt.Errorf("read tcp 127.0.0.1:%d: connection reset by peer", 40000+port))
			time.Sleep(5 * time.Second)
		}
		if got := lines(); got != 1 {
			t.Errorf("%d lines within ten minutes, want 1:\n%s", got, log.String())
		}
		time.Sleep(tellAgain)
		c.warn("spans cannot be exported", context.DeadlineExceeded)
		c.good("spans are exported again")
		c.good("spans are exported again")
		c.warn("spans cannot be exported", context.DeadlineExceeded)
		if got := lines(); got != 4 {
			t.Errorf("%d lines, want 4:\n%s", got, log.String())
		}
	})
}

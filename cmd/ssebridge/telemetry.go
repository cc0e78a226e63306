package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/ssebridge/ssebridge/bridge"
)

// flushTimeout bounds how long the end of the process waits for a collector.
const flushTimeout = 3 * time.Second

// telemetry is the OpenTelemetry SDK of the process, and the metrics that it
// serves by itself. What is exported, and where to, say the standard OTEL_*
// variables; without any, nothing is. Its own work never holds up a delivery:
// spans that nobody takes are dropped.
type telemetry struct {
	tracer  trace.Tracer // nil: nobody takes spans
	meter   metric.Meter
	metrics http.Handler // for Prometheus

	shutdowns []func(context.Context) error
}

// exporterOf returns the exporter that the environment names for a signal
// (traces or metrics), "" for none. An endpoint alone means OTLP. The name of the
// service and other attributes ask for nothing to be exported: an exporter that
// begins by itself would dial localhost for ever.
//
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
func exporterOf(signal string) string {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return ""
	}
	switch name := os.Getenv("OTEL_" + signal + "_EXPORTER"); {
	case name == "none":
		return ""
	case name != "":
		return name
	case os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "", os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != "":
		return "otlp"
	}
	return ""
}

// newTelemetry sets up what the environment asks for. Errors name the variable.
// The caller shuts it down.
func newTelemetry(ctx context.Context, log *slog.Logger) (*telemetry, error) {
	if err := checkEndpoints(); err != nil {
		return nil, err
	}
	sdkLog := &changes{log: log}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { sdkLog.warn("telemetry failed", err) }))
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))

	b := currentBuild()
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithProcessRuntimeName(), resource.WithProcessRuntimeVersion(),
		resource.WithAttributes(semconv.ServiceName("ssebridge"), semconv.ServiceVersion(b.version), semconv.ServiceInstanceID(rand.Text())),
		resource.WithFromEnv()) // last: what it says counts
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w: want key=value pairs separated by commas", err)
	}
	t := new(telemetry)
	if err := t.exportSpans(ctx, res, log); err != nil {
		return nil, err
	}
	if err := t.exportMetrics(ctx, res, b, log); err != nil {
		t.shutdown(ctx, log)
		return nil, err
	}
	return t, nil
}

// checkEndpoints reports endpoints that are no URLs: the SDK would warn and use
// localhost instead.
func checkEndpoints() error {
	var errs []error
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"} {
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("%s: want a URL such as http://collector:4318", name)) // its text may hold a password
		}
	}
	return errors.Join(errs...)
}

// exportSpans sets up the exporter of spans, if there is one. The SDK reads the
// sampler (OTEL_TRACES_SAMPLER), limits and batches from the environment.
func (t *telemetry) exportSpans(ctx context.Context, res *resource.Resource, log *slog.Logger) error {
	name := exporterOf("TRACES")
	if name == "" {
		return nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return fmt.Errorf("OTEL_TRACES_EXPORTER=%q or its OTEL_EXPORTER_OTLP_* variables: %w: want otlp (with OTEL_EXPORTER_OTLP_PROTOCOL grpc or http/protobuf), console or none", name, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithBatcher(&spanExporter{SpanExporter: exporter, state: changes{log: log}}))
	t.tracer = provider.Tracer(bridge.TracerName, trace.WithInstrumentationVersion(currentBuild().version), trace.WithSchemaURL(semconv.SchemaURL))
	t.shutdowns = append(t.shutdowns, provider.Shutdown)
	return nil
}

// exportMetrics sets up the metrics: always for Prometheus to fetch, and pushed
// as well if the environment names an exporter.
func (t *telemetry) exportMetrics(ctx context.Context, res *resource.Resource, b build, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	produced := &histograms{start: time.Now(), scope: instrumentation.Scope{Name: bridge.TracerName, Version: b.version, SchemaURL: semconv.SchemaURL}}
	served, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithProducer(produced), promexporter.WithoutScopeInfo(), promexporter.WithoutTargetInfo())
	if err != nil {
		return fmt.Errorf("set up metrics: %w", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(served)}
	if name := exporterOf("METRICS"); name != "" {
		// This is how autoexport takes one; whoever names others by OTEL_METRICS_PRODUCERS
		// gets those instead.
		autoexport.WithFallbackMetricProducer(func(context.Context) (sdkmetric.Producer, error) { return produced, nil })
		pushed, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return fmt.Errorf("OTEL_METRICS_EXPORTER=%q or its OTEL_EXPORTER_OTLP_* variables: %w: want otlp (with OTEL_EXPORTER_OTLP_PROTOCOL grpc or http/protobuf), prometheus, console or none", name, err)
		}
		options = append(options, sdkmetric.WithReader(pushed))
	}
	provider := sdkmetric.NewMeterProvider(options...)
	meter := provider.Meter(bridge.TracerName, metric.WithInstrumentationVersion(b.version), metric.WithSchemaURL(semconv.SchemaURL))
	t.meter = &histogramMeter{meter, produced}
	t.shutdowns = append(t.shutdowns, provider.Shutdown)
	t.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8, EnableOpenMetrics: true,
	})
	info, err := t.meter.Int64Gauge("ssebridge.build_info", metric.WithDescription("1; the labels say what the process was built from."))
	if err != nil {
		return fmt.Errorf("set up metrics: %w", err)
	}
	info.Record(ctx, 1, metric.WithAttributes(
		attribute.String("version", b.version), attribute.String("revision", b.revision), attribute.String("go_version", b.golang)))
	return nil
}

// shutdown sends what is left and ends the exporters, within [flushTimeout].
func (t *telemetry) shutdown(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, f := range t.shutdowns {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				log.Warn("telemetry was lost at the end", "error", err)
			}
		})
	}
	wg.Wait()
}

// spanExporter tells once when spans cannot be exported, and once when they can
// again.
type spanExporter struct {
	sdktrace.SpanExporter
	state changes
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.state.warn("spans cannot be exported", err)
	} else {
		e.state.good("spans are exported again")
	}
	return nil // it is told
}

// tellAgain is after how long trouble is told again whose end nobody tells.
const tellAgain = 10 * time.Minute

// changes logs trouble once, and its end. What exactly is wrong does not matter:
// the texts of errors have ports in them and differ each time.
type changes struct {
	log *slog.Logger

	mu  sync.Mutex
	bad time.Time // when trouble was told; zero: all is well
}

func (c *changes) warn(message string, err error) {
	c.mu.Lock()
	told := !c.bad.IsZero() && time.Since(c.bad) < tellAgain
	if !told {
		c.bad = time.Now()
	}
	c.mu.Unlock()
	if !told {
		c.log.Warn(message, "error", err) //nolint:sloglint // the callers' messages are constant
	}
}

func (c *changes) good(message string) {
	c.mu.Lock()
	was := c.bad
	c.bad = time.Time{}
	c.mu.Unlock()
	if !was.IsZero() {
		c.log.Info(message) //nolint:sloglint // the callers' messages are constant
	}
}

package main

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ssebridge/ssebridge/bridge"
)

// histograms hands to the SDK's readers what it has no instrument for. They are
// cumulative, whatever a reader prefers.
type histograms struct {
	scope instrumentation.Scope
	start time.Time

	mu  sync.Mutex
	all []*bridge.Histogram
}

// Produce implements [sdkmetric.Producer].
func (h *histograms) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := metricdata.ScopeMetrics{Scope: h.scope}
	for _, one := range h.all {
		counts, sum := one.Read()
		count := uint64(0)
		for _, n := range counts {
			count += n
		}
		out.Metrics = append(out.Metrics, metricdata.Metrics{
			Name: one.Name, Description: one.About, Unit: "s",
			Data: metricdata.Histogram[float64]{
				Temporality: metricdata.CumulativeTemporality,
				DataPoints: []metricdata.HistogramDataPoint[float64]{{
					Attributes: *attribute.EmptySet(), StartTime: h.start, Time: time.Now(),
					Count: count, Bounds: one.Bounds, BucketCounts: counts, Sum: sum,
				}},
			},
		})
	}
	return []metricdata.ScopeMetrics{out}, nil
}

// histogramMeter is a meter of the SDK, and takes histograms besides.
type histogramMeter struct {
	metric.Meter
	histograms *histograms
}

var (
	_ bridge.HistogramMeter = (*histogramMeter)(nil)
	_ sdkmetric.Producer    = (*histograms)(nil)
)

// ObserveHistogram implements [bridge.HistogramMeter].
func (m *histogramMeter) ObserveHistogram(h *bridge.Histogram) {
	m.histograms.mu.Lock()
	defer m.histograms.mu.Unlock()
	m.histograms.all = append(m.histograms.all, h)
}

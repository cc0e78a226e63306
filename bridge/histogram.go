package bridge

import (
	"math"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// A HistogramMeter is a meter that reads histograms when it is asked for them, as
// it does with counters that are observed. OpenTelemetry's API has no such thing,
// and to record a value takes it 200 ns: too much for what happens with every write
// to every client. It is found by type assertion; other meters go without the
// histograms.
type HistogramMeter interface {
	metric.Meter
	// ObserveHistogram makes h known, which may be read at any time from then on.
	ObserveHistogram(h *Histogram)
}

// Histogram counts times in buckets. It is safe for concurrent use.
type Histogram struct {
	Name, About string
	// Bounds are the upper bounds of the buckets in seconds, each its own, rising;
	// the last bucket has none.
	Bounds []float64

	bounds []time.Duration
	counts []atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Histogram makes a histogram of times, which the meter reads if it can.
func (in *Instruments) Histogram(name, about string, bounds ...float64) *Histogram {
	h := &Histogram{Name: name, About: about, Bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
	for _, b := range bounds {
		h.bounds = append(h.bounds, time.Duration(math.Round(b*float64(time.Second))))
	}
	if m, ok := in.meter.(HistogramMeter); ok {
		m.ObserveHistogram(h)
	}
	return h
}

// Read returns how many values each bucket has, and the sum of all in seconds.
func (h *Histogram) Read() (counts []uint64, sum float64) {
	counts = make([]uint64, len(h.counts))
	for i := range h.counts {
		counts[i] = h.counts[i].Load()
	}
	return counts, time.Duration(h.sum.Load()).Seconds()
}

// Record counts one value.
func (h *Histogram) Record(d time.Duration) {
	h.counts[h.bucket(d)].Add(1)
	h.sum.Add(int64(d))
}

func (h *Histogram) bucket(d time.Duration) int {
	for i, b := range h.bounds {
		if d <= b {
			return i
		}
	}
	return len(h.bounds)
}

// Tally returns a tally for the histogram.
func (h *Histogram) Tally() *Tally { return &Tally{of: h, counts: make([]uint64, len(h.counts))} }

// Tally counts values for a histogram, which has them after Flush: for one
// goroutine that has many. It is used by that alone.
type Tally struct {
	of     *Histogram
	counts []uint64
	sum    time.Duration
}

// Record counts one value.
func (t *Tally) Record(d time.Duration) {
	t.counts[t.of.bucket(d)]++
	t.sum += d
}

// Flush hands what was counted to the histogram.
func (t *Tally) Flush() {
	for i, n := range t.counts {
		if n > 0 {
			t.of.counts[i].Add(n)
			t.counts[i] = 0
		}
	}
	if t.sum != 0 {
		t.of.sum.Add(int64(t.sum))
		t.sum = 0
	}
}

package bridge

import (
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

// heard is a meter that reads histograms.
type heard struct {
	noop.Meter
	histograms []*Histogram
}

func (h *heard) ObserveHistogram(x *Histogram) { h.histograms = append(h.histograms, x) }

// A bound belongs to the bucket below it, as in OpenTelemetry and Prometheus, and
// a tally counts as if each of its values had been recorded by itself.
func TestHistogramCountsEachValueOnceInItsBucket(t *testing.T) {
	meter := new(heard)
	h := NewInstruments(meter).Histogram("x", "about", 0.0001, 0.1, 2.5)
	if len(meter.histograms) != 1 || meter.histograms[0] != h {
		t.Fatalf("the meter knows %v", meter.histograms)
	}
	values := []time.Duration{0, 1, 100 * time.Microsecond, 100*time.Microsecond + 1, 99 * time.Millisecond, 100 * time.Millisecond, 2500 * time.Millisecond, 2500*time.Millisecond + 1, time.Hour}
	want := []uint64{3, 3, 1, 2}
	var sum time.Duration
	for _, v := range values {
		h.Record(v)
		sum += v
	}
	if got, s := h.Read(); !slices.Equal(got, want) || s != sum.Seconds() {
		t.Errorf("counted %v with a sum of %v, want %v and %v", got, s, want, sum.Seconds())
	}
	tally := h.Tally()
	for _, v := range values {
		tally.Record(v)
	}
	if got, _ := h.Read(); !slices.Equal(got, want) {
		t.Errorf("a tally told %v before it was flushed, want %v", got, want)
	}
	tally.Flush()
	tally.Flush() // has nothing left
	for i := range want {
		want[i] *= 2
	}
	if got, s := h.Read(); !slices.Equal(got, want) || s != 2*sum.Seconds() {
		t.Errorf("counted %v with a sum of %v, want %v and %v", got, s, want, 2*sum.Seconds())
	}
}

// Many count at once, and nothing is lost.
func TestHistogramIsCountedByMany(t *testing.T) {
	h := NewInstruments(noop.Meter{}).Histogram("x", "about", 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tally := h.Tally()
			for range 1000 {
				h.Record(time.Second)
				tally.Record(2 * time.Second)
				tally.Flush()
			}
		})
	}
	wg.Wait()
	if got, sum := h.Read(); !slices.Equal(got, []uint64{8000, 8000}) || sum != 24000 {
		t.Errorf("counted %v with a sum of %v, want 8000 twice and 24000", got, sum)
	}
}

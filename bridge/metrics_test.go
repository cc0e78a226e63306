package bridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// collect returns all that a meter has, as "name{label=value,…} value".
func collect(t *testing.T, reader sdkmetric.Reader) map[string]float64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	add := func(name, labels string, v float64) { out[name+"{"+labels+"}"] = v }
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes.Encoded(labelEncoder{}), float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes.Encoded(labelEncoder{}), p.Value)
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes.Encoded(labelEncoder{}), float64(p.Value))
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	return out
}

// reportingSource also tells the end of its log.
type reportingSource struct {
	fakeSource
	reports []PartitionReport
}

func (s *reportingSource) ReportPartitions() []PartitionReport { return s.reports }

// An alarm at night is about lag and state: they have to be right when all is
// well, while older records are read, and while the broker is away.
func TestMetricsTellLagAndState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &reportingSource{reports: []PartitionReport{{End: 10}, {End: UnknownOffset}}}
		s := NewStream("s", source, StreamOptions{})
		hub := NewHub([]*Stream{s}, HubOptions{})
		reader := sdkmetric.NewManualReader()
		if _, err := hub.Observe(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")); err != nil {
			t.Fatal(err)
		}
		expect := func(when string, want ...string) {
			t.Helper()
			got := collect(t, reader)
			for _, w := range want {
				name, value, _ := strings.Cut(w, " ")
				if v, ok := got[name]; !ok || fmt.Sprint(v) != value {
					t.Errorf("%s: %s is %v (%v), want %s", when, name, v, ok, value)
				}
			}
		}
		expect("before the broker answers", "ssebridge.stream.state{state=starting,stream=s} 1", "ssebridge.stream.state{state=reading,stream=s} 0")

		receiver{s}.Change(Change{Kind: Started, Position: Position{1, []Place{{Offset: 6}, {}}}})
		receiver{s}.Change(Change{Kind: Reading})
		time.Sleep(3 * time.Second)
		expect("nothing was read yet", "ssebridge.stream.state{state=reading,stream=s} 1",
			"ssebridge.stream.lag{partition=0,stream=s} 3", "ssebridge.stream.lag.records{partition=0,stream=s} 4",
			"ssebridge.stream.lag{partition=1,stream=s} 0")
		if _, told := collect(t, reader)["ssebridge.stream.lag.records{partition=1,stream=s}"]; told {
			t.Error("the lag in records is told for a partition whose end nobody knows")
		}

		receiver{s}.Records([]Record{{Offset: 6, Time: time.Now().Add(-time.Minute), Data: []byte("abc"), Key: []byte("k")}})
		expect("behind, and the record is older than that", "ssebridge.stream.lag{partition=0,stream=s} 3", "ssebridge.stream.lag.records{partition=0,stream=s} 3",
			"ssebridge.stream.records{stream=s} 1", "ssebridge.stream.bytes{stream=s} 4")
		receiver{s}.Records([]Record{{Offset: 7, Time: time.Now().Add(-2 * time.Second)}})
		expect("behind", "ssebridge.stream.lag{partition=0,stream=s} 2")
		receiver{s}.Records([]Record{{Offset: 8, Time: time.Now().Add(time.Hour)}})
		expect("the producer's clock is ahead", "ssebridge.stream.lag{partition=0,stream=s} 0")
		receiver{s}.Records([]Record{{Offset: 9, Time: time.Now()}})
		time.Sleep(time.Hour)
		expect("at the end", "ssebridge.stream.lag{partition=0,stream=s} 0", "ssebridge.stream.lag.records{partition=0,stream=s} 0")

		receiver{s}.Change(Change{Kind: Doubted})
		receiver{s}.Change(Change{Kind: Waiting, Err: errors.New("away")})
		time.Sleep(7 * time.Second)
		expect("the broker is away", "ssebridge.stream.state{state=waiting,stream=s} 1",
			"ssebridge.stream.lag{partition=0,stream=s} 7", "ssebridge.stream.generations{stream=s} 1")
	})
}

// A counter that goes back is a rate that cannot be.
func TestEvictionsAreCountedAcrossFeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLiveRig(t, HubOptions{RingBytes: 1}, "s")
		g := r.join(Filter{}, "s")
		r.records("s", "a", 5)
		before := r.Stats().Evictions
		g.Leave()
		time.Sleep(feedLinger)
		synctest.Wait()
		if got := r.Stats(); got.Feeds != 0 || got.Evictions != before || before == 0 {
			t.Errorf("%+v after the feed is gone, want the %d evictions of before", got, before)
		}
	})
}

// labelEncoder writes labels as "name=value,…".
type labelEncoder struct{}

func (labelEncoder) ID() attribute.EncoderID { return attribute.NewEncoderID() }

func (labelEncoder) Encode(i attribute.Iterator) string {
	var labels []string
	for i.Next() {
		kv := i.Attribute()
		labels = append(labels, string(kv.Key)+"="+kv.Value.String())
	}
	return strings.Join(labels, ",")
}

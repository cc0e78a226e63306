package replay

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// traced is js with its spans recorded.
func traced() (rigStream, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	s := js
	s.options.Trace = bridge.TraceOptions{
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test"), Deliveries: 16,
	}
	return s, recorder
}

var request = trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})

// named lists the ended spans whose trace is the request's, or is not but is
// linked to it, by name.
func named(recorder *tracetest.SpanRecorder, inside bool) []string {
	var names []string
	for _, s := range recorder.Ended() {
		linked := slices.ContainsFunc(s.Links(), func(l sdktrace.Link) bool { return l.SpanContext.TraceID() == request.TraceID() })
		if in := s.SpanContext().TraceID() == request.TraceID(); in == inside && (in || linked) {
			names = append(names, s.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// A slow resume is explained by its trace: what the broker was asked, what it
// said, and what was read.
func TestResumeIsTracedBelowItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, recorder := traced()
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.fill("j", 0, 3)
		sub := bridge.Subscription{Start: all(), Heartbeat: 15 * time.Second, Control: true}
		sub.Form.Encoder = simEncoder{}
		c := &rigClient{t: t, Follower: r.replay.Open(trace.ContextWithSpanContext(t.Context(), request), &sub)}
		t.Cleanup(c.leave)
		c.until("caught-up")
		c.expect(second)
		want := []string{"catch up j", "read j", "start j", "verify j"}
		if got := named(recorder, true); !slices.Equal(got, want) {
			t.Errorf("spans %q, want %q", got, want)
		}
		for _, s := range recorder.Ended() {
			if s.Name() == "verify j" && !slices.ContainsFunc(s.Attributes(), func(kv attribute.KeyValue) bool {
				return string(kv.Key) == "ssebridge.verdict" && kv.Value.AsString() == "exact"
			}) {
				t.Errorf("the verdict is not on its span: %v", s.Attributes())
			}
		}
	})
}

// A client that falls back after hours belongs to a trace of its own: those that
// go on for days are of no use.
func TestLaterCatchUpsAreLinkedToTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, recorder := traced()
		r := newRig(t, Options{}, bridge.HubOptions{RingBytes: 600}, stream)
		sub := bridge.Subscription{Heartbeat: 15 * time.Second, Control: true}
		sub.Form.Encoder = simEncoder{}
		c := &rigClient{t: t, Follower: r.replay.Open(trace.ContextWithSpanContext(t.Context(), request), &sub)}
		t.Cleanup(c.leave)
		c.until("caught-up")
		c.expect(second)
		recorder.Reset()
		time.Sleep(time.Hour)
		c.expect(second, "heartbeat")
		r.fill("j", 0, 20) // more than the ring holds
		if got, _ := c.read(2 * second); len(got) != 20 {
			t.Fatalf("got %q, want 20 records", got)
		}
		if got := named(recorder, true); len(got) > 0 {
			t.Errorf("%q are in the trace of the request", got)
		}
		if got := named(recorder, false); !slices.Contains(got, "verify j") || !slices.Contains(got, "catch up j") || !slices.Contains(got, "read j") {
			t.Errorf("%q are linked to the request, want the verdict, the read and the catch-up", got)
		}
	})
}

// Who asked for no trace gets none, or a busy bridge would drown its collector.
func TestUnsampledRequestsAreNotTraced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, recorder := traced()
		r := newRig(t, Options{}, bridge.HubOptions{RingBytes: 600}, stream)
		r.fill("j", 0, 3)
		recorder.Reset()
		sub := bridge.Subscription{Start: all(), Heartbeat: 15 * time.Second, Control: true}
		sub.Form.Encoder = simEncoder{}
		c := &rigClient{t: t, Follower: r.replay.Open(trace.ContextWithSpanContext(t.Context(), request.WithTraceFlags(0)), &sub)}
		t.Cleanup(c.leave)
		c.until("caught-up")
		c.expect(second)
		r.fill("j", 0, 20) // more than the ring holds
		if got, _ := c.read(2 * second); len(got) != 20 {
			t.Fatalf("got %q, want 20 records", got)
		}
		for _, s := range recorder.Ended() {
			t.Errorf("span %s", s.Name())
		}
	})
}

// A broker that is away for an hour is asked some two thousand times for each
// client that waits. A handful of spans tell that as well.
func TestOutageMakesFewSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, recorder := traced()
		away := true
		stream.source.Before = func(_ context.Context, op sourcetest.Op) error {
			if op == sourcetest.OpVerify && away {
				return bridge.ErrUnavailable
			}
			return nil
		}
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		sub := bridge.Subscription{Heartbeat: 15 * time.Second, Control: true}
		sub.Form.Encoder = simEncoder{}
		c := &rigClient{t: t, Follower: r.replay.Open(trace.ContextWithSpanContext(t.Context(), request), &sub)}
		t.Cleanup(c.leave)
		if _, err := c.read(time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := len(recorder.Ended()); got < 5 || got > 20 {
			t.Errorf("%d spans, want about as many as doublings in an hour", got)
		}
		for _, s := range recorder.Ended() {
			if got := s.EndTime().Sub(s.StartTime()); got > bridge.LongestSpan {
				t.Errorf("%s lasts %s", s.Name(), got)
			}
		}
	})
}

// What clients were told is what operators count: verdicts, gaps and resets.
func TestWhatClientsAreToldIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdkmetric.NewManualReader()
		r := newRig(t, Options{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")}, bridge.HubOptions{}, js)
		r.fill("j", 0, 4)
		c := r.follow(bridge.Subscription{Start: all()})
		c.expect(second, "connected new", "data j/0@1 1", "data j/0@2 2", "data j/0@3 3", "data j/0@4 4", "caught-up")
		behind := from(t, c.last)
		c.leave()
		c = r.follow(bridge.Subscription{From: behind})
		c.expect(second, "connected exact", "caught-up")
		c.leave()
		r.brokers["j"].Recreate(1)
		r.write("j", 0, "s", "5")
		c = r.follow(bridge.Subscription{From: behind, OnReset: bridge.ResetAll})
		c.until("caught-up")
		c.expect(second) // level by now
		got := countersOf(t, reader)
		for name, want := range map[string]int64{
			"ssebridge.resumes verdict=new": 1, "ssebridge.resumes verdict=exact": 1, "ssebridge.resumes verdict=gap": 0, "ssebridge.resumes verdict=reset": 1,
			"ssebridge.resets reason=recreated,stream=j": 1, "ssebridge.resets reason=rolled-back,stream=j": 0, "ssebridge.gaps reason=retention,stream=j": 0,
			"ssebridge.replay.reads stream=j": int64(r.replay.Stats().Reads), "ssebridge.catchup_clients ": 0,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s is %d (%v), want %d", name, v, ok, want)
			}
		}
		if r.replay.Stats().Reads == 0 {
			t.Error("no chunk was read: the test tests nothing")
		}
	})
}

// countersOf returns all integers that a meter has, by name and labels.
func countersOf(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	note := func(name string, points []metricdata.DataPoint[int64]) {
		for _, p := range points {
			var labels []string
			for _, kv := range p.Attributes.ToSlice() {
				labels = append(labels, string(kv.Key)+"="+kv.Value.String())
			}
			out[name+" "+strings.Join(labels, ",")] = p.Value
		}
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				note(m.Name, data.DataPoints)
			case metricdata.Gauge[int64]:
				note(m.Name, data.DataPoints)
			}
		}
	}
	return out
}

// A batch says what its writer has to count, for live records and older ones.
func TestBatchTellsRecordsAndTheirAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		r.fill("j", 0, 2)
		c := r.follow(bridge.Subscription{Start: all()})
		records := 0
		for records < 2 {
			b, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			records += b.Records
			if !b.Received.IsZero() {
				t.Errorf("a record of a replay was received live at %s", b.Received)
			}
		}
		c.expect(second)
		r.write("j", 0, "s", "3")
		written := time.Now()
		time.Sleep(second)
		r.write("j", 0, "s", "4")
		b, err := c.Next(t.Context())
		if err != nil || len(b.Units) != 2 || b.Records != 2 || !b.Received.Equal(written) {
			t.Errorf("%d units, %d records, received %s, %v; want 2, 2 and the older's %s", len(b.Units), b.Records, b.Received, err, written)
		}
	})
}

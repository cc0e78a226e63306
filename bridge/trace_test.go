package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	producerTrace = "0af7651916cd43dd8448eb211c80319c"
	producerSpan  = "b7ad6b7169203331"
	sampledParent = "00-" + producerTrace + "-" + producerSpan + "-01"
)

// traceRig is a live rig whose stream s is traced.
type traceRig struct {
	*liveRig
	stream   *Stream
	recorder *tracetest.SpanRecorder
}

func newTraceRig(t *testing.T, o TraceOptions) *traceRig {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	o.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	s := NewStream("s", &fakeSource{}, StreamOptions{Trace: o})
	r := &traceRig{&liveRig{Hub: NewHub([]*Stream{s}, HubOptions{}), t: t}, s, recorder}
	receiver{s}.Change(Change{Kind: Started, Position: Position{1, []Place{{}}}})
	return r
}

// publish reads one record with these headers, name and value in turn.
func (r *traceRig) publish(subject string, headers ...string) {
	live, _ := r.stream.LivePlace(0)
	rec := Record{Offset: live.Offset, Origin: subject, Data: []byte("x")}
	for i := 0; i < len(headers); i += 2 {
		rec.Headers = append(rec.Headers, Header{headers[i], []byte(headers[i+1])})
	}
	receiver{r.stream}.Records([]Record{rec})
}

// spans lists the ended spans as "name parent links", links being those to the
// producer and to others.
func (r *traceRig) spans() []string {
	names := map[trace.SpanID]string{}
	ended := r.recorder.Ended()
	for _, s := range ended {
		names[s.SpanContext().SpanID()] = s.Name()
	}
	var out []string
	for _, s := range ended {
		parent := names[s.Parent().SpanID()]
		if parent == "" {
			parent = "-"
		}
		text := s.Name() + " < " + parent
		for _, l := range s.Links() {
			if l.SpanContext.TraceID().String() == producerTrace && l.SpanContext.SpanID().String() == producerSpan {
				text += " +producer"
			} else {
				text += " +other"
			}
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

func (r *traceRig) want(want ...string) {
	r.t.Helper()
	if got := r.spans(); !slices.Equal(got, want) {
		r.t.Errorf("spans\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// request is that of a client that came just now.
func request() RequestTrace {
	return RequestTrace{trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled}), time.Now()}
}

// Who follows one order from the shop to the browser finds the bridge by the
// producer's trace id, and the counts of the clients that got it.
func TestRecordIsTracedFromProducerToDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTraceRig(t, TraceOptions{System: "kafka", Server: "k", Deliveries: 2})
		c := r.level(r.join(Filter{}, "s"))
		r.publish("a", "Traceparent", sampledParent)
		entries, _ := c.Take(nil, 1<<20)
		at := time.Now()
		time.Sleep(100 * time.Millisecond)
		for range 5 {
			entries[0].Trace.Delivered(request(), at, time.Now())
		}
		time.Sleep(processHold + time.Millisecond)
		r.want("deliver s < process s +producer +other", "deliver s < process s +producer +other",
			"process s < receive s +producer", "receive s < - +producer")
		for _, s := range r.recorder.Ended() {
			if s.Name() != "process s" {
				continue
			}
			if s.SpanKind() != trace.SpanKindConsumer || s.EndTime().Sub(s.StartTime()) != 100*time.Millisecond {
				t.Errorf("process span is %s and lasts %s, want consumer and the 100ms up to the last delivery", s.SpanKind(), s.EndTime().Sub(s.StartTime()))
			}
			for _, want := range []attribute.KeyValue{
				attribute.Int64("ssebridge.deliveries", 5), attribute.String("messaging.system", "kafka"),
				attribute.String("messaging.operation.type", "process"), attribute.String("messaging.destination.name", "a"),
				attribute.String("messaging.destination.partition.id", "0"), attribute.Int64("messaging.kafka.offset", 0),
			} {
				if !slices.Contains(s.Attributes(), want) {
					t.Errorf("process span has no %v among %v", want, s.Attributes())
				}
			}
		}
	})
}

// Nobody has to read what nobody asked for, and no producer can make spans by
// headers that only look like a trace context.
func TestNoSpansWithoutASampledProducer(t *testing.T) {
	for _, headers := range [][]string{
		nil,
		{"traceparent", "00-" + producerTrace + "-" + producerSpan + "-00"},
		{"traceparent", ""},
		{"traceparent", "01"},
		{"traceparent", "00-" + strings.Repeat("0", 32) + "-" + producerSpan + "-01"},
		{"traceparent", "00-" + producerTrace + "-" + strings.Repeat("0", 16) + "-01"},
		{"traceparent", strings.ToUpper(sampledParent)},
		{"traceparent", "ff" + sampledParent[2:]},
		{"traceparent", sampledParent + "-01"},
		{"traceparent", strings.Repeat("1", 4096)},
		{"traceparent", sampledParent, "Traceparent", sampledParent},
		{"tracestate", "a=b"},
	} {
		t.Run(fmt.Sprintf("%.60q", headers), func(t *testing.T) {
			r := newTraceRig(t, TraceOptions{Deliveries: 2})
			c := r.level(r.join(Filter{}, "s"))
			r.publish("a", headers...)
			entries, _ := c.Take(nil, 1<<20)
			entries[0].Trace.Delivered(request(), time.Now(), time.Now())
			r.want()
		})
	}
}

// A span that waits for deliveries waits for none of a record that nobody sees.
func TestProcessSpanOfARecordThatNobodySeesEndsAtOnce(t *testing.T) {
	r := newTraceRig(t, TraceOptions{})
	r.join(NewFilter("other"), "s")
	r.publish("a", "traceparent", sampledParent)
	r.want("process s < receive s +producer", "receive s < - +producer")
}

// A burst of sampled records must not hold thousands of open spans, and the end
// of the process none.
func TestOpenSpansAreBoundedAndEndWithTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTraceRig(t, TraceOptions{})
		r.join(Filter{}, "s")
		for range maxOpenTraces + 3 {
			r.publish("a", "traceparent", sampledParent)
		}
		process := func() (n int) {
			for _, s := range r.recorder.Ended() {
				if s.Name() == "process s" {
					n++
				}
			}
			return n
		}
		if got := process(); got != 3 {
			t.Errorf("%d process spans have ended, want the 3 oldest", got)
		}
		r.stream.trace.endAll()
		if got := process(); got != maxOpenTraces+3 {
			t.Errorf("%d process spans have ended with the stream, want all", got)
		}
		time.Sleep(2 * processHold) // the timer finds nothing
		r.publish("a", "traceparent", sampledParent)
		time.Sleep(processHold + time.Millisecond)
		if got := process(); got != maxOpenTraces+4 {
			t.Errorf("%d process spans, want one more", got)
		}
	})
}

// Records of a replay have no process span of their own, but who gets them is
// seen, in the trace of the request that asked for them.
func TestReplayedRecordsHaveDeliverySpans(t *testing.T) {
	r := newTraceRig(t, TraceOptions{Deliveries: 1})
	recs := []Record{{Origin: "a", Headers: []Header{{"traceparent", []byte(sampledParent)}}}, {Origin: "a"}}
	r.stream.Prepare(recs)
	for range 2 {
		recs[0].Trace.Delivered(request(), time.Now(), time.Now())
	}
	recs[1].Trace.Delivered(request(), time.Now(), time.Now())
	r.want("deliver s < - +producer")
	old := request()
	old.Began = old.Began.Add(-openingFor)
	again := []Record{{Origin: "a", Headers: recs[0].Headers}}
	r.stream.Prepare(again)
	again[0].Trace.Delivered(old, time.Now().Add(-time.Hour), time.Now())
	last := r.recorder.Ended()[1]
	if last.Parent().IsValid() || len(last.Links()) != 2 || last.EndTime().Sub(last.StartTime()) > LongestSpan {
		t.Errorf("a delivery long after the request has the parent %v and %d links, and lasts %s", last.Parent(), len(last.Links()), last.EndTime().Sub(last.StartTime()))
	}
	if got := r.recorder.Ended()[0].Parent(); got.SpanID() != request().Span.SpanID() {
		t.Errorf("its parent is %v, want the request", got)
	}
}

// A span of a broker that does not answer is of use while it does not answer.
func TestSpansEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTraceRig(t, TraceOptions{})
		ctx := context.WithValue(t.Context(), tailKey{}, r.stream)
		ctx, tail := StartTailSpan(ctx, "verify")
		_, question := StartSpan(ctx, "Fetch")
		time.Sleep(LongestSpan + 1)
		r.want("Fetch < verify s", "verify s < -")
		EndSpan(question, nil)
		EndSpan(tail, ErrUnavailable)
		for _, s := range r.recorder.Ended() {
			if got := s.EndTime().Sub(s.StartTime()); got != LongestSpan {
				t.Errorf("%s lasts %s, want %s", s.Name(), got, LongestSpan)
			}
		}
	})
}

// With tracing off, and for what nobody sampled, it costs the hot path nothing.
func TestTracingAllocatesNothingWhereNothingIsTraced(t *testing.T) {
	headers := []Header{
		{"content-type", []byte("application/json")},
		{"traceparent", []byte("00-" + producerTrace + "-" + producerSpan + "-00")},
	}
	recs := slices.Repeat([]Record{{Headers: headers, Origin: "a"}}, 64)
	sampled := slices.Repeat([]Record{{Headers: []Header{{"traceparent", []byte(sampledParent)}}, Origin: "a"}}, 64)
	on := newTraceRig(t, TraceOptions{Deliveries: 1}).stream.trace
	now := time.Now()
	for name, f := range map[string]func(){
		"off":          func() { (*tracing)(nil).begin(sampled, now).End(); (*tracing)(nil).hold(sampled) },
		"not sampled":  func() { on.begin(recs, now).End(); on.hold(recs) },
		"not traced":   func() { (*RecordTrace)(nil).Delivered(RequestTrace{}, now, now) },
		"replayed":     func() { (*tracing)(nil).again(&sampled[0]); on.again(&recs[0]) },
		"no operation": func() { _, span := StartSpan(context.Background(), "Fetch"); EndSpan(span, nil) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations, want none", name, got)
		}
	}
}

// One byte that is not UTF-8 would make an exporter drop all that it would send
// along.
func TestSpansHoldNothingButUTF8(t *testing.T) {
	r := newTraceRig(t, TraceOptions{})
	r.join(Filter{}, "s")
	r.publish("a\xff"+strings.Repeat("x", 10_000), "traceparent", sampledParent)
	_, span := r.stream.StartSpan(t.Context(), "verify")
	EndSpan(span, errors.New("no\xff"+strings.Repeat("x", 10_000)))
	r.stream.trace.endAll()
	for _, s := range r.recorder.Ended() {
		texts := []string{s.Status().Description}
		for _, kv := range s.Attributes() {
			texts = append(texts, kv.Value.String())
		}
		for _, text := range texts {
			if !utf8.ValidString(text) || len(text) > 300 {
				t.Errorf("%s has a text of %d bytes: %.40q", s.Name(), len(text), text)
			}
		}
	}
	if got := len(r.recorder.Ended()); got != 3 {
		t.Errorf("%d spans, want 3", got)
	}
}

// What is handed on to clients is the producer's own context, or nothing.
func TestTraceContextIsThatOfTheProducer(t *testing.T) {
	for _, tc := range []struct {
		headers       []Header
		parent, state string
	}{
		{nil, "", ""},
		{[]Header{{"traceparent", []byte(sampledParent)}, {"tracestate", []byte("a=b,c=d")}}, sampledParent, "a=b,c=d"},
		{[]Header{{"TraceParent", []byte(strings.Replace(sampledParent, "-01", "-00", 1))}}, strings.Replace(sampledParent, "-01", "-00", 1), ""},
		{[]Header{{"traceparent", []byte(sampledParent)}, {"tracestate", []byte("\r\ndata: x")}}, sampledParent, ""},
		{[]Header{{"traceparent", []byte("00-\r\n")}, {"tracestate", []byte("a=b")}}, "", ""},
		{[]Header{{"traceparent", []byte(sampledParent)}, {"traceparent", []byte(sampledParent)}}, "", ""},
	} {
		r := Record{Headers: tc.headers}
		if parent, state := r.TraceContext(); parent != tc.parent || state != tc.state {
			t.Errorf("%q: got %q and %q, want %q and %q", tc.headers, parent, state, tc.parent, tc.state)
		}
	}
}

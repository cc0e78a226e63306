package sink

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
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ssebridge/ssebridge/bridge"
)

// values returns what a meter has counted, by "name label=value".
func values(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	add := func(name string, labels attribute.Set, v int64) {
		for _, kv := range labels.ToSlice() {
			name += " " + string(kv.Key) + "=" + kv.Value.String()
		}
		out[name] = v
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(m.Name+" count", p.Attributes, int64(p.Count))
					add(m.Name+" ms", p.Attributes, int64(p.Sum*1000))
				}
			}
		}
	}
	return out
}

// expectValues compares some of what was counted.
func expectValues(t *testing.T, reader sdkmetric.Reader, want map[string]int64) {
	t.Helper()
	got := values(t, reader)
	for name, w := range want {
		if g, ok := got[name]; !ok || g != w {
			t.Errorf("%s is %d (%v), want %d", name, g, ok, w)
		}
	}
}

func metered() (Options, sdkmetric.Reader) {
	produced := new(histograms)
	reader := sdkmetric.NewManualReader(sdkmetric.WithProducer(produced))
	produced.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	return Options{Meter: produced}, reader
}

// histograms is a meter, and the producer of what it is given to read.
type histograms struct {
	metric.Meter
	all []*bridge.Histogram
}

func (h *histograms) ObserveHistogram(one *bridge.Histogram) { h.all = append(h.all, one) }

func (h *histograms) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	var out metricdata.ScopeMetrics
	for _, one := range h.all {
		counts, sum := one.Read()
		p := metricdata.HistogramDataPoint[float64]{Attributes: *attribute.EmptySet(), Bounds: one.Bounds, BucketCounts: counts, Sum: sum}
		for _, n := range counts {
			p.Count += n
		}
		out.Metrics = append(out.Metrics, metricdata.Metrics{Name: one.Name, Data: metricdata.Histogram[float64]{DataPoints: []metricdata.HistogramDataPoint[float64]{p}}})
	}
	return []metricdata.ScopeMetrics{out}, nil
}

// Each way in which a connection ends has a name, or an operator cannot tell
// clients that leave from a bridge that throws them out.
func TestEveryEndOfAConnectionIsCountedByItsReason(t *testing.T) {
	for reason, end := range map[string]struct {
		options func(*Options)
		end     func(b *bench, s *script, leave func())
	}{
		"client":     {end: func(_ *bench, _ *script, leave func()) { leave() }},
		"drain":      {end: func(b *bench, _ *script, _ func()) { _ = b.handler.Drain(b.t.Context(), 0) }},
		"max-age":    {options: func(o *Options) { o.MaxAge = time.Minute }, end: func(*bench, *script, func()) { time.Sleep(2 * time.Minute) }},
		"disconnect": {end: func(b *bench, _ *script, _ func()) { b.handler.Disconnect(1) }},
		"overload":   {end: func(_ *bench, s *script, _ func()) { s.steps <- step{err: bridge.ErrTooManyFilters} }},
		"refused":    {end: func(_ *bench, s *script, _ func()) { s.steps <- step{err: bridge.ErrNoStream} }},
		"reset":      {end: func(_ *bench, s *script, _ func()) { s.steps <- step{err: &bridge.ResetError{Stream: "orders"}} }},
		"error":      {end: func(_ *bench, s *script, _ func()) { s.steps <- step{err: errors.New("a bug")} }},
		"slow": {options: func(o *Options) { o.WriteTimeout = time.Second }, end: func(_ *bench, s *script, _ func()) {
			for range 3 { // the pipe holds nothing back, and nobody reads
				select {
				case s.steps <- step{blocks: strings.Repeat("x", pieceBytes)}:
				case <-time.After(time.Minute):
				}
			}
		}},
	} {
		t.Run(reason, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				o, reader := metered()
				if end.options != nil {
					end.options(&o)
				}
				b := start(t, o)
				c := b.client("/events")
				s, err := c.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				f := <-b.opened
				f.steps <- step{blocks: "event: connected\ndata: {}\n\n", id: validID}
				if _, err := s.Next(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				expectValues(t, reader, map[string]int64{"ssebridge.clients": 1, "ssebridge.connections.opened": 1, "ssebridge.connections.closed reason=" + reason: 0})
				end.end(b, f, s.Close)
				time.Sleep(time.Minute)
				synctest.Wait()
				want := map[string]int64{"ssebridge.clients": 0, "ssebridge.connections.closed reason=" + reason: 1}
				for _, other := range []string{"client", "slow", "drain", "overload", "max-age", "disconnect", "reset", "refused", "error"} {
					if other != reason {
						want["ssebridge.connections.closed reason="+other] = 0
					}
				}
				expectValues(t, reader, want)
				s.Close()
			})
		})
	}
}

// What was delivered is counted in records and bytes, and late deliveries show.
func TestDeliveriesAreCountedAndTimed(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		o, reader := metered()
		b := start(t, o)
		c := b.client("/events")
		s, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f := <-b.opened
		received := time.Now()
		time.Sleep(70 * time.Millisecond)
		f.steps <- step{blocks: "data: 1\nid: 1\n\ndata: 2\nid: 2\n\n", batch: bridge.Batch{Records: 2, Received: received}}
		expect(t, s, "message", "1")
		expect(t, s, "message", "2")
		synctest.Wait()
		expectValues(t, reader, map[string]int64{
			"ssebridge.events.delivered": 2, "ssebridge.bytes.sent": 30, "ssebridge.write.duration count": 1,
			"ssebridge.delivery.delay count": 1, "ssebridge.delivery.delay ms": 70,
		})
		s.Close()
	})
}

// Refused requests are counted by their code, and a code has no room for what
// clients say.
func TestRefusedRequestsAreCountedByCode(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		o, reader := metered()
		o.MaxClients = 1
		b := start(t, o)
		for _, path := range []string{"/nothing", "/events?hallo=1", "/events?subject=..", "/events/unknown"} {
			b.get(b.client(path))
		}
		s, err := b.client("/events").Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.get(b.client("/events"))
		synctest.Wait()
		expectValues(t, reader, map[string]int64{
			"ssebridge.requests.refused code=not-found": 1, "ssebridge.requests.refused code=unknown-parameter": 1,
			"ssebridge.requests.refused code=bad-subject": 1, "ssebridge.requests.refused code=unknown-stream": 1,
			"ssebridge.requests.refused code=overload": 1, "ssebridge.requests.refused code=reset": 0, "ssebridge.connections.opened": 1,
		})
		for name := range values(t, reader) {
			if strings.Contains(name, "hallo") || strings.Contains(name, "nothing") {
				t.Errorf("%s has a word of a client", name)
			}
		}
		s.Close()
	})
}

// traceparentOf is the header of a client that is traced.
const (
	clientTrace  = "11111111111111111111111111111111"
	clientParent = "00-" + clientTrace + "-2222222222222222-01"
)

// spansOf lists ended spans as "name status", with those of the client's trace
// marked.
func spansOf(recorder *tracetest.SpanRecorder) []string {
	var out []string
	for _, s := range recorder.Ended() {
		text := s.Name()
		for _, kv := range s.Attributes() {
			if kv.Key == "http.response.status_code" || kv.Key == "ssebridge.reason" {
				text += " " + kv.Value.String()
			}
		}
		if s.SpanContext().TraceID().String() == clientTrace {
			text += " *"
		}
		out = append(out, text)
	}
	return out
}

// A connection lasts for days; its span ends with the head, and a short one tells
// how it ended.
func TestSpanOfARequestEndsWithItsHead(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		recorder := tracetest.NewSpanRecorder()
		b := start(t, Options{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")})
		c := b.client("/events?subject=secret.*")
		c.Header = map[string]string{"traceparent": clientParent}
		s, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f := <-b.opened
		f.steps <- step{blocks: "data: 1\nid: " + validID + "\n\n", id: validID}
		expect(t, s, "message", "1")
		synctest.Wait()
		if got, want := spansOf(recorder), []string{"GET /events 200 *"}; !slices.Equal(got, want) {
			t.Fatalf("spans %q while the stream is open, want %q", got, want)
		}
		opening := recorder.Ended()[0]
		for _, kv := range opening.Attributes() {
			if strings.Contains(kv.Value.String(), "secret") {
				t.Errorf("%s=%s has the query", kv.Key, kv.Value.String())
			}
		}
		if !f.request.Equal(opening.SpanContext()) {
			t.Error("the follower was not opened below the span of the request")
		}
		time.Sleep(time.Hour) // and a second went by until the head left
		b.handler.Disconnect(1)
		expect(t, s, "closing", `{"reason":"disconnect"}`)
		synctest.Wait()
		if got, want := spansOf(recorder), []string{"GET /events 200 *", "close /events disconnect"}; !slices.Equal(got, want) {
			t.Fatalf("spans %q, want %q", got, want)
		}
		end := recorder.Ended()[1]
		if links := end.Links(); len(links) != 1 || !links[0].SpanContext.Equal(opening.SpanContext()) || end.EndTime().Sub(end.StartTime()) > time.Second {
			t.Errorf("the closing span has the links %v and lasts %s, want one to the request and hardly any time", links, end.EndTime().Sub(end.StartTime()))
		}
		for _, want := range []attribute.KeyValue{attribute.Int64("ssebridge.events", 1), attribute.Float64("ssebridge.duration", 3601)} {
			if !slices.Contains(end.Attributes(), want) {
				t.Errorf("the closing span has no %v among %v", want, end.Attributes())
			}
		}
		s.Close()

		_, _ = b.get(b.client("/events?hallo=1"))
		c = b.client("/events")
		c.Header = map[string]string{"traceparent": strings.TrimSuffix(clientParent, "1") + "0"}
		s, err = c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		synctest.Wait()
		if got := spansOf(recorder)[2:]; !slices.Equal(got, []string{"GET /events 400"}) {
			t.Errorf("spans %q, want one of the refused request and none of a client that is not sampled", got)
		}
	})
}

// Sampled records lead to the clients that got them.
func TestDeliveriesOfSampledRecordsHaveSpans(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	stream := bridge.NewStream("orders", nil, bridge.StreamOptions{Trace: bridge.TraceOptions{Tracer: tracer, Deliveries: 2}})
	recs := []bridge.Record{{Headers: []bridge.Header{{Key: "traceparent", Value: []byte(someParent)}}}}
	stream.Prepare(recs)
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{Tracer: tracer})
		for range 3 {
			s, err := b.client("/events").Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f := <-b.opened
			f.steps <- step{blocks: "data: 1\n\n", batch: bridge.Batch{Records: 1, Traces: []*bridge.RecordTrace{recs[0].Trace}}}
			expect(t, s, "message", "1")
			synctest.Wait()
			s.Close()
		}
		synctest.Wait()
	})
	var deliveries []string
	for _, s := range recorder.Ended() {
		if s.Name() == "deliver orders" {
			deliveries = append(deliveries, fmt.Sprint(s.Links()[0].SpanContext.TraceID()))
		}
	}
	if want := []string{someParent[3:35], someParent[3:35]}; !slices.Equal(deliveries, want) {
		t.Errorf("deliveries are linked to %q, want %q", deliveries, want)
	}
}

// Counting a write is on the hot path.
func TestCountingAWriteAllocatesNothing(t *testing.T) {
	o, _ := metered()
	ms := newMetrics(o.Meter, NewHandler(Options{}))
	now := time.Now()
	b := bridge.Batch{Units: [][]byte{[]byte("data: 1\n\n")}, Records: 1, Received: now}
	if got := testing.AllocsPerRun(100, func() { ms.wrote(b, now, now) }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
	tally := ms.tally()
	if got := testing.AllocsPerRun(100, func() { tally.wrote(&b, 9, now, now); tally.flush() }); got != 0 {
		t.Errorf("%v allocations of a shard, want none", got)
	}
}

// Whoever can send a request could otherwise make the exporter drop all spans: it
// drops a whole batch for one byte that is not UTF-8.
func TestSpansOfHostileRequestsCanBeExported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorder := tracetest.NewSpanRecorder()
		b := start(t, Options{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")})
		c := b.client("/events/%ff%00" + strings.Repeat("x", 5000))
		c.Header = map[string]string{"user-agent": "a\xff" + strings.Repeat("x", 5000)}
		b.get(c)
		synctest.Wait()
		spans := recorder.Ended()
		if len(spans) != 1 {
			t.Fatalf("%d spans, want 1", len(spans))
		}
		for _, kv := range spans[0].Attributes() {
			if text := kv.Value.String(); !utf8.ValidString(text) || len(text) > 300 {
				t.Errorf("%s has %d bytes: %.40q", kv.Key, len(text), text)
			}
		}
	})
}

// A client that takes nothing keeps its request's span open no longer than others.
func TestSpanOfAStalledRequestEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorder := tracetest.NewSpanRecorder()
		b := start(t, Options{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test"), WriteTimeout: time.Minute})
		conn, err := b.listener.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		send(conn, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
		f := <-b.opened
		f.steps <- step{blocks: "data: 1\n\n"}
		time.Sleep(30 * time.Second)
		spans := recorder.Ended()
		if len(spans) != 1 || spans[0].EndTime().Sub(spans[0].StartTime()) > bridge.LongestSpan {
			t.Errorf("%d spans have ended, want that of the request, within %s", len(spans), bridge.LongestSpan)
		}
		_ = conn.Close()
	})
}

package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/deploy/e2e/collectortest"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// observed is a stream or topic that one bridge follows as s, on a broker of
// either kind.
type observed struct {
	t       *testing.T
	system  string // messaging.system
	origin  string // the broker's name of it
	address string // messaging.destination.name: the topic, or the records' subject
	brokers []string
	js      jetstream.JetStream // nil: it is a topic
	b       *bridgeProcess
	// produce adds a record to the first partition.
	produce func(data string, headers ...header)

	// service is the name under which the bridge exports.
	service   string
	collector *collectortest.Collector
}

// header is one of a record; names may be there more than once.
type header struct{ key, value string }

// observe sets the scene, and starts the bridge.
func observe(t *testing.T, system string, settings ...string) *observed {
	t.Helper()
	s := &observed{t: t, system: system}
	switch system {
	case "nats":
		s.onNATS(settings)
	case "kafka":
		s.onKafka(settings)
	default:
		t.Fatalf("no broker %q", system)
	}
	s.b.Start()
	s.b.await("/readyz", http.StatusOK)
	return s
}

func (s *observed) onNATS(settings []string) {
	s.t.Helper()
	server := natstest.Embedded(s.t)
	js := server.JS()
	createStream(s.t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	s.js, s.origin, s.address, s.brokers = js, "S", "s.x", []string{strings.TrimPrefix(server.URL, "nats://")}
	s.b = newBridge(s.t, server.URL, append([]string{"STREAMS=s=nats:S"}, settings...)...)
	s.produce = func(data string, headers ...header) {
		s.t.Helper()
		m := &natsgo.Msg{Subject: "s.x", Data: []byte(data), Header: natsgo.Header{}}
		for _, h := range headers {
			m.Header[h.key] = append(m.Header[h.key], h.value)
		}
		if _, err := js.PublishMsg(s.t.Context(), m); err != nil {
			s.t.Fatalf("publish %s: %v", data, err)
		}
	}
}

func (s *observed) onKafka(settings []string) {
	s.t.Helper()
	cluster := kafkatest.Shared(s.t)
	client := cluster.Client(s.t)
	s.origin, s.brokers = cluster.Topic(s.t, 2, 1), cluster.Brokers()
	s.address = s.origin
	s.b = newBridge(s.t, "", append([]string{"STREAMS=s=kafka:" + s.origin, "KAFKA_BROKERS=" + strings.Join(s.brokers, ",")}, settings...)...)
	delete(s.b.env, "NATS_URL")
	s.produce = func(data string, headers ...header) {
		s.t.Helper()
		r := &kgo.Record{Topic: s.origin, Key: []byte("x"), Value: []byte(data)}
		for _, h := range headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.key, Value: []byte(h.value)})
		}
		if err := client.ProduceSync(s.t.Context(), r).FirstErr(); err != nil {
			s.t.Fatalf("produce %s: %v", data, err)
		}
	}
}

// observeTraced sets the scene with a collector that the bridge exports to.
func observeTraced(t *testing.T, system string, c *collectortest.Collector, protocol string, settings ...string) *observed {
	t.Helper()
	endpoint := map[string]string{"grpc": c.GRPC, "http/protobuf": c.HTTP}[protocol]
	service := t.Name() + " " + newProducer().span // another one each time that the test runs
	s := observe(t, system, append([]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol,
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=" + secrettest.New("collector"), "OTEL_SERVICE_NAME=" + service,
		"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_METRIC_EXPORT_INTERVAL=100",
	}, settings...)...)
	s.service, s.collector = service, c
	return s
}

// live connects a client that begins at the end, and waits until it is live.
func (s *observed) live() *reader {
	s.t.Helper()
	r := read(s.t, "", s.b.events(""))
	r.awaitType("caught-up", 1)
	return r
}

// spans returns what the collector has of the bridge by now, of all names that
// begin with this.
func (s *observed) spans(name string) []collectortest.Span {
	s.t.Helper()
	return slices.DeleteFunc(s.collector.Spans(s.t, "service.name", s.service), func(sp collectortest.Span) bool {
		return !strings.HasPrefix(sp.Name, name)
	})
}

// awaitSpans waits until the collector has at least n spans with a name that
// begins so.
func (s *observed) awaitSpans(name string, n int) []collectortest.Span {
	s.t.Helper()
	var got []collectortest.Span
	until(s.t, fmt.Sprintf("%d spans %q; all of the bridge are %d", n, name, len(s.spans(""))), func() bool {
		got = s.spans(name)
		return len(got) >= n
	})
	return got
}

// producer is a span of somebody who writes records or sends requests.
type producer struct{ trace, span string }

func newProducer() producer {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	text := hex.EncodeToString(b[:])
	return producer{text[:32], text[32:]}
}

// traceparent is the header that tells of the span; flags are 01 for one that is
// sampled.
func (p producer) traceparent(flags string) string {
	return "00-" + p.trace + "-" + p.span + "-" + flags
}

// of returns the spans that have a link to the producer.
func (p producer) of(spans []collectortest.Span) []collectortest.Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s collectortest.Span) bool { return !s.LinksTo(p.trace, p.span) })
}

// The trace that a producer began can be followed into the bridge and to each
// client. It is the producer who decides: what was not sampled, or cannot be
// read, makes no spans. Both brokers, and both protocols of OTLP.
func TestRecordsAreTracedFromTheirProducerToTheClients(t *testing.T) {
	for _, tt := range []struct{ system, protocol string }{{"nats", "grpc"}, {"kafka", "http/protobuf"}} {
		t.Run(tt.system, func(t *testing.T) {
			t.Parallel()
			s := observeTraced(t, tt.system, collectortest.Shared(t), tt.protocol)
			clients := []*reader{s.live(), s.live()}
			good := newProducer().traceparent("01")
			for _, none := range [][]header{
				nil,
				{{"traceparent", newProducer().traceparent("00")}},
				{{"traceparent", newProducer().traceparent("fe")}},
				{{"traceparent", ""}},
				{{"traceparent", "x"}},
				{{"traceparent", good[:54]}},
				{{"traceparent", good + "0"}},
				{{"traceparent", good + "-00"}},
				{{"traceparent", good + strings.Repeat("-00", 10_000)}},
				{{"traceparent", strings.ToUpper("00-abcdefabcdefabcdefabcdefabcdefab-abcdefabcdefabcd-01")}},
				{{"traceparent", producer{strings.Repeat("0", 32), strings.Repeat("1", 16)}.traceparent("01")}},
				{{"traceparent", producer{strings.Repeat("1", 32), strings.Repeat("0", 16)}.traceparent("01")}},
				{{"traceparent", "ff" + good[2:]}},
				{{"traceparent", "0g" + good[2:]}},
				{{"traceparent", good[:53] + "zz"}},
				{{"traceparent", strings.ReplaceAll(good, "-", "_")}},
				{{"traceparent", good}, {"traceparent", newProducer().traceparent("01")}},
				{{"tracestate", "a=b"}},
				{{"x-traceparent", good}},
			} {
				s.produce("not traced", none...)
			}
			// Go's header types write it with a capital letter.
			first, last := newProducer(), newProducer()
			s.produce("first", header{"Traceparent", first.traceparent("01")}, header{"Tracestate", "a=b"})
			s.produce("last", header{"traceparent", last.traceparent("03")})
			for _, c := range clients {
				c.awaitData("last")
			}

			// Spans end in the order of records: when that of the last has come, all have.
			s.awaitSpans("process", 2)
			s.awaitSpans("deliver", 4)
			process, deliver := s.spans("process"), s.spans("deliver")
			if len(process) != 2 || len(deliver) != 4 {
				t.Errorf("%d process and %d deliver spans, want 2 and 4:\n%v\n%v", len(process), len(deliver), process, deliver)
			}
			requests := s.awaitSpans("GET", 2)
			for who, p := range map[string]producer{"first": first, "last": last} {
				ps, ds := p.of(process), p.of(deliver)
				if len(ps) != 1 || len(ds) != 2 {
					t.Fatalf("%s: %d process and %d deliver spans link to %v, want 1 and 2:\n%v\n%v", who, len(ps), len(ds), p, process, deliver)
				}
				s.checkProcess(ps[0], p, 2)
				for _, d := range ds {
					s.checkDeliver(d, ps[0], requests)
				}
			}
			for _, r := range s.awaitSpans("receive", 1) {
				if r.Name != "receive s" || r.Kind != collectortest.Client || r.Parent != "" {
					t.Errorf("%v, want the root receive s of kind CLIENT", r)
				}
				s.checkAttributes(r, map[string]any{
					"messaging.operation.name": "receive", "messaging.operation.type": "receive", "messaging.batch.message_count": anyInt,
				})
			}
			if all := s.spans(""); len(all) > 0 && all[0].Resource["service.name"] != s.service {
				t.Errorf("resource %v, want the service %s", all[0].Resource, s.service)
			}
		})
	}
}

// checkProcess checks the span of a record that went to so many clients.
func (s *observed) checkProcess(got collectortest.Span, p producer, deliveries int64) {
	s.t.Helper()
	if got.Name != "process s" || got.Kind != collectortest.Consumer || len(got.Links) != 1 || got.Trace == p.trace {
		s.t.Errorf("%v, want process s of kind CONSUMER in a trace of its own, with a link to its producer alone", got)
	}
	parent := slices.IndexFunc(s.awaitSpans("receive", 1), func(r collectortest.Span) bool { return r.ID == got.Parent && r.Trace == got.Trace })
	if parent < 0 {
		s.t.Errorf("%v: its parent is no receive span", got)
	}
	want := map[string]any{
		"messaging.operation.name": "process", "messaging.operation.type": "process", "messaging.destination.partition.id": "0",
		"messaging.message.body.size": anyInt, "ssebridge.deliveries": deliveries,
	}
	if s.system == "kafka" {
		want["messaging.kafka.offset"] = anyInt
	}
	s.checkAttributes(got, want)
}

// checkDeliver checks the span of one delivery of the record with the span process.
func (s *observed) checkDeliver(got, process collectortest.Span, requests []collectortest.Span) {
	s.t.Helper()
	if got.Name != "deliver s" || got.Kind != collectortest.Producer || got.Trace != process.Trace || got.Parent != process.ID {
		s.t.Errorf("%v, want deliver s of kind PRODUCER below %v", got, process)
	}
	request := slices.ContainsFunc(requests, func(r collectortest.Span) bool { return got.LinksTo(r.Trace, r.ID) })
	if len(got.Links) != 2 || !request {
		s.t.Errorf("%v, want links to the producer and to the client's request, one of %v", got, requests)
	}
	s.checkAttributes(got, map[string]any{"messaging.operation.name": "deliver", "messaging.operation.type": "send"})
}

// kindOf stands in a table of attributes for any value of a kind.
type kindOf string

const (
	anyInt    kindOf = "int64"
	anyString kindOf = "string"
	anyFloat  kindOf = "float64"
)

// checkAttributes compares a span of the stream with the table and with what
// every span about the broker has.
func (s *observed) checkAttributes(got collectortest.Span, want map[string]any) {
	s.t.Helper()
	want = maps.Clone(want)
	want["messaging.system"] = s.system
	if _, partition := want["messaging.destination.partition.id"]; partition {
		want["messaging.destination.name"] = s.address
	}
	compareAttributes(s.t, got, want)
}

// compareAttributes compares some attributes of a span with a table; nil is one
// that must not be there.
func compareAttributes(t *testing.T, got collectortest.Span, want map[string]any) {
	t.Helper()
	for name, value := range want {
		have, there := got.Attributes[name]
		kind, any := value.(kindOf)
		switch {
		case value == nil && !there:
		case any && there && fmt.Sprintf("%T", have) == string(kind):
		case !any && there && have == value:
		default:
			t.Errorf("span %q: %s is %v (%T), want %v", got.Name, name, have, have, value)
		}
	}
}

// A record for ten thousand clients must not make ten thousand spans. The others
// are counted.
func TestDeliverySpansAreBounded(t *testing.T) {
	t.Parallel()
	s := observeTraced(t, "nats", collectortest.Shared(t), "grpc", "TRACE_DELIVERIES=1")
	clients := []*reader{s.live(), s.live(), s.live()}
	p, plain := newProducer(), newProducer()
	s.produce("a", header{"traceparent", p.traceparent("01")})
	s.produce("b", header{"traceparent", plain.traceparent("00")})
	for _, c := range clients {
		c.awaitData("b")
	}
	process := s.awaitSpans("process", 1)
	s.checkProcess(process[0], p, 3)
	s.awaitSpans("deliver", 1)
	for _, c := range clients {
		c.close()
	}
	s.end() // everything is exported
	if got := s.spans("deliver"); len(got) != 1 || !got[0].LinksTo(p.trace, p.span) {
		t.Errorf("deliver spans %v, want one that links to %v", got, p)
	}
}

// end ends the bridge as Kubernetes does, by when it has exported everything. What
// was exported, by any bridge so far, holds no secret.
func (s *observed) end() {
	s.t.Helper()
	s.b.Terminate()
	if code := s.b.Wait(); code != 0 {
		s.t.Errorf("the bridge ended with %d, want 0", code)
	}
	if s.collector != nil {
		secrettest.Check(s.t, "what was exported", s.collector.Received(s.t))
	}
}

// A span that ends when the browser's tab does is exported after hours, or never.
// So a request's ends with the headers, and the end of the stream is a span of
// its own, with what became of it.
func TestNoSpanIsAsLongAsAStream(t *testing.T) {
	t.Parallel()
	s := observeTraced(t, "nats", collectortest.Shared(t), "http/protobuf")
	opened := time.Now()
	clients := []*reader{s.live(), s.live()}
	requests := s.awaitSpans("GET", 2) // while the streams are open
	if ended := s.spans("close"); len(ended) != 0 {
		t.Errorf("%v while the streams are open", ended)
	}
	for n := 0; time.Since(opened) < 12*time.Second; n++ {
		data := fmt.Sprint(n)
		s.produce(data, header{"traceparent", newProducer().traceparent("01")})
		for _, c := range clients {
			c.awaitData(data)
		}
		time.Sleep(500 * time.Millisecond) // the streams have to be open for so long
	}
	for _, c := range clients {
		c.close()
	}
	closes := s.awaitSpans("close", 2)
	s.end()
	for _, sp := range s.spans("") {
		if sp.End.Sub(sp.Start) > 10*time.Second || sp.End.Before(sp.Start) {
			t.Errorf("%v is %s long", sp, sp.End.Sub(sp.Start))
		}
	}
	for _, r := range requests {
		if r.Name != "GET /events" || r.Kind != collectortest.Server || r.Parent != "" {
			t.Errorf("%v, want the root GET /events of kind SERVER", r)
		}
		compareAttributes(t, r, map[string]any{
			"http.request.method": "GET", "http.route": "/events", "http.response.status_code": int64(200),
			"url.path": "/events", "url.scheme": "http", "server.address": anyString, "network.protocol.version": "1.1",
		})
		ending := slices.DeleteFunc(slices.Clone(closes), func(c collectortest.Span) bool { return !c.LinksTo(r.Trace, r.ID) })
		if len(ending) != 1 {
			t.Errorf("%d close spans link to %v, want one of %v", len(ending), r, closes)
		}
	}
	for _, c := range closes {
		if c.Name != "close /events" || c.Kind != collectortest.Internal || c.End.Sub(c.Start) > time.Second {
			t.Errorf("%v, want a short close /events of kind INTERNAL", c)
		}
		compareAttributes(t, c, map[string]any{"ssebridge.reason": "client", "ssebridge.events": anyInt, "ssebridge.bytes": anyInt, "ssebridge.duration": anyFloat})
		if d, _ := c.Attributes["ssebridge.duration"].(float64); d < 10 || d > math.Ceil(time.Since(opened).Seconds()) {
			t.Errorf("%v, want a duration in seconds", c)
		}
	}
}

// What a client waited for when it came back, and for whom it was asked, is seen
// in one trace: the page's, where it sent its own.
func TestResumeIsTracedWithinItsRequest(t *testing.T) {
	for _, system := range []string{"nats", "kafka"} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			s := observeTraced(t, system, collectortest.Shared(t), "grpc")
			c := &ssetest.Client{URL: s.b.events("start=all")}
			s.produce("1")
			s.produce("2", header{"traceparent", newProducer().traceparent("01")})
			s.produce("3")
			if err := c.Follow(t.Context(), reconnectPause, func(e ssetest.Event) bool { return e.Data != "1" }); err != nil {
				t.Fatal(err)
			}
			s.b.Restart() // with nothing in its cache
			page := newProducer()
			c.Header = map[string]string{
				"traceparent": page.traceparent("01"), "Cookie": "session=" + secrettest.New("cookie"), "Authorization": "Bearer " + secrettest.New("bearer"),
			}
			stream, err := c.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			for {
				e, err := stream.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if e.Type == "caught-up" {
					break
				}
			}
			var request collectortest.Span
			until(t, "the request's span below the page's", func() bool {
				i := slices.IndexFunc(s.spans("GET"), func(sp collectortest.Span) bool { return sp.Trace == page.trace && sp.Parent == page.span })
				if i >= 0 {
					request = s.spans("GET")[i]
				}
				return i >= 0
			})
			for _, name := range []string{"verify s", "read s"} {
				until(t, name+" in the page's trace", func() bool {
					return slices.ContainsFunc(s.spans(name), func(sp collectortest.Span) bool {
						return sp.Trace == page.trace && sp.Kind == collectortest.Client && !sp.Error
					})
				})
				for _, sp := range s.spans(name) {
					s.checkAttributes(sp, map[string]any{"messaging.operation.name": anyString})
				}
			}
			// Queries may hold secrets, and what is refused is traced as well.
			refused := newProducer()
			r := &ssetest.Client{URL: s.b.events("token=" + secrettest.New("query")), Header: map[string]string{"traceparent": refused.traceparent("01")}}
			answer, err := r.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			answer.Close()
			until(t, "the refused request's span", func() bool {
				return slices.ContainsFunc(s.spans("GET"), func(sp collectortest.Span) bool { return sp.Trace == refused.trace })
			})
			// A request that says not to be sampled is not, and neither is what it causes.
			hidden := newProducer()
			c = &ssetest.Client{URL: s.b.events("start=all"), Header: map[string]string{"traceparent": hidden.traceparent("00")}}
			if err := c.Follow(t.Context(), reconnectPause, func(e ssetest.Event) bool { return e.Type != "caught-up" }); err != nil {
				t.Fatal(err)
			}
			stream.Close()
			until(t, "the end of the page's stream", func() bool {
				return slices.ContainsFunc(s.spans("close"), func(sp collectortest.Span) bool { return sp.LinksTo(request.Trace, request.ID) })
			})
			s.end()
			for _, sp := range s.spans("") {
				if sp.Trace == hidden.trace || sp.LinksTo(hidden.trace, hidden.span) {
					t.Errorf("%v of a request that is not sampled", sp)
				}
			}
		})
	}
}

// A collector that is down is somebody else's problem: no client waits for it,
// nor does the end of the process.
func TestCollectorThatIsDownHoldsUpNobody(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		for how, down := range map[string]func(*collectortest.Collector, *testing.T){
			"hangs": func(c *collectortest.Collector, t *testing.T) { c.Pause(t) },
			"dead":  func(c *collectortest.Collector, _ *testing.T) { c.Kill9() },
		} {
			t.Run(how+" "+protocol, func(t *testing.T) {
				t.Parallel()
				s := observeTraced(t, "nats", collectortest.Start(t), protocol, "OTEL_METRICS_EXPORTER=otlp", "OTEL_BSP_MAX_QUEUE_SIZE=64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=8")
				clients := []*reader{s.live(), s.live()}
				s.awaitSpans("GET", 2)
				down(s.collector, t)
				const records = 500
				want := make([]string, records)
				for n := range records {
					want[n] = fmt.Sprint(n)
					s.produce(want[n], header{"traceparent", newProducer().traceparent("01")})
				}
				late := s.live()
				s.produce("end")
				for who, r := range map[string]*reader{"first": clients[0], "second": clients[1]} {
					r.awaitData("end")
					if got := r.close().data(); !slices.Equal(got, append(want, "end")) {
						t.Errorf("%s client: %d records, want all %d in order", who, len(got), records+1)
					}
				}
				late.awaitData("end")
				s.b.Terminate()
				late.awaitType("closing", 1)
				if code := s.b.Wait(); code != 0 { // within the bound of all waits
					t.Errorf("the bridge ended with %d, want 0", code)
				}
			})
		}
	}
}

// With no exporter named nothing is exported, and nobody is dialled: not even
// where the only thing that is set is a name. A bridge that calls an address
// that nobody gave it is one that security asks about.
func TestNothingIsExportedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	// The places that exporters try when they were told of none.
	var calls atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, address := range []string{"127.0.0.1:4317", "127.0.0.1:4318", "[::1]:4317", "[::1]:4318"} {
		l, err := listenPatiently(t, address)
		if err != nil {
			t.Logf("nobody listens on %s: %v", address, err)
			continue
		}
		wg.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				calls.Add(1)
				_ = conn.Close()
			}
		})
		defer func() { _ = l.Close() }()
	}
	traffic := func(t *testing.T, settings ...string) {
		t.Helper()
		s := observe(t, "nats", append(settings, "OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_METRIC_EXPORT_INTERVAL=10")...)
		c := s.live()
		s.produce("a", header{"traceparent", newProducer().traceparent("01")})
		c.awaitData("a")
		for _, peer := range peers(t, s.b.PID()) {
			if !slices.Contains(s.brokers, peer) && calls.Load() == 0 {
				t.Errorf("the bridge is connected to %s, want only its broker %v", peer, s.brokers)
			}
		}
		c.close()
		s.end() // what there is to export is exported at the end
	}
	t.Run("each", func(t *testing.T) {
		for name, settings := range map[string][]string{
			"nothing is set":    nil,
			"a name":            {"OTEL_SERVICE_NAME=name"},
			"attributes":        {"OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test"},
			"a sampler":         {"OTEL_TRACES_SAMPLER=always_on"},
			"a protocol":        {"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
			"exporters of none": {"OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none"},
			"disabled":          {"OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				traffic(t, settings...)
			})
		}
	})
	if n := calls.Load(); n != 0 {
		t.Errorf("%d connections to a collector that nobody asked for", n)
	}
	// Whoever is asked for is called: the listeners would have noticed.
	calls.Store(1 << 32)
	traffic(t, "OTEL_TRACES_EXPORTER=otlp")
	if calls.Load() == 1<<32 {
		t.Error("no connection to a collector that was asked for")
	}
}

// listenPatiently listens on an address that another test process may use at the
// moment.
func listenPatiently(t *testing.T, address string) (net.Listener, error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		l, err := net.Listen("tcp", address)
		if err == nil || strings.Contains(err.Error(), "cannot assign") || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Whoever has no Prometheus gets the same metrics by OTLP.
func TestMetricsAreExportedWhenAskedFor(t *testing.T) {
	t.Parallel()
	s := observeTraced(t, "nats", collectortest.Shared(t), "grpc", "OTEL_METRICS_EXPORTER=otlp", "OTEL_TRACES_EXPORTER=none")
	c := s.live()
	s.produce("a", header{"traceparent", newProducer().traceparent("01")})
	c.awaitData("a")
	value := func(name string) (sum float64) {
		for _, m := range s.collector.Metrics(t, "service.name", s.service) {
			if m.Name == name {
				sum = 0 // the newest export counts
				for _, p := range m.Points {
					if p.Count > 0 {
						sum += float64(p.Count)
						continue
					}
					sum += p.Value
				}
			}
		}
		return sum
	}
	for name, want := range map[string]float64{"ssebridge.clients": 1, "ssebridge.events.delivered": 1, "ssebridge.connections.opened": 1, "ssebridge.delivery.delay": 1} {
		until(t, fmt.Sprintf("%s to be %v, is %v", name, want, value(name)), func() bool { return value(name) == want })
	}
	c.close()
	s.end()
	if got := s.spans(""); len(got) != 0 {
		t.Errorf("%v, want no spans with OTEL_TRACES_EXPORTER=none", got)
	}
}

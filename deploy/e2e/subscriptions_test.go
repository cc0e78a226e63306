package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// market is three streams on one server, followed by two bridges. The subjects
// of orders and prices are the same by their templates.
type market struct {
	js     jetstream.JetStream
	a, b   *bridgeProcess
	trades int // how many times each stream got a record of each region
}

func newMarket(t *testing.T) *market {
	t.Helper()
	server := natstest.Embedded(t)
	m := &market{js: server.JS()}
	for _, name := range []string{"orders", "prices", "audit"} {
		createStream(t, m.js, jetstream.StreamConfig{Name: strings.ToUpper(name), Subjects: []string{name + ".*"}, AllowDirect: true})
	}
	settings := []string{
		"STREAMS=orders=nats:ORDERS,prices=nats:PRICES,audit=nats:AUDIT",
		"STREAM_ORDERS_SUBJECT=market.{subject.2}", "STREAM_PRICES_SUBJECT=market.{subject.2}",
	}
	m.a, m.b = startBridge(t, server.URL, settings...), startBridge(t, server.URL, settings...)
	return m
}

// trade adds n records of each region to each of the streams, in turn, and
// returns the number in their payloads that the last ones have.
func (m *market) trade(t *testing.T, n int) int {
	t.Helper()
	for range n {
		m.trades++
		for _, stream := range []string{"orders", "prices", "audit"} {
			for _, region := range []string{"eu", "us"} {
				publish(t, m.js, stream+"."+region, stream+"-"+region+"-", m.trades, m.trades)
			}
		}
	}
	return m.trades
}

// stories reads streams, with their public subjects.
func (m *market) stories(t *testing.T, names ...string) map[string]story {
	t.Helper()
	all := map[string]story{}
	for _, name := range names {
		l := readLife(t, m.js, strings.ToUpper(name))
		for i := range l.records {
			if name != "audit" {
				l.records[i].subject = strings.Replace(l.records[i].subject, name, "market", 1)
			}
		}
		all[name] = story{l}
	}
	return all
}

// One connection may carry several streams. Its one id holds a place in each of
// them, and any bridge goes on from all of those.
func TestOneConnectionCarriesSeveralStreams(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	m.trade(t, 5)
	for name, tt := range map[string]struct {
		path    string
		streams []string
		filter  bridge.Filter
	}{
		"all":                  {"/events?", []string{"audit", "orders", "prices"}, bridge.Filter{}},
		"overlapping":          {"/events?subject=market.eu", []string{"orders", "prices"}, bridge.NewFilter("market.eu")},
		"several patterns":     {"/events?subject=market.us&subject=*.eu&subject=audit.eu", []string{"audit", "orders", "prices"}, bridge.NewFilter("market.us", "*.eu")},
		"two named":            {"/events?stream=audit&stream=prices", []string{"audit", "prices"}, bridge.Filter{}},
		"one by path":          {"/events/prices?", []string{"prices"}, bridge.Filter{}},
		"one by path, in part": {"/events/orders?subject=*.us", []string{"orders"}, bridge.NewFilter("*.us")},
	} {
		t.Run(name, func(t *testing.T) {
			last := func(n int) string {
				region := "us"
				if !tt.filter.Match("market.us") {
					region = "eu"
				}
				stream := tt.streams[len(tt.streams)-1]
				return fmt.Sprintf("%s-%s-%d", stream, region, n)
			}
			m.trade(t, 3)
			r := read(t, "", m.a.URL+tt.path+"&start=all", m.b.URL+tt.path+"&start=all")
			r.awaitType("caught-up", 1)
			// It goes on at the other bridge with the id of any of its events.
			r.awaitData(last(m.trade(t, 2)))
			h := r.close()
			middle := h[len(h)/2].ID
			back := read(t, middle, m.b.URL+tt.path)
			back.awaitType("caught-up", 1)
			joined := append(slices.Clone(h[:len(h)/2+1]), back.close()...)
			mustAudit(t, "client", joined, tt.filter, m.stories(t, tt.streams...))
			id, err := bridge.ParseID(middle)
			if err != nil || len(id) != len(tt.streams) {
				t.Errorf("id %q has %d streams (%v), want %d", middle, len(id), err, len(tt.streams))
			}
		})
	}
}

// What clients change about their subscription between two connections is said,
// and never costs a record of what stayed.
func TestStreamsMayComeAndGoBetweenConnections(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	m.trade(t, 3)
	r := read(t, "", m.a.URL+"/events?stream=orders&stream=audit&start=all")
	r.awaitType("caught-up", 1)
	id := r.close().lastID()
	m.trade(t, 2)
	back := read(t, id, m.b.URL+"/events?stream=orders&stream=prices&start=all")
	back.awaitType("caught-up", 1)
	h := back.close()
	var c bridge.Connected
	if err := json.Unmarshal([]byte(h[0].Data), &c); err != nil {
		t.Fatal(err)
	}
	if c.Streams["orders"] != "exact" || c.Streams["prices"] != "started" || len(c.Streams) != 2 || !slices.Equal(c.Dropped, []string{"audit"}) {
		t.Errorf("connected %s, want orders exact, prices started, audit dropped", h[0].Data)
	}
	mustAudit(t, "client", h, bridge.Filter{}, m.stories(t, "orders", "prices"))
}

// A client without an id begins where it says.
func TestStartSaysWhereToBegin(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("", 1, 6)
	stream, err := s.js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	times := map[uint64]time.Time{}
	for seq := uint64(1); seq <= 6; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		times[seq] = m.Time
	}
	all := []string{"1", "2", "3", "4", "5", "6"}
	for start, want := range map[string][]string{
		"new": nil,
		"all": all,
		times[1].Add(-time.Hour).Format(time.RFC3339):                                       all,
		times[4].Format(time.RFC3339Nano):                                                   all[3:],
		times[4].Add(time.Nanosecond).In(time.FixedZone("", 7200)).Format(time.RFC3339Nano): all[4:],
		times[6].Add(time.Nanosecond).Format(time.RFC3339Nano):                              nil,
		"2h":  all,
		"1ns": nil,
	} {
		t.Run(start, func(t *testing.T) {
			r := read(t, "", s.b.events("start="+url.QueryEscape(start)))
			r.awaitType("caught-up", 1)
			h := r.close()
			if got := h.data(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := h.verdicts(); !slices.Equal(got, []string{"new"}) {
				t.Errorf("verdicts %q, want new", got)
			}
		})
	}
	t.Run("only without an id", func(t *testing.T) {
		id := s.leaveAt("4")
		r := read(t, id, s.b.events("start=all"))
		r.awaitType("caught-up", 1)
		if got := r.close().data(); !slices.Equal(got, []string{"5", "6"}) {
			t.Errorf("got %q, want what follows the id", got)
		}
	})
	t.Run("by query", func(t *testing.T) {
		id := s.leaveAt("4")
		for _, name := range []string{"lastEventId", "last-event-id", "lastEventID", "last_event_id"} {
			r := read(t, "", s.b.events(name+"="+id))
			r.awaitType("caught-up", 1)
			if got := r.close().data(); !slices.Equal(got, []string{"5", "6"}) {
				t.Errorf("%s: got %q, want what follows the id", name, got)
			}
		}
		r := read(t, s.leaveAt("5"), s.b.events("lastEventId="+id))
		r.awaitType("caught-up", 1)
		if got := r.close().data(); !slices.Equal(got, []string{"6"}) {
			t.Errorf("with both: got %q, want what follows the header's", got)
		}
	})
}

// The shape of events is the client's choice; the records are the same.
func TestClientsChooseTheFormOfEvents(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true}, "STREAM_S_EVENT={header.type}")
	for i, name := range []string{"created", "reset", "", "new\tline"} {
		m := &natsgo.Msg{Subject: "s.x", Data: fmt.Appendf(nil, `{"n":9007199254740993%d}`, i), Header: natsgo.Header{}}
		if name != "" {
			m.Header["type"] = []string{name}
		}
		if _, err := s.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	types := func(query string) (types []string, h history) {
		t.Helper()
		r := read(t, "", s.a.events("start=all"+query))
		r.await("all records", func(h history) bool {
			return slices.ContainsFunc(h, func(e ssetest.Event) bool { return strings.Contains(e.Data, "90071992547409933") })
		})
		h = r.close()
		for _, e := range h {
			if e.Type != "caught-up" { // it may or may not have come by now
				types = append(types, e.Type)
			}
		}
		return types, h
	}
	got, _ := types("")
	if want := []string{"connected", "created", "x-reset", "message", "new%09line"}; !slices.Equal(got, want) {
		t.Errorf("types %q, want %q", got, want)
	}
	got, _ = types("&names=off")
	if want := []string{"connected", "message", "message", "message", "message"}; !slices.Equal(got, want) {
		t.Errorf("names=off: types %q, want %q", got, want)
	}
	got, h := types("&control=off&names=off")
	if want := []string{"message", "message", "message", "message"}; !slices.Equal(got, want) {
		t.Errorf("control=off: types %q, want %q", got, want)
	}
	if eventOffset(h[3]) != 5 {
		t.Errorf("control=off: id %s, want place 5", h[3].ID)
	}
	_, h = types("&control=off&names=off&format=envelope")
	var envelope struct {
		Stream, Subject, Name string
		Offset                int
		Headers               map[string][]string
		Data                  json.RawMessage
	}
	if err := json.Unmarshal([]byte(h[0].Data), &envelope); err != nil {
		t.Fatalf("envelope %s: %v", h[0].Data, err)
	}
	if envelope.Stream != "s" || envelope.Subject != "s.x" || envelope.Offset != 1 || envelope.Name != "created" ||
		!slices.Equal(envelope.Headers["type"], []string{"created"}) || string(envelope.Data) != `{"n":90071992547409930}` {
		t.Errorf("envelope %s", h[0].Data)
	}
}

// Payloads are bytes that others chose. None may end an event, begin another, or
// be changed in another way than the table of limits says.
func TestPayloadsArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	const limit = 2 << 20
	server := natstest.Process(t, "max_payload: 8MB")
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	settings := []string{"STREAMS=s=nats:S", fmt.Sprintf("MAX_EVENT_BYTES=%d", limit)}
	s := &scene{t: t, server: server, js: js, a: startBridge(t, server.URL, settings...), b: startBridge(t, server.URL, settings...)}
	big := strings.Repeat("0123456789", 100_000)
	binary := "\xff\xfe\x00 not text"
	payloads := []struct{ send, typ, data string }{
		{"plain", "message", "plain"},
		{"", "message", ""},
		{" blank around ", "message", " blank around "},
		{"a\nb", "message", "a\nb"},
		{"a\rb", "message", "a\nb"},
		{"a\r\nb\n", "message", "a\nb\n"},
		{"\n\r\r\n", "message", "\n\n\n"},
		{"x\n\nid: 1\nevent: reset\ndata: {}\n\n", "message", "x\n\nid: 1\nevent: reset\ndata: {}\n\n"},
		{"\x00 with \x00", "message", "\x00 with \x00"},
		{"\ufeffmark, \u2028 and \u0085", "message", "\ufeffmark, \u2028 and \u0085"},
		{binary, "binary", base64.StdEncoding.EncodeToString([]byte(binary))},
		{big, "message", big},
		{strings.Repeat("x", limit), "message", strings.Repeat("x", limit)},
		{strings.Repeat("x", limit+1), "gap", `{"stream":"s","partition":0,"from":14,"to":14,"next":15,"reason":"oversized"}`},
		{"last", "message", "last"},
	}
	live := s.live("start=all")
	for _, p := range payloads {
		if _, err := js.Publish(t.Context(), "s.x", []byte(p.send)); err != nil {
			t.Fatal(err)
		}
	}
	live.awaitData("last")
	back := read(t, "", s.b.events("start=all"))
	back.awaitData("last")
	encoded := read(t, "", s.b.events("start=all&format=base64"))
	encoded.awaitData(base64.StdEncoding.EncodeToString([]byte("last")))

	for who, r := range map[string]*reader{"live client": live, "resuming client": back} {
		h := slices.DeleteFunc(r.close(), func(e ssetest.Event) bool { return e.Type == "connected" || e.Type == "caught-up" })
		if len(h) != len(payloads) {
			t.Fatalf("%s: %d events, want %d", who, len(h), len(payloads))
		}
		for i, p := range payloads {
			if h[i].Type != p.typ || h[i].Data != p.data || eventOffset(h[i]) != i+2 {
				t.Errorf("%s: payload %.40q came as %s %.80q at %d, want %s %.80q at %d", who, p.send, h[i].Type, h[i].Data, eventOffset(h[i]), p.typ, p.data, i+2)
			}
		}
	}
	h := slices.DeleteFunc(encoded.close(), func(e ssetest.Event) bool { return e.Type != "message" })
	for i, p := range slices.DeleteFunc(slices.Clone(payloads), func(p struct{ send, typ, data string }) bool { return p.typ == "gap" }) {
		if got, err := base64.StdEncoding.DecodeString(h[i].Data); err != nil || !bytes.Equal(got, []byte(p.send)) {
			t.Errorf("base64: payload %.40q came as %.40q, %v", p.send, h[i].Data, err)
		}
	}
}

// A filter that lets little through must not make its client stale: the
// position goes along, and what was skipped is never read again.
func TestPositionFollowsWhatTheFilterSkips(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true}, "HEARTBEAT=1s")
	s.publish("", 1, 3)
	live := s.live("subject=s.rare")
	s.publish("", 4, 9)
	live.await("a position behind the skipped records", func(h history) bool {
		e := h[len(h)-1]
		return e.Type == "position" && eventOffset(e) == 10
	})
	id := live.close().lastID()
	back := read(t, id, s.b.events("subject=s.rare"))
	back.awaitType("caught-up", 1)
	publish(t, s.js, "s.rare", "rare", 1, 1)
	back.awaitData("rare1")
	s.check(story{readLife(t, s.js, "S")}, noLosses, nil)
	mustAudit(t, "client", append(live.close(), back.close()...), bridge.NewFilter("s.rare"), map[string]story{"s": {readLife(t, s.js, "S")}})
}

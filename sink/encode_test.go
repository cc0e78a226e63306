package sink

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

const someID = "1~orders.k3x9z1.32b.x0m1"

func record(data string) bridge.Event {
	return bridge.Event{Kind: bridge.RecordEvent, ID: someID, Stream: "orders", Record: &bridge.Record{
		Offset: 7, Subject: "orders.eu", Data: []byte(data), Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}}
}

func changed(e bridge.Event, change func(*bridge.Record)) bridge.Event {
	r := *e.Record
	change(&r)
	e.Record = &r
	return e
}

// someParent is a W3C trace context.
const someParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// The bytes are a contract with every client there is: a change of any of them
// is a change of the product.
func TestEncoderWritesTheseBytes(t *testing.T) {
	named := func(r *bridge.Record) { r.Name = "created" }
	deleted := func(r *bridge.Record) { r.Kind, r.Key, r.Data = bridge.Delete, []byte("k\"1"), nil }
	end := "id: " + someID + "\n\n"
	envelope := `{"stream":"orders","subject":"orders.eu","partition":0,"offset":7,"time":"2026-01-02T03:04:05.000006Z"`
	tests := []struct {
		name string
		opt  EncoderOptions
		in   bridge.Event
		want string
	}{
		{"payload", EncoderOptions{}, record(`{"order":1}`), "data: {\"order\":1}\n" + end},
		{"empty payload", EncoderOptions{}, record(""), "data: \n" + end},
		{"every line end", EncoderOptions{}, record("a\nb\rc\r\nd\n\re"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: e\n" + end},
		{"line ends at the end", EncoderOptions{}, record("a\r\n"), "data: a\ndata: \n" + end},
		{"leading blank", EncoderOptions{}, record(" a"), "data:  a\n" + end},
		{"byte order mark", EncoderOptions{}, record("\ufeffa"), "data: \ufeffa\n" + end},
		{"NUL", EncoderOptions{}, record("a\x00b"), "data: a\x00b\n" + end},
		{"not UTF-8", EncoderOptions{}, record("\xff\xfe"), "event: binary\ndata: //4=\n" + end},
		{"not UTF-8, named", EncoderOptions{Names: true}, changed(record("\xff"), named), "event: created.binary\ndata: /w==\n" + end},
		{"named", EncoderOptions{Names: true}, changed(record("a"), named), "event: created\ndata: a\n" + end},
		{"names off", EncoderOptions{}, changed(record("a"), named), "data: a\n" + end},
		{"a name of ours", EncoderOptions{Names: true}, changed(record("a"), func(r *bridge.Record) { r.Name = "delete" }), "event: x-delete\ndata: a\n" + end},
		{"a name that would inject", EncoderOptions{Names: true}, changed(record("a"), func(r *bridge.Record) { r.Name = "a\r\nid: 9\x00\xff" }), "event: a%0D%0Aid: 9%00%FF\ndata: a\n" + end},
		{"an id that would inject", EncoderOptions{}, bridge.Event{Kind: bridge.PositionEvent, ID: "1\ndata: x"}, "event: position\ndata: {}\n\n"},
		{"base64", EncoderOptions{Format: FormatBase64, Names: true}, changed(record("a"), named), "event: created\ndata: YQ==\n" + end},
		{"delete", EncoderOptions{}, changed(record(""), deleted), "event: delete\ndata: {\"subject\":\"orders.eu\",\"key\":\"k\\\"1\"}\n" + end},
		{"delete without key", EncoderOptions{Format: FormatBase64}, changed(record(""), func(r *bridge.Record) { r.Kind = bridge.Delete }), "event: delete\ndata: {\"subject\":\"orders.eu\",\"key\":null}\n" + end},
		{"delete, envelope", EncoderOptions{Format: FormatEnvelope, Names: true}, changed(record(""), deleted), "event: delete\ndata: " + envelope + `,"key":"k\"1","headers":{},"deleted":true}` + "\n" + end},
		{"delete, envelope, names off", EncoderOptions{Format: FormatEnvelope}, changed(record(""), deleted), "data: " + envelope + `,"key":"k\"1","headers":{},"deleted":true}` + "\n" + end},
		{"envelope of JSON", EncoderOptions{Format: FormatEnvelope}, record(`{"n": 9007199254740993}`), "data: " + envelope + `,"key":null,"headers":{},"encoding":"json","data":{"n": 9007199254740993}}` + "\n" + end},
		{"envelope of JSON in lines", EncoderOptions{Format: FormatEnvelope}, record("{\r\n\"n\": 1}"), "data: " + envelope + `,"key":null,"headers":{},"encoding":"json","data":` + "\ndata: {\ndata: \"n\": 1}\ndata: }\n" + end},
		{"envelope of text", EncoderOptions{Format: FormatEnvelope, Names: true}, changed(record("a\r\n\x01\""), named), "event: created\ndata: " + envelope + `,"name":"created","key":null,"headers":{},"encoding":"text","data":"a\r\n\u0001\""}` + "\n" + end},
		{"envelope of bytes", EncoderOptions{Format: FormatEnvelope}, record("\xff"), "data: " + envelope + `,"key":null,"headers":{},"encoding":"base64","data":"/w=="}` + "\n" + end},
		{"envelope with headers", EncoderOptions{Format: FormatEnvelope}, changed(record("1"), func(r *bridge.Record) {
			r.Key, r.Time = []byte{0xff}, time.Time{}
			r.Headers = []bridge.Header{{Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte{0xfe}}, {Key: "b", Value: nil}}
		}), `data: {"stream":"orders","subject":"orders.eu","partition":0,"offset":7,"time":null,"key":{"base64":"/w=="},"headers":{"a":[{"base64":"/g=="}],"b":["1",""]},"encoding":"json","data":1}` + "\n" + end},
		{"envelope with a trace context", EncoderOptions{Format: FormatEnvelope}, changed(record("1"), func(r *bridge.Record) {
			r.Headers = []bridge.Header{{Key: "Traceparent", Value: []byte(someParent)}, {Key: "tracestate", Value: []byte("a=b")}}
		}), "data: " + envelope + `,"key":null,"headers":{"Traceparent":["` + someParent + `"],"tracestate":["a=b"]},"traceparent":"` + someParent + `","tracestate":"a=b","encoding":"json","data":1}` + "\n" + end},
		{"envelope with a damaged trace context", EncoderOptions{Format: FormatEnvelope}, changed(record("1"), func(r *bridge.Record) {
			r.Headers = []bridge.Header{{Key: "traceparent", Value: []byte(someParent[1:])}}
		}), "data: " + envelope + `,"key":null,"headers":{"traceparent":["` + someParent[1:] + `"]},"encoding":"json","data":1}` + "\n" + end},
		{"the stream's own format", EncoderOptions{StreamFormats: map[string]string{"orders": FormatBase64}}, record("a"), "data: YQ==\n" + end},
		{"format asked for beats the stream's", EncoderOptions{Format: FormatData, StreamFormats: map[string]string{"orders": FormatBase64}}, record("a"), "data: a\n" + end},
		{"hidden", EncoderOptions{}, changed(record("a"), func(r *bridge.Record) { r.Kind = bridge.Hidden }), ""},
		{"oversized", EncoderOptions{}, changed(record(""), func(r *bridge.Record) { r.Kind = bridge.Oversized }), `event: gap` + "\n" + `data: {"stream":"orders","partition":0,"from":7,"to":7,"next":8,"reason":"oversized"}` + "\n" + end},
		{"connected", EncoderOptions{}, bridge.Event{Kind: bridge.ConnectedEvent, ID: someID, Retry: 3 * time.Second, Connected: &bridge.Connected{
			Resume: "exact", Streams: map[string]string{"prices": "started", "orders": "exact"}, Heartbeat: 15,
		}}, "event: connected\ndata: {\"resume\":\"exact\",\"streams\":{\"orders\":\"exact\",\"prices\":\"started\"},\"dropped\":[],\"heartbeat\":15}\nretry: 3000\n" + end},
		{"connected without id", EncoderOptions{}, bridge.Event{Kind: bridge.ConnectedEvent, Connected: &bridge.Connected{
			Resume: "reset", Dropped: []string{"x", "y"}, Heartbeat: 0.5,
		}}, "event: connected\ndata: {\"resume\":\"reset\",\"streams\":{},\"dropped\":[\"x\",\"y\"],\"heartbeat\":0.5}\n\n"},
		{"caught up", EncoderOptions{}, bridge.Event{Kind: bridge.CaughtUpEvent, ID: someID}, "event: caught-up\ndata: {}\n" + end},
		{"position", EncoderOptions{}, bridge.Event{Kind: bridge.PositionEvent, ID: someID}, "event: position\ndata: {}\n" + end},
		{"closing", EncoderOptions{}, bridge.Event{Kind: bridge.ClosingEvent, ID: someID, Closing: "drain", Retry: 1500 * time.Millisecond}, "event: closing\ndata: {\"reason\":\"drain\"}\nretry: 1500\n" + end},
		{"heartbeat", EncoderOptions{}, bridge.Event{Kind: bridge.HeartbeatEvent, ID: someID}, ":\n"},
		{"gap", EncoderOptions{}, bridge.Event{Kind: bridge.LossEvent, ID: someID, Stream: "orders", Finding: &bridge.Finding{
			Reason: bridge.Retention, Partition: 1, From: 3, To: 4, Next: bridge.Position{Places: []bridge.Place{{Offset: 9}, {Offset: 5}}},
		}}, "event: gap\ndata: {\"stream\":\"orders\",\"partition\":1,\"from\":3,\"to\":4,\"next\":5,\"reason\":\"retention\"}\n" + end},
		{"reset of one partition", EncoderOptions{}, bridge.Event{Kind: bridge.LossEvent, ID: someID, Stream: "orders", Finding: &bridge.Finding{
			Reason: bridge.Recreated, Partition: bridge.AllPartitions, From: 3, To: bridge.UnknownOffset, Next: bridge.Position{Places: []bridge.Place{{Offset: 1}}},
		}}, "event: reset\ndata: {\"stream\":\"orders\",\"partition\":null,\"from\":3,\"to\":null,\"next\":1,\"reason\":\"recreated\"}\n" + end},
		{"reset of several partitions", EncoderOptions{}, bridge.Event{Kind: bridge.LossEvent, Stream: "orders", Finding: &bridge.Finding{
			Reason: bridge.Recreated, Partition: bridge.AllPartitions, From: 0, To: bridge.UnknownOffset, Next: bridge.Position{Places: make([]bridge.Place, 2)},
		}}, "event: reset\ndata: {\"stream\":\"orders\",\"partition\":null,\"from\":0,\"to\":null,\"next\":null,\"reason\":\"recreated\"}\n\n"},
		{"reset of an unreadable id", EncoderOptions{}, bridge.Event{Kind: bridge.LossEvent, ID: someID, Finding: &bridge.Finding{
			Reason: bridge.UnreadableID, Partition: bridge.AllPartitions, From: bridge.UnknownOffset, To: bridge.UnknownOffset,
		}}, "event: reset\ndata: {\"stream\":null,\"partition\":null,\"from\":null,\"to\":null,\"next\":null,\"reason\":\"unreadable-id\"}\n" + end},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			enc := NewEncoder(tt.opt)
			if got := string(enc.AppendEvent([]byte("before"), tt.in)); got != "before"+tt.want {
				t.Errorf("got  %q\nwant %q", got, "before"+tt.want)
			}
			if got := string(enc.AppendEnd(nil, tt.in.ID)); tt.in.Kind != bridge.HeartbeatEvent && !strings.HasSuffix("\n"+tt.want, got) && tt.want != "" {
				t.Errorf("end %q is not that of the block %q", got, tt.want)
			}
		})
	}
}

// FuzzEncoderIsReadBack holds the encoder against a parser that shares nothing
// with it: whatever a record holds, a client gets exactly one event with the
// record's payload, the event's id and no field that the record made up. The
// producers of records may be strangers.
func FuzzEncoderIsReadBack(f *testing.F) {
	for _, data := range []string{"", "a", "a\nb\rc\r\n\r\n", "\xff\x00", `{"a":[1.0,9007199254740993]}`, "{\r\n}", "\ufeff", "data: x\n\nid: 1\n\n"} {
		f.Add([]byte(data), "created", []byte("key"), "h\n", []byte("v\r"), uint8(3), uint16(5))
	}
	f.Fuzz(func(t *testing.T, data []byte, name string, key []byte, header string, value []byte, form uint8, split uint16) {
		formats := []string{FormatData, FormatEnvelope, FormatBase64, ""}
		format, names := formats[form%4], form&4 != 0
		e := changed(record(string(data)), func(r *bridge.Record) {
			r.Name, r.Key, r.Subject = name, key, "s."+name
			r.Headers = []bridge.Header{{Key: header, Value: value}, {Key: "x", Value: key}, {Key: header, Value: key}}
			if form&8 != 0 {
				r.Kind = bridge.Delete
			}
		})
		block := NewEncoder(EncoderOptions{Format: format, Names: names}).AppendEvent(nil, e)
		if !utf8.Valid(block) {
			t.Fatalf("not UTF-8: %q", block)
		}

		var p ssetest.Parser
		at := int(split) % len(block) // anywhere before the last byte, so nothing may happen yet
		if got := p.Feed(block[:at]); len(got) > 0 || p.LastID() != "" {
			t.Fatalf("after %d of %d bytes: got %q, id %q", at, len(block), got, p.LastID())
		}
		events := p.Feed(block[at:])
		if len(events) != 1 || events[0].ID != someID || p.Retry() != 0 || p.Comments() != 0 || p.Pending() {
			t.Fatalf("got %q, id %q, of block %q", events, p.LastID(), block)
		}
		checkReadBack(t, events[0], e.Record, format, names)
	})
}

func checkReadBack(t *testing.T, got ssetest.Event, r *bridge.Record, format string, names bool) {
	t.Helper()
	if !names && format == FormatEnvelope && got.Type != "message" {
		t.Errorf("type %q with names off", got.Type)
	}
	if got.Type != "delete" && got.Type != "binary" && bridge.ReservedName(got.Type) && got.Type != "message" {
		t.Errorf("record passes for %q", got.Type)
	}
	binary := !utf8.Valid(r.Data)
	switch {
	case format == FormatEnvelope:
		checkEnvelope(t, got.Data, r)
	case r.Kind == bridge.Delete:
		if got.Type != "delete" || !json.Valid([]byte(got.Data)) {
			t.Errorf("delete read back as %q", got)
		}
	case got.Type == "delete":
		t.Error("record passes for a delete")
	case format == FormatBase64 || binary:
		back, err := base64.StdEncoding.DecodeString(got.Data)
		if err != nil || string(back) != string(r.Data) {
			t.Errorf("got %q, %v, want %q", back, err, r.Data)
		}
		if format != FormatBase64 && got.Type != "binary" && !strings.HasSuffix(got.Type, ".binary") {
			t.Errorf("bytes came as %q", got.Type)
		}
	default:
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(r.Data))
		if got.Data != want {
			t.Errorf("got %q, want %q", got.Data, want)
		}
	}
}

func checkEnvelope(t *testing.T, text string, r *bridge.Record) {
	t.Helper()
	var env struct {
		Subject, Encoding string
		Headers           map[string][]any
		Data              json.RawMessage
		Deleted           bool
		Key               any
	}
	if err := json.Unmarshal([]byte(text), &env); err != nil {
		t.Fatalf("envelope %q: %v", text, err)
	}
	if (env.Key == nil) != (r.Key == nil) || utf8.ValidString(r.Subject) && env.Subject != r.Subject {
		t.Errorf("key %v, subject %q, want %q and %q", env.Key, env.Subject, r.Key, r.Subject)
	}
	n := 0
	for _, name := range slices.Sorted(maps.Keys(env.Headers)) {
		n += len(env.Headers[name])
	}
	if n != len(r.Headers) {
		t.Errorf("%d header values, want %d, in %q", n, len(r.Headers), text)
	}
	if r.Kind == bridge.Delete {
		if !env.Deleted {
			t.Errorf("not deleted: %q", text)
		}
		return
	}
	var s string
	switch env.Encoding {
	case "json":
		if want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(r.Data)); strings.TrimSpace(string(env.Data)) != strings.TrimSpace(want) {
			t.Errorf("JSON was changed: got %q, want %q", env.Data, want)
		}
		return
	case "text":
		if err := json.Unmarshal(env.Data, &s); err != nil {
			t.Fatal(err)
		}
	case "base64":
		if err := json.Unmarshal(env.Data, &s); err != nil {
			t.Fatal(err)
		}
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		s = string(b)
	}
	if s != string(r.Data) {
		t.Errorf("%s: got %q, want %q", env.Encoding, s, r.Data)
	}
}

// Each record is encoded while every feed that shows it waits.
func TestEncodingDataAllocatesNothing(t *testing.T) {
	enc := NewEncoder(EncoderOptions{Names: true, StreamFormats: map[string]string{"prices": FormatEnvelope}})
	events := []bridge.Event{
		changed(record(`{"order":1,"note":"a"}`), func(r *bridge.Record) { r.Name = "created" }),
		record("a\r\nb\nc"),
		record("\xff\xff\xff"),
		{Kind: bridge.PositionEvent, ID: someID},
	}
	dst := make([]byte, 0, 4096)
	for _, e := range events {
		if n := testing.AllocsPerRun(100, func() { enc.AppendEvent(dst, e) }); n != 0 {
			t.Errorf("%v allocations for %q", n, enc.AppendEvent(nil, e))
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	payload := `{"order":4711,"customer":"c-17","total":19.90,"note":"` + strings.Repeat("x", 150) + `"}`
	for _, format := range []string{FormatData, FormatEnvelope, FormatBase64} {
		b.Run(format, func(b *testing.B) {
			enc, e, dst := NewEncoder(EncoderOptions{Format: format}), record(payload), []byte(nil)
			b.ReportAllocs()
			for b.Loop() {
				dst = enc.AppendEvent(dst[:0], e)
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

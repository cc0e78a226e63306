package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// Clients of any make see the events that a client without a coding sees: when
// they come, with others that have come before, in bursts and in quiet times, with
// the position that others moved, and to an end that they take for one. That they
// have a compressor in common is nothing that they notice.
func TestForeignDecodersSeeThePlainStream(t *testing.T) {
	kinds := decoderKinds(t)
	server := natstest.Process(t)
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	b := startBridge(t, server.URL, "STREAMS=s=nats:S", "COMPRESSION=gzip,zstd", "HEARTBEAT=1s", "LOG_LEVEL=warn")
	url := b.events("subject=s.shown")
	plain := open(t, &ssetest.Client{URL: url})
	if got := plain.Header("Content-Encoding"); got != "" {
		t.Errorf("content encoding %q for a client that offers none", got)
	}
	var clients []*decoded
	came := map[*decoded]int{} // with how many records before it
	published := 0
	come := func() {
		var fresh []*decoded
		for _, kind := range kinds {
			n := 1
			if kind.coding == "zstd" {
				n = 2 // so that there are enough of them
			}
			for range n {
				d := startDecoding(t, kind, url)
				fresh, came[d] = append(fresh, d), published
			}
		}
		for _, d := range fresh {
			d.awaitType("caught-up", 1)
		}
		clients = append(clients, fresh...)
	}
	var want history // of the client without a coding
	await := func(data string) {
		for len(want) == 0 || want[len(want)-1].Data != data {
			want = append(want, next(t, plain))
		}
		for _, d := range clients {
			d.awaitData(data)
		}
	}
	record := func(n int) string { return fmt.Sprintf("%d %s", n, strings.Repeat("0123456789", n%40)) }
	oneByOne := func(n int) { // the next one is not published before this one has arrived
		for range n {
			published++
			if _, err := js.Publish(t.Context(), "s.shown", []byte(record(published))); err != nil {
				t.Fatal(err)
			}
			await(record(published))
		}
	}
	come()
	oneByOne(20)
	come()
	oneByOne(10)
	for range 600 { // more than one history of text
		published++
		if _, err := js.PublishAsync("s.shown", []byte(record(published))); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	await(record(published))
	come()
	oneByOne(5)
	got := b.scrape()
	if n := got.value("ssebridge_compressors"); n != 2 {
		t.Errorf("%v compressors, want one for each coding", n)
	}
	for i := range 2 { // records for others move the position, of which a heartbeat tells
		before := map[*decoded]int{}
		for _, d := range clients {
			h, _ := d.seen()
			before[d] = len(h.only("position"))
		}
		publish(t, js, "s.hidden", "", i, i)
		for _, d := range clients {
			d.awaitType("position", before[d]+1)
		}
		oneByOne(2)
	}
	before := map[*decoded]int{}
	for _, d := range clients {
		_, before[d] = d.seen()
	}
	for _, d := range clients {
		d.await("heartbeats", func(_ history, n int) bool { return n >= before[d]+2 })
	}
	oneByOne(2)

	b.Terminate()
	for {
		e, err := plain.Next(t.Context())
		if err != nil {
			break
		}
		want = append(want, e)
	}
	records := want.only("message")
	if len(records) != published {
		t.Fatalf("the client without a coding has %d of %d records", len(records), published)
	}
	lives := map[string]story{"s": {readLife(t, js, "S")}}
	for i, d := range clients {
		h := d.end()
		who := fmt.Sprintf("client %d, %s (%s)", i, d.kind.name, d.kind.coding)
		if got, want := h.only("message"), records[came[d]:]; !slices.Equal(got, want) {
			at := 0
			for at < min(len(got), len(want)) && got[at] == want[at] {
				at++
			}
			t.Errorf("%s: %d records, want %d; record %d differs", who, len(got), len(want), came[d]+at+1)
		}
		if last := h[len(h)-1]; last.Type != "closing" || last.Data != `{"reason":"drain"}` || last.ID != h[len(h)-2].ID {
			t.Errorf("%s: the last event is %v, want closing at %s", who, last, h[len(h)-2].ID)
		}
		mustAudit(t, who, h, bridge.NewFilter("s.shown"), lives)
	}
	if code := b.Wait(); code != 0 {
		t.Errorf("the bridge ended with code %d", code)
	}
	t.Logf("%d clients read %d records; %v bytes were sent", len(clients)+1, published, got.value("ssebridge_bytes_sent_total"))
}

// offers are requests for the same stream and what their answer has to be coded
// in, where gzip and zstd are offered.
var offers = map[string]struct {
	header map[string]string
	want   string
}{
	"nothing":             {nil, ""},
	"gzip":                {map[string]string{"Accept-Encoding": "gzip"}, "gzip"},
	"zstd":                {map[string]string{"Accept-Encoding": "zstd"}, "zstd"},
	"as browsers do":      {map[string]string{"Accept-Encoding": "gzip, deflate, br, zstd"}, "zstd"},
	"gzip rather":         {map[string]string{"Accept-Encoding": "gzip, zstd;q=0.1"}, "gzip"},
	"anything":            {map[string]string{"Accept-Encoding": "*"}, "zstd"},
	"no gzip":             {map[string]string{"Accept-Encoding": "gzip;q=0"}, ""},
	"brotli":              {map[string]string{"Accept-Encoding": "br"}, ""},
	"identity":            {map[string]string{"Accept-Encoding": "identity"}, ""},
	"with Authorization":  {map[string]string{"Accept-Encoding": "gzip", "Authorization": "Bearer x"}, ""},
	"nothing of the kind": {map[string]string{"Accept-Encoding": "gzip;q=lots"}, ""},
}

// Who gets a coding is decided by what it says, and told to caches. HEAD tells the
// same as GET.
func TestCodingsAreNegotiated(t *testing.T) {
	server := natstest.Embedded(t)
	createStream(t, server.JS(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	for compression, codings := range map[string]string{"off": "", "gzip": "gzip", "zstd": "zstd", "gzip,zstd": "gzip zstd"} {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			b := startBridge(t, server.URL, "STREAMS=s=nats:S", "COMPRESSION="+compression, "LOG_LEVEL=warn")
			for name, offer := range offers {
				heads := map[string]http.Header{}
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					resp := ask(t, method, b.events(""), offer.header)
					heads[method] = resp.Header
					_ = resp.Body.Close()
				}
				get, head := heads[http.MethodGet], heads[http.MethodHead]
				want := offer.want
				if !strings.Contains(codings, want) {
					want = map[string]string{"as browsers do": codings, "gzip rather": codings, "anything": codings}[name]
				}
				if got := get.Get("Content-Encoding"); got != want {
					t.Errorf("%s: content encoding %q, want %q", name, got, want)
				}
				for _, h := range heads {
					if varies := slices.Contains(strings.Split(h.Get("Vary"), ", "), "Accept-Encoding"); varies != (compression != "off") {
						t.Errorf("%s: Vary is %q", name, h.Get("Vary"))
					}
				}
				for _, h := range heads {
					h.Del("Date")
					h.Del("Connection")
				}
				if !maps.EqualFunc(get, head, slices.Equal) {
					t.Errorf("%s: HEAD has %v, and GET %v", name, head, get)
				}
			}
			// Errors are for people who look at them.
			for path, status := range map[string]int{"/events?subject=..": 400, "/events/nothing": 404, "/nothing": 404, "/events?subject=elsewhere": 404} {
				got, err := get(t.Context(), b.URL+path, map[string]string{"Accept-Encoding": "gzip, zstd"})
				if err != nil || got.status != status || got.header.Get("Content-Encoding") != "" || strings.HasPrefix(got.code(), "incomplete") || strings.HasPrefix(got.code(), "content") {
					t.Errorf("%s: %d %s, %v, coding %q: want %d as it is", path, got.status, got.code(), err, got.header.Get("Content-Encoding"), status)
				}
			}
		})
	}
}

// ask sends a request, and returns the answer when its head is there.
func ask(t *testing.T, method, url string, header map[string]string) *http.Response {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := rawHTTP.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// Bridges behind old proxies speak HTTP/1.0, and those behind meshes HTTP/2. A
// response is coded there as anywhere else.
func TestEveryVersionOfHTTPCarriesCodings(t *testing.T) {
	server := natstest.Embedded(t)
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	b := startBridge(t, server.URL, "STREAMS=s=nats:S", "COMPRESSION=gzip,zstd", "LOG_LEVEL=warn")
	two := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(two.CloseIdleConnections)
	var clients []*decoded
	for range 4 {
		for _, coding := range []string{"gzip", "zstd"} {
			clients = append(clients, startDecoding(t, decoderKind{"HTTP/2", coding, readByGo(coding, two)}, b.events("")))
		}
	}
	olds := make([]*ssetest.Stream, 4)
	for i := range olds {
		olds[i] = open(t, &ssetest.Client{URL: b.events(""), HTTP10: true, Keep: true, Header: map[string]string{"Accept-Encoding": "gzip"}})
		if got := olds[i].Header("Content-Encoding"); got != "gzip" || olds[i].Chunked() {
			t.Errorf("HTTP/1.0: content encoding %q, chunked %v", got, olds[i].Chunked())
		}
	}
	for _, d := range clients {
		d.awaitType("caught-up", 1)
	}
	for n := 1; n <= 50; n++ {
		publish(t, js, "s", "", n, n)
		for _, d := range clients {
			d.awaitData(fmt.Sprint(n))
		}
	}
	if n := b.scrape().value("ssebridge_compressors"); n != 2 {
		t.Errorf("%v compressors, want one for each coding", n)
	}
	b.Terminate()
	lives := map[string]story{"s": {readLife(t, js, "S")}}
	for i, d := range clients {
		mustAudit(t, fmt.Sprintf("client %d (%s)", i, d.kind.coding), d.end(), bridge.Filter{}, lives)
	}
	for i, s := range olds {
		content, err := s.ReadAll(t.Context())
		if err != nil {
			t.Fatalf("HTTP/1.0: %v", err)
		}
		mustAudit(t, fmt.Sprintf("client %d of HTTP/1.0", i), mustDecode(t, "gzip", content), bridge.Filter{}, lives)
	}
}

// mustDecode returns the events of a response that has ended.
func mustDecode(t *testing.T, coding string, content []byte) history {
	t.Helper()
	var text bytes.Buffer
	if err := decode(coding, bytes.NewReader(content), &text); err != nil {
		t.Errorf("%s: after %q: %v", coding, text.String()[max(0, text.Len()-100):], err)
	}
	return new(ssetest.Parser).Feed(text.Bytes())
}

// A goodbye that comes instead of a stream is read as any other response is.
func TestClientsThatAreSentAwayAtOnceReadWhy(t *testing.T) {
	server := natstest.Embedded(t)
	createStream(t, server.JS(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	b := startBridge(t, server.URL, "STREAMS=s=nats:S", "COMPRESSION=gzip,zstd", "MAX_CLIENTS=2", "DRAIN=1h", "LOG_LEVEL=warn")
	inside := []*reader{read(t, "", b.events("")), read(t, "", b.events(""))}
	for _, r := range inside {
		r.awaitType("caught-up", 1)
	}
	refused := func(reason string) {
		for _, coding := range []string{"gzip", "zstd"} {
			resp := ask(t, http.MethodGet, b.events(""), map[string]string{"Accept-Encoding": coding})
			content, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.Header.Get("Content-Encoding") != coding {
				t.Errorf("%s: content encoding %q, %v", coding, resp.Header.Get("Content-Encoding"), err)
				continue
			}
			if h := mustDecode(t, coding, content); len(h) != 1 || h[0].Type != "closing" || h[0].Data != fmt.Sprintf(`{"reason":%q}`, reason) {
				t.Errorf("%s: %v, want closing %s", coding, h, reason)
			}
		}
	}
	refused("overload")
	b.Terminate() // one of the two goes at once, the other after half an hour
	until(t, "the bridge to drain", func() bool { return b.scrape().value("ssebridge_draining") == 1 })
	refused("drain")
}

// Whoever writes what is no coding is told so, and by which name.
func TestBadCodingsAreRefused(t *testing.T) {
	for _, value := range []string{"brotli", "gzip;q=1", "gzip,off", "gzip,gzip", "GZIP", "true"} {
		b := newBridge(t, "nats://127.0.0.1:1", "STREAMS=s=nats:S", "COMPRESSION="+value)
		out, err := b.Check()
		b.Start()
		code := b.Wait()
		for what, text := range map[string]string{"check": out, "serve": b.log.String()} {
			if !strings.Contains(text, "SSEBRIDGE_COMPRESSION") || !strings.Contains(text, "want off, gzip, zstd, or gzip,zstd") {
				t.Errorf("%q: %s says %q", value, what, text)
			}
		}
		if err == nil || code == 0 {
			t.Errorf("%q: check ends with %v, serve with %d", value, err, code)
		}
	}
}

// Compressed events pass proxies as others do: one by one, and unchanged.
func TestCompressedEventsPassProxies(t *testing.T) {
	eachProxy(t, func(t *testing.T, p proxyProgram) {
		b := startBehind(t, p, nil, "COMPRESSION=gzip", "HEARTBEAT=1s")
		straight := open(t, &ssetest.Client{URL: b.bridges[0].events("")})
		kind := decoderKind{p.name, "gzip", readByGo("gzip", rawHTTP)}
		var clients []*decoded
		for range 8 { // four for each bridge
			clients = append(clients, startDecoding(t, kind, b.url))
			clients[len(clients)-1].awaitType("caught-up", 1)
		}
		for want := ""; want != "caught-up"; {
			want = next(t, straight).Type
		}
		var want history
		for n := 1; n <= 50; n++ {
			publish(t, b.js, "s", "", n, n)
			for _, d := range clients {
				d.awaitData(fmt.Sprint(n))
			}
			for len(want) < n {
				if e := next(t, straight); e.Type == "message" {
					want = append(want, e)
				}
			}
		}
		compressors := 0.0
		for _, bridge := range b.bridges {
			compressors += bridge.scrape().value("ssebridge_compressors")
		}
		if compressors == 0 {
			t.Error("nobody has a compressor: the test tests nothing")
		}
		for i, d := range clients {
			d.await("heartbeats", func(_ history, n int) bool { return n >= 2 })
			if h, _ := d.seen(); !slices.Equal(h.only("message"), want) {
				t.Errorf("client %d through %s has %d records, want the %d that a client straight at a bridge has", i, p.name, len(h.only("message")), len(want))
			}
		}
		for _, bridge := range b.bridges {
			bridge.Terminate()
		}
		for _, d := range clients {
			d.end()
		}
	})
}

package e2e

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// behind is a stream, two bridges that follow it, and a proxy in front of them.
type behind struct {
	js      jetstream.JetStream
	bridges []*bridgeProcess
	url     string // of the events, through the proxy
}

// startBehind starts all of it. edits change the proxy's snippet.
func startBehind(t *testing.T, p proxyProgram, edits []string, settings ...string) *behind {
	t.Helper()
	p.need(t)
	server := natstest.Embedded(t)
	b := &behind{js: server.JS()}
	createStream(t, b.js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	for range 2 {
		b.bridges = append(b.bridges, startBridge(t, server.URL, append(settings, "STREAMS=s=nats:S", "LOG_LEVEL=warn")...))
	}
	b.url = startProxy(t, p, b.bridges, edits...) + "/events"
	return b
}

// open opens one connection, which must be an event stream.
func open(t *testing.T, c *ssetest.Client) *ssetest.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := c.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if s.Status() != http.StatusOK || !strings.HasPrefix(s.Header("Content-Type"), "text/event-stream") {
		t.Fatalf("status %d, content type %q: want an event stream", s.Status(), s.Header("Content-Type"))
	}
	return s
}

// next waits for the next event.
func next(t *testing.T, s *ssetest.Stream) ssetest.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := s.Next(ctx)
	if err != nil {
		t.Fatalf("next event: %v", err)
	}
	return e
}

// corked is how long Linux holds back a packet that is not full when the sender
// says that more will come, as HAProxy does (tcp(7), TCP_CORK). Every event of a
// quiet stream takes so long then, the quickest too.
const corked = 200 * time.Millisecond

// Live means that an event is on the page when it is on the stream. A proxy that
// keeps it until a buffer is full, or until the next one comes, makes a price of
// now a price of then.
func TestEventsPassProxiesOneByOne(t *testing.T) {
	eachProxy(t, func(t *testing.T, p proxyProgram) {
		b := startBehind(t, p, nil)
		// What a browser sends: it would be given compressed bytes, if it was for the
		// proxies' own settings.
		s := open(t, &ssetest.Client{URL: b.url, Header: map[string]string{"Accept-Encoding": "gzip, deflate, br"}})
		straight := open(t, &ssetest.Client{URL: b.bridges[0].events("")})
		for name, want := range map[string]string{"Content-Encoding": "", "Cache-Control": "no-cache, no-transform"} {
			if got := s.Header(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		for _, want := range []string{"connected", "caught-up"} {
			if e := next(t, s); e.Type != want {
				t.Fatalf("got %+v, want %s", e, want)
			}
			next(t, straight)
		}
		quickest := patience
		for n := 1; n <= 20; n++ {
			// The next record is not published before this one has arrived.
			published := time.Now()
			publish(t, b.js, "s", "", n, n)
			got, want := next(t, s), next(t, straight)
			if got.Data != fmt.Sprint(n) || got != want {
				t.Fatalf("record %d: got %+v through %s, %+v straight from a bridge", n, got, p.name, want)
			}
			quickest = min(quickest, time.Since(published))
		}
		if quickest >= corked {
			t.Errorf("the quickest of 20 events took %s: each waits for a packet to fill", quickest)
		}
	})
}

// Whoever puts a bridge behind the nginx that is there already, with a line of
// proxy_pass and nothing else, must see live events too: by default it would hold
// back the whole stream, and compress it besides.
func TestNginxWithoutSettingsHoldsNothingBack(t *testing.T) {
	nginx.need(t)
	server := natstest.Embedded(t)
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	b := startBridge(t, server.URL, "STREAMS=s=nats:S")
	listen := freeAddress(t)
	url := nginx.start(t, listen, fmt.Sprintf("server { listen %s; location / { proxy_pass %s; } }\n", listen, b.URL))

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "gzip")
	resp, err := (&http.Client{Transport: &http.Transport{DisableCompression: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("content encoding %q, want gzip: this nginx is to compress", got)
	}
	plain, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(plain)
	await := func(want string) {
		for lines.Scan() {
			if lines.Text() == want {
				return
			}
		}
		t.Fatalf("no line %q: %v", want, lines.Err())
	}
	await("event: caught-up")
	for n := 1; n <= 20; n++ {
		publish(t, js, "s", "", n, n)
		await(fmt.Sprintf("data: %d", n))
	}
}

// A client behind a proxy is cut as any other is, and comes back through the
// proxy to whichever bridge that picks: its event id has to get there whole.
func TestCutsBehindProxiesLoseNothing(t *testing.T) {
	eachProxy(t, func(t *testing.T, p proxyProgram) {
		b := startBehind(t, p, nil)
		const records = 200
		publish(t, b.js, "s", "", 1, records)
		s := &sweep{}
		for _, r := range readLife(t, b.js, "S").records {
			s.want = append(s.want, r.data)
		}
		cuts := 0
		for k := int64(1); ; k += 97 {
			c := &ssetest.Client{URL: b.url + "?start=all", CutAfter: k}
			got, whole, err := readUntilCaughtUp(t.Context(), c, nil)
			if whole {
				break
			}
			cuts++
			if err == nil {
				c.CutAfter = 0
				got, whole, err = readUntilCaughtUp(t.Context(), c, got)
			}
			if err = errors.Join(err, s.compare(got)); err != nil || !whole {
				t.Fatalf("cut after byte %d: %v", k, err)
			}
		}
		if cuts < 50 {
			t.Errorf("%d connections were cut: want at least 50", cuts)
		}
	})
}

// A bridge dies, the other one serves its clients from where they were; both are
// gone for a while, and clients that know no status but 200, as browsers do,
// still come back. Nobody misses a record or gets one twice.
func TestProxiesTakeClientsToTheOtherBridge(t *testing.T) {
	eachProxy(t, func(t *testing.T, p proxyProgram) {
		b := startBehind(t, p, nil)
		readers := make([]*reader, 4)
		for i := range readers {
			readers[i] = read(t, "", b.url)
			readers[i].awaitType("caught-up", 1)
		}
		last := 0
		more := func() {
			publish(t, b.js, "s", "", last+1, last+50)
			last += 50
			for _, r := range readers {
				r.awaitData(fmt.Sprint(last))
			}
		}
		more()
		for i := range b.bridges { // each in turn, so that every client loses its own
			b.bridges[i].Kill9()
			more()
			b.bridges[i].Start()
			b.bridges[i].await("/readyz", http.StatusOK)
		}
		for _, dead := range b.bridges {
			dead.Kill9()
		}
		publish(t, b.js, "s", "", last+1, last+50)
		last += 50
		for _, r := range readers {
			// Two: the first answer may have been under way when the bridge died.
			opened := r.connections()
			r.await("answers while no bridge is there", func(history) bool { return r.connections() >= opened+2 })
		}
		for _, back := range b.bridges {
			back.Start()
		}
		more()
		records := story{readLife(t, b.js, "S")}
		for i, r := range readers {
			h := r.close()
			who := fmt.Sprintf("reader %d", i)
			mustAudit(t, who, h, bridge.Filter{}, map[string]story{"s": records})
			if verdicts := h.verdicts(); len(verdicts) < 3 || slices.ContainsFunc(verdicts[1:], func(v string) bool { return v != "exact" }) {
				t.Errorf("%s: verdicts %v, want new and then exact at least twice", who, verdicts)
			}
		}
	})
}

// A bridge that ends has to send its clients elsewhere, over some time. It has
// ever fewer then, which must not make a proxy hand them back to it.
func TestProxiesLeaveADrainingBridgeAlone(t *testing.T) {
	eachProxy(t, func(t *testing.T, p proxyProgram) {
		b := startBehind(t, p, nil, "DRAIN=1h")
		readers := make([]*reader, 4)
		for i := range readers {
			readers[i] = read(t, "", b.url)
			readers[i].awaitType("caught-up", 1)
		}
		// Two clients each. The first is told to go at once, the second after half an
		// hour, so that the bridge is there, and drains, for as long as this takes.
		b.bridges[0].Terminate()
		var sent *reader
		until(t, "a client to be sent away", func() bool {
			i := slices.IndexFunc(readers, func(r *reader) bool { return r.connections() > 1 })
			if i >= 0 {
				sent = readers[i]
			}
			return i >= 0
		})
		publish(t, b.js, "s", "", 1, 1)
		for _, r := range readers {
			r.awaitData("1")
		}
		select {
		case <-b.bridges[0].done:
			t.Fatal("the bridge has ended, and was to drain")
		default:
		}
		h := sent.close()
		mustAudit(t, "the client that was sent away", h, bridge.Filter{}, map[string]story{"s": {readLife(t, b.js, "S")}})
		if closing := h.only("closing"); len(closing) == 0 || !strings.Contains(closing[0].Data, `"drain"`) {
			t.Errorf("it was told %v, want closing drain", closing)
		}
	})
}

// Nothing may happen on a stream for hours. The bridge's heartbeats are what
// keeps proxies from taking that for death.
func TestHeartbeatsOutliveProxyTimeouts(t *testing.T) {
	eachProxy(t, func(t *testing.T, p proxyProgram) {
		const silence = 2500 * time.Millisecond
		t.Run("heartbeats", func(t *testing.T) {
			t.Parallel() // it waits, most of the time
			b := startBehind(t, p, p.silence(silence), "HEARTBEAT=1s")
			s := open(t, &ssetest.Client{URL: b.url})
			next(t, s)
			next(t, s)
			// Six heartbeats take twice as long as the proxy bears silence.
			until(t, "six heartbeats", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("after %d heartbeats: %v, want silence", s.Comments(), err)
				}
				return s.Comments() >= 6
			})
			publish(t, b.js, "s", "", 1, 1)
			if e := next(t, s); e.Data != "1" {
				t.Errorf("got %+v, want the record 1", e)
			}
		})
		// Otherwise the heartbeats above would prove nothing.
		t.Run("silence", func(t *testing.T) {
			t.Parallel()
			b := startBehind(t, p, p.silence(silence), "HEARTBEAT=5m")
			s := open(t, &ssetest.Client{URL: b.url})
			next(t, s)
			next(t, s)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if e, err := s.Next(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("got %+v and %v, want an end of the connection", e, err)
			}
		})
	})
}

// Over many partitions an event id grows. Proxies bound the head of a request,
// and their 400 would end a browser's EventSource for good.
func TestLongestEventIDPassesProxies(t *testing.T) {
	eachProxy(t, func(t *testing.T, p proxyProgram) {
		b := startBehind(t, p, nil)
		// As long as SSEBRIDGE_MAX_ID_BYTES allows. That it is no id at all is what the
		// bridge says, so it got there.
		s := open(t, &ssetest.Client{URL: b.url, LastID: strings.Repeat("x", 4096)})
		next(t, s)
		if e := next(t, s); e.Type != "reset" || !strings.Contains(e.Data, `"unreadable-id"`) {
			t.Errorf("got %+v, want reset unreadable-id", e)
		}
	})
}

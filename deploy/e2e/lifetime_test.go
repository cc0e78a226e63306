package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// A status would end a browser's EventSource for good, so a bridge that has
// enough clients answers like any other and asks them to come back.
func TestTooManyClientsAreAskedToComeBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true}, "MAX_CLIENTS=1")
	s.publish("", 1, 3)
	id := s.leaveAt("2")
	var inside *reader
	until(t, "the client before to be gone", func() bool {
		c := &ssetest.Client{URL: s.a.events("")}
		stream, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		e, err := stream.Next(t.Context())
		return err == nil && e.Type == "connected"
	})
	inside = read(t, id, s.a.events(""))
	inside.awaitType("caught-up", 1)
	c := &ssetest.Client{URL: s.a.events(""), LastID: id}
	stream, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	e, err := stream.Next(t.Context())
	if err != nil || stream.Status() != 200 || e.Type != "closing" || e.Data != `{"reason":"overload"}` || e.ID != id || c.Retry <= 0 {
		t.Errorf("got %d, %v, %v, retry %v, want closing overload with the caller's id and a retry", stream.Status(), e, err, c.Retry)
	}
	if _, err := stream.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want a clean end", err)
	}
	// It does come back, and has lost nothing by the refusals.
	back := read(t, id, s.a.events(""))
	inside.close()
	back.awaitType("caught-up", 1)
	h := back.close()
	for len(h) > 0 && h[0].Type == "closing" {
		h = h[1:]
	}
	mustAudit(t, "client", h, bridge.Filter{}, map[string]story{"s": {readLife(t, s.js, "S")}})
}

// Connections that are ended for their age, so that load spreads over new
// replicas, cost nobody a record.
func TestOldConnectionsEndBetweenEvents(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true}, "MAX_AGE=1s")
	r := read(t, "", s.a.events("start=all"), s.b.events("start=all"))
	for n := 1; r.connections() < 4; n++ {
		s.publish("", n, n)
		r.awaitData(fmt.Sprint(n))
	}
	r.awaitType("caught-up", 4)
	for _, e := range r.close().only("closing") {
		if e.Data != `{"reason":"max-age"}` {
			t.Errorf("closing %s, want max-age", e.Data)
		}
	}
	s.check(story{readLife(t, s.js, "S")}, noLosses, map[string]*reader{"client": r})
}

// A client that takes nothing costs the bridge no memory and the others no
// time. It is cut off, and goes on where it was.
func TestStuckClientHarmsNobodyAndLosesNothing(t *testing.T) {
	t.Parallel()
	server := natstest.Process(t)
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	settings := []string{"STREAMS=s=nats:S", "WRITE_TIMEOUT=1s", "LOG_LEVEL=debug", "MEMORY=32MiB"}
	s := &scene{t: t, server: server, js: js, a: startBridge(t, server.URL, settings...), b: startBridge(t, server.URL, settings...)}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	c := &ssetest.Client{URL: s.a.events("start=all")}
	stuck, err := c.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	live := s.live("start=all")
	const records = 300 // of 100 kB, which is more than the kernel and the rings hold
	filler := strings.Repeat("x", 100_000)
	for n := 1; n <= records; n++ {
		if _, err := js.Publish(t.Context(), "s.x", fmt.Appendf(nil, "%d %s", n, filler)); err != nil {
			t.Fatal(err)
		}
	}
	live.awaitData(fmt.Sprintf("%d %s", records, filler))
	until(t, "the stuck client to be cut off", func() bool { return strings.Contains(s.a.log.String(), "client takes no more bytes") })

	var h history
	for {
		e, err := stuck.Next(ctx)
		if errors.Is(err, ssetest.ErrCut) {
			break
		}
		if err != nil {
			t.Fatalf("the stuck client, once it reads again: %v, want a cut", err)
		}
		h = append(h, e)
	}
	if got := len(h.only("message")); got == records {
		t.Fatal("the stuck client got everything: it was not stuck")
	}
	c.URL = s.b.events("start=all")
	err = c.Follow(ctx, reconnectPause, func(e ssetest.Event) bool {
		h = append(h, e)
		return !strings.HasPrefix(e.Data, fmt.Sprint(records, " "))
	})
	if err != nil {
		t.Fatal(err)
	}
	lives := story{readLife(t, js, "S")}
	mustAudit(t, "stuck client", h, bridge.Filter{}, map[string]story{"s": lives})
	s.check(lives, noLosses, map[string]*reader{"live client": live})
}

// Some streams must not be read by a bridge at all: reading would remove their
// records. The operator is told what to do, and other streams are served.
func TestStreamsThatReadingWouldEmptyAreRefused(t *testing.T) {
	t.Parallel()
	server := natstest.Embedded(t)
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	createStream(t, js, jetstream.StreamConfig{Name: "WORK", Subjects: []string{"work.>"}, Retention: jetstream.WorkQueuePolicy})
	createStream(t, js, jetstream.StreamConfig{Name: "INTEREST", Subjects: []string{"interest.>"}, Retention: jetstream.InterestPolicy})
	b := newBridge(t, server.URL, "STREAMS=s=nats:S,work=nats:WORK,interest=nats:INTEREST", "READY=listening")
	b.Start()
	b.await("/readyz", 200)
	publish(t, js, "s.x", "", 1, 3)
	r := read(t, "", b.events("start=all"))
	r.awaitData("3")
	mustAudit(t, "client", r.close(), bridge.Filter{}, map[string]story{"s": {readLife(t, js, "S")}})
	for _, name := range []string{"WORK", "INTEREST"} {
		until(t, "the log to say what to do about "+name, func() bool {
			for line := range strings.Lines(b.log.String()) {
				if strings.Contains(line, name) && strings.Contains(line, "mirror or source") {
					return true
				}
			}
			return false
		})
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if n := stream.CachedInfo().State.Consumers; n != 0 {
			t.Errorf("stream %s has %d consumers, want none", name, n)
		}
		got, err := get(t.Context(), b.URL+"/events/"+strings.ToLower(name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.status != 404 || got.code() != "refused-stream" {
			t.Errorf("stream %s: %d %s, want 404 refused-stream", name, got.status, got.code())
		}
	}
}

package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/replay"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// replica starts everything between a broker in memory and the sockets.
func replica(t *testing.T, broker *sourcetest.Broker, o Options) *bench {
	t.Helper()
	stream := bridge.NewStream("orders", broker.Source(sourcetest.SourceOptions{}), bridge.StreamOptions{})
	hub := bridge.NewHub([]*bridge.Stream{stream}, bridge.HubOptions{})
	r := replay.New(hub, replay.Options{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hub.Run(ctx)
	}()
	t.Cleanup(func() { // after the server has ended
		r.Close()
		stop()
		<-done
	})
	o.Open = func(ctx context.Context, sub *bridge.Subscription) (Follower, error) { return r.Open(ctx, sub), nil }
	return start(t, o)
}

// connectTo opens a stream whose first event must have this verdict.
func connectTo(t *testing.T, c *ssetest.Client, verdict string) *ssetest.Stream {
	t.Helper()
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Next(t.Context())
	if want := fmt.Sprintf(`{"resume":%q,"streams":{"orders":`, verdict); e.Type != "connected" || e.ID == "" || !strings.HasPrefix(e.Data, want) || err != nil {
		t.Fatalf("got %q, %v, want connected %s with an id", e, err, want)
	}
	return s
}

// expect reads one event of a type and with this data, and returns its id.
func expect(t *testing.T, s *ssetest.Stream, kind, data string) (id string) {
	t.Helper()
	e, err := s.Next(t.Context())
	if e.Type != kind || e.Data != data || err != nil {
		t.Fatalf("got %q, %v, want %s %q", e, err, kind, data)
	}
	return e.ID
}

// The whole promise, once through every part: history, live records, a sign of
// life in silence, a goodbye, and the very next record on another replica.
func TestClientGoesOnAtAnotherReplica(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		broker := sourcetest.NewBroker(sourcetest.BrokerOptions{})
		publish := func(data string) {
			broker.Append(sourcetest.Message{Subject: "orders.eu", Data: []byte(data)})
		}
		one, two := replica(t, broker, Options{}), replica(t, broker, Options{})
		publish("1")
		publish("2")
		synctest.Wait()

		c := one.client("/events/orders?start=all&subject=orders.*")
		s := connectTo(t, c, "new")
		expect(t, s, "message", "1")
		expect(t, s, "message", "2")
		expect(t, s, "caught-up", "{}")
		go publish("3")
		expect(t, s, "message", "3")

		silence := time.Now()
		go func() {
			time.Sleep(50 * time.Second)
			publish("4")
		}()
		expect(t, s, "message", "4")
		if got := s.Comments(); got != 3 || time.Since(silence) != 50*time.Second {
			t.Errorf("%d heartbeats in %v, want 3 in 50s", got, time.Since(silence))
		}

		drained := make(chan error, 1)
		go func() { drained <- one.handler.Drain(t.Context(), 20*time.Second) }()
		id := expect(t, s, "closing", `{"reason":"drain"}`)
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want a clean end", err)
		}
		if err := <-drained; err != nil || id != c.LastID || c.Retry != DefaultRetry {
			t.Errorf("drain: %v, id %q, kept %q, retry %v", err, id, c.LastID, c.Retry)
		}

		publish("5")
		synctest.Wait() // or it may reach the replica after the client has caught up
		c.Dial = two.listener.dial
		s = connectTo(t, c, "exact")
		expect(t, s, "message", "5")
		expect(t, s, "caught-up", "{}")
		go publish("6")
		expect(t, s, "message", "6")
		s.Close()
	})
}

// An id that was damaged on its way is told to its client, in a stream that
// goes on, because nobody else could do anything about it.
func TestUnreadableHeaderIsAnsweredInTheStream(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		broker := sourcetest.NewBroker(sourcetest.BrokerOptions{})
		b := replica(t, broker, Options{})
		synctest.Wait()
		c := b.client("/events")
		c.LastID = validID[:len(validID)-2]
		s, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e, err := s.Next(t.Context())
		if e.Type != "connected" || e.ID != "" || !strings.Contains(e.Data, `"resume":"reset"`) || err != nil {
			t.Errorf("got %q, %v, want connected reset without an id", e, err)
		}
		e, err = s.Next(t.Context())
		if e.Type != "reset" || e.ID == "" || !strings.Contains(e.Data, `"reason":"unreadable-id"`) || err != nil {
			t.Errorf("got %q, %v, want reset unreadable-id with an id", e, err)
		}
	})
}

// on-reset=fail asks for a status, which a program can act on, and the stream
// that was recreated must not be told as if it were the old one.
func TestFailOnResetIsAStatus(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		broker := sourcetest.NewBroker(sourcetest.BrokerOptions{})
		b := replica(t, broker, Options{})
		broker.Append(sourcetest.Message{Subject: "a", Data: []byte("1")})
		synctest.Wait()
		c := b.client("/events?on-reset=fail&start=all")
		s := connectTo(t, c, "new")
		expect(t, s, "message", "1")
		s.Close()
		broker.Recreate(1)
		broker.Append(sourcetest.Message{Subject: "a", Data: []byte("other")})
		time.Sleep(10 * time.Second)
		s, body := b.get(c)
		if s.Status() != 410 || !strings.Contains(body, `"code":"reset"`) || !strings.Contains(body, "recreated") {
			t.Errorf("got %d %s", s.Status(), body)
		}
	})
}

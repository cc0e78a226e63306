package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// consumers counts the consumers that the broker knows for the scene's stream.
func (s *scene) consumers() int {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), "S")
	if err != nil {
		s.t.Fatal(err)
	}
	return stream.CachedInfo().State.Consumers
}

// A broker pays for every consumer. Browsers must not cost it any: one bridge
// has one reader a stream, and leaves nothing behind when it dies.
func TestOneConsumerServesAThousandClients(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.b.Terminate()
	s.b.Wait()
	s.publish("", 1, 20)
	if n := s.consumers(); n != 1 {
		t.Errorf("%d consumers before any client, want 1", n)
	}
	const clients = 1000
	ctx, stop := context.WithTimeout(t.Context(), 3*patience)
	defer stop()
	var connecting, reading, silent sync.WaitGroup
	connecting.Add(clients)
	for n := range clients {
		query := []string{"", "start=all", "start=all&subject=s.x", "subject=s.nothing"}[n%4]
		kind := &reading
		if n%4 == 3 {
			kind = &silent // until the bridge is killed
		}
		kind.Go(func() {
			arrived := sync.OnceFunc(connecting.Done)
			defer arrived()
			err := (&ssetest.Client{URL: s.a.events(query)}).Follow(ctx, reconnectPause, func(e ssetest.Event) bool {
				if e.Type == "caught-up" {
					arrived()
				}
				return e.Data != "21"
			})
			if err != nil && kind == &reading {
				t.Errorf("client %d: %v", n, err)
			}
		})
	}
	connecting.Wait()
	if n := s.consumers(); n != 1 {
		t.Errorf("%d consumers with %d clients, want 1", n, clients)
	}
	s.publish("", 21, 21)
	reading.Wait()
	if n := s.consumers(); n != 1 {
		t.Errorf("%d consumers after %d clients have left, want 1", n, clients)
	}
	s.a.Kill9()
	killed := time.Now()
	stop()
	silent.Wait()
	until(t, "the consumer of a bridge that was killed to vanish", func() bool { return s.consumers() == 0 })
	t.Logf("the consumer was gone %s after the kill", time.Since(killed).Round(time.Second))
}

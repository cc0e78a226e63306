package nats

import (
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// An operator who reads "stream waits" at every healthy start soon reads it no
// more. So the first dial is given a moment, and no more than that: an outage
// is told whether the dial fails or hangs.
func TestAStartIsCalmUnlessTheDialFailsOrHangs(t *testing.T) {
	for _, c := range []struct {
		name        string
		fails       error // of the dial; nil: it hangs
		calm, later time.Duration
	}{
		{"hangs", nil, time.Second, 5 * time.Second},
		{"fails", errors.New("connection refused"), 0, 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster, err := NewCluster(Options{URLs: []string{"nats://127.0.0.1:1"}}) // never run, so it never connects
				if err != nil {
					t.Fatal(err)
				}
				s, err := NewSource(cluster, quick())
				if err != nil {
					t.Fatal(err)
				}
				l := listen(t, s, false)
				time.Sleep(c.calm)
				synctest.Wait()
				if waits := l.find(bridge.Waiting); c.fails == nil && len(waits) > 0 {
					t.Errorf("after %s of dialling: told to wait for %v, want no word", c.calm, waits[0].Err)
				}
				if c.fails != nil {
					cluster.live.failed(c.fails)
				}
				time.Sleep(c.later)
				synctest.Wait()
				waits := l.find(bridge.Waiting)
				if len(waits) != 1 || !errors.Is(waits[0].Err, bridge.ErrUnavailable) || c.fails != nil && !errors.Is(waits[0].Err, c.fails) {
					t.Errorf("after %s: told %+v, want one wait for the broker", c.later, waits)
				}
			})
		})
	}
}

// Who looks for the reason of an outage wants one line that has it, not a first
// one without.
func TestAnUnreachableServerIsToldOnceWithTheReason(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil { // nobody listens there any more
		t.Fatal(err)
	}
	s, err := NewSource(runCluster(t, Options{URLs: []string{"nats://" + ln.Addr().String()}}), quick())
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, s, false)
	l.until(t, "Waiting", func() bool { return l.count(bridge.Waiting) > 0 })
	if first := l.find(bridge.Waiting)[0].Err; !strings.Contains(first.Error(), "refused") || !errors.Is(first, bridge.ErrUnavailable) {
		t.Errorf("told to wait for %v, want the reason: connection refused", first)
	}
}

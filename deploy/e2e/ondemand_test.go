package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
)

// A stream that is read on demand is not read while nobody looks, which is what
// it is for; and whoever comes back, in a crowd and to whichever replica, must not
// be able to tell.
func TestOnDemandStreamIsLeftAloneAndResumedExactly(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for a minute without clients; run without -short")
	}
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true}, "STREAM_S_READ=on-demand")
	s.publish("", 1, 20)
	live := s.live("start=all")
	live.awaitData("20")
	s.publish("", 21, 21)
	live.awaitData("21")
	before := live.close()
	id := before.lastID()
	if n := s.consumers(); n != 2 { // both replicas read for a minute at first
		t.Errorf("%d consumers with a client, want 2", n)
	}
	left := time.Now()
	idle := func() {
		t.Helper()
		time.Sleep(time.Until(left.Add(bridge.DefaultLinger))) // then what is waited for is near
		until(t, "a stream without clients to be idle", func() bool { return s.consumers() == 0 })
		for _, b := range []*bridgeProcess{s.a, s.b} {
			if st, err := b.status(); err != nil || st.State != "idle" || st.Partitions[0].Position != nil {
				t.Errorf("/streams tells %+v, %v, want idle without a position", st, err)
			}
			if got := b.scrape().value("ssebridge_stream_state", "state=idle"); got != 1 {
				t.Errorf("the metric of the state idle is %v, want 1", got)
			}
			b.await("/readyz", 200)
		}
	}
	idle()
	s.publish("", 22, 40)

	const clients = 1000
	var readers []*reader
	for range clients {
		readers = append(readers, read(t, id, s.a.events("")))
	}
	other := read(t, id, s.b.events(""))
	for _, r := range append(readers, other) {
		r.awaitType("caught-up", 1)
	}
	if n := s.consumers(); n != 2 {
		t.Errorf("%d consumers for %d clients of two replicas, want 2", n, clients+1)
	}
	s.publish("", 41, 60)
	lives := story{readLife(t, s.js, "S")}
	for i, r := range append(readers, other) {
		r.awaitData("60")
		after := r.close()
		if got := after.verdicts(); !slices.Equal(got, []string{"exact"}) {
			t.Errorf("client %d: verdicts %q, want exact", i, got)
		}
		if got := after.losses(); len(got) > 0 {
			t.Errorf("client %d: losses %q, want none", i, got)
		}
		mustAudit(t, fmt.Sprint("client ", i), slices.Concat(before, after), bridge.Filter{}, map[string]story{"s": lives})
	}
	left = time.Now()
	idle()
}

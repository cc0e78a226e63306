package nats

import (
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// A stream that is read on demand is what its broker's operator was promised: no
// consumer while nobody looks, one while anybody does, however many come.
func TestIdleStreamHasNoConsumer(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	source := openSource(t, srv.URL, quick())
	hub, stream := sourcetest.RunOnDemand(t, source)
	until := func(what string, holds func() bool) {
		t.Helper()
		sourcetest.Until(t, what, patience, func() any { return []any{stream.Status(), consumers(t, js, "S")} }, holds)
	}
	idle := func() bool {
		return stream.Status().State == "idle" && len(consumers(t, js, "S")) == 0
	}
	until("idle at first", idle)
	made := source.Stats().Consumers
	var last uint64
	for range 3 {
		last = publish(t, js, "s.a", "while idle ", 5)
		clients := make([]bridge.Demand, 100)
		ready := func() bool {
			ready := true
			for i := range clients {
				_, here, err := hub.Resolve(bridge.Subscription{}, &clients[i])
				if err != nil {
					t.Fatal(err)
				}
				ready = ready && here
			}
			return ready
		}
		until("ready", ready)
		if live, _ := stream.Live(); live.Place(0).Offset != bridge.Offset(last)+1 {
			t.Errorf("reading begins at %v, want %d, the end of the log", live, last+1)
		}
		until("read", func() bool { return stream.Status().State == "reading" })
		if names := consumers(t, js, "S"); len(names) != 1 {
			t.Errorf("consumers %q, want one for 100 clients", names)
		}
		last = publish(t, js, "s.a", "live ", 5)
		until("live", func() bool { live, _ := stream.Live(); return live.Place(0).Offset == bridge.Offset(last)+1 })
		for i := range clients {
			clients[i].Release()
		}
		until("idle again", idle)
	}
	if got := source.Stats().Consumers - made; got != 3 {
		t.Errorf("%d consumers were made, want 3: one each time", got)
	}
}

// What would be told by the reader can be asked without it.
func TestSubjectsOfAStreamThatIsNotRead(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	config := makeStream(t, js)
	for _, test := range []struct {
		filter []string
		want   string
	}{
		{nil, "s.>"},
		{[]string{"s.a", "s.b"}, "s.a s.b"},
	} {
		o := quick()
		o.Filter = test.filter
		if got := strings.Join(ask(t, openSource(t, srv.URL, o).Subjects), " "); got != test.want {
			t.Errorf("filter %q: subjects %s, want %s", test.filter, got, test.want)
		}
	}
	config.Subjects = []string{"s.>", "t.>"}
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(ask(t, openSource(t, srv.URL, quick()).Subjects), " "); got != "s.> t.>" {
		t.Errorf("subjects %s after they were changed", got)
	}
	if names := consumers(t, js, "S"); len(names) > 0 {
		t.Errorf("consumers %q, want none", names)
	}
}

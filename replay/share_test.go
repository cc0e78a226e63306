package replay

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// Thousands of clients at one place are given one batch, which is looked for once.
// One at another place must not be given it, nor one that would be told of a loss
// in its own way.
func TestPolledClientsShareABatchOnlyAtTheSamePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		join := func() *rigClient {
			c := r.follow(bridge.Subscription{})
			c.until("caught-up")
			c.expect(second)
			return c
		}
		a, b, c := join(), join(), join()
		s := new(bridge.Scratch)
		poll := func(who string, c *rigClient, want ...string) {
			t.Helper()
			s.Now = time.Now()
			if !c.Poll(s) {
				t.Fatalf("%s is not level", who)
			}
			if len(s.Batch.Units) != len(want) {
				t.Fatalf("%s got %d units, want %q", who, len(s.Batch.Units), want)
			}
			for i, u := range s.Batch.Units {
				e := simDecode(u)
				if got := e.text(string(u)); got != want[i] {
					t.Errorf("%s got %q, want %q", who, got, want[i])
				}
				if i == len(want)-1 && e.id != c.ID() {
					t.Errorf("%s is at %s behind an event with the id %s", who, c.ID(), e.id)
				}
			}
			if s.Batch.Records != len(want) {
				t.Errorf("%s got %d records, want %d", who, s.Batch.Records, len(want))
			}
		}
		r.write("j", 0, "s", "1")
		poll("a", a, "data j/0@1 1")
		poll("b", b, "data j/0@1 1")
		r.write("j", 0, "s", "2")
		poll("c", c, "data j/0@1 1") // the same; what came since, next time
		poll("a", a, "data j/0@2 2")
		r.write("j", 0, "s", "3")
		poll("b", b, "data j/0@2 2")
		s.Restart()
		poll("c", c, "data j/0@2 2", "data j/0@3 3") // a batch of its own
		poll("a", a, "data j/0@3 3")
		poll("b", b, "data j/0@3 3")
		for _, client := range []*rigClient{a, b, c} { // none of them has it twice
			client.expect(second)
		}
	})
}

// A client that asked to fail must not be led past a reset because it was asked
// what it has instead of waiting for it.
func TestPolledClientIsNotLedPastAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		r.fill("j", 0, 3)
		c := r.follow(bridge.Subscription{OnReset: bridge.ResetFail})
		c.until("caught-up")
		c.expect(second)
		r.brokers["j"].Recreate(1)
		r.write("j", 0, "s", "new")
		time.Sleep(10 * time.Second)
		s := &bridge.Scratch{Now: time.Now()}
		for c.Poll(s) {
			if len(s.Batch.Units) > 0 {
				t.Fatalf("got %q, want the reset first", s.Batch.Units[0])
			}
			time.Sleep(time.Second)
			s.Now = time.Now()
		}
		got, err := c.read(time.Minute)
		if reset, ok := errors.AsType[*bridge.ResetError](err); !ok || reset.Finding.Reason != bridge.Recreated {
			t.Errorf("ended with %v after %q, want the reset", err, got)
		}
	})
}

// A position is told where the client is at the head of its group: at any other
// moment others of the group may have been told a newer one, and they are given what
// this one is told.
func TestPositionIsToldAtTheHeadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		c := r.follow(bridge.Subscription{})
		c.until("caught-up")
		c.expect(second)
		c.sent = "an id before" // as of one that has caught up a second time
		s := &bridge.Scratch{Now: time.Now().Add(time.Minute)}
		r.write("j", 0, "s", "1") // after the client was asked what it has
		if !c.Beat(s, 0) || len(s.Batch.Units) != 1 {
			t.Fatal("there is no sign of life")
		}
		if e := simDecode(s.Batch.Units[0]); s.Batch.ID != "" || e.id != "" {
			t.Errorf("got %q, want a heartbeat without an id", s.Batch.Units[0])
		}
		if !c.Poll(s) || len(s.Batch.Units) != 1 {
			t.Fatal("the record is not there")
		}
		c.sent = "an id before"
		if !c.Beat(s, time.Hour) || s.Batch.ID != c.ID() {
			t.Errorf("at the head it is told %q, want its position %q", s.Batch.ID, c.ID())
		}
	})
}

package replay

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// An operator who looks at a client must see what it waits for, and a lag that
// falls to 0 when it has everything: a filter that matches nothing is no lag.
func TestStatusTellsHowFarAClientIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{runOffsets: 2, takeEvents: 1}, bridge.HubOptions{}, js, kafka)
		r.fill("j", 0, 5)
		r.fill("k", 1, 2)
		c := r.follow(bridge.Subscription{Start: all()})
		want := func(when, state string, lag bridge.Offset, known bool) {
			t.Helper()
			synctest.Wait()
			st := c.Status()
			if st.State != state || st.Lag != lag || st.LagKnown != known {
				t.Errorf("%s: got %+v, want %s, lag %d, known %v", when, st, state, lag, known)
			}
		}
		// connected and the first record wait to be taken.
		want("before the first read", "catching-up", 0, false)
		if _, err := c.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		want("at the beginning", "catching-up", 7, true)
		if _, err := c.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		want("behind the first record", "catching-up", 6, true)
		if st := c.Status(); st.ID != c.ID() {
			t.Errorf("position %s, want that of what was returned, %s", st.ID, c.ID())
		}
		c.until("caught-up")
		c.expect(time.Second)
		want("with everything", "level", 0, true)
		if got := c.Streams(); !slices.Equal(got, []string{"j", "k"}) {
			t.Errorf("streams %q", got)
		}
		r.write("j", 0, "s", "6")
		r.write("k", 0, "s", "1")
		want("two behind", "level", 2, true)
		before := c.Status().ID
		c.expect(time.Second, "data j/0@6 6", "data k/0@0 1")
		want("with everything again", "level", 0, true)
		r.write("j", 0, "s", "7")
		want("one behind", "level", 1, true)
		c.expect(time.Second, "data j/0@7 7")
		c.leave()
		want("after the end", "catching-up", 0, true)
		if c.Status().ID == before {
			t.Error("the position did not move")
		}
	})
}

// The records that a client does not want pass it by without a trace in its last
// id; an operator would take them for lag.
func TestStatusOfAQuietFilterHasNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		c := r.follow(bridge.Subscription{Filter: bridge.NewFilter("wanted")})
		c.expect(time.Second, "connected new", "caught-up")
		r.fill("j", 0, 9)
		if st := c.Status(); st.State != "level" || st.Lag != 0 || !st.LagKnown || st.ID == c.ID() {
			t.Errorf("got %+v, last id %s", st, c.ID())
		}
	})
}

// A client that is held is not to be taken for one that follows.
func TestStatusOfAHeldClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := js
		away.source.Before = func(ctx context.Context, _ sourcetest.Op) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		r := newRig(t, Options{}, bridge.HubOptions{}, away)
		c := r.follow(bridge.Subscription{})
		synctest.Wait()
		if st := c.Status(); st != (bridge.FollowerStatus{State: "entering"}) || len(c.Streams()) != 0 {
			t.Errorf("got %+v, streams %q", st, c.Streams())
		}
	})
}

// Operators ask at any time, from goroutines of their own; the race detector
// looks on.
func TestStatusMayBeAskedAtAnyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{RingBytes: 2000}, js)
		r.fill("j", 0, 20)
		c := r.follow(bridge.Subscription{Start: all()})
		ctx, stop := context.WithCancel(t.Context())
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			for ctx.Err() == nil {
				c.Status()
				c.Streams()
				_ = pause(ctx, nil, time.Millisecond)
			}
		}()
		c.until("caught-up")
		for range 50 {
			for range 20 { // more than the ring holds: the client falls and is level again
				r.write("j", 0, "s", "text that takes some room in the ring")
			}
			if _, err := c.read(time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if r.replay.Stats().Falls == 0 {
			t.Error("the client never fell out of the ring, so little was tried")
		}
		c.leave()
		c.Status()
		stop()
		<-asked
	})
}

package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// crowd is turns whose order is written down.
type crowd struct {
	turns *turns
	mu    sync.Mutex
	order []string
}

// enter adds somebody who does work in its turn.
func (c *crowd) enter(name string, work func(t *turn)) *turn {
	var t *turn
	t = c.turns.newTurn(func() {
		go func() {
			defer t.leave()
			c.note(name)
			work(t)
		}()
	})
	t.enter()
	return t
}

func (c *crowd) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order = append(c.order, what)
}

func (c *crowd) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := fmt.Sprint(c.order); got != fmt.Sprint(want) {
		t.Errorf("in their turns were %s, want %s", got, want)
	}
}

// Who came first is served first, and nobody more than once before all others.
func TestTurnsAreFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{turns: newTurns(1)}
		begun := make(chan struct{})
		c.enter("first", func(*turn) { <-begun })
		for i := range 3 {
			name := fmt.Sprint(i)
			c.enter(name, func(turn *turn) { // two batches
				if err := turn.pass(t.Context()); err != nil {
					t.Error(err)
				}
				c.note(name + " again")
			})
		}
		c.expect(t, "first")
		close(begun)
		c.expect(t, "first", "0", "1", "2", "0 again", "1 again", "2 again")
	})
}

// A thousand clients that take nothing, and a broker that does not answer, must not
// keep others from their turn; once they go on, they go before those who have
// not begun, so that what is begun is ended.
func TestWhoWaitsForOthersHoldsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{turns: newTurns(2)}
		answer, hold := make(chan struct{}), make(chan struct{})
		var want []string
		for i := range 1000 {
			c.enter("slow", func(turn *turn) {
				turn.leave()
				<-answer
				if err := turn.resume(t.Context()); err != nil {
					t.Error(err)
				}
				if i == 0 {
					c.note("resumed")
				}
			})
			want = append(want, "slow")
		}
		c.expect(t, want...)
		for range 2 {
			c.enter("holds", func(*turn) { <-hold })
		}
		c.enter("last", func(*turn) {})
		want = append(want, "holds", "holds")
		c.expect(t, want...) // the bound holds
		close(answer)
		c.expect(t, want...)
		close(hold)
		want = append(want, "resumed", "last")
		c.expect(t, want...)
		if c.turns.free != 2 {
			t.Errorf("%d places are free in the end, want 2", c.turns.free)
		}
	})
}

// A client that leaves while it waits takes no place with it.
func TestTurnsThatAreGivenUpGoToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{turns: newTurns(1)}
		hold := make(chan struct{})
		first := c.enter("first", func(*turn) { <-hold })
		gone := c.enter("gone", func(*turn) {})
		if !gone.drop() || gone.drop() || first.drop() {
			t.Error("one that waited can be dropped, once, and one that has begun cannot")
		}
		ctx, stop := context.WithCancelCause(t.Context())
		left := errors.New("left")
		var away *turn
		away = c.turns.newTurn(func() {
			go func() {
				defer away.leave()
				if err := away.pass(ctx); !errors.Is(err, left) {
					t.Errorf("got %v, want the cause", err)
				}
			}()
		})
		c.enter("next", func(turn *turn) { // goes beyond the bound, and gives back what it took
			turn.leave()
			turn.claim()
			turn.leave()
		})
		away.enter()
		last := make(chan struct{})
		c.enter("last", func(*turn) { <-last })
		stop(left)
		close(hold)
		c.expect(t, "first", "next", "last")
		close(last)
		synctest.Wait()
		if c.turns.free != 1 {
			t.Errorf("%d places are free in the end, want 1", c.turns.free)
		}
	})
}

// Clients that take nothing hold neither turns nor the broker from others, and what
// is put together for them is no larger than it is.
func TestStalledClientsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{places: 1, takeEvents: 2}, bridge.HubOptions{}, js)
		r.fill("j", 0, 20)
		r.follow(bridge.Subscription{Start: all()}).until("caught-up") // so that nobody waits for a read
		for range 200 {
			r.follow(bridge.Subscription{Start: all()}) // and nothing more
		}
		synctest.Wait()
		if used, most := r.replay.batches.used, int64(200*1024); used > most || used == 0 {
			t.Errorf("%d bytes are held for 200 clients with two small events each, want up to %d", used, most)
		}
		c := r.follow(bridge.Subscription{Start: all()})
		if got := len(c.until("caught-up")); got != 22 {
			t.Errorf("%d events, want connected, 20 records and caught-up", got)
		}
		if got := r.sources["j"].Asked(sourcetest.OpReadChunk); got != 1 {
			t.Errorf("%d reads, want 1", got)
		}
	})
}

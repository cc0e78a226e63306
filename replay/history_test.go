package replay

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// A log can be rewritten between the verdict on a position and the read that
// follows it. What is read then begins in another history, and everything that
// the new one has below the position would be lost for good: later ids prove the
// new history. So the seam between a position and a chunk is compared.
func TestRollbackBetweenVerdictAndRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *rig
		rewrite := false
		stream := kafka
		stream.source.Stepped = true
		stream.source.After = func(_ context.Context, op sourcetest.Op) error {
			if op == sourcetest.OpVerify && rewrite {
				rewrite = false
				r.brokers["k"].Rollback(0, 1)
				for i := range 6 {
					r.brokers["k"].Append(sourcetest.Message{Data: fmt.Append(nil, "new ", i+1)})
				}
			}
			return nil
		}
		r = newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.fill("k", 0, 6)
		steps := func(n int) {
			for range n {
				r.sources["k"].Step(0)
				synctest.Wait()
			}
		}
		steps(3)
		c := r.follow(bridge.Subscription{Start: all()})
		c.expect(second, "connected new", "data k/0@0 1", "data k/0@1 2", "data k/0@2 3", "caught-up")
		c.leave()
		steps(3)
		rewrite = true
		c = r.follow(bridge.Subscription{From: from(t, c.last)})
		c.expect(second, "connected exact", "rolled-back k/0 1-2",
			"data k/0@1 new 1", "data k/0@2 new 2", "data k/0@3 new 3", "data k/0@4 new 4", "data k/0@5 new 5")
		steps(8) // the reset, six records, and the rest of nothing
		c.expect(second, "caught-up", "data k/0@6 new 6")
	})
}

// A replica that has not noticed a rollback stands at a place of the dead
// history. A client of the new one must not be given its proof: the next replica
// would call the client's position broken, and repeat what it has got.
func TestStaleFeedDoesNotPassOnItsProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := kafka
		stream.source.Stepped = true
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		b, src := r.brokers["k"], r.sources["k"]
		r.fill("k", 0, 6)
		for range 5 {
			src.Step(0)
		}
		b.Delete(0, 4) // the feed stands behind a hole at 5, by the old leader's epoch
		at := func(offset bridge.Offset, epoch int64) bridge.ID {
			pos := bridge.Position{Incarnation: b.Incarnation()}
			return bridge.ID{{Stream: "k", Position: pos.With(0, bridge.Place{Offset: offset, Proof: bridge.ProofOf(epoch)})}}
		}
		before := r.follow(bridge.Subscription{From: at(4, 0)})
		before.expect(second, "connected exact", "caught-up") // the broker has vouched for the feed's place
		b.Rollback(0, 2)
		r.fill("k", 0, 4)
		b.Delete(0, 3)
		b.Delete(0, 4)
		c := r.follow(bridge.Subscription{From: at(3, 1)})
		c.expect(3*second, "connected exact") // held: behind the hole the feed cannot be believed
		unproven := at(5, 0)
		unproven[0].Position.Places[0].Proof = 0
		r.follow(bridge.Subscription{From: unproven}).expect(3*second, "connected exact") // nor at its own place
		for src.Step(0) {
			synctest.Wait()
		}
		c.expect(3*second, "caught-up", "data k/0@5 4")
		if got := from(t, c.last)[0].Position.Place(0); got != (bridge.Place{Offset: 6, Proof: bridge.ProofOf(1)}) {
			t.Errorf("the client stands at %+v, want 6 by epoch 1", got)
		}
	})
}

// Another replica had read further, and then the log was rolled back below the
// client's place but not below this replica's: nothing that the feed holds is
// wrong, and it would skip the new records as delivered. Only asking again tells.
func TestClientAheadIsVerifiedAgain(t *testing.T) {
	for _, crossing := range []bool{false, true} {
		t.Run(fmt.Sprintf("crossing=%v", crossing), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream := kafka
				stream.deaf, stream.source.Stepped = true, true
				r := newRig(t, Options{}, bridge.HubOptions{}, stream)
				r.fill("k", 0, 5)
				r.sources["k"].Step(0)
				pos := bridge.Position{Incarnation: r.brokers["k"].Incarnation()}
				c := r.follow(bridge.Subscription{From: bridge.ID{{Stream: "k", Position: pos.With(0, bridge.Place{Offset: 5, Proof: bridge.ProofOf(0)})}}})
				c.expect(second, "connected exact", "caught-up")
				r.brokers["k"].Rollback(0, 3)
				r.fill("k", 0, 3)
				if !crossing {
					if got := fmt.Sprint(c.until("reset")); got != "[rolled-back k/0 3-4]" {
						t.Errorf("got %s", got)
					}
					return
				}
				for r.sources["k"].Step(0) {
					synctest.Wait()
				}
				c.expect(second, "rolled-back k/0 3-4", "data k/0@3 1", "data k/0@4 2", "data k/0@5 3")
			})
		})
	}
}

// A stream that is made again before its replica has noticed is told as what it
// is to those who were on it, and not at all to those who begin.
func TestStreamMadeAgainBehindAReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := js
		stream.source.Stepped = true
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		b, src := r.brokers["j"], r.sources["j"]
		r.fill("j", 0, 2)
		src.Step(0)
		src.Step(0)
		old := r.follow(bridge.Subscription{Start: all()})
		old.expect(second, "connected new", "data j/0@1 1", "data j/0@2 2", "caught-up")
		old.leave()
		b.Recreate(1)
		r.fill("j", 0, 1)
		back := r.follow(bridge.Subscription{From: from(t, old.last)})
		fresh := r.follow(bridge.Subscription{Start: &bridge.Start{Kind: bridge.StartNew}})
		fresh.expect(second)
		for src.Step(0) {
			synctest.Wait()
		}
		if got := fmt.Sprint(back.until("caught-up")); got != "[connected reset recreated j/0 3--1 data j/0@1 1 caught-up]" && got != "[connected reset recreated j/-1 3--1 data j/0@1 1 caught-up]" {
			t.Errorf("who was on the old stream was told %s", got)
		}
		fresh.expect(second, "connected new", "caught-up", "data j/0@1 1")
	})
}

// Records that share a place with a hole before them: a client of a rare filter
// must see every one of them, whatever was deleted around.
func TestHolesEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{runOffsets: 3, takeEvents: 2}, bridge.HubOptions{}, js)
		r.fill("j", 0, 30)
		want := "[connected new"
		for offset := bridge.Offset(1); offset <= 30; offset++ {
			if offset > 1 && offset%7 != 0 { // the first stays, or it would be retention
				r.brokers["j"].Delete(0, offset)
				continue
			}
			want += fmt.Sprintf(" data j/0@%d %d", offset, offset)
		}
		c := r.follow(bridge.Subscription{Start: all()})
		if got := fmt.Sprint(c.until("caught-up")); got != want+" caught-up]" {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := from(t, c.last)[0].Position.Place(0).Offset; got != 31 {
			t.Errorf("caught up at %d, want 31", got)
		}
	})
}

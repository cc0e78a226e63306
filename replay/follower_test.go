package replay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

const second = time.Second

// A proxy cuts connections that are silent, and a busy one must not be charged
// for signs of life: one comes after each interval of silence, however often the
// writer interrupts its wait.
func TestHeartbeatAfterSilenceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		c := r.follow(bridge.Subscription{})
		c.expect(second, "connected new", "caught-up")
		for range 9 {
			c.expect(second) // waits of a second each, ten with the first
		}
		r.write("j", 0, "s", "1")
		c.expect(14*second, "data j/0@1 1")
		c.expect(2*second, "heartbeat")
		c.expect(14*second, "heartbeat")
	})
}

// A client whose filter matches nothing for hours must not have to read those
// hours again after a cut; one that is up to date must not be sent its position
// over and over.
func TestPositionOnlyWhenItMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		c := r.follow(bridge.Subscription{Filter: bridge.NewFilter("wanted")})
		c.expect(second, "connected new", "caught-up")
		r.write("j", 0, "other", "1")
		c.expect(15*second, "position")
		if got := from(t, c.last)[0].Position.Place(0).Offset; got != 2 {
			t.Errorf("position stands at %d, want 2", got)
		}
		c.expect(30*second, "heartbeat", "heartbeat")
	})
}

// The same while a rare filter reads a long history that it matches nothing of.
func TestPositionDuringReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := js
		reads := 0
		slow.source.Before = func(ctx context.Context, op sourcetest.Op) error {
			if op == sourcetest.OpReadChunk {
				if reads++; reads > 1 {
					return pause(ctx, nil, 8*second)
				}
			}
			return nil
		}
		r := newRig(t, Options{runOffsets: 2}, bridge.HubOptions{}, slow)
		r.fill("j", 0, 6)
		c := r.follow(bridge.Subscription{Filter: bridge.NewFilter("wanted"), Start: all()})
		c.expect(15500*time.Millisecond, "connected new", "position")
		if got := from(t, c.last)[0].Position.Place(0).Offset; got != 4 {
			t.Errorf("position stands at %d after one chunk more, want 4", got)
		}
	})
}

// Clients that show every event to people ask for none but records and losses.
func TestControlOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		c := r.quiet(bridge.Subscription{Filter: bridge.NewFilter("wanted")})
		c.expect(second, "heartbeat") // opens the response
		if c.ID() == "" {
			t.Error("a client without control events has no position to resume from")
		}
		r.write("j", 0, "other", "1")
		r.write("j", 0, "wanted", "2")
		c.expect(second, "data j/0@2 2")
		r.write("j", 0, "other", "3")
		c.expect(15*second, "heartbeat")
		if got := from(t, c.ID())[0].Position.Place(0).Offset; got != 4 {
			t.Errorf("ID() stands at %d after a heartbeat, want 4", got)
		}
	})
}

// A reset is the one moment at which a client decides between what it may have
// seen and what it may never see. Each policy is a promise, whether the client
// comes back to a stream that was rolled back or is connected when it happens.
func TestResetPolicies(t *testing.T) {
	for _, live := range []bool{false, true} {
		for _, streams := range []bridge.OnReset{bridge.ResetSince, bridge.ResetAll, bridge.ResetNew, bridge.ResetFail} {
			for _, policy := range []bridge.OnReset{"", bridge.ResetSince, bridge.ResetAll, bridge.ResetNew, bridge.ResetFail} {
				t.Run(fmt.Sprintf("live=%v/stream %s/client %s", live, streams, policy), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { resetPolicy(t, live, streams, policy) })
				})
			}
		}
	}
}

func resetPolicy(t *testing.T, live bool, streams, policy bridge.OnReset) {
	stream := js
	stream.options.OnReset = streams
	r := newRig(t, Options{}, bridge.HubOptions{}, stream)
	r.fill("j", 0, 5)
	c := r.follow(bridge.Subscription{Start: all(), OnReset: policy})
	c.expect(second, "connected new", "data j/0@1 1", "data j/0@2 2", "data j/0@3 3", "data j/0@4 4", "data j/0@5 5", "caught-up")
	if !live {
		c.leave()
	}
	// 4 and 5 are lost. The end moves past the client's place before anybody looks.
	b := r.brokers["j"]
	b.Down()
	synctest.Wait()
	b.Rollback(0, 4)
	for i := range 4 {
		b.Append(sourcetest.Message{Subject: "s", Data: fmt.Append(nil, "new ", i+4)})
	}
	b.Up()
	synctest.Wait()
	var want []string
	if !live {
		c = r.follow(bridge.Subscription{From: from(t, c.last), OnReset: policy})
		want = append(want, "connected reset")
	}
	want = append(want, "rolled-back j/0 5-5")
	if policy == "" {
		policy = streams
	}
	old := []string{"data j/0@1 1", "data j/0@2 2", "data j/0@3 3"}
	renewed := []string{"data j/0@4 new 4", "data j/0@5 new 5", "data j/0@6 new 6", "data j/0@7 new 7"}
	switch policy {
	case bridge.ResetAll:
		want = append(append(want, old...), renewed...)
	case bridge.ResetSince:
		want = append(want, renewed...)
	case bridge.ResetNew:
	case bridge.ResetFail:
		got, err := c.read(second)
		if reset, ok := errors.AsType[*bridge.ResetError](err); !ok || reset.Finding.Reason != bridge.RolledBack {
			t.Errorf("ended with %v, want a reset error", err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
		return
	}
	if !live {
		want = append(want, "caught-up")
	}
	c.expect(second, want...)
}

// Somebody's id that was cut short in a cookie must not end the stream of a
// machine that cannot mend it; what it reads is not called exact either.
func TestUnreadableID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js, kafka)
		r.fill("j", 0, 1)
		c := r.follow(bridge.Subscription{Unreadable: true, Start: all()})
		b, err := c.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e := simDecode(b.Units[0]); e.resume != "reset" || e.streams != "[j:reset k:reset]" || e.id != "" {
			t.Errorf("first block is %+v, want a reset without an id", e)
		}
		// A cut between the two must find the unreadable id again, or the second
		// stream would begin anew without a word.
		if first, last := simDecode(b.Units[1]), simDecode(b.Units[2]); first.id != "" || last.id == "" {
			t.Errorf("resets have the ids %q and %q, want one on the last only", first.id, last.id)
		}
		c.expect(second, "data j/0@1 1", "caught-up")
	})
}

// Who would rather fail than begin anew does not begin anew because of an id
// that nobody can read.
func TestUnreadableIDFailsWhoAsksForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		c := r.follow(bridge.Subscription{Unreadable: true, OnReset: bridge.ResetFail})
		b, err := c.Next(t.Context())
		if reset, ok := errors.AsType[*bridge.ResetError](err); !ok || reset.Finding.Reason != bridge.UnreadableID {
			t.Errorf("ended with %v, want a reset error", err)
		}
		if n := len(b.Units); n != 2 || simDecode(b.Units[n-1]).id != "" {
			t.Errorf("%d blocks, want connected and the reset, without an id", n)
		}
	})
}

// Streams come and go with configuration and rights. What became of each is
// said, so that no stream begins anew or ends in silence; a stream that was only
// given another name keeps its place.
func TestStreamsThatComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		two := newRig(t, Options{}, bridge.HubOptions{}, js, kafka)
		two.fill("j", 0, 2)
		c := two.follow(bridge.Subscription{Start: all()})
		c.expect(second, "connected new", "data j/0@1 1", "data j/0@2 2", "caught-up")
		c.leave()

		connected := func(r *rig, sub bridge.Subscription) simEvent {
			t.Helper()
			c := r.follow(sub)
			b, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return simDecode(b.Units[0])
		}
		e := connected(two, bridge.Subscription{Names: []string{"k"}, From: from(t, c.last)})
		if e.resume != "exact" || e.dropped != "[j]" {
			t.Errorf("without j: %+v, want it to be dropped", e)
		}
		e = connected(two, bridge.Subscription{From: from(t, e.id)})
		if e.resume != "exact" || e.streams != "[j:started k:exact]" || e.dropped != "[]" {
			t.Errorf("with j again: %+v, want it to be started", e)
		}
		renamed := js
		renamed.name, renamed.made = "journal", two.brokers["j"]
		other := newRig(t, Options{}, bridge.HubOptions{}, renamed, rigStream{name: "k", made: two.brokers["k"]})
		e = connected(other, bridge.Subscription{From: from(t, c.last)})
		if pos, _ := from(t, e.id).Lookup("journal"); e.streams != "[journal:exact k:exact]" || e.dropped != "[]" || pos.Place(0).Offset != 3 {
			t.Errorf("with j renamed: %+v, want its place", e)
		}
	})
}

// A record that is too large is a loss like any other: told with its offset,
// live and in replay, and only to those whose filter matches it.
func TestOversizedRecordsAreGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		small := js
		small.options.MaxEventBytes = 3
		r := newRig(t, Options{}, bridge.HubOptions{}, small)
		r.write("j", 0, "a", "1234")
		r.write("j", 0, "a", "2")
		a := r.follow(bridge.Subscription{Start: all(), Filter: bridge.NewFilter("a")})
		a.expect(second, "connected new", "oversized j/0 1-1", "data j/0@2 2", "caught-up")
		b := r.follow(bridge.Subscription{Start: all(), Filter: bridge.NewFilter("b")})
		b.expect(second, "connected new", "caught-up")
		r.write("j", 0, "a", "3456")
		a.expect(second, "oversized j/0 3-3")
		b.expect(second)
	})
}

// What a producer took back nobody may see, but ids pass over it.
func TestAbortedRecordsAreNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, kafka)
		live := r.follow(bridge.Subscription{})
		live.expect(second, "connected new", "caught-up")
		txn, ok := r.brokers["k"].Begin(0)
		if !ok {
			t.Fatal("no transaction")
		}
		txn.Append(sourcetest.Message{Data: []byte("never")})
		txn.Abort()
		r.write("k", 0, "s", "shown")
		live.expect(second, "data k/0@2 shown")
		late := r.follow(bridge.Subscription{From: bridge.ID{{Stream: "k", Position: bridge.Position{Incarnation: r.brokers["k"].Incarnation()}}}})
		late.expect(second, "connected exact", "data k/0@2 shown", "caught-up")
	})
}

// EventSource gives up for good on any error, so a client that comes while its
// broker is away is held, and served as soon as there is an answer.
func TestHeldWhileTheBrokerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		r.fill("j", 0, 2)
		c := r.follow(bridge.Subscription{Start: all()})
		c.expect(second, "connected new", "data j/0@1 1", "data j/0@2 2", "caught-up")
		c.leave()
		r.brokers["j"].Down()
		synctest.Wait()
		c = r.follow(bridge.Subscription{From: from(t, c.last)})
		c.expect(40*second, "heartbeat", "heartbeat")
		r.brokers["j"].Up()
		r.write("j", 0, "s", "3")
		c.expect(5*second, "connected exact", "data j/0@3 3", "caught-up")
	})
}

// The same for a stream that is named but does not exist yet, and for one whose
// broker has never answered; a stream that nobody named is left out.
func TestHeldWhileAStreamIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing := sourcetest.NewBroker(sourcetest.BrokerOptions{Name: "L", Subjects: []string{">"}})
		missing.Remove()
		r := newRig(t, Options{}, bridge.HubOptions{}, js, rigStream{name: "l", made: missing})
		anything := r.follow(bridge.Subscription{})
		anything.expect(second, "connected new", "caught-up")
		named := r.follow(bridge.Subscription{Names: []string{"l"}})
		named.expect(20*second, "heartbeat")
		missing.Recreate(1)
		named.expect(5*second, "connected new", "caught-up")
		if _, err := r.follow(bridge.Subscription{Names: []string{"x"}}).read(second); !errors.Is(err, bridge.ErrNoStream) {
			t.Errorf("a stream that is not configured: %v, want ErrNoStream", err)
		}
	})
}

// One connection over several streams has one id, and a cut between any two of
// its events resumes each stream where it stood.
func TestOneIDForSeveralStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js, kafka)
		c := r.follow(bridge.Subscription{})
		c.expect(second, "connected new", "caught-up")
		r.write("j", 0, "s", "1")
		r.write("k", 1, "s", "2")
		c.expect(second, "data j/0@1 1", "data k/1@0 2")
		c.leave()
		r.write("k", 0, "s", "3")
		r.write("j", 0, "s", "4")
		c = r.follow(bridge.Subscription{From: from(t, c.last)})
		c.expect(second, "connected exact", "data j/0@2 4", "data k/0@0 3", "caught-up")
		r.write("k", 1, "s", "5")
		c.expect(second, "data k/1@1 5")
	})
}

// A client that a person closes goes away at once, whatever it waits for, and
// nothing of it stays: goroutines, groups and filters would add up.
func TestCloseAtAnyMoment(t *testing.T) {
	block := func(on sourcetest.Op) sourcetest.Hook {
		return func(ctx context.Context, op sourcetest.Op) error {
			if op != on {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
	}
	for name, hook := range map[string]sourcetest.Hook{
		"level": nil, "reading": block(sourcetest.OpReadChunk), "verifying": block(sourcetest.OpVerify), "asking for bounds": block(sourcetest.OpBounds),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream := js
				stream.source.Before = hook
				r := newRig(t, Options{takeEvents: 1}, bridge.HubOptions{}, stream)
				r.fill("j", 0, 3)
				for pulls := range 5 {
					c := r.replay.Open(t.Context(), &bridge.Subscription{Start: all(), Control: true, Heartbeat: 15 * second, Form: bridge.Form{Encoder: simEncoder{}}})
					for range pulls {
						ctx, stop := context.WithTimeout(t.Context(), second)
						_, _ = c.Next(ctx) // as far as it comes
						stop()
					}
					c.Close()
				}
				if st := r.hub.Stats(); st.Filters != 0 {
					t.Errorf("%d filters are left of closed clients", st.Filters)
				}
			})
		})
	}
}

// When a log was rolled back while a thousand clients were away, each of them
// is reset. They must not disturb one another a thousand times: the replica
// doubts its history once a reign, and every client asks a few questions.
func TestResettingHerdIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 1000
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		r.fill("j", 0, 5)
		c := r.follow(bridge.Subscription{})
		c.expect(second, "connected new", "caught-up")
		c.leave()
		r.brokers["j"].Rollback(0, 3)
		synctest.Wait()
		r.fill("j", 0, 5)
		generation, asked := r.streams["j"].Generation(), r.sources["j"].Asked(sourcetest.OpVerify)
		herd := make([]*rigClient, clients)
		for i := range herd {
			herd[i] = r.follow(bridge.Subscription{From: from(t, c.last), OnReset: bridge.ResetNew})
		}
		for _, c := range herd {
			if got := fmt.Sprint(c.until("caught-up")); got != "[connected reset rolled-back j/0 5-5 caught-up]" {
				t.Errorf("got %s", got)
			}
		}
		if got := r.streams["j"].Generation() - generation; got != 1 {
			t.Errorf("the generation was raised %d times, want once", got)
		}
		if got := r.sources["j"].Asked(sourcetest.OpVerify) - asked; got > 3*clients {
			t.Errorf("%d verdicts for %d clients, want at most 3 each", got, clients)
		}
	})
}

// Somebody who asks for the last quarter of an hour gets that, and from there on
// everything.
func TestStartByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js, kafka)
		r.write("j", 0, "s", "old")
		r.write("k", 0, "s", "old")
		time.Sleep(time.Minute)
		at := time.Now()
		r.write("j", 0, "s", "1")
		r.write("k", 1, "s", "2")
		c := r.follow(bridge.Subscription{Start: &bridge.Start{Kind: bridge.StartAt, At: at}})
		c.expect(second, "connected new", "data j/0@2 1", "data k/1@0 2", "caught-up")
		r.write("k", 0, "s", "3")
		c.expect(second, "data k/0@1 3")
	})
}

// What retention takes while a client is away is told to it once, with bounds; a
// cut right behind the verdict tells it again, one behind the gap does not.
func TestGapIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{takeEvents: 1}, bridge.HubOptions{}, js)
		r.fill("j", 0, 6)
		id := bridge.ID{{Stream: "j", Position: bridge.Position{Incarnation: r.brokers["j"].Incarnation()}.With(0, bridge.Place{Offset: 2})}}
		r.brokers["j"].Trim(0, 5)
		synctest.Wait()
		told := func(from bridge.ID, until string) (events []string, last string) {
			c := r.follow(bridge.Subscription{From: from})
			defer c.leave()
			return c.until(until), c.last
		}
		_, last := told(id, "connected")
		if last != id.String() {
			t.Errorf("connected tells %s, want the client's own %s", last, id)
		}
		events, last := told(from(t, last), "gap")
		if got := fmt.Sprint(events); got != "[connected gap retention j/0 2-4]" {
			t.Errorf("cut behind connected: %s", got)
		}
		events, _ = told(from(t, last), "caught-up")
		if got := fmt.Sprint(events); got != "[connected exact data j/0@5 5 data j/0@6 6 caught-up]" {
			t.Errorf("cut behind the gap: %s", got)
		}
	})
}

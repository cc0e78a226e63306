package replay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// tailCounter counts how often a source was tailed, and may end a tail late.
type tailCounter struct {
	*sourcetest.Source
	begun, running atomic.Int32
	late           time.Duration // a tail goes on for so long after it was told to end
}

func (s *tailCounter) Tail(ctx context.Context, out bridge.Receiver) error {
	s.begun.Add(1)
	s.running.Add(1)
	defer s.running.Add(-1)
	if s.late == 0 {
		return s.Source.Tail(ctx, out)
	}
	slow, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(ctx, func() {
		time.Sleep(s.late)
		stop()
	})
	_ = s.Source.Tail(slow, out)
	return context.Cause(ctx)
}

// onDemand makes a stream one that is read on demand, and returns its counter.
func onDemand(s rigStream) (rigStream, *tailCounter) {
	c := &tailCounter{}
	s.options.OnDemand = true
	s.wrap = func(src *sourcetest.Source) bridge.Source {
		c.Source = src
		return c
	}
	return s, c
}

func (r *rig) state(stream string) string { return r.streams[stream].Status().State }

// sleep lets a stream of the default linger fall idle.
func (r *rig) sleep(stream string) {
	r.t.Helper()
	time.Sleep(bridge.DefaultLinger + second)
	synctest.Wait()
	if got := r.state(stream); got != "idle" {
		r.t.Fatalf("stream %s is %s after a minute without clients, want idle", stream, got)
	}
}

// A stream that nobody looks at must cost its broker nothing, and a page that is
// loaded again must not cost a start each time.
func TestOnDemandStreamIsReadWhileSomebodyFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, tails := onDemand(js)
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		expect := func(when, state string, begun, running int32) {
			t.Helper()
			synctest.Wait()
			if got := r.state("j"); got != state || tails.begun.Load() != begun || tails.running.Load() != running {
				t.Errorf("%s: %s, %d tails begun, %d running; want %s, %d, %d", when, got, tails.begun.Load(), tails.running.Load(), state, begun, running)
			}
		}
		expect("at first", "reading", 1, 1)
		time.Sleep(59 * second)
		expect("after 59 s", "reading", 1, 1)
		time.Sleep(2 * second)
		expect("after a minute", "idle", 1, 0)
		if st := r.streams["j"].Status(); st.Started || len(st.Live.Places) != 0 || !st.SpaceKnown {
			t.Errorf("an idle stream tells %+v, want no place, and its subjects", st)
		}
		if lags := r.streams["j"].Lags(); len(lags) != 0 {
			t.Errorf("an idle stream has the lags %+v, want none", lags)
		}
		if _, err := r.follow(bridge.Subscription{Names: []string{"none"}}).read(second); err == nil {
			t.Error("a subscription of no stream is served")
		}
		expect("after a request for another stream", "idle", 1, 0)
		c := r.follow(bridge.Subscription{})
		expect("with a client", "reading", 2, 1)
		time.Sleep(time.Hour)
		expect("after an hour with a client", "reading", 2, 1)
		other := r.follow(bridge.Subscription{})
		c.leave()
		time.Sleep(time.Hour)
		expect("after an hour with another", "reading", 2, 1)
		for range 10 {
			other.leave()
			time.Sleep(59 * second)
			other = r.follow(bridge.Subscription{})
		}
		expect("after ten short absences", "reading", 2, 1)
		other.leave()
		r.sleep("j")
		expect("in the end", "idle", 2, 0)
	})
}

// Whatever happens to a log while nobody looks, whoever comes back is told, and
// only that: exactly what a replica would tell that has just begun.
func TestResumeFromAnIdleStream(t *testing.T) {
	for name, test := range map[string]struct {
		meanwhile func(r *rig, b *sourcetest.Broker)
		want      []string
	}{
		"nothing": {func(*rig, *sourcetest.Broker) {}, []string{"connected exact", "caught-up"}},
		"appended": {
			func(r *rig, _ *sourcetest.Broker) { r.write("j", 0, "s", "4"); r.write("j", 0, "s", "5") },
			[]string{"connected exact", "data j/0@4 4", "data j/0@5 5", "caught-up"},
		},
		"trimmed": {
			func(r *rig, b *sourcetest.Broker) { r.write("j", 0, "s", "4"); r.write("j", 0, "s", "5"); b.Trim(0, 5) },
			[]string{"connected gap", "retention j/0 4-4", "data j/0@5 5", "caught-up"},
		},
		"rolled back and grown again": {
			func(r *rig, b *sourcetest.Broker) {
				b.Rollback(0, 2)
				time.Sleep(second) // or the proofs were the same
				r.write("j", 0, "s", "new 2")
				r.write("j", 0, "s", "new 3")
				r.write("j", 0, "s", "new 4")
			},
			[]string{"connected reset", "rolled-back j/0 3-3", "data j/0@1 1", "data j/0@2 new 2", "data j/0@3 new 3", "data j/0@4 new 4", "caught-up"},
		},
		"made again": {
			func(r *rig, b *sourcetest.Broker) {
				b.Recreate(1)
				r.write("j", 0, "s", "other 1")
			},
			[]string{"connected reset", "recreated j/-1 4--1", "data j/0@1 other 1", "caught-up"},
		},
		"restored": {
			func(r *rig, b *sourcetest.Broker) { b.Restore(); r.write("j", 0, "s", "4") },
			[]string{"connected exact", "data j/0@4 4", "caught-up"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream, _ := onDemand(js)
				stream.options.OnReset = bridge.ResetAll
				r := newRig(t, Options{}, bridge.HubOptions{}, stream)
				r.fill("j", 0, 3)
				c := r.follow(bridge.Subscription{Start: all()})
				c.expect(second, "connected new", "data j/0@1 1", "data j/0@2 2", "data j/0@3 3", "caught-up")
				c.leave()
				before := r.streams["j"].Generation()
				r.sleep("j")
				if after := r.streams["j"].Generation(); after == before {
					t.Error("the generation is the one of before, and what was read in it counts on")
				}
				test.meanwhile(r, r.brokers["j"])
				again := r.follow(bridge.Subscription{From: from(t, c.last)})
				again.expect(5*second, test.want...)
				r.write("j", 0, "s", "live")
				got, _ := again.read(second)
				if text := strings.Join(got, "\n"); !strings.HasSuffix(text, "live") || len(got) != 1 {
					t.Errorf("got %q of a record published then", text)
				}
			})
		})
	}
}

// "From now on" is from where the log ends when the client is told that it is
// connected, not from where somebody had read it to before.
func TestStartNewOnAnIdleStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, _ := onDemand(js)
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.fill("j", 0, 3)
		r.sleep("j")
		r.write("j", 0, "s", "4")
		c := r.follow(bridge.Subscription{})
		c.expect(second, "connected new", "caught-up")
		if at := from(t, c.last)[0].Position.Place(0).Offset; at != 5 {
			t.Errorf("connected at %d, want 5, the end of the log", at)
		}
		r.write("j", 0, "s", "5")
		c.expect(second, "data j/0@5 5")
	})
}

// A feed outlives its clients for a while. When a stream of it falls idle it must
// not live on: its vector would be that of before, and who joined it would never
// be told what came between.
func TestFeedDoesNotOutliveItsStreamsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, _ := onDemand(js)
		stream.options.Linger = second // shorter than a feed's
		r := newRig(t, Options{}, bridge.HubOptions{}, stream, kafka)
		both := r.follow(bridge.Subscription{Start: all()})
		both.expect(second, "connected new", "caught-up")
		r.write("j", 0, "s", "1")
		r.write("k", 1, "s", "1")
		both.expect(second, "data j/0@1 1", "data k/1@0 1")
		both.leave()
		only := r.follow(bridge.Subscription{Names: []string{"k"}})
		only.expect(second, "connected new", "caught-up")
		time.Sleep(second)
		synctest.Wait()
		if got, feeds := r.state("j"), r.hub.Stats().Feeds; got != "idle" || feeds != 1 {
			t.Errorf("j is %s with %d feeds, want idle, and the feed of k alone", got, feeds)
		}
		r.write("j", 0, "s", "2")
		r.write("k", 1, "s", "2")
		only.expect(second, "data k/1@1 2")
		again := r.follow(bridge.Subscription{From: from(t, both.last)})
		again.expect(second, "connected exact", "data j/0@2 2", "data k/1@1 2", "caught-up")
	})
}

// After a deploy of the application all pages come back in the same second.
func TestThousandClientsWakeAStreamOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, tails := onDemand(js)
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.fill("j", 0, 3)
		first := r.follow(bridge.Subscription{Start: all()})
		first.until("caught-up")
		first.leave()
		r.sleep("j")
		r.write("j", 0, "s", "4")
		reads := r.replay.Stats().Reads
		var clients []*rigClient
		for range 1000 {
			clients = append(clients, r.follow(bridge.Subscription{From: from(t, first.last)}))
		}
		for i, c := range clients {
			if got := c.until("caught-up"); !slices.Equal(got, []string{"connected exact", "data j/0@4 4", "caught-up"}) {
				t.Fatalf("client %d got %q", i, got)
			}
		}
		if got := tails.begun.Load(); got != 2 {
			t.Errorf("the stream was begun %d times, want twice: at first, and for all of them", got)
		}
		if got := r.replay.Stats().Reads - reads; got != 1 {
			t.Errorf("%d chunks were read, want 1", got)
		}
		for _, c := range clients {
			c.leave()
		}
		r.sleep("j")
	})
}

// The reader of a broker that does not answer takes its time to end. Who comes
// meanwhile waits for the next one: the old one's place is nobody's any more.
func TestClientComesWhileTheReaderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, tails := onDemand(js)
		tails.late = 10 * second
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		c := r.follow(bridge.Subscription{})
		c.expect(second, "connected new", "caught-up")
		c.leave()
		r.sleep("j")
		r.write("j", 0, "s", "1") // the old reader still reads it
		if tails.running.Load() != 1 {
			t.Fatal("the old reader has ended")
		}
		again := r.follow(bridge.Subscription{From: from(t, c.last)})
		again.expect(5 * second)
		if got := r.state("j"); got != "starting" {
			t.Errorf("the stream is %s, want starting", got)
		}
		r.write("j", 0, "s", "2")
		again.expect(10*second, "connected exact", "data j/0@1 1", "data j/0@2 2", "caught-up")
		if begun := tails.begun.Load(); begun != 2 {
			t.Errorf("%d tails, want 2", begun)
		}
	})
}

// A client that waits for a broker wants its stream as much as one that follows
// it, and gets signs of life; one that gives up does not keep the bridge asking.
func TestWaitingForAnIdleStreamsBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, tails := onDemand(js)
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.sleep("j")
		r.write("j", 0, "s", "1")
		r.brokers["j"].Down()
		c := r.follow(bridge.Subscription{})
		c.expect(151*second, slices.Repeat([]string{"heartbeat"}, 10)...)
		if got := r.state("j"); got != "waiting" {
			t.Errorf("the stream is %s, want waiting", got)
		}
		r.brokers["j"].Up()
		c.expect(second, "connected new", "caught-up")
		if at := from(t, c.last)[0].Position.Place(0).Offset; at != 2 {
			t.Errorf("connected at %d, want 2: where the log ends, not where it was left", at)
		}
		c.leave()
		r.sleep("j")
		r.brokers["j"].Down()
		c = r.follow(bridge.Subscription{})
		c.expect(16*second, "heartbeat")
		c.leave()
		r.sleep("j")
		if got := tails.running.Load(); got != 0 {
			t.Errorf("%d tails run, want none", got)
		}
	})
}

// A stream that was idle when it was removed, or is made only later, is looked
// for when somebody asks, and left out where others match, as one that is read
// always would be.
func TestIdleStreamThatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, _ := onDemand(js)
		r := newRig(t, Options{}, bridge.HubOptions{}, stream, kafka)
		r.sleep("j")
		r.brokers["j"].Remove()
		c := r.follow(bridge.Subscription{})
		c.expect(second, "connected new", "caught-up")
		if got := c.Streams(); !slices.Equal(got, []string{"k"}) {
			t.Errorf("follows %v, want k alone", got)
		}
		named := r.follow(bridge.Subscription{Names: []string{"j"}})
		named.expect(151*second, slices.Repeat([]string{"heartbeat"}, 10)...)
		r.brokers["j"].Recreate(1)
		named.expect(2*second, "connected new", "caught-up")
		r.write("j", 0, "s", "1")
		named.expect(second, "data j/0@1 1")
		named.leave()
		r.sleep("j")
		if got := fmt.Sprint(c.Streams()); got != "[k]" {
			t.Errorf("follows %s in the end", got)
		}
	})
}

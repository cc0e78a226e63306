package sink

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"

	"github.com/ssebridge/ssebridge/bridge"
)

// seatRig is a shard without its loop, and a group of clients that have a batch
// each time they are asked.
type seatRig struct {
	t     *testing.T
	b     *bench
	shard *shard
	line  *fakeLine
	seats *seats
}

func newSeatRig(t *testing.T, members int) *seatRig {
	t.Helper()
	b := start(t, Options{})
	sw := &sweeper{handler: b.handler, taken: members, empty: make(chan struct{})}
	b.handler.clients.open = map[uint64]*client{}
	l := &fakeLine{wrote: map[*client]string{}, fails: map[*client]bool{}}
	return &seatRig{t: t, b: b, shard: newShard(sw, l), line: l, seats: &seats{unwatch: func() {}}}
}

// sit gives a client a seat that first sat at a time.
func (r *seatRig) sit(first time.Time) *client { return r.sitAt(r.seats, first) }

func (r *seatRig) sitAt(g *seats, first time.Time) *client { return r.sitFor(g, first, "x\n") }

// sitFor is sit for a client that has such a unit each time.
func (r *seatRig) sitFor(g *seats, first time.Time, unit string) *client {
	c := r.client(first)
	g.add(seating{c: c, f: &fakeSharer{units: [][]byte{[]byte(unit)}}}, time.Now().Add(-settleAfter))
	r.shard.sitting++
	r.shard.came++
	return c
}

// client makes a client that first sat at a time.
func (r *seatRig) client(first time.Time) *client {
	near, far := net.Pipe()
	_ = far.Close()
	return &client{
		who: peerOf(httptest.NewRequest(http.MethodGet, "/events", nil)), sweeper: r.shard.sweeper, sub: new(bridge.Subscription), f: &fakeSharer{}, sat: first,
		out: response{begun: true, conn: near, metrics: r.b.handler.metrics, request: trace.SpanFromContext(context.Background())},
	}
}

// written returns how many batches a client was written.
func (r *seatRig) written(c *client) int { return strings.Count(r.line.wrote[c], "2\r\nx\n\r\n") }

// When clients leave in the midst of a sweep, others take their seats. None of
// them may miss its turn: it would wait for the next event, or the next tick.
func TestSweepMissesNobodyWhenOthersLeave(t *testing.T) {
	for name, age := range map[string]time.Duration{"settled": settleAfter + 1, "newcomers": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 12
				for failing := range 1 << 6 { // which of the even clients fail
					r := newSeatRig(t, n)
					var all []*client
					for i := range n {
						c := r.sit(time.Now().Add(-age))
						r.line.fails[c] = i%2 == 0 && failing>>(i/2)&1 == 1
						all = append(all, c)
					}
					r.seats.first, r.seats.next = failing%n, failing%n
					r.shard.sweep(r.seats, 0)
					r.shard.serveNewcomers()
					for i, c := range all {
						if !r.line.fails[c] && r.written(c) == 0 {
							t.Errorf("failing %b: client %d was written %q", failing, i, r.line.wrote[c])
						}
					}
					synctest.Wait()
					r.b.stop()
				}
			})
		})
	}
}

// Thousands that come at once do not hold up those who were there: these are
// written all that is new before, and in the midst of, the turns of newcomers; who
// still get half of the turns.
func TestNewcomersDoNotHoldUpThoseWhoHaveSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const settled, newcomers = 4 * newcomerTurns, 40 * newcomerTurns
		r := newSeatRig(t, settled+newcomers)
		var old, young []*client
		for i := range settled + newcomers {
			if i%11 == 0 && len(old) < settled {
				old = append(old, r.sit(time.Now().Add(-settleAfter-1)))
			} else {
				young = append(young, r.sit(time.Now()))
			}
		}
		turns := func(clients []*client) (n int) {
			for _, c := range clients {
				n += r.written(c)
			}
			return n
		}
		for round := range 5 { // there is something new each time, before the newcomers are done
			r.shard.sweep(r.seats, 0)
			if got, want := turns(old), (round+1)*len(old); got != want {
				t.Fatalf("round %d: those who had settled had %d turns, want %d", round, got, want)
			}
			if got, want := turns(young), round*len(old); got != want {
				t.Fatalf("round %d: newcomers had %d turns before it, want %d", round, got, want)
			}
			r.shard.serveNewcomers()
		}
		for rounds := 0; len(r.shard.due) > 0; rounds++ {
			if rounds > newcomers/newcomerTurns {
				t.Fatal("newcomers are due for ever")
			}
			r.shard.serveNewcomers()
		}
		for i, c := range young {
			if r.written(c) == 0 {
				t.Errorf("newcomer %d had no turn", i)
			}
		}
		r.b.stop()
	})
}

// Newcomers settle when few come besides, and in a storm that goes on after a while.
func TestNewcomersSettleWhenAStormIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSeatRig(t, 1000)
		pass := func(come, newcomers int) {
			t.Helper()
			for range come {
				r.sit(time.Now())
			}
			time.Sleep(calmTime - time.Nanosecond)
			if r.shard.count(time.Now()) {
				t.Error("it was counted too soon")
			}
			time.Sleep(time.Nanosecond)
			r.shard.count(time.Now())
			r.seats.settleAll(r.shard.settles)
			if got := r.seats.newcomers(); got != newcomers {
				t.Errorf("%d have not settled, want %d", got, newcomers)
			}
		}
		pass(64, 64)
		pass(2, 2) // it was calm, and the others had come before
		pass(0, 0)
		most := 100 * int(settleAfter/calmTime)
		for newcomers := 100; newcomers <= most; newcomers += 100 {
			pass(100, newcomers)
		}
		pass(100, most) // the first ones have been there for long enough
		r.b.stop()
	})
}

// However many newcomers of one group never are done, those of another have turns.
func TestNewcomersOfAllGroupsHaveTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSeatRig(t, 10*newcomerTurns)
		for range 5 * newcomerTurns {
			r.sit(time.Now())
		}
		other := &seats{unwatch: func() {}}
		c := r.sitAt(other, time.Now())
		r.shard.sweep(r.seats, 0)
		r.shard.sweep(other, 0)
		for range 2 {
			r.shard.serveNewcomers()
			r.shard.sweep(r.seats, 0) // all are owed another turn
		}
		if got := r.written(c); got != 1 {
			t.Errorf("the newcomer of the other group had %d turns, want 1", got)
		}
		if len(r.shard.due) != 1 || r.shard.due[0] != r.seats {
			t.Errorf("%d groups are due, want the first", len(r.shard.due))
		}
		r.b.stop()
	})
}

// What newcomers are written beside those who have settled is bounded by what these
// were written meanwhile, and by nothing of before.
func TestNewcomersAreNotOwedWhatWentBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSeatRig(t, 10*newcomerTurns)
		for range newcomerTurns {
			r.sit(time.Now().Add(-settleAfter - 1))
		}
		for range 10 { // before there are newcomers
			r.shard.sweep(r.seats, 0)
		}
		var young []*client
		for range 5 * newcomerTurns {
			young = append(young, r.sit(time.Now()))
		}
		r.shard.sweep(r.seats, 0)
		r.shard.serveNewcomers()
		turns := 0
		for _, c := range young {
			turns += r.written(c)
		}
		if turns != newcomerTurns {
			t.Errorf("newcomers had %d turns at once, want %d", turns, newcomerTurns)
		}
		r.b.stop()
	})
}

// Followers bound what they hand out at once, so who was written that much is asked
// again, and nobody else has to be told first.
func TestWhoIsWrittenMuchIsAskedAgain(t *testing.T) {
	for name, age := range map[string]time.Duration{"settled": settleAfter + 1, "newcomer": 0} {
		for size, again := range map[int]bool{largeBatch: true, largeBatch - 1: false} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newSeatRig(t, 1)
					c := r.sitFor(r.seats, time.Now().Add(-age), strings.Repeat("x", size))
					r.shard.sweep(r.seats, 0)
					if age == 0 {
						r.shard.serve(r.seats.turn(), 0)
					}
					sweep, turn := len(r.shard.inbox.fresh) > 0, r.seats.owed > 0
					if sweep != (again && age > 0) || turn != (again && age == 0) {
						t.Errorf("another sweep: %t, another turn: %t; it is asked again: %t", sweep, turn, again)
					}
					if len(r.line.wrote[c]) < size {
						t.Errorf("it was written %d bytes, want %d at least", len(r.line.wrote[c]), size)
					}
					r.b.stop()
				})
			})
		}
	}
}

// A client is new once, however often it leaves its seat and comes back.
func TestWhoComesBackToASeatIsNoNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSeatRig(t, 1)
		group := new(bridge.Group)
		r.shard.groups[group] = r.seats
		first := time.Now()
		c := r.client(time.Time{})
		sit := func() { r.shard.seat(seating{c: c, f: &fakeSharer{group: group}}) }
		sit()
		if !c.sat.Equal(first) || r.shard.came != 1 || r.seats.newcomers() != 1 {
			t.Errorf("it first sat at %v, %d came, %d are newcomers; want %v, 1 and 1", c.sat, r.shard.came, r.seats.newcomers(), first)
		}
		time.Sleep(settleAfter + calmTime)
		r.shard.count(time.Now())
		r.seats.remove(c)
		sit()
		if !c.sat.Equal(first) || r.shard.came != 0 || r.seats.newcomers() != 0 {
			t.Errorf("back, it first sat at %v, %d came, %d are newcomers; want %v and none", c.sat, r.shard.came, r.seats.newcomers(), first)
		}
		r.b.stop()
	})
}

// The next turn of a newcomer may come late, so its sign of life is given early.
func TestNewcomersAreGivenSignsOfLifeEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSeatRig(t, 2)
		old, young := &fakeSharer{}, &fakeSharer{}
		r.seats.add(seating{c: r.client(time.Now().Add(-1)), f: old}, time.Now())
		r.seats.add(seating{c: r.client(time.Now()), f: young}, time.Now())
		for _, beat := range []time.Duration{time.Second, 0} {
			r.shard.sweep(r.seats, beat)
			r.shard.serveNewcomers()
		}
		if want := []time.Duration{time.Second}; !slices.Equal(old.early, want) {
			t.Errorf("one that has settled was asked for beats within %v, want %v", old.early, want)
		}
		if want := []time.Duration{newcomerBeats * time.Second}; !slices.Equal(young.early, want) {
			t.Errorf("a newcomer was asked for beats within %v, want %v", young.early, want)
		}
		r.b.stop()
	})
}

// Whatever becomes of the seats, each client knows its own, and none waits for a
// turn that another one has had.
func TestSeatsKeepTurnsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		var settles time.Time // as of the last settling
		g := &seats{}
		waits := map[*client]bool{} // newcomers that were there when something came, and had no turn since
		pick := func() *client { return g.clients[rapid.IntRange(0, len(g.clients)-1).Draw(t, "seat")].c }
		actions := map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for i, s := range g.clients {
					if s.c.seat != i || s.c.seats != g {
						t.Fatalf("client in seat %d believes in seat %d", i, s.c.seat)
					}
					if settled := i < g.settled; !settled && s.c.sat.Before(settles) || settled && !s.c.sat.Before(now.Add(-settleAfter)) {
						t.Fatalf("client in seat %d of %d settled ones first sat %s ago", i, g.settled, now.Sub(s.c.sat))
					}
				}
				if g.owed > g.newcomers() || g.owed < 0 {
					t.Fatalf("%d turns are owed to %d newcomers", g.owed, g.newcomers())
				}
				if g.owed == 0 && len(waits) > 0 {
					t.Fatalf("no turn is owed, and %d wait for theirs", len(waits))
				}
			},
			"add": func(t *rapid.T) {
				first := now.Add(-2 * settleAfter * time.Duration(rapid.IntRange(0, 1).Draw(t, "settled")))
				g.add(seating{c: &client{sat: first}}, now.Add(-settleAfter))
			},
			"news": func(*rapid.T) {
				g.owed = g.newcomers()
				for _, s := range g.clients[g.settled:] {
					waits[s.c] = true
				}
			},
			"turn": func(t *rapid.T) {
				if g.owed == 0 {
					return
				}
				c := g.turn().c
				if c.seat < g.settled {
					t.Fatal("one that has settled has a newcomer's turn")
				}
				delete(waits, c)
				if rapid.Bool().Draw(t, "leaves") {
					g.remove(c)
				}
			},
			"remove": func(t *rapid.T) {
				if len(g.clients) == 0 {
					return
				}
				c := pick()
				g.remove(c)
				delete(waits, c)
			},
			"settle": func(*rapid.T) {
				now = now.Add(settleAfter / 2)
				settles = now.Add(-settleAfter)
				g.settleAll(settles)
				for _, s := range g.clients[:g.settled] {
					delete(waits, s.c) // a sweep follows
				}
			},
		}
		t.Repeat(actions)
	})
}

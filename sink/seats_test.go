package sink

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
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

// sit gives a client a seat whose request came at a time.
func (r *seatRig) sit(since time.Time) *client {
	near, far := net.Pipe()
	_ = far.Close()
	c := &client{
		who: peerOf(httptest.NewRequest(http.MethodGet, "/events", nil)), sweeper: r.shard.sweeper, sub: new(bridge.Subscription), f: &fakeSharer{},
		out: response{begun: true, conn: near, metrics: r.b.handler.metrics, request: trace.SpanFromContext(context.Background()), since: since},
	}
	r.seats.add(seating{c: c, f: &fakeSharer{units: [][]byte{[]byte("x\n")}}}, time.Now().Add(-settleAfter))
	r.shard.sitting++
	r.shard.came++
	return c
}

// written returns how many batches a client was written.
func (r *seatRig) written(c *client) int { return strings.Count(r.line.wrote[c], "2\r\nx\n\r\n") }

// When clients leave in the midst of a sweep, others take their seats. None of
// them may miss its turn: nothing would wake it again until the next event.
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
		const settled, newcomers = 4 * newcomersTurn, 40 * newcomersTurn
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
			if rounds > newcomers/newcomersTurn {
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
		tick := func(come, newcomers int) {
			t.Helper()
			for range come {
				r.sit(time.Now())
			}
			time.Sleep(time.Second)
			r.seats.settleAll(r.shard.calm(time.Now()))
			if got := r.seats.newcomers(); got != newcomers {
				t.Errorf("%d have not settled, want %d", got, newcomers)
			}
		}
		tick(80, 80)
		tick(10, 10) // they had one calm second, in which the others came
		tick(0, 0)
		tick(100, 100)
		for second := range int(settleAfter/time.Second) - 1 {
			tick(100, 200+100*second)
		}
		tick(100, 500) // the first ones have been there for long enough
		r.b.stop()
	})
}

// Whatever becomes of the seats, each client knows its own, and none waits for a
// turn that another one has had.
func TestSeatsKeepTurnsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		g := &seats{}
		waits := map[*client]bool{} // newcomers that were there when something came, and had no turn since
		pick := func() *client { return g.clients[rapid.IntRange(0, len(g.clients)-1).Draw(t, "seat")].c }
		actions := map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				settled := 0
				for i, s := range g.clients {
					if s.c.seat != i || s.c.seats != g {
						t.Fatalf("client in seat %d believes in seat %d", i, s.c.seat)
					}
					if i < g.settled {
						settled++
					}
				}
				if settled != g.settled || g.due > g.newcomers() || g.due < 0 {
					t.Fatalf("%d have settled, %d of %d newcomers are due", g.settled, g.due, g.newcomers())
				}
				if g.due == 0 && len(waits) > 0 {
					t.Fatalf("nobody is due, and %d wait for their turn", len(waits))
				}
			},
			"add": func(t *rapid.T) {
				since := now.Add(-2 * settleAfter * time.Duration(rapid.IntRange(0, 1).Draw(t, "settled")))
				g.add(seating{c: &client{out: response{since: since}}}, now.Add(-settleAfter))
			},
			"news": func(*rapid.T) {
				g.due = g.newcomers()
				for _, s := range g.clients[g.settled:] {
					waits[s.c] = true
				}
			},
			"turn": func(t *rapid.T) {
				if g.due == 0 {
					t.Skip("nobody is due")
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
					t.Skip("nobody is there")
				}
				c := pick()
				g.remove(c)
				delete(waits, c)
			},
			"settle": func(*rapid.T) {
				now = now.Add(settleAfter / 2)
				g.settleAll(now.Add(-settleAfter))
				for _, s := range g.clients[:g.settled] {
					delete(waits, s.c) // a sweep follows
				}
			},
		}
		t.Repeat(actions)
	})
}

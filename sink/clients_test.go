package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// closingBlock is what a client is told at the end.
func closingBlock(reason, retry, id string) string {
	if id != "" {
		id = "id: " + id + "\n"
	}
	return fmt.Sprintf("event: closing\ndata: {\"reason\":%q}\nretry: %s\n%s\n", reason, retry, id)
}

// readClosing reads the rest of a response: one closing block with this id and
// a clean end.
func readClosing(ctx context.Context, s *ssetest.Stream, reason, id string) error {
	e, err := s.Next(ctx)
	if want := (ssetest.Event{Type: "closing", Data: fmt.Sprintf("{\"reason\":%q}", reason), ID: id}); e != want || err != nil {
		return fmt.Errorf("got %q, %w, want %q", e, err, want)
	}
	if _, err := s.Next(ctx); !errors.Is(err, io.EOF) {
		return fmt.Errorf("got %w, want a clean end", err)
	}
	return nil
}

// A browser that meets 429 or 503 never comes back, so overload must look like
// a stream that ends, with a retry and the place to go on.
func TestOverloadIsAStreamThatEnds(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{MaxClients: 1})
		first, _ := b.open(b.client("/events"))
		c := b.client("/events")
		c.LastID = validID
		s, body := b.get(c)
		if want := closingBlock("overload", "6000", validID); s.Status() != 200 || body != want {
			t.Errorf("got %d %q, want 200 %q", s.Status(), body, want)
		}
		c = b.client("/events")
		c.LastID = "not an id\ndata: x"[:9]
		if _, body := b.get(c); body != closingBlock("overload", "6000", "") {
			t.Errorf("got %q for an unreadable id", body)
		}
		first.Close()
		synctest.Wait()
		b.open(b.client("/events")) // there is room again
	})
}

// After an outage everybody comes at once; the rest of the rush must come later.
func TestConnectsPerSecondAreBounded(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{MaxConnectsPerSecond: 2})
		b.open(b.client("/events"))
		b.open(b.client("/events"))
		if _, body := b.get(b.client("/events")); body != closingBlock("overload", "6000", "") {
			t.Errorf("third in a second: %q", body)
		}
		time.Sleep(time.Second)
		b.open(b.client("/events"))
	})
}

// The bucket lets through what it says, over any time, and one second's worth
// at once.
func TestBucket(t *testing.T) {
	b, now, taken := bucket{perSecond: 10}, time.Unix(1000, 0), 0
	for range 1000 {
		if b.take(now) {
			taken++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if taken != 109 { // ten at once, then one in each 100 ms of 9.99 s
		t.Errorf("%d taken in 10 s, want 109", taken)
	}
	taken = 0
	for now = now.Add(time.Hour); b.take(now); taken++ {
	}
	if taken != 10 {
		t.Errorf("%d taken at once after an hour, want 10", taken)
	}
	unbounded := bucket{}
	for range 3 {
		if !unbounded.take(now) {
			t.Error("no bound refuses")
		}
	}
}

// Balancers need connections that end now and then; each must end where its
// client can go on.
func TestMaxAgeClosesWithTheCurrentID(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{MaxAge: time.Hour})
		s, f := b.open(b.client("/events"))
		began := time.Now()
		f.steps <- step{blocks: "data: a\nid: 2\n\n", id: "3"} // 3: the position moved since
		b.next(s, ssetest.Event{Type: "message", Data: "a", ID: "2"})
		if err := readClosing(t.Context(), s, "max-age", "3"); err != nil {
			t.Error(err)
		}
		if got := time.Since(began); got != time.Hour {
			t.Errorf("closed after %v, want 1h", got)
		}
		<-f.closed
	})
}

// All clients of one start must not come back at one time, nor much earlier or
// later than configured.
func TestJitterStaysWithinItsPart(t *testing.T) {
	h := NewHandler(Options{})
	var seen []time.Duration
	for range 1000 {
		seen = append(seen, h.jitter(3*time.Second, retrySpread))
	}
	lo, hi := slices.Min(seen), slices.Max(seen)
	if lo < 1500*time.Millisecond || hi >= 4500*time.Millisecond || hi-lo < 2*time.Second {
		t.Errorf("between %v and %v, want 1.5s to 4.5s", lo, hi)
	}
}

// The replicas that stay take over everybody: the goodbyes must be spread, each
// with the id to go on from, and over in time for the last to come back.
func TestDrainSpreadsTheGoodbyes(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		const n = 4
		b := start(t, Options{Retry: 2 * time.Second})
		at := make([]chan time.Duration, n)
		began := make(chan time.Time, 1)
		var drainBegan time.Time
		for i := range n {
			s, _ := b.open(b.client("/events"))
			at[i] = make(chan time.Duration, 1)
			go func() {
				if err := readClosing(t.Context(), s, "drain", "1"); err != nil {
					t.Error(err)
				}
				at[i] <- time.Since(drainBegan)
			}()
		}
		go func() { // who connects meanwhile is sent away
			drainBegan := <-began
			time.Sleep(time.Until(drainBegan.Add(time.Second)))
			c := b.client("/events")
			c.LastID = validID
			s, body := b.get(c)
			if want := closingBlock("drain", "2000", validID); body != want || s.Header("Connection") != "close" {
				t.Errorf("during the drain: got %q, Connection %q, want %q", body, s.Header("Connection"), want)
			}
			if !b.handler.Draining() {
				t.Error("not draining")
			}
		}()
		drainBegan = time.Now()
		began <- drainBegan
		if err := b.handler.Drain(t.Context(), 11*time.Second); err != nil {
			t.Error(err)
		}
		for i := range n { // 11 s less the longest retry, 3 s, in quarters
			if got, want := <-at[i], time.Duration(i)*2*time.Second; got != want {
				t.Errorf("client %d was told after %v, want %v", i, got, want)
			}
		}
		if b.handler.Clients() != 0 {
			t.Errorf("%d clients are left", b.handler.Clients())
		}
	})
}

// The replicas that stay must not be run over, however many clients there are, by
// requests for a place or by those that come back to it: no second may have over
// twice the mean. A second in which one client comes has no less.
func TestDrainIsNeverOverTwiceTheMean(t *testing.T) {
	for _, load := range []struct {
		clients     int
		over, retry time.Duration
	}{
		{1, 20 * time.Second, 3 * time.Second},
		{2, 20 * time.Second, 3 * time.Second},
		{7, 20 * time.Second, 3 * time.Second},
		{40, 20 * time.Second, 3 * time.Second},
		{100, 12 * time.Second, time.Second},
		{40, 60 * time.Second, 30 * time.Second},
		{5000, 20 * time.Second, 3 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d_over_%v", load.clients, load.over), func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				b := start(t, Options{Retry: load.retry})
				b.handler.random = rand.Float64
				type leave struct{ told, back time.Duration }
				left := make(chan leave, load.clients)
				var drainBegan time.Time
				for range load.clients {
					c := b.client("/events")
					s, _ := b.open(c)
					go func() {
						if err := readClosing(t.Context(), s, "drain", "1"); err != nil {
							t.Error(err)
						}
						told := time.Since(drainBegan)
						left <- leave{told, told + c.Retry}
					}()
				}
				drainBegan = time.Now()
				if err := b.handler.Drain(t.Context(), load.over); err != nil {
					t.Error(err)
				}
				var told, back []time.Duration
				for range load.clients {
					l := <-left
					told, back = append(told, l.told), append(back, l.back)
				}
				window := load.over - load.retry*3/2
				mean := float64(load.clients) / window.Seconds()
				for what, times := range map[string][]time.Duration{"told to go": told, "back": back} {
					if most := mostInASecond(times); float64(most) > max(1, 2*mean) {
						t.Errorf("%d clients are %s in one second, over twice the mean of %.2f", most, what, mean)
					}
				}
				if last := slices.Max(told); last > window {
					t.Errorf("the last was told after %v, want at most %v", last, window)
				}
				if last := slices.Max(back); last > load.over {
					t.Errorf("the last is back after %v, want at most %v", last, load.over)
				}
			})
		})
	}
}

// mostInASecond returns the largest number of times that lie within one second,
// wherever that begins.
func mostInASecond(times []time.Duration) (most int) {
	slices.Sort(times)
	from := 0
	for i, at := range times {
		for at-times[from] >= time.Second {
			from++
		}
		most = max(most, i+1-from)
	}
	return most
}

// Where there is no time for goodbyes, all are told at once, and still come back
// one after the other.
func TestDrainWithoutTimeSpreadsTheReturns(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		const clients = 50
		b := start(t, Options{Retry: 10 * time.Second})
		b.handler.random = rand.Float64
		back := make(chan time.Duration, clients)
		for range clients {
			c := b.client("/events")
			s, _ := b.open(c)
			go func() {
				if err := readClosing(t.Context(), s, "drain", "1"); err != nil {
					t.Error(err)
				}
				back <- c.Retry
			}()
		}
		if err := b.handler.Drain(t.Context(), time.Second); err != nil {
			t.Error(err)
		}
		var times []time.Duration
		for range clients {
			times = append(times, <-back)
		}
		if most := mostInASecond(times); most > 10 {
			t.Errorf("%d clients are back in one second, over twice the mean of 5", most)
		}
		if lo, hi := slices.Min(times), slices.Max(times); lo < 5*time.Second || hi > 15*time.Second {
			t.Errorf("back between %v and %v, want 5s to 15s", lo, hi)
		}
	})
}

// A drain that is over must not wait for clients that cannot be told, and a
// second one must not hang.
func TestDrainCutsOffWhoIsLeftWhenItsTimeIsOver(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		_, stuck := b.open(b.client("/events"))
		stuck.steps <- step{blocks: "data: a\n\n"} // nobody reads it
		waiting, _ := b.open(b.client("/events"))
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		began := time.Now()
		told := make(chan error, 1)
		go func() { told <- readClosing(t.Context(), waiting, "drain", "1") }()
		if err := b.handler.Drain(ctx, 8*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		if got := time.Since(began); got != 10*time.Second {
			t.Errorf("took %v, want 10s", got)
		}
		<-stuck.closed
		if err := <-told; err != nil {
			t.Error(err)
		}
		if err := b.handler.Drain(t.Context(), time.Hour); err != nil {
			t.Errorf("second drain: %v", err)
		}
	})
}

// A drain of nobody is over at once.
func TestDrainWithoutClients(t *testing.T) {
	h := NewHandler(Options{})
	if err := h.Drain(t.Context(), time.Hour); err != nil || !h.Draining() {
		t.Errorf("got %v, draining %v", err, h.Draining())
	}
}

// Stopping the server ends every connection and waits for it: what clients hold
// is torn down after it.
func TestServerRunEndsAllConnections(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		s, f := b.open(b.client("/events"))
		began := time.Now()
		b.stop()
		if _, err := s.Next(t.Context()); err == nil {
			t.Error("the stream goes on")
		}
		<-b.ended
		if !errors.Is(b.err, context.Canceled) {
			t.Errorf("got %v, want the cause of the end", b.err)
		}
		if got := time.Since(began); got >= endTimeout {
			t.Errorf("took %v: requests were cut off, not ended", got)
		}
		<-f.closed
		if _, err := b.client("/events").Open(t.Context()); err == nil {
			t.Error("the server still answers")
		}
	})
}

// A client that came back over the connection of a draining replica would only
// meet the same replica again.
func TestRetiredServerKeepsNoConnection(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		s, f := b.open(b.client("/events"))
		b.server.Retire()
		go func() { f.steps <- step{err: bridge.ErrNoStream} }()
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end", err)
		}
		if _, err := b.listener.dial(t.Context(), "", ""); err != nil {
			t.Errorf("new connections are refused: %v", err)
		}
	})
}

// Bytes before a request cost memory as well.
func TestServerBoundsTheRequest(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		near, err := b.listener.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		send(near, "GET /events?subject="+strings.Repeat("a", 64<<10)+" HTTP/1.1\r\nHost: bridge.test\r\n\r\n")
		answer := make([]byte, 12)
		if _, err := io.ReadFull(near, answer); string(answer) != "HTTP/1.1 431" || err != nil {
			t.Errorf("got %q, %v, want 431", answer, err)
		}
		near.Close()
		near, err = b.listener.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		began := time.Now()
		send(near, "GET /events HT")
		if answer, err := io.ReadAll(near); bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) || err != nil {
			t.Errorf("half a request was answered with %q, %v", answer, err)
		}
		if got := time.Since(began); got != readHeaderTimeout {
			t.Errorf("half a request was kept for %v, want %v", got, readHeaderTimeout)
		}
	})
}

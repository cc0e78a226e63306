package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// herd is many clients of one stream behind a proxy, that come back as browsers
// do: after the time that they were told.
type herd struct {
	url   string
	until atomic.Int64 // number of the record with which a client has all; 0: not known yet
	ready atomic.Int64 // clients that are connected for the first time
	done  atomic.Int64 // clients that have all

	mu      sync.Mutex
	returns []time.Time // when clients came back
	wrong   []string
}

// member is one client until ctx ends: it reads records that are numbered, and
// tells when one is missing or comes twice.
func (c *herd) member(ctx context.Context, number int) {
	client := &ssetest.Client{URL: c.url}
	last := 0
	for ctx.Err() == nil {
		if client.LastID != "" {
			c.mu.Lock()
			c.returns = append(c.returns, time.Now())
			c.mu.Unlock()
		}
		fresh := client.LastID == ""
		s, err := client.Open(ctx)
		if err == nil && s.Status() != http.StatusOK {
			c.accuse("client %d: status %d", number, s.Status())
		}
		for err == nil {
			var e ssetest.Event
			e, err = s.Next(ctx)
			switch {
			case err != nil:
			case e.Type == "connected" && fresh:
				c.ready.Add(1)
			case e.Type == "message":
				n, _ := strconv.Atoi(e.Data)
				if last > 0 && n != last+1 {
					c.accuse("client %d: record %q after %d", number, e.Data, last)
				}
				if last = n; int64(n) == c.until.Load() {
					c.done.Add(1)
				}
			}
		}
		if s != nil {
			s.Close()
		}
		select {
		case <-time.After(client.Retry):
		case <-ctx.Done():
		}
	}
}

func (c *herd) accuse(format string, a ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) < 20 {
		c.wrong = append(c.wrong, fmt.Sprintf(format, a...))
	}
}

// A rolling deploy sends thousands of clients elsewhere. When the drain time is
// over, all of them are there, none has missed an event or got one twice, and the
// other replica was not run over.
func TestDrainMovesThousandsOfClients(t *testing.T) {
	const clients = 5000
	b := startBehind(t, haproxy, []string{"timeout http-request 5s", "timeout http-request 2m"}, "DRAIN=12s", "RETRY=1s") // its clients are one busy process
	c := &herd{url: b.url}
	ctx, stop := context.WithCancel(t.Context())
	var members, publisher sync.WaitGroup
	defer members.Wait()
	defer stop()
	for i := range clients {
		members.Go(func() { c.member(ctx, i) })
		if i%100 == 99 { // as fast as the proxy takes them
			until(t, "clients to connect", func() bool { return c.ready.Load() > int64(i)-400 })
		}
	}
	until(t, "all clients to be connected", func() bool { return c.ready.Load() == clients })

	quit := make(chan struct{})
	published := 0
	publisher.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			published++
			publish(t, b.js, "s", "", published, published)
			select {
			case <-tick.C:
			case <-quit:
				return
			}
		}
	})
	began := time.Now()
	b.bridges[0].Terminate()
	if code := b.bridges[0].Wait(); code != 0 {
		t.Errorf("the bridge ended with code %d, want 0", code)
	}
	took := time.Since(began)
	until(t, "all clients to be at the other replica", func() bool {
		a, err := get(t.Context(), b.bridges[1].Admin+"/metrics", nil)
		return err == nil && strings.Contains(a.body, fmt.Sprintf("\nssebridge_clients %d\n", clients))
	})
	close(quit)
	publisher.Wait()
	c.until.Store(int64(published + 1))
	publish(t, b.js, "s", "", published+1, published+1)
	until(t, "all clients to have all records", func() bool { return c.done.Load() == clients })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.wrong {
		t.Error(w)
	}
	perSecond := make([]int, int(took/time.Second)+3)
	for _, at := range c.returns {
		if second := int(at.Sub(began) / time.Second); second < len(perSecond) {
			perSecond[second]++
		}
	}
	t.Logf("%d clients came back, by second %v, most %d; the bridge ended after %s", len(c.returns), perSecond, slices.Max(perSecond), took.Round(100*time.Millisecond))
}

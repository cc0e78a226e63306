package sink

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// reporting is a script that tells how far it is.
type reporting struct {
	*script
	streams []string
}

func (r *reporting) Status() bridge.FollowerStatus {
	return bridge.FollowerStatus{State: "level", ID: "5", Lag: 3, LagKnown: true}
}
func (r *reporting) Streams() []string { return r.streams }

// startReporting is start with followers that report.
func startReporting(t *testing.T, o Options) *bench {
	t.Helper()
	opened := make(chan *script, 1)
	o.Open = func(_ context.Context, sub *bridge.Subscription) (Follower, error) {
		s := &script{sub: *sub, steps: make(chan step), closed: make(chan struct{}), id: idText(sub.From)}
		opened <- s
		return &reporting{s, sub.Names}, nil
	}
	b := start(t, o)
	b.opened = opened
	return b
}

// Which client is it, and what does it wait for: an operator has to see it
// without a look into the process.
func TestClientListTellsOfEachClient(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := startReporting(t, Options{})
		began := time.Now()
		c := b.client("/events/orders?subject=orders.b.>&subject=orders.a&format=envelope")
		c.Header = map[string]string{"User-Agent": strings.Repeat("é", 150)}
		s, f := b.open(c)
		time.Sleep(time.Second)
		b.open(b.client("/events"))
		block := "data: a\nid: 2\n\n"
		f.steps <- step{blocks: block, id: "2"}
		b.next(s, ssetest.Event{Type: "message", Data: "a", ID: "2"})
		go func() {
			f.steps <- step{blocks: ":\n", id: "2"} // a heartbeat is no event
			f.steps <- step{blocks: block, id: "2"}
		}()
		b.next(s, ssetest.Event{Type: "message", Data: "a", ID: "2"})
		synctest.Wait()
		page := b.handler.ClientList(0, 10, "")
		if page.Total != 2 || page.More || len(page.Clients) != 2 {
			t.Fatalf("got %+v", page)
		}
		got := page.Clients[0]
		if !got.Since.Equal(began) || len(got.UserAgent) != maxUserAgentBytes+len("…") || !strings.HasPrefix(got.UserAgent, "éé") {
			t.Errorf("since %v, user agent %q", got.Since, got.UserAgent)
		}
		got.Since, got.UserAgent = time.Time{}, ""
		connected := "event: connected\ndata: {}\nid: 1\n\n"
		want := ClientInfo{
			Number: 1, Address: "pipe", State: "level", Streams: []string{"orders"}, Subjects: []bridge.Pattern{"orders.a", "orders.b.>"}, Format: "envelope",
			Protocol: "HTTP/1.1", Position: "5", Lag: 3, LagKnown: true, Events: 3, Bytes: uint64(len(connected + block + ":\n" + block)),
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if got := page.Clients[1]; got.Number != 2 || got.Format != FormatData || len(got.Subjects) != 0 {
			t.Errorf("a client that asked for nothing special: %+v", got)
		}
	})
}

// A bridge has more clients than fit on one page, and they come and go meanwhile:
// who stays must be on exactly one page.
func TestClientListGoesPageByPage(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := startReporting(t, Options{})
		var streams []*ssetest.Stream
		for _, path := range []string{"/events/orders", "/events/prices", "/events/orders", "/events/orders"} {
			s, _ := b.open(b.client(path))
			streams = append(streams, s)
		}
		list := func(after uint64, limit int, stream string) string {
			page := b.handler.ClientList(after, limit, stream)
			var text strings.Builder
			for _, c := range page.Clients {
				fmt.Fprint(&text, c.Number, " ")
			}
			return fmt.Sprintf("%sof %d more %v", text.String(), page.Total, page.More)
		}
		for _, test := range []struct {
			after  uint64
			limit  int
			stream string
			want   string
		}{
			{0, 2, "", "1 2 of 4 more true"},
			{2, 2, "", "3 4 of 4 more false"},
			{4, 2, "", "of 4 more false"},
			{0, 2, "orders", "1 3 of 3 more true"},
			{3, 2, "orders", "4 of 3 more false"},
			{0, 9, "prices", "2 of 1 more false"},
			{0, 9, "none", "of 0 more false"},
		} {
			if got := list(test.after, test.limit, test.stream); got != test.want {
				t.Errorf("after %d, limit %d, stream %q: got %s, want %s", test.after, test.limit, test.stream, got, test.want)
			}
		}
		streams[1].Close()
		synctest.Wait()
		b.open(b.client("/events"))
		if got, want := list(1, 9, ""), "3 4 5 of 4 more false"; got != want {
			t.Errorf("after one left and one came: got %s, want %s", got, want)
		}
	})
}

// An operator sends one client away. It must come back by itself, to exactly
// where it was, and nobody else may notice.
func TestDisconnectEndsOneClientWithItsID(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		one, f := b.open(b.client("/events"))
		other, g := b.open(b.client("/events"))
		f.steps <- step{blocks: "data: a\nid: 2\n\n", id: "3"}
		b.next(one, ssetest.Event{Type: "message", Data: "a", ID: "2"})
		if b.handler.Disconnect(3) {
			t.Error("a client that is not there was disconnected")
		}
		if !b.handler.Disconnect(1) {
			t.Error("client 1 was not found")
		}
		if err := readClosing(t.Context(), one, "disconnect", "3"); err != nil {
			t.Error(err)
		}
		<-f.closed
		if b.handler.Disconnect(1) {
			t.Error("a client that has left was disconnected again")
		}
		g.steps <- step{blocks: "data: b\nid: 2\n\n", id: "2"}
		b.next(other, ssetest.Event{Type: "message", Data: "b", ID: "2"})
	})
}

// While a client does not take its goodbye, operators see that it was told.
func TestClientListShowsWhoIsClosing(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := startReporting(t, Options{})
		_, f := b.open(b.client("/events"))
		f.steps <- step{blocks: "data: nobody reads this\n\n"}
		synctest.Wait()
		b.handler.Disconnect(1)
		synctest.Wait()
		if got := b.handler.ClientList(0, 1, "").Clients; len(got) != 1 || got[0].State != "closing" {
			t.Errorf("got %+v, want it closing", got)
		}
		<-f.closed // by the write timeout
		synctest.Wait()
		if n := b.handler.Clients(); n != 0 {
			t.Errorf("%d clients are left", n)
		}
	})
}

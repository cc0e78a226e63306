package bridge

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// names are the names of streams.
func names(streams []*Stream) string {
	var out []string
	for _, s := range streams {
		out = append(out, s.Name())
	}
	return fmt.Sprint(out)
}

// Until brokers have said what their streams hold nobody can know which a
// request includes: it must neither be refused nor begin without one of them.
func TestRequestsAreHeldUntilTheirStreamsAreKnown(t *testing.T) {
	a, b := NewStream("a", &fakeSource{}, StreamOptions{}), NewStream("b", &fakeSource{}, StreamOptions{})
	h := NewHub([]*Stream{b, a}, HubOptions{})
	resolve := func(sub Subscription) string {
		t.Helper()
		streams, ready, err := h.Resolve(sub, new(Demand))
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s %t", names(streams), ready)
	}
	expect := func(what string, sub Subscription, want string) {
		t.Helper()
		if got := resolve(sub); got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	start := func(s *Stream, subjects ...string) {
		changed := h.Changed()
		receiver{s}.Change(Change{Kind: Spaced, Subjects: subjects})
		receiver{s}.Change(Change{Kind: Started, Position: Position{1, []Place{{}}}})
		if !signalled(changed) {
			t.Error("those who are held are not told")
		}
	}
	expect("nothing known", Subscription{}, "[a b] false")
	start(a, "x.>")
	expect("b unknown", Subscription{}, "[a b] false")
	expect("b unknown, not asked for", Subscription{Names: []string{"a"}}, "[a] true")
	receiver{b}.Change(Change{Kind: Waiting, Err: fmt.Errorf("b: %w", ErrUnavailable)})
	expect("b away", Subscription{}, "[a b] false")
	receiver{b}.Change(Change{Kind: Waiting, Err: fmt.Errorf("b: %w", ErrMissing)})
	expect("b missing", Subscription{}, "[a] true")
	expect("b missing, named", Subscription{Names: []string{"b"}}, "[b] false")
	expect("b missing, in the id", Subscription{From: ID{{Stream: "b"}}}, "[a b] false")
	expect("b missing, nothing else fits", Subscription{Filter: NewFilter("y")}, "[] false")
	receiver{b}.Change(Change{Kind: Reading})
	start(b, "y.>")
	expect("all known", Subscription{}, "[a b] true")
	expect("by subject", Subscription{Filter: NewFilter("y.1")}, "[b] true")
	expect("no subject fits", Subscription{Filter: NewFilter("z")}, ErrNoStream.Error())
	expect("no such name", Subscription{Names: []string{"c"}}, ErrNoStream.Error())
}

// Strangers choose formats and filters; what they can make a process keep is
// bounded, and the bound passes when they leave.
func TestFeedsAndFiltersAreBounded(t *testing.T) {
	r := newLiveRig(t, HubOptions{MaxFeeds: 1, MaxFilters: 2}, "a", "b")
	one := r.join(NewFilter("1"), "a")
	again := r.join(NewFilter("1"), "a")
	two := r.join(NewFilter("2"), "a")
	join := func(filter Filter, name string) error {
		_, err := r.Join([]*Stream{r.Stream(name)}, filter, Form{Encoder: testEncoder{&r.encoded}})
		return err
	}
	if err := join(NewFilter("3"), "a"); !errors.Is(err, ErrTooManyFilters) {
		t.Errorf("a third filter: %v, want ErrTooManyFilters", err)
	}
	if err := join(NewFilter("1"), "b"); !errors.Is(err, ErrTooManyFeeds) {
		t.Errorf("a second feed: %v, want ErrTooManyFeeds", err)
	}
	one.Leave()
	if err := join(NewFilter("3"), "a"); !errors.Is(err, ErrTooManyFilters) {
		t.Errorf("one of two clients of a filter left: %v, want ErrTooManyFilters", err)
	}
	again.Leave()
	two.Leave()
	if err := join(NewFilter("3"), "b"); err != nil {
		t.Errorf("another feed when the first is idle: %v", err)
	}
	if st := r.Stats(); st.Feeds != 1 || st.Filters != 1 {
		t.Errorf("the hub keeps %d feeds and %d filters, want 1 and 1", st.Feeds, st.Filters)
	}
}

// A proxy that restarts cuts everyone at once. Who is back within half a minute
// finds the ring as it was, and an idle feed costs nothing afterwards.
func TestIdleFeedLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLiveRig(t, HubOptions{}, "a")
		g := r.join(Filter{}, "a")
		f := g.feed
		g.Leave()
		time.Sleep(feedLinger - time.Second)
		g = r.join(Filter{}, "a")
		if g.feed != f {
			t.Error("the feed was gone before its time")
		}
		time.Sleep(2 * feedLinger)
		if r.Stats().Feeds != 1 {
			t.Error("a feed in use was closed by an older timer")
		}
		g.Leave()
		time.Sleep(feedLinger)
		synctest.Wait()
		if st := r.Stats(); st.Feeds != 0 || len(r.Stream("a").feeds) != 0 {
			t.Errorf("%d idle feeds are left, %d still fed", st.Feeds, len(r.Stream("a").feeds))
		}
	})
}

// An id that no replica reads back, or no proxy lets through, would cost its
// client the place. Who asks for more partitions than an id has room for is told
// so, and others are served.
func TestSubscriptionWhoseIDsWouldBeTooLongIsRefused(t *testing.T) {
	started := func(name string, partitions int) *Stream {
		s := NewStream(name, &fakeSource{}, StreamOptions{})
		pos := Position{Incarnation: 1<<32 - 1, Places: make([]Place, partitions)}
		for i := range pos.Places {
			pos.Places[i] = Place{36*36 + Offset(i), ProofOf(1)} // 4 digits with the "=", 6 when they have grown, and a separator
		}
		receiver{s}.Change(Change{Kind: Spaced, Subjects: []string{">"}})
		receiver{s}.Change(Change{Kind: Started, Position: pos})
		return s
	}
	const frame, head = 1 + 1 + 4, 1 + 1 + 1 + 7 // version, ".", check; "~", name, ".", incarnation
	a, b := started("a", 10), started("b", 20)
	limit := frame + 2*head + 30*(1+7)
	for bytes, want := range map[int]error{limit: nil, limit - 1: ErrIDTooLong, 0: nil} {
		h := NewHub([]*Stream{a, b}, HubOptions{MaxIDBytes: bytes})
		if _, _, err := h.Resolve(Subscription{}, new(Demand)); !errors.Is(err, want) {
			t.Errorf("limit %d, both streams: got %v, want %v", bytes, err, want)
		}
		if _, ready, err := h.Resolve(Subscription{Names: []string{"b"}}, new(Demand)); err != nil || !ready {
			t.Errorf("limit %d, stream b alone: got %v, ready %t", bytes, err, ready)
		}
	}
	h := NewHub([]*Stream{started("a", 400), started("b", 1)}, HubOptions{MaxIDBytes: 1 << 20})
	if _, _, err := h.Resolve(Subscription{}, new(Demand)); err != nil { // 400 times 8 is below what anybody reads
		t.Errorf("400 partitions: %v", err)
	}
	h = NewHub([]*Stream{started("a", 600)}, HubOptions{MaxIDBytes: 1 << 20})
	if _, _, err := h.Resolve(Subscription{}, new(Demand)); !errors.Is(err, ErrIDTooLong) {
		t.Errorf("600 partitions, a limit above what ids are read up to: got %v, want %v", err, ErrIDTooLong)
	}
}

// Whoever asks for a stream that is never served is told so, instead of being
// held for ever; whoever asks for everything gets the rest.
func TestRefusedStreamsAreToldToWhoAsksForThem(t *testing.T) {
	served, refused := NewStream("a", nil, StreamOptions{}), NewStream("b", nil, StreamOptions{})
	h := NewHub([]*Stream{served, refused}, HubOptions{})
	receiver{served}.Change(Change{Kind: Started})
	receiver{refused}.Change(Change{Kind: Waiting, Err: fmt.Errorf("WorkQueue: %w", ErrRefused)})
	for _, names := range [][]string{{"b"}, {"a", "b"}} {
		if _, _, err := h.Resolve(Subscription{Names: names}, new(Demand)); !errors.Is(err, ErrRefused) {
			t.Errorf("named %v: %v, want ErrRefused", names, err)
		}
	}
	if streams, ready, err := h.Resolve(Subscription{}, new(Demand)); err != nil || !ready || len(streams) != 1 || streams[0] != served {
		t.Errorf("everything: %v %v %v, want the served stream only", streams, ready, err)
	}
	alone := NewHub([]*Stream{refused}, HubOptions{})
	if _, _, err := alone.Resolve(Subscription{}, new(Demand)); !errors.Is(err, ErrRefused) {
		t.Errorf("nothing else there: %v, want ErrRefused", err)
	}
}

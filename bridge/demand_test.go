package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tellingSource tells its subjects at the start and when it is asked. Its log ends
// at 1 for ever.
type tellingSource struct {
	fakeSource
	subjects []string
	err      error
	looks    int
}

func (s *tellingSource) Subjects(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return s.subjects, s.err
}

func (s *tellingSource) set(err error, subjects ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subjects, s.err = subjects, err
}

func (s *tellingSource) Tail(ctx context.Context, out Receiver) error {
	subjects, _ := s.Subjects(ctx)
	out.Change(Change{Kind: Spaced, Subjects: subjects})
	out.Change(Change{Kind: Started, Position: Position{1, []Place{{Offset: 1}}}})
	out.Change(Change{Kind: Reading})
	<-ctx.Done()
	return context.Cause(ctx)
}

// runHub runs a hub over one on-demand stream until the test ends.
func runHub(t *testing.T, source Source, o StreamOptions) *Hub {
	t.Helper()
	o.OnDemand = true
	h := NewHub([]*Stream{NewStream("s", source, o)}, HubOptions{})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	synctest.Wait()
	return h
}

// Subjects that a stream gets while nobody looks at it must be found, or a
// request for them would be refused for good, and a wider one begin without them.
func TestIdleStreamLearnsItsSubjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &tellingSource{subjects: []string{"old"}}
		h := runHub(t, source, StreamOptions{})
		var d Demand
		resolve := func(subject string) string {
			t.Helper()
			streams, ready, err := h.Resolve(Subscription{Filter: NewFilter(Pattern(subject))}, &d)
			return fmt.Sprint(names(streams), ready, err)
		}
		time.Sleep(DefaultLinger + time.Second)
		synctest.Wait()
		source.set(nil, "old", "new.>")
		refused := fmt.Sprint("[]false ", ErrNoStream)
		if got := resolve("new.1"); got != refused {
			t.Errorf("before it was looked at: %s, want %s", got, refused)
		}
		time.Sleep(idleLook)
		synctest.Wait()
		if got := h.Stream("s").Status().State; got != "idle" {
			t.Errorf("looking at its subjects made it %s", got)
		}
		source.set(errors.New("away"))
		time.Sleep(2 * idleLook)
		if got, want := resolve("new.1"), "[s]false <nil>"; got != want {
			t.Errorf("after it was looked at: %s, want %s", got, want)
		}
		synctest.Wait()
		if got := h.Stream("s").Status().State; got != "reading" {
			t.Errorf("a request that may be for it leaves it %s", got)
		}
	})
}

// Where the configuration says all about the subjects there is nothing to ask.
func TestIdleStreamWithFixedSubjectsIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		template, err := ParseSubjectTemplate("{stream}.{key}")
		if err != nil {
			t.Fatal(err)
		}
		source := &tellingSource{subjects: []string{"x"}}
		runHub(t, source, StreamOptions{Subject: template})
		time.Sleep(time.Hour)
		source.mu.Lock()
		defer source.mu.Unlock()
		if source.looks != 1 {
			t.Errorf("asked %d times, want once, by the reader at first", source.looks)
		}
	})
}

// A request that turns out not to be for a stream must not keep it awake.
func TestDemandKeepsOnlyWhatIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := runHub(t, &tellingSource{subjects: []string{"x"}}, StreamOptions{Linger: time.Second})
		s := h.Stream("s")
		wanted := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.wanted
		}
		var one, other Demand
		for range 3 {
			if _, ready, err := h.Resolve(Subscription{}, &one); err != nil || !ready {
				t.Fatalf("ready %v, %v", ready, err)
			}
		}
		_, _, _ = h.Resolve(Subscription{}, &other)
		if got := wanted(); got != 2 {
			t.Errorf("wanted by %d, want 2", got)
		}
		if _, _, err := h.Resolve(Subscription{Filter: NewFilter("y")}, &other); !errors.Is(err, ErrNoStream) {
			t.Errorf("err %v, want ErrNoStream", err)
		}
		other.Release()
		other.Release()
		if got := wanted(); got != 1 {
			t.Errorf("wanted by %d, want 1", got)
		}
		time.Sleep(time.Minute)
		if got := s.Status().State; got != "reading" {
			t.Errorf("the stream is %s, want reading", got)
		}
		one.Release()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := s.Status().State; got != "idle" {
			t.Errorf("the stream is %s, want idle", got)
		}
	})
}

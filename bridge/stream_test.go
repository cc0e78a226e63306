package bridge

import (
	"errors"
	"fmt"
	"testing"
)

// Clients see a record as the stream's configuration names it, live and in
// replay alike, and never one that would not fit.
func TestPrepareNamesRecordsAndRefusesLargeOnes(t *testing.T) {
	subject, err := ParseSubjectTemplate("{stream}.{key}")
	if err != nil {
		t.Fatal(err)
	}
	event, err := ParseNameTemplate("order-{key}")
	if err != nil {
		t.Fatal(err)
	}
	s := NewStream("orders", &fakeSource{}, StreamOptions{Subject: subject, Event: event, MaxEventBytes: 3})
	recs := []Record{
		{Key: []byte("7"), Data: []byte("abc"), Origin: "topic"},
		{Key: []byte("8"), Data: []byte("abcd")},
		{Key: []byte("9"), Data: []byte("abcd"), Kind: Hidden},
	}
	s.Prepare(recs)
	if r := recs[0]; r.Subject != "orders.7" || r.Name != "order-7" || r.Kind != Data || string(r.Data) != "abc" {
		t.Errorf("at the limit: %+v", r)
	}
	if r := recs[1]; r.Kind != Oversized || r.Data != nil {
		t.Errorf("over the limit: %+v", r)
	}
	if recs[2].Kind != Hidden {
		t.Errorf("hidden: %+v", recs[2])
	}
	plain := NewStream("plain", &fakeSource{}, StreamOptions{})
	recs = []Record{{Origin: "a.b"}}
	if plain.Prepare(recs); recs[0].Subject != "a.b" || recs[0].Name != "" {
		t.Errorf("without templates: %+v", recs[0])
	}
}

// The live position is what replay may read up to, and what a replica is judged
// by: it follows every kind of report.
func TestLivePositionFollowsEveryReport(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a")
	s := r.Stream("a")
	steps := []struct {
		change Change
		want   Position
	}{
		{Change{Kind: Moved, Partition: 1, Place: Place{4, ProofOf(2)}}, Position{1, []Place{{}, {4, ProofOf(2)}}}},
		{Change{Kind: Grown, Partitions: 3}, Position{1, []Place{{}, {4, ProofOf(2)}, {}}}},
		{Change{Kind: Found, Finding: Finding{Reason: Retention, Next: Position{1, []Place{{7, 0}, {4, ProofOf(2)}, {}}}}}, Position{1, []Place{{7, 0}, {4, ProofOf(2)}, {}}}},
		{Change{Kind: Found, Finding: Finding{Reason: Recreated, Next: Position{2, []Place{{}}}}}, Position{2, []Place{{}}}},
		{Change{Kind: Started, Position: Position{3, []Place{{}}}}, Position{3, []Place{{}}}},
	}
	g := r.join(Filter{}, "a")
	for _, step := range steps {
		r.change("a", step.change)
		live, _ := s.Live()
		if head := g.Head().Head[0].Position; !live.Equal(step.want) || !head.Equal(step.want) {
			t.Errorf("after %+v: live %v, feed %v, want %v", step.change, live, head, step.want)
		}
	}
}

// A thousand clients with ids of a log that was rolled back must not make a
// replica drop its chunks a thousand times; one that meets the next reign must.
func TestHistoryIsDoubtedOncePerReign(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a")
	s := r.Stream("a")
	verdict := func(life Incarnation, epochs ...uint64) Verdict { return Verdict{Incarnation: life, Epochs: epochs} }
	for i, step := range []struct {
		v    Verdict
		want uint64
	}{
		{verdict(1, 5, 5), 1}, {verdict(1, 5, 5), 1}, {verdict(1, 5, 6), 2}, {verdict(1, 5, 6), 2}, {verdict(2, 5, 6), 3}, {verdict(2, 5, 6), 3},
	} {
		if s.DoubtOnce(step.v); s.Generation() != step.want {
			t.Errorf("step %d: generation %d, want %d", i, s.Generation(), step.want)
		}
	}
	s.Doubt()
	s.Doubt()
	if s.Generation() != 5 {
		t.Errorf("generation %d after two more doubts, want 5", s.Generation())
	}
	if src, ok := s.Source().(*fakeSource); !ok || src.pokes != 8 {
		t.Errorf("the source was not poked each time")
	}
}

// Probes and people ask what a stream waits for.
func TestStatusTellsWhatAStreamWaitsFor(t *testing.T) {
	s := NewStream("a", &fakeSource{}, StreamOptions{})
	expect := func(state string, started bool, err error) {
		t.Helper()
		if st := s.Status(); st.State != state || st.Started != started || !errors.Is(st.Err, err) {
			t.Errorf("status %+v, want %s, started %v, %v", st, state, started, err)
		}
	}
	expect("starting", false, nil)
	receiver{s}.Change(Change{Kind: Waiting, Err: fmt.Errorf("open a: %w", ErrMissing)})
	expect("waiting", false, ErrMissing)
	receiver{s}.Change(Change{Kind: Started, Position: Position{1, []Place{{}}}})
	receiver{s}.Change(Change{Kind: Reading})
	expect("reading", true, nil)
	if st := s.Status(); !st.SpaceKnown || len(st.Space) != 1 || st.Space[0] != ">" {
		t.Errorf("a broker without subjects: space %v", st.Space)
	}
}

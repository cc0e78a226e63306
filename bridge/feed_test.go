package bridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// A record costs one encoding however many clients there are, and none if nobody
// is shown it: that is what makes ten thousand clients cheap.
func TestRecordIsEncodedOnceForAllGroups(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a")
	all, some, none := r.join(Filter{}, "a"), r.join(NewFilter("x.*"), "a"), r.join(NewFilter("y"), "a")
	first, second, third := r.level(all), r.level(some), r.level(none)
	r.record("a", 0, "x.1", Data)
	one, _ := first.Take(nil, 1<<20)
	two, _ := second.Take(nil, 1<<20)
	if r.encoded != 1 || texts(one) != "a 0@0" || unsafe.SliceData(one[0].Unit) != unsafe.SliceData(two[0].Unit) {
		t.Errorf("encoded %d times: %q, %q", r.encoded, texts(one), texts(two))
	}
	if got := take(t, third); got != "" {
		t.Errorf("a group whose filter does not match was shown %q", got)
	}
	all.Leave()
	some.Leave()
	r.record("a", 0, "x.2", Data)
	r.record("a", 0, "y", Hidden)
	if r.encoded != 1 {
		t.Errorf("records that nobody is shown were encoded")
	}
	if got := none.Head().Head[0].Position.Place(0).Offset; got != 3 {
		t.Errorf("head at %d after three records, want 3", got)
	}
}

// The id of an event is the position behind it in all streams of the
// subscription; if it were anything else a cut there would lose or repeat.
func TestUnitEndsWithTheVectorBehindIt(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a", "b")
	g := r.join(Filter{}, "a", "b")
	c := r.level(g)
	r.record("b", 1, "s", Data)
	r.record("a", 0, "s", Data)
	r.record("b", 0, "s", Hidden)
	r.change("a", Change{Kind: Found, Finding: Finding{
		Reason: Retention, Partition: 1, From: 0, To: 4, Next: Position{1, []Place{{1, ProofOf(1)}, {5, 0}}},
	}})
	entries, _ := c.Take(nil, 1<<20)
	want := []ID{
		{{"a", Position{1, []Place{{}, {}}}}, {"b", Position{1, []Place{{}, {1, ProofOf(1)}}}}},
		{{"a", Position{1, []Place{{1, ProofOf(1)}, {}}}}, {"b", Position{1, []Place{{}, {1, ProofOf(1)}}}}},
		{{"a", Position{1, []Place{{1, ProofOf(1)}, {5, 0}}}}, {"b", Position{1, []Place{{1, ProofOf(1)}, {1, ProofOf(1)}}}}},
	}
	if len(entries) != len(want) {
		t.Fatalf("%d entries, want %d", len(entries), len(want))
	}
	for i, e := range entries {
		if e.ID() != want[i].String() || !strings.HasSuffix(string(e.Unit), "#"+e.ID()) {
			t.Errorf("entry %d ends with %s, want %s; unit %q", i, e.ID(), want[i], e.Unit)
		}
	}
	if id, ok := c.Head(); !ok || id != want[2].String() {
		t.Errorf("position %s, %v", id, ok)
	}
}

// Memory is promised to operators: rings keep within their bytes, and those of
// streams that are quiet give way when other feeds need a share.
func TestRingsKeepWithinTheirBytes(t *testing.T) {
	r := newLiveRig(t, HubOptions{RingBytes: 4000}, "a", "b")
	g := r.join(Filter{}, "a")
	f := g.feed
	slow := r.level(g)
	r.records("a", "s", 100)
	if f.bytes > 4000 || f.bytes < 3000 || f.base+uint64(len(f.ring)) != 100 {
		t.Errorf("ring holds %d entries of %d bytes from %d on", len(f.ring), f.bytes, f.base)
	}
	if got := take(t, slow); got != "evicted" {
		t.Errorf("a cursor behind the ring was given %q", got)
	}
	if got := r.Stats().Evictions; got != f.base {
		t.Errorf("%d evictions counted, %d entries left the ring", got, f.base)
	}
	r.join(Filter{}, "b")
	if f.bytes > 2000 {
		t.Errorf("a quiet ring holds %d bytes after its share became 2000", f.bytes)
	}
}

// An event that is larger than the ring must not stop it, nor be lost: its
// clients fall out and read it from the broker.
func TestEntryLargerThanTheRing(t *testing.T) {
	r := newLiveRig(t, HubOptions{RingBytes: 1000}, "a")
	g := r.join(Filter{}, "a")
	c := r.level(g)
	receiver{r.Stream("a")}.Records([]Record{{Origin: "s", Data: make([]byte, 5000)}})
	if got := take(t, c); got != "evicted" {
		t.Errorf("got %q, want evicted", got[:min(len(got), 20)])
	}
	c = r.level(g)
	r.records("a", "s", 1)
	if got := take(t, c); got != "a 0@1" {
		t.Errorf("got %q after it", got)
	}
}

// The numbers of what a group was shown must not outgrow the ring.
func TestGroupForgetsWhatLeftTheRing(t *testing.T) {
	r := newLiveRig(t, HubOptions{RingBytes: 4000}, "a")
	g := r.join(Filter{}, "a")
	c := r.level(g)
	for range 100 {
		r.records("a", "s", 10)
		if got := strings.Count(take(t, c), "@"); got != 10 {
			t.Fatalf("took %d of 10 entries", got)
		}
	}
	if len(g.numbers) > 100 || g.dropped+uint64(len(g.numbers)) != 1000 {
		t.Errorf("the group remembers %d numbers, and forgot %d", len(g.numbers), g.dropped)
	}
}

// What a record costs the live path decides how many a second one replica
// carries.
func TestRecordAllocations(t *testing.T) {
	r := newLiveRig(t, HubOptions{RingBytes: 1 << 20}, "a")
	g := r.join(NewFilter("shown"), "a")
	rec := []Record{{Origin: "other", Data: []byte("x"), Proof: ProofOf(1)}}
	out := receiver{r.Stream("a")}
	if got := testing.AllocsPerRun(10000, func() { rec[0].Offset++; out.Records(rec) }); got > 0 {
		t.Errorf("a record that nobody is shown allocates %v times, want 0", got)
	}
	rec[0].Origin = "shown"
	c := r.level(g)
	var entries []Entry
	if got := testing.AllocsPerRun(10000, func() { rec[0].Offset++; out.Records(rec) }); got > 10 {
		t.Errorf("a record allocates %v times, want at most 10: unit, id, and the test's encoder", got)
	}
	c = r.level(g)
	out.Records(rec)
	if got := testing.AllocsPerRun(1000, func() {
		again := *c
		entries, _ = again.Take(entries[:0], 1<<20)
	}); got > 0 {
		t.Errorf("a level client allocates %v times to take what is pending, want 0", got)
	}
}

func BenchmarkFeedAppend(b *testing.B) {
	for _, bench := range []struct{ name, subject string }{{"shown", "s"}, {"shown to nobody", "other"}} {
		b.Run(bench.name, func(b *testing.B) {
			n := 0
			s := NewStream("a", &fakeSource{}, StreamOptions{})
			h := NewHub([]*Stream{s}, HubOptions{})
			receiver{s}.Change(Change{Kind: Started, Position: Position{1, []Place{{}}}})
			if _, err := h.Join(h.Streams(), NewFilter("s"), Form{Encoder: testEncoder{&n}}); err != nil {
				b.Fatal(err)
			}
			rec := []Record{{Origin: bench.subject, Data: []byte(`{"symbol":"A","price":1.25}`), Proof: ProofOf(1)}}
			b.ReportAllocs()
			for b.Loop() {
				rec[0].Offset++
				receiver{s}.Records(rec)
			}
		})
	}
}

func BenchmarkLevelTake(b *testing.B) {
	n := 0
	s := NewStream("a", &fakeSource{}, StreamOptions{})
	h := NewHub([]*Stream{s}, HubOptions{})
	receiver{s}.Change(Change{Kind: Started, Position: Position{1, []Place{{}}}})
	g, err := h.Join(h.Streams(), Filter{}, Form{Encoder: testEncoder{&n}})
	if err != nil {
		b.Fatal(err)
	}
	target := g.Head()
	start, _ := g.Level(target.Number, target.Generation)
	for i := range Offset(10) {
		receiver{s}.Records([]Record{{Origin: "s", Offset: i, Data: []byte("x")}})
	}
	var entries []Entry
	b.ReportAllocs()
	for b.Loop() {
		c := *start
		entries, _ = c.Take(entries[:0], 1<<20)
	}
	b.ReportMetric(float64(len(entries)), "events/op")
}

// An entry costs a number in each group that is shown it. With thousands of filters
// that match the same records these are more than the events, and no less memory.
func TestNumbersOfGroupsAreCounted(t *testing.T) {
	const limit = 1 << 20
	r := newLiveRig(t, HubOptions{RingBytes: limit}, "a")
	var groups []*Group
	for i := range 1000 {
		groups = append(groups, r.join(NewFilter("s", Pattern(fmt.Sprint("x.", i))), "a"))
	}
	quiet := r.join(NewFilter("q"), "a")
	held := func() (bytes int) {
		for _, g := range append(groups, quiet) {
			bytes += 8 * cap(g.numbers)
		}
		return bytes
	}
	r.records("a", "s", 2000)
	if got := held(); got > limit {
		t.Errorf("groups hold %d bytes of numbers in a ring of %d", got, limit)
	}
	for _, g := range groups {
		g.Leave()
	}
	r.records("a", "q", 5000)
	if got := 8 * cap(quiet.numbers); got < 1000 {
		t.Fatalf("the group holds %d bytes: it is no test", got)
	}
	r.records("a", "s", 10000) // nobody's
	if got := 8 * cap(quiet.numbers); got > 8*4*trimStep {
		t.Errorf("a quiet group still holds %d bytes of what has left the ring", got)
	}
	f := quiet.feed
	if f.numbers != len(quiet.numbers) || f.shown != 0 {
		t.Errorf("%d numbers and %d shown are counted, %d are held, and none is in the ring", f.numbers, f.shown, len(quiet.numbers))
	}
}

// Filters are texts of strangers: what they cost is bounded by more than their
// number, and passes when they go.
func TestFiltersAreBoundedInBytes(t *testing.T) {
	r := newLiveRig(t, HubOptions{FilterBytes: 1 << 20}, "a")
	var groups []*Group
	var err error
	for i := 0; err == nil; i++ {
		var g *Group
		long := Pattern(fmt.Sprintf("%d.%s", i, strings.Repeat("token.", 100)+"end"))
		if g, err = r.Join([]*Stream{r.Stream("a")}, NewFilter(long), Form{Encoder: testEncoder{&r.encoded}}); err == nil {
			groups = append(groups, g)
		}
	}
	if !errors.Is(err, ErrTooManyFilters) || len(groups) < 10 || len(groups) > 200 {
		t.Errorf("%d filters of a hundred tokens each, then %v; want ErrTooManyFilters at 1 MiB", len(groups), err)
	}
	for _, g := range groups {
		g.Leave()
	}
	if r.kept != 0 {
		t.Errorf("%d bytes are still counted", r.kept)
	}
}

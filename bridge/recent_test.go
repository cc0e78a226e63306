package bridge

import (
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"testing"
)

// recorded hands records with these subjects to a stream, as its source does.
func recorded(s *Stream, subjects ...string) {
	for i, subject := range subjects {
		receiver{s}.Records([]Record{{Origin: subject, Offset: Offset(i + 1)}})
	}
}

// People choose subjects from what is really there, so what is there must be
// known: each once, and nothing that clients could not be shown.
func TestRecentTellsTheSubjectsOfRecords(t *testing.T) {
	s := NewStream("orders", nil, StreamOptions{})
	if got := s.Recent(); len(got) != 0 {
		t.Errorf("before any record: %q", got)
	}
	recorded(s, "orders.2", "orders.1", "orders.2", "orders.2", "orders.1")
	receiver{s}.Records([]Record{{Origin: "orders.hidden", Offset: 6, Kind: Hidden}})
	if got, want := s.Recent(), []string{"orders.1", "orders.2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A topic with a key for each customer has millions of subjects. They must not
// be kept, and the newest is always among those that are.
func TestRecentIsBounded(t *testing.T) {
	s := NewStream("orders", nil, StreamOptions{})
	for i := range 100_000 {
		newest := fmt.Sprintf("orders.%d", i)
		recorded(s, newest)
		if i%10_000 == 0 && !slices.Contains(s.Recent(), newest) {
			t.Fatalf("%s is not told", newest)
		}
	}
	got := s.Recent()
	if len(got) != RecentSubjects || !slices.IsSorted(got) || len(slices.Compact(got)) != RecentSubjects {
		t.Errorf("got %d subjects, want %d, sorted and each once", len(got), RecentSubjects)
	}
}

// The table is as large as it says: subjects that meet in one set push out the
// one that came first, and no other.
func TestRecentPushesOutTheFirst(t *testing.T) {
	r := recentSubjects{seed: maphash.MakeSeed()}
	var alike []string // subjects of one set
	for i := 0; len(alike) < 2*recentWays+3; i++ {
		subject := fmt.Sprint(i)
		if maphash.String(r.seed, subject)%recentSets == 0 {
			alike = append(alike, subject)
		}
	}
	for i, subject := range alike {
		r.see(subject)
		r.see(alike[max(0, i-recentWays+1)]) // known still, so nothing moves
		got := r.appendTo(nil)
		slices.Sort(got)
		want := slices.Sorted(slices.Values(alike[max(0, i-recentWays+1) : i+1]))
		if !slices.Equal(got, want) {
			t.Fatalf("after %d: got %q, want %q", i+1, got, want)
		}
	}
}

// Who asks must not disturb who reads.
func TestRecentMayBeAskedMeanwhile(t *testing.T) {
	s := NewStream("orders", nil, StreamOptions{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 1000 {
			recorded(s, fmt.Sprint(i))
		}
	})
	for range 100 {
		s.Recent()
	}
	wg.Wait()
}

// Every record of every stream pays for it, whether anybody looks or not.
func TestSeeingSubjectsAllocatesNothing(t *testing.T) {
	r := recentSubjects{seed: maphash.MakeSeed()}
	subjects := make([]string, 4096)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("orders.eu.%d", i)
	}
	i := 0
	if n := testing.AllocsPerRun(10_000, func() { r.see(subjects[i%len(subjects)]); i++ }); n != 0 {
		t.Errorf("%v allocations a record, want none", n)
	}
}

func BenchmarkRecentSubjects(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := recentSubjects{seed: maphash.MakeSeed()}
			subjects := make([]string, n)
			for i := range subjects {
				subjects[i] = fmt.Sprintf("orders.eu.%d", i)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.see(subjects[i])
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}

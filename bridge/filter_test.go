package bridge

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Clients with the same wishes share a group, however they write them down.
func TestFilterHasOneNormalForm(t *testing.T) {
	for _, c := range []struct {
		patterns []Pattern
		want     string
	}{
		{nil, ""},
		{[]Pattern{">"}, ""},
		{[]Pattern{"a", ">", "b.*"}, ""},
		{[]Pattern{"a"}, "a"},
		{[]Pattern{"b", "a", "b"}, "a b"},
		{[]Pattern{"a.b", "a.*"}, "a.*"},
		{[]Pattern{"a.*", "a.>", "a.b.c", "a"}, "a a.>"},
		{[]Pattern{"*.b", "a.*"}, "*.b a.*"},
	} {
		for range 5 {
			rand.Shuffle(len(c.patterns), func(i, j int) { c.patterns[i], c.patterns[j] = c.patterns[j], c.patterns[i] })
			if got := NewFilter(c.patterns...).Key(); got != c.want {
				t.Errorf("NewFilter(%q).Key() = %q, want %q", c.patterns, got, c.want)
			}
		}
	}
}

// Dropping a pattern must never drop a record.
func TestFilterMatchesWhatItsPatternsMatch(t *testing.T) {
	subjects, patterns := allSubjects(4, "a", "b", "c"), allPatterns(3)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var set []Pattern
		for range 1 + rng.IntN(5) {
			set = append(set, patterns[rng.IntN(len(patterns))])
		}
		given := slices.Clone(set)
		f := NewFilter(set...)
		if !slices.Equal(set, given) {
			t.Fatalf("NewFilter changed its argument %q to %q", given, set)
		}
		for _, s := range subjects {
			want := slices.ContainsFunc(set, func(p Pattern) bool { return p.Match(s) })
			if got := f.Match(s); got != want {
				t.Fatalf("NewFilter(%q) = %q matches %q: %v, want %v", set, f, s, got, want)
			}
		}
		kept := f.Patterns()
		for i, p := range kept {
			for j, q := range kept {
				if i != j && p.Covers(q) {
					t.Fatalf("NewFilter(%q) keeps %q beside %q", set, q, p)
				}
			}
		}
		if again := NewFilter(kept...); again.Key() != f.Key() {
			t.Fatalf("filter %q made again of its own patterns is %q", f, again)
		}
		space := []Pattern{patterns[rng.IntN(len(patterns))], patterns[rng.IntN(len(patterns))]}
		meets := slices.ContainsFunc(subjects, func(s string) bool {
			return f.Match(s) && (space[0].Match(s) || space[1].Match(s))
		})
		if got := f.Overlaps(space); got != meets {
			t.Fatalf("filter %q overlaps %q: %v, want %v", f, space, got, meets)
		}
	}
}

// A request without patterns means everything the caller may read, of every
// stream that has subjects.
func TestZeroFilterMatchesEverything(t *testing.T) {
	var f Filter
	if !f.Match("a") || !f.Match("a.b.c") || !f.Overlaps([]Pattern{"x.*"}) || f.Overlaps(nil) {
		t.Error("zero filter does not match everything")
	}
	if f.Patterns() != nil || f.Key() != "" || f.String() != ">" {
		t.Errorf("zero filter has patterns %q, key %q, text %q", f.Patterns(), f.Key(), f)
	}
}

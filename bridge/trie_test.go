package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The trie stands between a record and its clients: whatever was added and
// removed before, it must find exactly the values whose filters match, each once.
func TestTrieAgreesWithItsFilters(t *testing.T) {
	patterns, subjects := allPatterns(3), allSubjects(4, "a", "b", "c")
	type added struct {
		filter Filter
		value  int
	}
	rapid.Check(t, func(t *rapid.T) {
		var trie Trie[int]
		var model []added
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				a := added{
					NewFilter(rapid.SliceOfN(rapid.SampledFrom(patterns), 0, 3).Draw(t, "patterns")...),
					rapid.IntRange(0, 5).Draw(t, "value"),
				}
				trie.Add(a.filter, a.value)
				model = append(model, a)
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("nothing to remove")
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "index")
				trie.Remove(model[i].filter, model[i].value)
				model = slices.Delete(model, i, i+1)
			},
			"": func(t *rapid.T) {
				values := map[int]bool{}
				for _, a := range model {
					values[a.value] = true
				}
				if trie.Len() != len(values) {
					t.Fatalf("Len() = %d, want %d", trie.Len(), len(values))
				}
				subject := rapid.SampledFrom(subjects).Draw(t, "subject")
				want := map[int]bool{}
				for _, a := range model {
					if a.filter.Match(subject) {
						want[a.value] = true
					}
				}
				got := trie.Match(subject, nil)
				slices.Sort(got)
				if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
					t.Fatalf("Match(%q) = %v, want %v", subject, got, slices.Sorted(maps.Keys(want)))
				}
			},
		})
	})
}

// nodes counts what hangs on n, itself included.
func (n *trieNode[T]) nodes() int {
	if n == nil {
		return 0
	}
	count := 1 + n.star.nodes() + n.rest.nodes()
	for _, child := range n.children {
		count += child.nodes()
	}
	return count
}

// Filters come from strangers, and a process runs for months: what is removed
// must leave nothing behind.
func TestTrieForgetsWhatIsRemoved(t *testing.T) {
	var trie Trie[int]
	kept := NewFilter("orders.eu.>", "orders.*.4711")
	trie.Add(kept, -1)
	before := trie.root.nodes()
	filter := func(i int) Filter {
		return NewFilter(Pattern(fmt.Sprintf("orders.eu.%d.*", i)), Pattern(fmt.Sprintf("user.%d.>", i)), "orders.*.4711", "common.*")
	}
	for i := range 1000 {
		trie.Add(filter(i), i)
	}
	for i := range 1000 {
		trie.Remove(filter(i), i)
	}
	if after := trie.root.nodes(); after != before || trie.Len() != 1 {
		t.Errorf("%d nodes and %d values are left, want %d and 1", after, trie.Len(), before)
	}
	if got := trie.Match("orders.us.4711", nil); !slices.Equal(got, []int{-1}) {
		t.Errorf("Match finds %v, want the value that was kept", got)
	}
	trie.Remove(kept, -1)
	if trie.root != nil || trie.entries != nil || trie.Len() != 0 {
		t.Errorf("an empty trie keeps %d nodes", trie.root.nodes())
	}
}

// Removing what was never added must not take away what another client added.
func TestTrieIgnoresRemovalOfWhatIsNotThere(t *testing.T) {
	var trie Trie[string]
	trie.Remove(NewFilter("a.b"), "x")
	trie.Add(NewFilter("a.b"), "x")
	trie.Remove(NewFilter("a.b"), "y")
	trie.Remove(NewFilter("a.c", "a.b.c", "a.*", "a.>"), "x")
	if got := trie.Match("a.b", []string{"before"}); !slices.Equal(got, []string{"before", "x"}) {
		t.Errorf("Match = %q, want what dst had and x", got)
	}
}

// A record must cost its matches: with 10,000 clients that each want something
// else it looks at a handful of nodes.
func TestTrieLookupDoesNotAllocate(t *testing.T) {
	trie := wideTrie(1000)
	var dst []int
	if n := testing.AllocsPerRun(100, func() { dst = trie.Match("orders.r7.k77", dst[:0]) }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

// wideTrie holds n filters, most of which want one subject only.
func wideTrie(n int) *Trie[int] {
	var trie Trie[int]
	for i := range n {
		trie.Add(NewFilter(Pattern("orders.r"+strconv.Itoa(i%10)+".k"+strconv.Itoa(i)), Pattern("user.u"+strconv.Itoa(i)+".>")), i)
	}
	trie.Add(NewFilter("orders.*.k77", "orders.r7.>"), n)
	trie.Add(Filter{}, n+1)
	return &trie
}

func BenchmarkTrieMatch(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("filters=%d", n), func(b *testing.B) {
			trie, dst := wideTrie(n), []int(nil)
			b.ReportAllocs()
			for b.Loop() {
				dst = trie.Match("orders.r7.k77", dst[:0])
			}
			if len(dst) != 3 {
				b.Fatalf("found %d values, want 3", len(dst))
			}
		})
	}
}

func BenchmarkTrieAddRemove(b *testing.B) {
	trie, filter := wideTrie(10_000), NewFilter("orders.r7.k77", "user.new.>")
	b.ReportAllocs()
	for b.Loop() {
		trie.Add(filter, -1)
		trie.Remove(filter, -1)
	}
}

func ExampleTrie() {
	var trie Trie[string]
	trie.Add(NewFilter("orders.eu.*", "orders.*.4711"), "Ada")
	trie.Add(NewFilter("orders.>"), "Bob")
	names := trie.Match("orders.eu.4711", nil)
	slices.Sort(names)
	fmt.Println(strings.Join(names, ", "))
	// Output: Ada, Bob
}

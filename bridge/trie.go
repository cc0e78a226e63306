package bridge

import (
	"slices"
	"strings"
)

// Trie finds the values whose filters match a subject. A lookup costs the
// matches, not the number of filters. The zero Trie is empty and ready. It is
// not safe for concurrent use, lookups included.
//
//	root ─ orders ─┬─ eu ─ 4711     "orders.eu.4711"
//	               ├─ *  ─ 4711     "orders.*.4711"
//	               └─ >             "orders.>"
type Trie[T comparable] struct {
	root    *trieNode[T]
	entries map[T]*trieEntry[T]
	round   uint64 // of lookups
	bytes   int64  // of nodes, as they are counted
}

// trieNode stands for the patterns whose tokens lead to it.
type trieNode[T comparable] struct {
	parent     *trieNode[T]
	token      string
	children   map[string]*trieNode[T] // next tokens that stand for themselves
	star, rest *trieNode[T]            // next token '*' and '>'
	entries    []*trieEntry[T]         // whose pattern ends here
}

// trieEntry is a value with the nodes at which it is.
type trieEntry[T comparable] struct {
	value T
	round uint64 // of the last lookup that returned it
	seats []trieSeat[T]
}

// trieSeat is an entry's place at a node.
type trieSeat[T comparable] struct {
	node  *trieNode[T]
	index int // in node.entries
	count int // how often it was added there
}

// Add registers v for what the filter matches. A value may be added with
// several filters, also with the same one again; each Add needs its own Remove.
func (t *Trie[T]) Add(f Filter, v T) {
	if t.root == nil {
		t.root, t.entries = &trieNode[T]{}, make(map[T]*trieEntry[T])
	}
	e := t.entries[v]
	if e == nil {
		e = &trieEntry[T]{value: v}
		t.entries[v] = e
	}
	for _, p := range f.triePatterns() {
		n := t.root
		for token := range strings.SplitSeq(string(p), ".") {
			n = n.grow(token, &t.bytes)
		}
		e.sit(n)
	}
}

// Remove takes back one Add with the same filter and value. It does nothing
// where there was none.
func (t *Trie[T]) Remove(f Filter, v T) {
	e := t.entries[v]
	if e == nil {
		return
	}
	for _, p := range f.triePatterns() {
		n := t.root
		for token := range strings.SplitSeq(string(p), ".") {
			if n = n.next(token); n == nil {
				break
			}
		}
		if n != nil {
			t.bytes -= e.leave(n)
		}
	}
	if len(e.seats) == 0 {
		delete(t.entries, v)
	}
	if len(t.entries) == 0 {
		t.root, t.entries, t.bytes = nil, nil, 0 // maps keep the room of their largest size
	}
}

// Match appends to dst every value that was added with a filter that matches
// the subject, each once, in no particular order.
func (t *Trie[T]) Match(subject string, dst []T) []T {
	if t.root == nil {
		return dst
	}
	t.round++
	return t.root.match(subject, t.round, dst)
}

// Len returns how many different values there are.
func (t *Trie[T]) Len() int { return len(t.entries) }

// triePatterns returns the patterns of the filter, ">" for the zero Filter.
func (f Filter) triePatterns() []Pattern {
	if f.patterns == nil {
		return []Pattern{everything}
	}
	return f.patterns
}

func (n *trieNode[T]) match(subject string, round uint64, dst []T) []T {
	if n.rest != nil {
		dst = n.rest.take(round, dst)
	}
	token, rest, more := strings.Cut(subject, ".")
	for _, next := range [...]*trieNode[T]{n.children[token], n.star} {
		switch {
		case next == nil:
		case more:
			dst = next.match(rest, round, dst)
		default:
			dst = next.take(round, dst)
		}
	}
	return dst
}

// take appends the node's values that this round has not returned yet.
func (n *trieNode[T]) take(round uint64, dst []T) []T {
	for _, e := range n.entries {
		if e.round != round {
			e.round = round
			dst = append(dst, e.value)
		}
	}
	return dst
}

// next returns the node that token leads to, nil if there is none.
func (n *trieNode[T]) next(token string) *trieNode[T] {
	switch token {
	case "*":
		return n.star
	case ">":
		return n.rest
	}
	return n.children[token]
}

// grow returns the node that token leads to, and makes it, and counts it, if there
// is none.
func (n *trieNode[T]) grow(token string, bytes *int64) *trieNode[T] {
	if next := n.next(token); next != nil {
		return next
	}
	*bytes += nodeBytes
	next := &trieNode[T]{parent: n, token: strings.Clone(token)}
	switch token {
	case "*":
		n.star = next
	case ">":
		n.rest = next
	default:
		if n.children == nil {
			n.children = make(map[string]*trieNode[T])
			*bytes += childrenBytes
		}
		n.children[next.token] = next
	}
	return next
}

// prune removes the node, and then its parents, as long as nothing hangs on
// them. It returns what they cost.
func (n *trieNode[T]) prune() (bytes int64) {
	for n.parent != nil && len(n.entries) == 0 && len(n.children) == 0 && n.star == nil && n.rest == nil {
		up := n.parent
		switch n.token {
		case "*":
			up.star = nil
		case ">":
			up.rest = nil
		default:
			delete(up.children, n.token)
			if len(up.children) == 0 {
				up.children = nil
				bytes += childrenBytes
			}
		}
		n = up
		bytes += nodeBytes
	}
	return bytes
}

// sit gives the entry a seat at n, or counts the one it has.
func (e *trieEntry[T]) sit(n *trieNode[T]) {
	if i := e.seat(n); i >= 0 {
		e.seats[i].count++
		return
	}
	e.seats = append(e.seats, trieSeat[T]{node: n, index: len(n.entries), count: 1})
	n.entries = append(n.entries, e)
}

// leave takes back one sit, and returns what the nodes cost that went with it.
// The last entry of the node moves to the free index.
func (e *trieEntry[T]) leave(n *trieNode[T]) (bytes int64) {
	i := e.seat(n)
	if i < 0 {
		return 0
	}
	if e.seats[i].count--; e.seats[i].count > 0 {
		return 0
	}
	index, last := e.seats[i].index, len(n.entries)-1
	moved := n.entries[last]
	moved.seats[moved.seat(n)].index = index
	n.entries[index] = moved
	n.entries[last] = nil
	n.entries = n.entries[:last]
	e.seats = slices.Delete(e.seats, i, i+1)
	return n.prune()
}

// seat returns the index in seats of the seat at n, -1 if there is none.
func (e *trieEntry[T]) seat(n *trieNode[T]) int {
	return slices.IndexFunc(e.seats, func(s trieSeat[T]) bool { return s.node == n })
}

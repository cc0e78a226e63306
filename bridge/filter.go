package bridge

import (
	"slices"
	"strings"
)

// Filter is a set of patterns in normal form: sorted, and without those that
// another one of the set covers. It matches what any of them matches. The zero
// Filter matches everything. A Filter does not change.
type Filter struct {
	patterns []Pattern
	key      string
}

// NewFilter makes the filter of the given patterns. Without any, and with one
// that matches everything, it is the zero Filter.
func NewFilter(patterns ...Pattern) Filter {
	patterns = normalise(patterns)
	if len(patterns) == 0 || patterns[0] == everything {
		return Filter{}
	}
	var key strings.Builder
	for i, p := range patterns {
		if i > 0 {
			key.WriteByte(' ') // is in no pattern
		}
		key.WriteString(string(p))
	}
	return Filter{patterns, key.String()}
}

// normalise returns the patterns sorted, without those that another one covers.
func normalise(patterns []Pattern) []Pattern {
	sorted := slices.Clone(patterns)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	var kept []Pattern
	for i, p := range sorted {
		covered := func(q Pattern) bool { return q != p && q.Covers(p) }
		if !slices.ContainsFunc(sorted[:i], covered) && !slices.ContainsFunc(sorted[i+1:], covered) {
			kept = append(kept, p)
		}
	}
	return kept
}

// Match reports whether the filter lets the subject through.
func (f Filter) Match(subject string) bool {
	if f.patterns == nil {
		return true
	}
	for _, p := range f.patterns {
		if p.Match(subject) {
			return true
		}
	}
	return false
}

// Overlaps reports whether there is a subject that both the filter and one of
// the patterns of space match.
func (f Filter) Overlaps(space []Pattern) bool {
	if f.patterns == nil {
		return len(space) > 0
	}
	for _, p := range f.patterns {
		if slices.ContainsFunc(space, p.Overlaps) {
			return true
		}
	}
	return false
}

// Patterns returns the patterns of the filter, nil for the zero Filter. The
// caller may keep the slice.
func (f Filter) Patterns() []Pattern { return slices.Clone(f.patterns) }

// Key returns a text that two filters share only if they are equal; it is empty
// for the zero Filter.
func (f Filter) Key() string { return f.key }

// String returns the patterns with blanks between them, ">" for the zero
// Filter.
func (f Filter) String() string {
	if f.patterns == nil {
		return string(everything)
	}
	return f.key
}

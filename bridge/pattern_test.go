package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Who writes a pattern by hand learns what is wrong with it and where.
func TestPatternFaultsAreNamed(t *testing.T) {
	for _, c := range []struct {
		text     string
		at       int
		expected string
	}{
		{"", 0, "a token"},
		{".", 0, "a token"},
		{".eu", 0, "a token"},
		{"orders.", 7, "a token"},
		{"orders..eu", 7, "a token"},
		{"orders eu", 6, "white space"},
		{"orders.\t", 7, "white space"},
		{"orders.\u00a0", 7, "white space"},
		{"orders.\u3000", 7, "white space"},
		{"orders.\x00", 7, "control"},
		{"orders.\x7f", 7, "control"},
		{"orders.\u0085", 7, "white space"},
		{"orders.\u009f", 7, "control"},
		{"orders.\xff", 7, "UTF-8"},
		{"orders.ü\xc3", 9, "UTF-8"},
		{">.eu", 1, "the end"},
		{"orders.>.>", 8, "the end"},
		{"orders*", 6, "whole tokens"},
		{"orders.>eu", 7, "whole tokens"},
		{"**", 0, "whole tokens"},
		{strings.Repeat("a", 1025), 1024, "at most 1024 bytes"},
		{strings.Repeat("a.", 64) + "a", 128, "at most 64 tokens"},
	} {
		p, err := ParsePattern(c.text)
		e, ok := errors.AsType[*PatternError](err)
		if !ok || p != "" {
			t.Errorf("ParsePattern(%.80q) = %q, %v, want a PatternError", c.text, p, err)
			continue
		}
		if e.Position != c.at || !strings.Contains(e.Expected, c.expected) || e.Pattern != c.text {
			t.Errorf("ParsePattern(%.80q): %v, want %q at byte %d", c.text, err, c.expected, c.at)
		}
	}
}

// Bounds are there to stop abuse, not use: what is at the bound is a pattern, and
// so is every token that AppendToken writes.
func TestPatternsUpToTheBoundsAreRead(t *testing.T) {
	for _, text := range []string{
		"a", "*", ">", "*.>", "orders.*.>", "größe.%2A.\ufffd",
		strings.Repeat("a", 1024),
		strings.Repeat("a.", 63) + ">",
		string(AppendToken(nil, []byte("a b*c.d>\x00\xff\u00a0"))),
	} {
		if p, err := ParsePattern(text); err != nil || string(p) != text {
			t.Errorf("ParsePattern(%.80q) = %.80q, %v", text, p, err)
		}
	}
}

func TestPatternMatchesTokenByToken(t *testing.T) {
	for _, c := range []struct {
		pattern Pattern
		subject string
		want    bool
	}{
		{"orders", "orders", true},
		{"orders", "order", false},
		{"orders", "orders.eu", false},
		{"orders.eu", "orders", false},
		{"orders.*", "orders.eu", true},
		{"orders.*", "orders", false},
		{"orders.*", "orders.eu.4711", false},
		{"*.eu", "orders.eu", true},
		{"*.eu", "orders.us", false},
		{"orders.>", "orders.eu", true},
		{"orders.>", "orders.eu.4711", true},
		{"orders.>", "orders", false}, // '>' is at least one token
		{"orders.>", "ordersx.eu", false},
		{">", "orders", true},
		{">", "orders.eu", true},
		{"*.>", "orders", false},
		{"*.>", "orders.eu", true},
		{"", "orders", false},
	} {
		if got := c.pattern.Match(c.subject); got != c.want {
			t.Errorf("Pattern(%q).Match(%q) = %v, want %v", c.pattern, c.subject, got, c.want)
		}
	}
}

// allSubjects returns every subject of 1 to n tokens over the given ones.
func allSubjects(n int, tokens ...string) []string {
	subjects := slices.Clone(tokens)
	for last := subjects; n > 1; n-- {
		var longer []string
		for _, s := range last {
			for _, token := range tokens {
				longer = append(longer, s+"."+token)
			}
		}
		subjects, last = append(subjects, longer...), longer
	}
	return subjects
}

// allPatterns returns every pattern of 1 to n tokens over a, b and the wildcards.
func allPatterns(n int) []Pattern {
	var patterns []Pattern
	for _, text := range allSubjects(n, "a", "b", "*", ">") {
		if p, err := ParsePattern(text); err == nil {
			patterns = append(patterns, p)
		}
	}
	return patterns
}

// Overlaps decides which streams a request gets, Covers which patterns of a
// filter are dropped: one wrong answer loses records silently. So they are compared
// with what they mean, over all subjects. Tokens that differ only in
// being no literal of the patterns behave alike, so one of them, c, is enough; and one
// token more than the longest pattern has shows all that '>' can do.
func TestOverlapsAndCoversMeanWhatTheySay(t *testing.T) {
	subjects, patterns := allSubjects(4, "a", "b", "c"), allPatterns(3)
	if len(patterns) != 52 {
		t.Fatalf("got %d patterns, want 52", len(patterns))
	}
	for _, p := range patterns {
		for _, q := range patterns {
			overlaps, covers := false, true
			for _, s := range subjects {
				overlaps = overlaps || p.Match(s) && q.Match(s)
				covers = covers && (p.Match(s) || !q.Match(s))
			}
			if got := p.Overlaps(q); got != overlaps {
				t.Errorf("Pattern(%q).Overlaps(%q) = %v, want %v", p, q, got, overlaps)
			}
			if got := p.Covers(q); got != covers {
				t.Errorf("Pattern(%q).Covers(%q) = %v, want %v", p, q, got, covers)
			}
		}
	}
}

// Patterns come from strangers. What is accepted must be made of sound tokens and
// agree with itself; the trie must agree with it.
func FuzzParsePattern(f *testing.F) {
	f.Add("orders.*.>", "orders.eu.4711")
	f.Add("a..b", "a..b")
	f.Add("größe.%2A", "größe.%2A")
	f.Add("*", "")
	f.Fuzz(func(t *testing.T, text, subject string) {
		p, err := ParsePattern(text)
		if err != nil {
			if e, ok := errors.AsType[*PatternError](err); !ok || e.Position < 0 || e.Position > len(text) || e.Expected == "" {
				t.Errorf("ParsePattern(%q): %#v", text, err)
			}
			return
		}
		if strings.Join(strings.Fields(text), "") != text || slices.Contains(strings.Split(text, "."), "") {
			t.Errorf("ParsePattern(%q) accepts white space or an empty token", text)
		}
		if !p.Covers(p) || !p.Overlaps(p) || !everything.Covers(p) {
			t.Errorf("pattern %q does not agree with itself", p)
		}
		var trie Trie[int]
		trie.Add(NewFilter(p), 1)
		if got := len(trie.Match(subject, nil)) == 1; got != p.Match(subject) {
			t.Errorf("trie matches %q with %q: %v, pattern: %v", subject, p, got, !got)
		}
	})
}

func ExampleParsePattern() {
	p, _ := ParsePattern("orders.*.>")
	fmt.Println(p.Match("orders.eu.4711"), p.Match("orders.eu"))

	_, err := ParsePattern("orders*")
	fmt.Println(err)
	// Output:
	// true false
	// pattern "orders*": at byte 6: want '*' and '>' only as whole tokens
}

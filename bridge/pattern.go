package bridge

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a pattern. They keep the work that a stranger's request causes
// small; a longer subject can still be matched by wildcards.
const (
	maxPatternBytes  = 1024
	maxPatternTokens = 64
)

// Pattern matches subjects: its tokens are compared one by one, '*' stands for
// any one token, and '>' as the last token for one or more.
//
// Example: "orders.*.>" matches "orders.eu.4711" and "orders.eu.4711.paid", but
// neither "orders.eu" nor "prices.eu.4711".
//
// A Pattern is made by [ParsePattern]; the empty one matches no subject.
type Pattern string

// everything matches every subject.
const everything Pattern = ">"

// PatternError says what is wrong with the text of a pattern.
type PatternError struct {
	Pattern  string // the text as it was given, of any length
	Position int    // byte of the text at which the fault was found
	Expected string // what would have been right there
}

func (e *PatternError) Error() string {
	return fmt.Sprintf("pattern %.64q: at byte %d: want %s", e.Pattern, e.Position, e.Expected)
}

// ParsePattern returns the text as a pattern, or a [*PatternError]. A pattern
// has at most 1024 bytes and 64 tokens, each with at least one character, and
// neither white space nor control characters. '*' and '>' stand for whole
// tokens; as part of a token they are refused, because who writes "orders*"
// means something else than a star.
func ParsePattern(s string) (Pattern, error) {
	fault := func(at int, expected string) (Pattern, error) {
		return "", &PatternError{s, at, expected}
	}
	if len(s) > maxPatternBytes {
		return fault(maxPatternBytes, fmt.Sprintf("at most %d bytes", maxPatternBytes))
	}
	for at := 0; at < len(s); {
		r, size := utf8.DecodeRuneInString(s[at:])
		if !plainRune(r, size) {
			return fault(at, "a character that is neither white space nor control, in UTF-8")
		}
		at += size
	}
	tokens, at := 0, 0
	for more := true; more; tokens++ {
		var token string
		token, _, more = strings.Cut(s[at:], ".")
		switch {
		case tokens == maxPatternTokens:
			return fault(at, fmt.Sprintf("at most %d tokens", maxPatternTokens))
		case token == "":
			return fault(at, "a token")
		case token == ">" && more:
			return fault(at+1, "the end, because '>' stands for all the rest")
		case token != "*" && token != ">" && strings.ContainsAny(token, "*>"):
			return fault(at+strings.IndexAny(token, "*>"), "'*' and '>' only as whole tokens")
		}
		at += len(token) + 1
	}
	return Pattern(s), nil
}

// Match reports whether the subject is one that p stands for.
func (p Pattern) Match(subject string) bool {
	pattern, more, left := string(p), true, true
	for more && left {
		var want, token string
		want, pattern, more = strings.Cut(pattern, ".")
		token, subject, left = strings.Cut(subject, ".")
		switch want {
		case ">":
			return true
		case "*", token:
		default:
			return false
		}
	}
	return more == left
}

// Overlaps reports whether there is a subject that both patterns match.
func (p Pattern) Overlaps(q Pattern) bool {
	a, b, moreA, moreB := string(p), string(q), true, true
	for moreA && moreB {
		var tokenA, tokenB string
		tokenA, a, moreA = strings.Cut(a, ".")
		tokenB, b, moreB = strings.Cut(b, ".")
		switch {
		case tokenA == ">" || tokenB == ">":
			return true
		case tokenA != tokenB && tokenA != "*" && tokenB != "*":
			return false
		}
	}
	return moreA == moreB
}

// Covers reports whether p matches every subject that q matches.
func (p Pattern) Covers(q Pattern) bool {
	a, b, moreA, moreB := string(p), string(q), true, true
	for moreA && moreB {
		var tokenA, tokenB string
		tokenA, a, moreA = strings.Cut(a, ".")
		tokenB, b, moreB = strings.Cut(b, ".")
		switch {
		case tokenA == ">":
			return true
		case tokenB == ">":
			return false
		case tokenA != tokenB && tokenA != "*":
			return false
		}
	}
	return moreA == moreB
}

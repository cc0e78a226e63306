package bridge

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// maxNameBytes bounds an event name that a [Template] renders.
const maxNameBytes = 256

// ReservedName reports whether an event name belongs to the bridge itself, or
// to EventSource, which fires open, error and message events of its own.
func ReservedName(name string) bool {
	switch name {
	case "connected", "position", "caught-up", "gap", "reset", "closing", "expiring",
		"delete", "snapshot-end", "binary",
		"open", "error", "message":
		return true
	}
	return false
}

// finishName makes what was appended from start on an event name.
func (t *Template) finishName(dst []byte, start int) []byte {
	if len(dst)-start > maxNameBytes {
		dst = dst[:start+cutText(dst[start:], maxNameBytes)]
	}
	if ReservedName(string(dst[start:])) {
		t.renamed.Add(1)
		dst = slices.Insert(dst, start, 'x', '-')
	}
	return dst
}

// appendText appends text with control characters and bytes that are not UTF-8
// as %XX. It may leave out what is sure to be cut from a name.
func appendText(dst, text []byte) []byte {
	text = text[:min(len(text), maxNameBytes+utf8.UTFMax)]
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if unicode.IsControl(r) || r == utf8.RuneError && size == 1 {
			dst = appendEscaped(dst, text[:size])
		} else {
			dst = append(dst, text[:size]...)
		}
		text = text[size:]
	}
	return dst
}

// cutText returns the length of the longest beginning of text, at most limit,
// that ends neither inside a character nor inside an escape.
func cutText(text []byte, limit int) int {
	n := limit
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	for back := 1; back <= 2 && back <= n; back++ {
		if text[n-back] == '%' {
			return n - back
		}
	}
	return n
}

package bridge

import (
	"bytes"
	"encoding/json"
)

// appendJSONValue appends the value at path in a JSON text: a string's text, a
// number or boolean as it is written. It appends nothing if there is none: a
// missing member, null, an object, an array, or a text that is not JSON. It
// reads no further than the value, and takes the first member where a name is
// doubled.
func appendJSONValue(dst, text []byte, path []string) []byte {
	s := jsonScanner{text}
	for _, name := range path {
		if !s.enter(name) {
			return dst
		}
	}
	switch c := s.peek(); c {
	case '{', '[', 0:
		return dst
	case '"':
		raw, _ := s.string()
		return append(dst, unquoteJSON(raw)...)
	}
	raw := s.bare()
	if string(raw) == "null" || !json.Valid(raw) {
		return dst
	}
	return append(dst, raw...)
}

// jsonScanner walks over a JSON text. It checks only what it needs to find its
// way, never recurses, and allocates only to unescape.
type jsonScanner struct {
	rest []byte
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *jsonScanner) peek() byte {
	s.rest = bytes.TrimLeft(s.rest, " \t\r\n")
	if len(s.rest) == 0 {
		return 0
	}
	return s.rest[0]
}

// accept takes the next byte if it is c.
func (s *jsonScanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// enter goes to the value of the named member of the object that comes next.
func (s *jsonScanner) enter(name string) bool {
	if !s.accept('{') {
		return false
	}
	for {
		raw, ok := s.string()
		if !ok || !s.accept(':') {
			return false
		}
		if string(unquoteJSON(raw)) == name {
			return true
		}
		if !s.skip() || !s.accept(',') {
			return false
		}
	}
}

// string takes a string and returns it with its quotes.
func (s *jsonScanner) string() (raw []byte, ok bool) {
	if s.peek() != '"' {
		return nil, false
	}
	for i := 1; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '\\':
			i++
		case '"':
			raw, s.rest = s.rest[:i+1], s.rest[i+1:]
			return raw, true
		}
	}
	return nil, false
}

// bare takes everything up to the next delimiter: a number, a word, or
// nonsense.
func (s *jsonScanner) bare() []byte {
	s.peek()
	end := bytes.IndexAny(s.rest, " \t\r\n,:]}[{\"")
	if end < 0 {
		end = len(s.rest)
	}
	raw := s.rest[:end]
	s.rest = s.rest[end:]
	return raw
}

// skip takes one value of any kind.
func (s *jsonScanner) skip() bool {
	for depth := 0; ; {
		switch s.peek() {
		case 0:
			return false
		case '{', '[':
			depth++
			s.rest = s.rest[1:]
		case '}', ']':
			depth--
			s.rest = s.rest[1:]
		case '"':
			if _, ok := s.string(); !ok {
				return false
			}
		case ',', ':':
			if depth == 0 {
				return false
			}
			s.rest = s.rest[1:]
			continue
		default:
			s.bare()
		}
		if depth <= 0 {
			return depth == 0
		}
	}
}

// unquoteJSON returns the text of a string with quotes, nil if it is not one.
func unquoteJSON(raw []byte) []byte {
	if len(raw) < 2 {
		return nil
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil
	}
	return []byte(text)
}

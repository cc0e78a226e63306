package bridge

import (
	"strconv"
	"strings"
	"sync/atomic"
)

// Template makes a record's subject or its event name. It is text with
// placeholders in braces:
//
//	{stream}       configured name of the stream
//	{topic}        the broker's address of the record, as one value
//	{key}          key of the record
//	{partition}    number of the partition
//	{header.NAME}  last header of that name, in exactly that case
//	{json.PATH}    string, number or boolean in the JSON payload, see below
//	{subject}      the broker's address of the record, token by token
//	{subject.N}    its token N, counted from 1
//
// PATH is the names of nested object members with dots between them. A string
// stands for its text, a number or boolean for what is written, to the digit.
// Null, an object, an array and what cannot be found are absent. The payload is
// read no further than the value: where a name is doubled the first counts.
//
// In a subject every value is one token, made by [AppendToken]; so an absent or
// empty one is "_". The tokens of {subject} and {subject.N} are taken as they
// are, because they are tokens already.
//
// In an event name values are text in which control characters and bytes that
// are not UTF-8 are written as %XX, and an absent one is empty. A name has at
// most 256 bytes, the rest is cut off. A name that is reserved (see
// [ReservedName]) gets "x-" in front.
//
// A Template is made by [ParseSubjectTemplate] or [ParseNameTemplate], and is
// safe for concurrent use.
type Template struct {
	text    string
	parts   []templatePart
	name    bool // makes event names
	renamed atomic.Uint64
}

// templatePart is a literal text, or a placeholder.
type templatePart struct {
	kind  placeholder
	text  string   // literal: the text; header: its name
	path  []string // json
	token int      // subject.N, from 0
}

// placeholder is what a part of a template stands for.
type placeholder uint8

const (
	literal placeholder = iota
	streamName
	originValue
	recordKey
	partitionNumber
	headerValue
	jsonValue
	originTokens
	originToken
)

// String returns the text that the template was parsed from.
func (t *Template) String() string { return t.text }

// Renamed returns how many reserved names Append has put "x-" in front of.
func (t *Template) Renamed() uint64 { return t.renamed.Load() }

// Append renders the template for a record of the named stream, and appends the
// result to dst. An event name may come out empty. The record's own Subject and
// Name are not looked at.
func (t *Template) Append(dst []byte, stream string, r *Record) []byte {
	start := len(dst)
	for i := range t.parts {
		part := &t.parts[i]
		switch {
		case part.kind == literal:
			dst = append(dst, part.text...)
		case t.name:
			var room [64]byte
			dst = appendText(dst, part.value(room[:0], stream, r))
		default:
			dst = part.appendTokens(dst, stream, r)
		}
	}
	if t.name {
		return t.finishName(dst, start)
	}
	return dst
}

// appendTokens appends the part as a piece of a subject.
func (p *templatePart) appendTokens(dst []byte, stream string, r *Record) []byte {
	switch p.kind {
	case originTokens:
		separator := ""
		for token := range strings.SplitSeq(r.Origin, ".") {
			dst = append(dst, separator...)
			dst = appendOriginToken(dst, token)
			separator = "."
		}
		return dst
	case originToken:
		return appendOriginToken(dst, tokenAt(r.Origin, p.token))
	default:
		var room [64]byte
		return AppendToken(dst, p.value(room[:0], stream, r))
	}
}

// value returns what a placeholder stands for, empty if it is absent. It may
// use room, or be the record's own bytes.
func (p *templatePart) value(room []byte, stream string, r *Record) []byte {
	switch p.kind {
	case streamName:
		return append(room, stream...)
	case originValue, originTokens:
		return append(room, r.Origin...)
	case originToken:
		return append(room, tokenAt(r.Origin, p.token)...)
	case recordKey:
		return r.Key
	case partitionNumber:
		return strconv.AppendInt(room, int64(r.Partition), 10)
	case headerValue:
		value, _ := r.Header(p.text)
		return value
	case jsonValue:
		return appendJSONValue(room, r.Data, p.path)
	case literal: // is not a placeholder
	}
	return nil
}

// appendOriginToken appends a token of the broker's subject, which needs no
// escaping.
func appendOriginToken(dst []byte, token string) []byte {
	if token == "" {
		token = absentToken
	}
	return append(dst, token...)
}

// tokenAt returns token n of a subject, counted from 0, empty if it has fewer.
func tokenAt(subject string, n int) string {
	for token := range strings.SplitSeq(subject, ".") {
		if n == 0 {
			return token
		}
		n--
	}
	return ""
}

package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// maxNameBytes bounds an event name that a [Template] renders.
const maxNameBytes = 256

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
// stands for its text, a number or boolean for what is written. Anything else,
// and anything in a payload that is not JSON up to there, is absent. Where a
// name is doubled the first counts.
//
// In a subject every value is one token, made by [AppendToken]. The tokens of {subject} and
// {subject.N} are taken as they are, because they are tokens already.
//
// In an event name values are text in which control characters and bytes that
// are not UTF-8 are written as %XX; an absent value is empty. A name has at most 256
// bytes, the rest is cut off. A name that is reserved (see [ReservedName]) gets
// "x-" in front.
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
	kind    placeholder
	text    string   // literal: the text; header: its name
	path    []string // json
	token   int      // subject.N, from 0
	written string   // as it stands in the template
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

const knownPlaceholders = "{stream}, {topic}, {key}, {partition}, {header.NAME}, {json.PATH}, {subject} and {subject.N}"

// ParseSubjectTemplate parses a template for public subjects. What it renders is
// always a subject: {subject} has to be a token of its own, and text outside
// of braces may have what a subject may.
func ParseSubjectTemplate(s string) (*Template, error) {
	t, err := parseTemplate(s, false)
	if err != nil {
		return nil, fmt.Errorf("subject template %.64q: %w", s, err)
	}
	return t, nil
}

// ParseNameTemplate parses a template for event names. A constant reserved name
// is refused.
func ParseNameTemplate(s string) (*Template, error) {
	t, err := parseTemplate(s, true)
	if err != nil {
		return nil, fmt.Errorf("event name template %.64q: %w", s, err)
	}
	return t, nil
}

func parseTemplate(s string, name bool) (*Template, error) {
	if len(s) > maxPatternBytes {
		return nil, fmt.Errorf("want at most %d bytes", maxPatternBytes)
	}
	t := &Template{text: s, name: name}
	for rest := s; rest != ""; {
		text, after, braced := strings.Cut(rest, "{")
		if strings.Contains(text, "}") {
			return nil, errors.New("'}' without '{' before it")
		}
		if text != "" {
			t.parts = append(t.parts, templatePart{text: text, written: text})
		}
		if !braced {
			break
		}
		inner, next, closed := strings.Cut(after, "}")
		if !closed || strings.Contains(inner, "{") {
			return nil, fmt.Errorf("placeholder {%.32s has no '}'", inner)
		}
		part, err := parsePlaceholder(inner)
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part)
		rest = next
	}
	if name {
		return t, t.checkName()
	}
	return t, t.checkSubject()
}

func parsePlaceholder(inner string) (templatePart, error) {
	part := templatePart{written: "{" + inner + "}"}
	what, argument, dotted := strings.Cut(inner, ".")
	plain := map[string]placeholder{"stream": streamName, "topic": originValue, "key": recordKey, "partition": partitionNumber, "subject": originTokens}
	switch kind, ok := plain[what]; {
	case ok && !dotted:
		part.kind = kind
	case what == "header":
		if argument == "" {
			return part, errors.New("placeholder {header.NAME} without a name")
		}
		part.kind, part.text = headerValue, argument
	case what == "json":
		part.kind, part.path = jsonValue, strings.Split(argument, ".")
		if slices.Contains(part.path, "") {
			return part, fmt.Errorf("placeholder %.64s: want member names with a dot between them, as in {json.order.id}", part.written)
		}
	case what == "subject":
		n, err := strconv.Atoi(argument)
		if err != nil || n < 1 || n > maxPatternTokens || argument != strconv.Itoa(n) {
			return part, fmt.Errorf("placeholder %.64s: want the number of a token, 1 to %d", part.written, maxPatternTokens)
		}
		part.kind, part.token = originToken, n-1
	default:
		return part, fmt.Errorf("placeholder %.64s is not known, want one of %s", part.written, knownPlaceholders)
	}
	return part, nil
}

// checkSubject returns nil if all that t renders are subjects.
func (t *Template) checkSubject() error {
	var sample strings.Builder
	subjects := 0
	for i, part := range t.parts {
		switch part.kind {
		case literal:
			sample.WriteString(part.text)
		case originTokens:
			whole := (i == 0 || strings.HasSuffix(t.parts[i-1].written, ".")) &&
				(i == len(t.parts)-1 || strings.HasPrefix(t.parts[i+1].written, "."))
			if subjects++; !whole || subjects > 1 {
				return errors.New("placeholder {subject} must be a token of its own, and be there once")
			}
			sample.WriteByte('x')
		default:
			sample.WriteByte('x')
		}
	}
	if at := strings.IndexAny(sample.String(), "*>"); at >= 0 {
		return fmt.Errorf("'%c' is a wildcard, which a subject cannot have", sample.String()[at])
	}
	if _, err := ParsePattern(sample.String()); err != nil {
		if fault, ok := errors.AsType[*PatternError](err); ok {
			return fmt.Errorf("with x for each placeholder it is %.64q: at byte %d: want %s", fault.Pattern, fault.Position, fault.Expected)
		}
		return err
	}
	return nil
}

// checkName returns nil if t can name events.
func (t *Template) checkName() error {
	if len(t.parts) == 0 {
		return errors.New("it is empty")
	}
	for _, part := range t.parts {
		if part.kind == literal && string(appendText(nil, part.text)) != part.text {
			return errors.New("control characters and bytes that are not UTF-8 cannot be in an event name")
		}
	}
	if len(t.parts) == 1 && t.parts[0].kind == literal && ReservedName(t.text) {
		return fmt.Errorf("the name %s is reserved", t.text)
	}
	return nil
}

// String returns the text that the template was parsed from.
func (t *Template) String() string { return t.text }

// UsesSubject reports whether the template has {subject}, so that what it renders
// depends on the subjects of the broker's stream as a whole (see [Template.Space]).
func (t *Template) UsesSubject() bool {
	return slices.ContainsFunc(t.parts, func(p templatePart) bool { return p.kind == originTokens })
}

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
			dst = part.appendText(dst, stream, r)
		default:
			dst = part.appendTokens(dst, stream, r)
		}
	}
	if t.name {
		return t.finishName(dst, start)
	}
	return dst
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
		return AppendToken(dst, p.appendValue(room[:0], stream, r))
	}
}

// appendText appends the part as a piece of an event name.
func (p *templatePart) appendText(dst []byte, stream string, r *Record) []byte {
	switch p.kind {
	case originTokens:
		return appendText(dst, r.Origin)
	case originToken:
		return appendText(dst, tokenAt(r.Origin, p.token))
	default:
		var room [64]byte
		return appendText(dst, string(p.appendValue(room[:0], stream, r)))
	}
}

// appendValue appends what a placeholder for one value stands for, nothing if it
// is absent.
func (p *templatePart) appendValue(dst []byte, stream string, r *Record) []byte {
	switch p.kind {
	case streamName:
		return append(dst, stream...)
	case originValue:
		return append(dst, r.Origin...)
	case recordKey:
		return append(dst, r.Key...)
	case partitionNumber:
		return strconv.AppendInt(dst, int64(r.Partition), 10)
	case headerValue:
		value, _ := r.Header(p.text)
		return append(dst, value...)
	case jsonValue:
		return appendJSONValue(dst, r.Data, p.path)
	case literal, originTokens, originToken: // not values
	}
	return dst
}

// appendOriginToken appends a token of the broker's subject, which needs no escaping.
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

// appendText appends s with control characters and bytes that are not UTF-8 as %XX.
func appendText(dst []byte, s string) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if isControl(r) || r == utf8.RuneError && size == 1 {
			dst = appendEscaped(dst, []byte(s[:size]))
		} else {
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
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

// Space returns patterns that together match every subject that the template
// renders: '*' for each token with a placeholder, the stream's name for
// {stream}. subjects is what {subject} stands for, the patterns of the broker's
// stream; nil means any.
func (t *Template) Space(stream string, subjects []Pattern) []Pattern {
	if subjects == nil {
		subjects = []Pattern{everything}
	}
	var space []Pattern
	before, origin, after := t.spaceTokens(stream)
	if !origin {
		return []Pattern{Pattern(strings.Join(before, "."))}
	}
	for _, subject := range subjects {
		tokens := append(slices.Clone(before), string(subject))
		if head, open := strings.CutSuffix(string(subject), ">"); open && len(after) > 0 {
			// "orders.>" with two more tokens is at least three after "orders".
			tokens[len(before)] = head + strings.Repeat("*.", len(after)) + ">"
		} else {
			tokens = append(tokens, after...)
		}
		space = append(space, Pattern(strings.Join(tokens, ".")))
	}
	return normalise(space)
}

// spaceTokens returns the tokens of the template before and after {subject}, and
// whether it has one. Without it all tokens come before.
func (t *Template) spaceTokens(stream string) (before []string, origin bool, after []string) {
	const variable, subject = "\x00", "\x01" // are in no template
	var text strings.Builder
	for _, part := range t.parts {
		switch part.kind {
		case literal:
			text.WriteString(part.text)
		case streamName:
			text.Write(AppendToken(nil, []byte(stream)))
		case originTokens:
			text.WriteString(subject)
		default:
			text.WriteString(variable)
		}
	}
	for token := range strings.SplitSeq(text.String(), ".") {
		switch {
		case token == subject:
			origin = true
			continue
		case strings.Contains(token, variable):
			token = "*"
		}
		if origin {
			after = append(after, token)
		} else {
			before = append(before, token)
		}
	}
	return before, origin, after
}

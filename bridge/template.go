package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"
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

const knownPlaceholders = "{stream}, {topic}, {key}, {partition}, {header.NAME}, {json.PATH}, {subject} and {subject.N}"

// ParseSubjectTemplate parses a template for public subjects. What it renders
// is always a subject: {subject} has to be a token of its own, and text outside
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
			t.parts = append(t.parts, templatePart{text: text})
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

// parsePlaceholder parses what stands between braces.
func parsePlaceholder(inner string) (templatePart, error) {
	switch inner {
	case "stream":
		return templatePart{kind: streamName}, nil
	case "topic":
		return templatePart{kind: originValue}, nil
	case "key":
		return templatePart{kind: recordKey}, nil
	case "partition":
		return templatePart{kind: partitionNumber}, nil
	case "subject":
		return templatePart{kind: originTokens}, nil
	}
	what, argument, _ := strings.Cut(inner, ".")
	switch what {
	case "header":
		if argument == "" {
			return templatePart{}, fmt.Errorf("placeholder {%s}: want the name of a header, as in {header.region}", inner)
		}
		return templatePart{kind: headerValue, text: argument}, nil
	case "json":
		path := strings.Split(argument, ".")
		if slices.Contains(path, "") {
			return templatePart{}, fmt.Errorf("placeholder {%.64s}: want member names with dots between them, as in {json.order.id}", inner)
		}
		return templatePart{kind: jsonValue, path: path}, nil
	case "subject":
		n, err := strconv.Atoi(argument)
		if err != nil || n < 1 || n > maxPatternTokens || argument != strconv.Itoa(n) {
			return templatePart{}, fmt.Errorf("placeholder {%.64s}: want the number of a token, 1 to %d", inner, maxPatternTokens)
		}
		return templatePart{kind: originToken, token: n - 1}, nil
	}
	return templatePart{}, fmt.Errorf("placeholder {%.64s} is not known, want one of %s", inner, knownPlaceholders)
}

// shape returns the template of subjects as text, with the stream's name for
// {stream}, '>' for {subject}, and '*' for each other placeholder, even if it
// is only part of a token.
func (t *Template) shape(stream string) string {
	var text []byte
	for _, part := range t.parts {
		switch part.kind {
		case literal:
			text = append(text, part.text...)
		case streamName:
			text = AppendToken(text, []byte(stream))
		case originTokens:
			text = append(text, '>')
		case originValue, recordKey, partitionNumber, headerValue, jsonValue, originToken:
			text = append(text, '*')
		}
	}
	return string(text)
}

// checkSubject returns nil if all that t renders are subjects.
func (t *Template) checkSubject() error {
	for _, part := range t.parts {
		if part.kind == literal && strings.ContainsAny(part.text, "*>") {
			return errors.New("'*' and '>' are wildcards, which a subject cannot have")
		}
	}
	shape := t.shape("x")
	for token := range strings.SplitSeq(shape, ".") {
		if strings.Contains(token, ">") && token != ">" {
			return errors.New("placeholder {subject} is several tokens, so it must stand between dots")
		}
	}
	if strings.Count(shape, ">") > 1 {
		return errors.New("placeholder {subject} can be there once")
	}
	sample := strings.NewReplacer("*", "x", ">", "x").Replace(shape)
	_, err := ParsePattern(sample)
	if fault, ok := errors.AsType[*PatternError](err); ok {
		return fmt.Errorf("with x for each placeholder, %.64q: at byte %d: want %s", sample, fault.Position, fault.Expected)
	}
	return nil
}

// checkName returns nil if t can name events.
func (t *Template) checkName() error {
	if len(t.parts) == 0 {
		return errors.New("it is empty")
	}
	for _, part := range t.parts {
		if part.kind == literal && (len(part.text) > maxNameBytes || string(appendText(nil, []byte(part.text))) != part.text) {
			return fmt.Errorf("want text of at most %d bytes in UTF-8 without control characters", maxNameBytes)
		}
	}
	if len(t.parts) == 1 && t.parts[0].kind == literal && ReservedName(t.text) {
		return fmt.Errorf("the name %s is reserved", t.text)
	}
	return nil
}

// String returns the text that the template was parsed from.
func (t *Template) String() string { return t.text }

// UsesSubject reports whether the template has {subject}, so that what it
// renders depends on the subjects of the broker's stream as a whole (see
// [Template.Space]).
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

// Space returns patterns that together match every subject that the template
// renders: '*' for each token with a placeholder, the stream's name for
// {stream}. subjects is what {subject} stands for, the patterns of the broker's
// stream; none means any.
func (t *Template) Space(stream string, subjects []Pattern) []Pattern {
	tokens := strings.Split(t.shape(stream), ".")
	for i, token := range tokens {
		if strings.Contains(token, "*") {
			tokens[i] = "*"
		}
	}
	at := slices.Index(tokens, string(everything))
	if at < 0 {
		return []Pattern{Pattern(strings.Join(tokens, "."))}
	}
	if len(subjects) == 0 {
		subjects = []Pattern{everything}
	}
	space := make([]Pattern, len(subjects))
	for i, subject := range subjects {
		filled := slices.Clone(tokens)
		filled[at] = string(subject)
		if head, open := strings.CutSuffix(string(subject), string(everything)); open {
			// Tokens behind '>' only say how many there are at least:
			// "orders.>" with "x.y" behind it is within "orders.*.*.>".
			filled = append(filled[:at], head+strings.Repeat("*.", len(tokens)-at-1)+string(everything))
		}
		space[i] = Pattern(strings.Join(filled, "."))
	}
	return normalise(space)
}

package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

package bridge

import (
	"slices"
	"strings"
)

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

// UsesSubject reports whether the template has {subject}, so that what it
// renders depends on the subjects of the broker's stream as a whole (see
// [Template.Space]).
func (t *Template) UsesSubject() bool {
	return slices.ContainsFunc(t.parts, func(p templatePart) bool { return p.kind == originTokens })
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

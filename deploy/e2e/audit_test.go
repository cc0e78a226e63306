package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// told writes a history by hand. A line is "type next data"; next is the place
// of its id in stream s, "+" in front of it a second life.
func told(lines ...string) history {
	var h history
	for _, line := range lines {
		part := strings.SplitN(line, " ", 3)
		next, second := strings.CutPrefix(part[1], "+")
		pos := bridge.Position{Incarnation: 1}
		if second {
			pos.Incarnation = 2
		}
		var o bridge.Offset
		if _, err := fmt.Sscan(next, &o); err != nil {
			panic(err)
		}
		id := bridge.ID{{Stream: "s", Position: pos.With(0, bridge.Place{Offset: o})}}
		h = append(h, ssetest.Event{Type: part[0], ID: id.String(), Data: part[2]})
	}
	return h
}

// Every proof in this package rests on the audit, so it must accuse whoever
// does any of the things that it looks for, and nobody else.
func TestAuditAccusesEveryFault(t *testing.T) {
	first := life{first: 3, records: []held{{1, "a", "one"}, {2, "a", "two"}, {3, "a", "three"}, {4, "b", "four"}, {5, "a", "five"}}}
	second := life{first: 1, records: []held{{1, "a", "uno"}, {2, "a", "due"}}}
	gap := `{"stream":"s","partition":0,"from":1,"to":2,"next":3,"reason":"retention"}`
	reset := `{"stream":"s","partition":null,"from":6,"to":null,"next":1,"reason":"recreated"}`
	for name, tt := range map[string]struct {
		h     history
		lives story
		want  string // part of the only fault; empty: none
	}{
		"whole":             {told("connected 1 {}", "message 2 one", "message 3 two", "connected 3 {}", "message 4 three", "caught-up 4 {}", "message 6 five"), story{first}, ""},
		"from the middle":   {told("connected 4 {}", "message 6 five"), story{first}, ""},
		"gap":               {told("connected 1 {}", "gap 3 "+gap, "message 4 three", "message 6 five"), story{first}, ""},
		"reset":             {told("connected 6 {}", "reset +1 "+reset, "message +2 uno", "message +3 due"), story{first, second}, ""},
		"lost":              {told("connected 1 {}", "message 2 one", "message 4 three", "message 6 five"), story{first}, "record 2 of s (two) is lost"},
		"lost at the end":   {told("connected 1 {}", "message 2 one", "message 3 two", "message 4 three"), story{first}, "record 5 of s (five) is lost"},
		"lost by position":  {told("connected 3 {}", "position 4 {}", "message 6 five"), story{first}, "record 3 of s (three) is lost"},
		"goes back":         {told("connected 3 {}", "message 4 three", "position 3 {}", "message 6 five"), story{first}, "goes back to 3"},
		"doubled":           {told("connected 3 {}", "message 4 three", "message 4 three", "message 6 five"), story{first}, "again or out of order"},
		"filtered out":      {told("connected 4 {}", "message 5 four", "message 6 five"), story{first}, "was filtered out"},
		"unknown":           {told("connected 4 {}", "message 5 vier", "message 6 five"), story{first}, "no record that any stream has"},
		"wrong id":          {told("connected 3 {}", "message 5 three", "message 6 five"), story{first}, "which says 5"},
		"wrong start":       {told("connected 3 {}", "message 4 three", "connected 3 {}", "message 6 five"), story{first}, "want the caller's own"},
		"gap too wide":      {told("connected 1 {}", "gap 4 "+strings.NewReplacer(`"to":2,"next":3`, `"to":3,"next":4`).Replace(gap), "message 6 five"), story{first}, "over record 3"},
		"gap not behind":    {told("connected 1 {}", "gap 4 "+gap, "message 4 three", "message 6 five"), story{first}, "and its id at 4"},
		"reset for nothing": {told("connected 4 {}", "reset 4 "+reset, "message 6 five"), story{first}, "one life"},
		"no reset":          {told("connected 4 {}", "message 6 five"), story{first, second}, "1 resets are missing"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := audit(tt.h, bridge.NewFilter("a"), map[string]story{"s": tt.lives})
			switch {
			case tt.want == "" && len(faults) > 0:
				t.Errorf("got %q, want no fault", faults)
			case tt.want != "" && !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, tt.want) }):
				t.Errorf("got %q, want %q", faults, tt.want)
			}
		})
	}
}

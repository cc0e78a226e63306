package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// toldOfTopic writes a history by hand. A line is "type next0 next1 data": the
// places of its id in the partitions 0 and 1 of stream s.
func toldOfTopic(t *testing.T, lines ...string) history {
	t.Helper()
	var h history
	for _, line := range lines {
		part := strings.SplitN(line, " ", 4)
		pos := bridge.Position{Incarnation: 1}
		for p := range 2 {
			var o bridge.Offset
			if _, err := fmt.Sscan(part[1+p], &o); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			pos = pos.With(int32(p), bridge.Place{Offset: o})
		}
		data := part[3]
		if part[0] == "message" { // partition/offset/value
			f := strings.Split(data, "/")
			data = fmt.Sprintf(`{"partition":%s,"offset":%s,"key":"k","data":%q}`, f[0], f[1], f[2])
		}
		h = append(h, ssetest.Event{Type: part[0], ID: bridge.ID{{Stream: "s", Position: pos}}.String(), Data: data})
	}
	return h
}

// What the tests on Kafka prove rests on this audit, so it must accuse whoever
// does any of the things that it looks for, and nobody else.
func TestTopicAuditAccusesEveryFault(t *testing.T) {
	life := topicLife{
		0: {{0, "k", "a0", false}, {1, "k", "a1", false}, {4, "k", "a4", false}}, // 2 and 3: aborted
		1: {{0, "k", "b0", false}, {1, "k", "b1", false}},
	}
	reborn := topicLife{0: {{0, "k", "c0", false}}}
	const gap = `{"stream":"s","partition":0,"from":0,"to":1,"next":2,"reason":"retention"}`
	const reset = `{"stream":"s","partition":null,"from":null,"to":null,"next":null,"reason":"recreated"}`
	rewritten := topicLife{0: {life[0][0], {1, "k", "d1", false}}, 1: life[1]}
	const rolled = `{"stream":"s","partition":0,"from":1,"to":4,"next":1,"reason":"rolled-back"}`
	whole := []string{"connected 0 0 {}", "message 1 0 0/0/a0", "message 1 1 1/0/b0", "message 2 1 0/1/a1", "message 5 1 0/4/a4", "message 5 2 1/1/b1", "caught-up 5 2 {}"}
	with := func(at int, line string) []string {
		lines := append([]string{}, whole...)
		lines[at] = line
		return lines
	}
	for name, test := range map[string]struct {
		lines []string
		lives []topicLife
		want  string // part of the first fault, empty: none
	}{
		"nothing wrong":                       {whole, []topicLife{life}, ""},
		"the hole is passed early":            {with(3, "message 2 1 0/1/a1"), []topicLife{life}, ""},
		"another order of partitions":         {append([]string{whole[0], "message 0 1 1/0/b0", "message 0 2 1/1/b1", "message 1 2 0/0/a0", "message 2 2 0/1/a1"}, "message 5 2 0/4/a4"), []topicLife{life}, ""},
		"reconnected":                         {append(append([]string{}, whole[:3]...), append([]string{"connected 1 1 {}"}, whole[3:]...)...), []topicLife{life}, ""},
		"a gap":                               {append([]string{"connected 0 0 {}", "gap 2 0 " + gap}, "message 5 0 0/4/a4", "message 5 1 1/0/b0", "message 5 2 1/1/b1"), []topicLife{{0: life[0][2:], 1: life[1]}}, ""},
		"a reset":                             {append(append([]string{}, whole...), "reset 0 0 "+reset, "message 1 0 0/0/c0"), []topicLife{life, reborn}, ""},
		"a rollback":                          {append(append([]string{}, whole...), "reset 1 2 "+rolled, "message 2 2 0/1/d1"), []topicLife{life, rewritten}, ""},
		"a rollback that goes on too early":   {append(append([]string{}, whole...), "reset 0 2 "+rolled), []topicLife{life, rewritten}, "goes on at 1, and its id at 0"},
		"a rollback that moves another":       {append(append([]string{}, whole...), "reset 1 1 "+rolled), []topicLife{life, rewritten}, "goes back to 1 in partition 1"},
		"a rollback short of what was seen":   {append(append([]string{}, whole...), "reset 1 2 "+strings.Replace(rolled, `"to":4`, `"to":3`, 1)), []topicLife{life, rewritten}, "had all below 5"},
		"a rollback that repeats":             {append(append([]string{}, whole...), "reset 1 2 "+rolled, "message 1 2 0/0/a0"), []topicLife{life, rewritten}, "again or out of order"},
		"a rollback whose rest is lost":       {append(append([]string{}, whole...), "reset 1 2 "+rolled), []topicLife{life, rewritten}, "record 1 of partition 0 (d1) is lost"},
		"a record is lost":                    {append(append([]string{}, whole[:1]...), whole[3:]...), []topicLife{life}, "is lost"},
		"the last is lost":                    {whole[:5], []topicLife{life}, "is lost"},
		"an id passes over a record":          {with(1, "message 1 1 0/0/a0"), []topicLife{life}, "record 0 of partition 1 (b0) is lost"},
		"caught up over a record":             {append(append([]string{}, whole[:5]...), "caught-up 5 2 {}"), []topicLife{life}, "is lost"},
		"doubled":                             {append(append([]string{}, whole[:2]...), whole[1:]...), []topicLife{life}, "again or out of order"},
		"an aborted record":                   {append(append([]string{}, whole[:4]...), append([]string{"message 3 1 0/2/x"}, whole[4:]...)...), []topicLife{life}, "has no record 2"},
		"another value":                       {with(1, "message 1 0 0/0/other"), []topicLife{life}, "the broker has"},
		"a delete that is none":               {with(6, "delete 5 2 {}"), []topicLife{life}, "the broker has"},
		"an id that is behind its record":     {with(1, "message 0 0 0/0/a0"), []topicLife{life}, "has an id that says 0"},
		"an id that is ahead of its record":   {with(2, "message 1 2 1/0/b0"), []topicLife{life}, "has an id that says 2"},
		"an id that goes back":                {with(5, "message 4 2 1/1/b1"), []topicLife{life}, "goes back"},
		"connected elsewhere":                 {append(append([]string{}, whole[:3]...), append([]string{"connected 0 0 {}"}, whole[3:]...)...), []topicLife{life}, "want the caller's own"},
		"a gap over what was seen":            {append(append([]string{}, whole[:4]...), "gap 2 1 "+gap), []topicLife{life}, "begins below 2"},
		"a gap that goes on elsewhere":        {[]string{"connected 0 0 {}", "gap 3 0 " + gap}, []topicLife{life}, "goes on at 2, and its id at 3"},
		"a reset without another life":        {append(append([]string{}, whole...), "reset 0 0 "+reset), []topicLife{life}, "had one life"},
		"no reset before the next life":       {whole, []topicLife{life, reborn}, "1 resets are missing"},
		"an event of a type that nobody sent": {with(6, "nonsense 5 2 {}"), []topicLife{life}, "unknown type"},
	} {
		a := newTopicAudit(bridge.Filter{}, test.lives)
		faults := a.run(toldOfTopic(t, test.lines...))
		switch {
		case test.want == "" && len(faults) > 0:
			t.Errorf("%s: accused of %q", name, faults)
		case test.want != "" && !strings.Contains(strings.Join(faults, "\n"), test.want):
			t.Errorf("%s: faults %q, want %q", name, faults, test.want)
		}
	}
}

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// history is all that one client was told, over all of its connections.
type history []ssetest.Event

// only returns the events of one type.
func (h history) only(name string) history {
	var some history
	for _, e := range h {
		if e.Type == name {
			some = append(some, e)
		}
	}
	return some
}

// lastID is the event id that a client comes back with.
func (h history) lastID() string {
	if len(h) == 0 {
		return ""
	}
	return h[len(h)-1].ID
}

// data returns the payloads of all records.
func (h history) data() []string {
	var all []string
	for _, e := range h.only("message") {
		all = append(all, e.Data)
	}
	return all
}

// losses returns the gaps and resets, as "gap retention 3-4 next 5".
func (h history) losses() []string {
	all := []string{}
	for _, e := range h {
		if e.Type == "gap" || e.Type == "reset" {
			all = append(all, lossText(e))
		}
	}
	return all
}

// verdicts returns what the bridge said of the position at each connection.
func (h history) verdicts() []string {
	var all []string
	for _, e := range h.only("connected") {
		var c bridge.Connected
		if err := json.Unmarshal([]byte(e.Data), &c); err != nil {
			c.Resume = err.Error()
		}
		all = append(all, c.Resume)
	}
	return all
}

// String shows the end of the history, a line for each event.
func (h history) String() string {
	var b strings.Builder
	if skip := len(h) - 60; skip > 0 {
		fmt.Fprintf(&b, "  (%d events)\n", skip)
		h = h[skip:]
	}
	for _, e := range h {
		fmt.Fprintf(&b, "  %s %.120s [%s]\n", e.Type, e.Data, e.ID)
	}
	return b.String()
}

// loss is the data of a gap or reset event.
type loss struct {
	Stream   string
	From, To *int64
	Next     *int64
	Reason   string
}

func parseLoss(e ssetest.Event) (loss, error) {
	var l loss
	err := json.Unmarshal([]byte(e.Data), &l)
	return l, err
}

func lossText(e ssetest.Event) string {
	l, err := parseLoss(e)
	if err != nil {
		return e.Type + " " + err.Error()
	}
	number := func(n *int64) string {
		if n == nil {
			return "null"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("%s %s %s-%s next %s", e.Type, l.Reason, number(l.From), number(l.To), number(l.Next))
}

// held is a record as the broker has it.
type held struct {
	seq     uint64
	subject string
	data    string
}

// life is what a stream ever held between its creation, or a reset, and the
// next one.
type life struct {
	records []held // ascending
	first   uint64 // the log begins here now: what was below is lost
}

// story is the lives of a stream, in order. Payloads must differ throughout.
type story []life

// readLife asks the broker itself, record by record, what a stream holds.
func readLife(t testing.TB, js jetstream.JetStream, stream string) life {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatalf("look up stream %s: %v", stream, err)
	}
	state := s.CachedInfo().State
	l := life{first: state.FirstSeq}
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatalf("read record %d of stream %s: %v", seq, stream, err)
		}
		l.records = append(l.records, held{seq, m.Subject, string(m.Data)})
	}
	return l
}

// join adds the records of an earlier look at the same life, which may be lost
// by now.
func (l life) join(earlier life) life {
	joined := life{first: l.first}
	for _, r := range earlier.records {
		if len(l.records) == 0 || r.seq < l.records[0].seq {
			joined.records = append(joined.records, r)
		}
	}
	joined.records = append(joined.records, l.records...)
	return joined
}

// audit compares what a client was told with what its streams hold. It returns
// what is wrong, each fault once:
//
//   - a record lost without a gap, doubled, out of order, or changed
//   - an id that is not the position behind its event, or that goes back
//   - a gap over records that the broker still holds, or that does not go on
//     right behind itself
//   - a connection that does not begin at the position the last one ended at
//
// The history begins at the position that its first event has, and must reach
// the end of every stream. A reset takes its stream to its next life.
func audit(h history, filter bridge.Filter, streams map[string]story) []string {
	a := &auditor{filter: filter, streams: map[string]*progress{}}
	for name, s := range streams {
		a.streams[name] = &progress{lives: s}
	}
	for i, e := range h {
		a.see(i, e)
	}
	for name, p := range a.streams {
		if len(h) == 0 {
			a.accuse("stream %s: nothing was read", name)
			continue
		}
		if len(p.lives) != 1 {
			a.accuse("stream %s: %d resets are missing", name, len(p.lives)-1)
		}
		a.skip("the end", name, p.lives[len(p.lives)-1].last()+1)
	}
	return a.faults
}

// mustAudit fails the test for every fault that audit finds.
func mustAudit(t testing.TB, who string, h history, filter bridge.Filter, streams map[string]story) {
	t.Helper()
	faults := audit(h, filter, streams)
	for _, f := range faults[:min(len(faults), 10)] {
		t.Errorf("%s: %s", who, f)
	}
	if len(faults) > 0 {
		t.Logf("%s: %d faults; it was told:\n%s", who, len(faults), h)
	}
}

func (l life) last() uint64 {
	if len(l.records) == 0 {
		return 0
	}
	return l.records[len(l.records)-1].seq
}

// progress is how far a history has come in one stream.
type progress struct {
	lives story
	want  uint64 // the next offset that was not accounted for
}

type auditor struct {
	filter  bridge.Filter
	streams map[string]*progress
	begun   bool
	lastID  string
	faults  []string
}

func (a *auditor) accuse(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// skip accounts for the offsets of a stream below next: records that the
// filter lets through must not be among them.
func (a *auditor) skip(where, name string, next uint64) {
	p := a.streams[name]
	for _, r := range p.lives[0].records {
		if r.seq >= p.want && r.seq < next && a.filter.Match(r.subject) {
			a.accuse("%s: record %d of %s (%s) is lost", where, r.seq, name, r.data)
		}
	}
	p.want = max(p.want, next)
}

func (a *auditor) see(i int, e ssetest.Event) {
	where := fmt.Sprintf("event %d", i)
	id, err := bridge.ParseID(e.ID)
	if err != nil {
		a.accuse("%s: id %q: %v", where, e.ID, err)
		return
	}
	if !a.begun {
		a.begun = true
		for name, p := range a.streams {
			pos, ok := id.Lookup(name)
			if !ok {
				a.accuse("%s: id %s has no position of %s", where, e.ID, name)
			}
			p.want = max(1, uint64(pos.Place(0).Offset))
		}
		a.lastID = e.ID
	}
	switch e.Type {
	case "connected":
		if e.ID != a.lastID {
			a.accuse("%s: connected at %s, want the caller's own %s", where, e.ID, a.lastID)
		}
	case "message":
		a.record(where, e, id)
	case "gap":
		a.gap(where, e, id)
	case "reset":
		a.reset(where, e)
	case "position", "caught-up", "closing":
		for name := range a.streams {
			pos, _ := id.Lookup(name)
			next := uint64(pos.Place(0).Offset)
			if want := a.streams[name].want; max(1, next) < want {
				a.accuse("%s: %s goes back to %d, want %d or later", where, e.Type, next, want)
			}
			a.skip(where+" ("+e.Type+")", name, next)
		}
	default:
		a.accuse("%s: type %q", where, e.Type)
	}
	a.lastID = e.ID
}

// record accounts for one record: the one that has its payload.
func (a *auditor) record(where string, e ssetest.Event, id bridge.ID) {
	for name, p := range a.streams {
		for _, r := range p.lives[0].records {
			if r.data != e.Data {
				continue
			}
			if r.seq < p.want {
				a.accuse("%s: record %d of %s (%s) again or out of order, want %d or later", where, r.seq, name, r.data, p.want)
			}
			a.skip(where, name, r.seq)
			p.want = max(p.want, r.seq+1)
			if pos, _ := id.Lookup(name); uint64(pos.Place(0).Offset) != r.seq+1 {
				a.accuse("%s: record %d of %s has the id %s, which says %d", where, r.seq, name, e.ID, pos.Place(0).Offset)
			}
			if !a.filter.Match(r.subject) {
				a.accuse("%s: record %d of %s was filtered out", where, r.seq, name)
			}
			return
		}
	}
	a.accuse("%s: %q is no record that any stream has in this life", where, e.Data)
}

func (a *auditor) gap(where string, e ssetest.Event, id bridge.ID) {
	l, err := parseLoss(e)
	p := a.streams[l.Stream]
	if err != nil || p == nil || l.From == nil || l.To == nil || l.Next == nil || *l.From > *l.To {
		a.accuse("%s: gap %s", where, e.Data)
		return
	}
	from, to := uint64(*l.From), uint64(*l.To)
	if from < p.want {
		a.accuse("%s: gap %d-%d begins below %d, which was accounted for", where, from, to, p.want)
	}
	a.skip(where, l.Stream, from)
	for _, r := range p.lives[0].records {
		if r.seq >= max(from, p.lives[0].first) && r.seq <= to && l.Reason != string(bridge.TooLarge) {
			a.accuse("%s: gap %d-%d over record %d, which the broker holds", where, from, to, r.seq)
		}
	}
	p.want = max(p.want, to+1)
	if pos, _ := id.Lookup(l.Stream); uint64(*l.Next) != to+1 || uint64(pos.Place(0).Offset) != to+1 {
		a.accuse("%s: gap %d-%d goes on at %d, and its id at %d", where, from, to, *l.Next, pos.Place(0).Offset)
	}
}

func (a *auditor) reset(where string, e ssetest.Event) {
	l, err := parseLoss(e)
	p := a.streams[l.Stream]
	if err != nil || p == nil || l.Next == nil {
		a.accuse("%s: reset %s", where, e.Data)
		return
	}
	if len(p.lives) < 2 {
		a.accuse("%s: reset %s, though the stream had one life", where, e.Data)
		return
	}
	p.lives = p.lives[1:]
	p.want = uint64(*l.Next)
}

// publish adds records to a stream, whose payloads are the subject and prefix
// with numbers from first to last.
func publish(t testing.TB, js jetstream.JetStream, subject, prefix string, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		if _, err := js.Publish(t.Context(), subject, fmt.Appendf(nil, "%s%d", prefix, n)); err != nil {
			t.Fatalf("publish %s%d: %v", prefix, n, err)
		}
	}
}

// createStream makes a stream.
func createStream(t testing.TB, js jetstream.JetStream, c jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	s, err := js.CreateStream(t.Context(), c)
	if err != nil {
		t.Fatalf("create stream %s: %v", c.Name, err)
	}
	return s
}

// deleteStream removes a stream.
func deleteStream(t testing.TB, js jetstream.JetStream, name string) {
	t.Helper()
	if err := js.DeleteStream(context.WithoutCancel(t.Context()), name); err != nil {
		t.Fatalf("delete stream %s: %v", name, err)
	}
}

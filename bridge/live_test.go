package bridge

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// fakeSource stands for a source whose stream is driven by hand.
type fakeSource struct {
	Source
	mu    sync.Mutex
	pokes int
}

func (s *fakeSource) Poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pokes++
}

// testEncoder writes what it is given, the id behind a '#', and counts.
type testEncoder struct{ encoded *int }

func (e testEncoder) AppendEvent(dst []byte, ev Event) []byte {
	*e.encoded++
	switch ev.Kind {
	case RecordEvent:
		dst = fmt.Appendf(dst, "%s %s", ev.Stream, ev.Record.Data)
	case LossEvent:
		dst = fmt.Appendf(dst, "%s %s %d-%d", ev.Stream, ev.Finding.Reason, ev.Finding.From, ev.Finding.To)
	default:
		dst = fmt.Appendf(dst, "kind %d", ev.Kind)
	}
	return e.AppendEnd(dst, ev.ID)
}

func (testEncoder) AppendEnd(dst []byte, id string) []byte { return append(append(dst, '#'), id...) }

// liveRig is a hub over streams that are driven by hand.
type liveRig struct {
	*Hub
	t       *testing.T
	encoded int
}

func newLiveRig(t *testing.T, o HubOptions, names ...string) *liveRig {
	t.Helper()
	var streams []*Stream
	for _, name := range names {
		streams = append(streams, NewStream(name, &fakeSource{}, StreamOptions{}))
	}
	r := &liveRig{Hub: NewHub(streams, o), t: t}
	for _, s := range streams {
		receiver{s}.Change(Change{Kind: Started, Position: Position{1, []Place{{}, {}}}})
	}
	return r
}

// change reports something as the source of a stream would.
func (r *liveRig) change(name string, c Change) { receiver{r.Stream(name)}.Change(c) }

// record appends one record to a partition of a stream.
func (r *liveRig) record(name string, partition int32, subject string, kind RecordKind) {
	live, _ := r.Stream(name).LivePlace(partition)
	receiver{r.Stream(name)}.Records([]Record{{
		Partition: partition, Offset: live.Offset, Proof: ProofOf(1), Origin: subject, Kind: kind,
		Data: fmt.Appendf(nil, "%d@%d", partition, live.Offset),
	}})
}

// records appends n records with a subject to partition 0.
func (r *liveRig) records(name, subject string, n int) {
	for range n {
		r.record(name, 0, subject, Data)
	}
}

// join holds the group of a filter in the feed over the named streams.
func (r *liveRig) join(filter Filter, names ...string) *Group {
	r.t.Helper()
	var streams []*Stream
	for _, name := range names {
		streams = append(streams, r.Stream(name))
	}
	g, err := r.Join(streams, filter, Form{Encoder: testEncoder{&r.encoded}})
	if err != nil {
		r.t.Fatal(err)
	}
	return g
}

// level returns a cursor at the head of a group.
func (r *liveRig) level(g *Group) *Cursor {
	r.t.Helper()
	target := g.Head()
	c, state := g.Level(target.Number, target.Generation)
	if state != Going {
		r.t.Fatalf("level: state %d", state)
	}
	return c
}

// texts are the units of entries without their ids.
func texts(entries []Entry) string {
	var out []string
	for _, e := range entries {
		text := string(e.Body())
		if !e.Match {
			text = "-"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// take reads all that a cursor has.
func take(t *testing.T, c *Cursor) string {
	t.Helper()
	entries, state := c.Take(nil, 1<<20)
	if state == Evicted {
		return "evicted"
	}
	return texts(entries)
}

// signalled reports whether a channel of Changed is closed.
func signalled(changed <-chan struct{}) bool {
	select {
	case <-changed:
		return true
	default:
		return false
	}
}

package replay

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// countingEncoder counts what is encoded.
type countingEncoder struct {
	simEncoder
	*calls
}

type calls struct {
	mu     sync.Mutex
	byKind map[bridge.EventKind]int
}

func (e countingEncoder) AppendEvent(dst []byte, ev bridge.Event) []byte {
	e.mu.Lock()
	e.byKind[ev.Kind]++
	e.mu.Unlock()
	return e.simEncoder.AppendEvent(dst, ev)
}

// When a thousand clients come back, each record is encoded once for all of them
// who share a form, whatever their filters, and each gets ids of its own.
func TestThousandFollowersShareWhatIsEncoded(t *testing.T) {
	const records, clients = 40, 1000
	for _, stream := range []rigStream{js, kafka} {
		t.Run(stream.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{runOffsets: 10}, bridge.HubOptions{}, stream)
				r.fill(stream.name, 0, records)
				forms := []*calls{{byKind: map[bridge.EventKind]int{}}, {byKind: map[bridge.EventKind]int{}}}
				for i := range clients {
					c := r.open(bridge.Subscription{
						Start: all(), Control: true, Heartbeat: 15 * time.Second, Form: bridge.Form{Encoder: countingEncoder{calls: forms[i%2]}},
						Filter: bridge.NewFilter("s", "K", bridge.Pattern(fmt.Sprint("x", i))),
					})
					if got := len(c.until("caught-up")); got != records+2 {
						t.Fatalf("a client was told %d events, want connected, %d records and caught-up", got, records)
					}
					c.leave()
				}
				for i, form := range forms {
					if got := form.byKind[bridge.RecordEvent]; got != records {
						t.Errorf("form %d: %d records were encoded, want each of %d once", i, got, records)
					}
					if got := form.byKind[bridge.ConnectedEvent]; got != clients/2 {
						t.Errorf("form %d: %d clients were connected, want %d", i, got, clients/2)
					}
				}
			})
		})
	}
}

// Two clients that read the same chunk with different places in another partition
// must not be given each other's ids: one of them would skip what it has not got.
func TestSharedRecordsEndWithIDsOfTheirClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js, kafka)
		r.fill("k", 0, 3)
		r.fill("k", 1, 3)
		r.fill("j", 0, 2)
		begin := r.follow(bridge.Subscription{Start: all()})
		begin.until("caught-up")
		end := from(t, begin.last)
		for n := range bridge.Offset(4) {
			// Back in one partition by all, in the other by n.
			id := bridge.ID{end[0], {Stream: "k", Position: bridge.Position{
				Incarnation: end[1].Position.Incarnation, Places: []bridge.Place{{}, {Offset: n}},
			}}}
			c := r.follow(bridge.Subscription{From: id})
			ctx, stop := context.WithTimeout(t.Context(), second)
			defer stop()
			for told := 0; told < 3+int(3-n); {
				b, err := c.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range b.Units {
					e := simDecode(u)
					if e.kind != "record" {
						continue
					}
					told++
					id[1].Position = id[1].Position.With(e.partition, bridge.Place{Offset: e.offset + 1, Proof: end[1].Position.Places[e.partition].Proof})
					if e.id != id.String() {
						t.Errorf("from %d: the id of %s is %s, want %s", n, e.text(string(u)), e.id, id)
					}
				}
				if len(b.Units) > 0 && c.ID() != simDecode(b.Units[len(b.Units)-1]).id {
					t.Errorf("from %d: at %s behind the id %s", n, c.ID(), simDecode(b.Units[len(b.Units)-1]).id)
				}
			}
			c.leave()
		}
	})
}

// What is kept for those who come next is part of what operators allow, and goes
// with the chunk that it was made of.
func TestEncodedRecordsAreCountedWithTheirChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, records, forms = 12000, 200, 40
		for _, allowed := range []int64{1 << 20, limit} {
			r := newRig(t, Options{CacheBytes: allowed, runOffsets: 8}, bridge.HubOptions{}, js)
			r.fill("j", 0, records)
			follow := func(i int) {
				c := r.open(bridge.Subscription{
					Start: all(), Control: true, Heartbeat: 15 * time.Second,
					Form: bridge.Form{Encoder: countingEncoder{calls: &calls{byKind: map[bridge.EventKind]int{}}}},
				})
				if got := len(c.until("caught-up")); got != records+2 {
					t.Fatalf("client %d was told %d events, want %d", i, got, records+2)
				}
				c.leave()
			}
			follow(0)
			before := r.replay.Stats().Bytes
			for i := range forms {
				follow(i + 1)
				if got := r.replay.Stats().Bytes; got > allowed || got <= 0 {
					t.Fatalf("with %d forms the cache holds %d bytes, limit %d", i+2, got, allowed)
				}
			}
			least := int64(forms * records * len("record|j|0|1|1#1~j.x.1=1.xxxx"))
			if grown := r.replay.Stats().Bytes - before; allowed > limit && grown < least {
				t.Errorf("%d forms of %d records count %d bytes, want %d at least", forms, records, grown, least)
			}
			r.streams["j"].Doubt() // nothing of before may be kept
			if _, _, err := r.replay.cache.Chunk(t.Context(), bridge.RequestTrace{}, r.streams["j"], 0, 1, r.at("j")); err != nil {
				t.Fatal(err)
			}
			if got := r.replay.Stats().Bytes; got > chunkOverheadBytes+runOverheadBytes+16*(bridge.RecordOverheadBytes+100) {
				t.Errorf("%d bytes are counted when one chunk is held", got)
			}
		}
	})
}

// A write that failed over HTTP/2 may have returned while the server still reads what
// it was given. Nobody else's records may get there.
func TestLastBatchOfAClosedClientIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, bridge.HubOptions{}, js)
		r.fill("j", 0, 20)
		r.follow(bridge.Subscription{Start: all()}).until("caught-up") // so that nobody waits for a read
		for range 20 {
			c := r.follow(bridge.Subscription{Start: all()})
			b, err := c.Next(t.Context())
			if err != nil || b.Records == 0 {
				t.Fatalf("%d records, %v", b.Records, err)
			}
			before := make([]string, 0, len(b.Units))
			for _, u := range b.Units {
				before = append(before, string(u))
			}
			c.leave()
			other := r.follow(bridge.Subscription{Start: all(), Form: bridge.Form{NoNames: true}})
			other.until("caught-up")
			other.leave()
			third := r.follow(bridge.Subscription{From: from(t, simDecode([]byte(before[len(before)/2])).id)})
			third.until("caught-up")
			third.leave()
			for i, u := range b.Units {
				if string(u) != before[i] {
					t.Fatalf("unit %d is %q now, it was %q", i, u, before[i])
				}
			}
		}
		if used := r.replay.batches.used; used != 0 {
			t.Errorf("%d bytes are counted when nobody is given anything", used)
		}
	})
}

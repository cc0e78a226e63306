package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// quick is the options of a live reader that looks often.
func quick() SourceOptions { return SourceOptions{Stream: "S", Poll: 50 * time.Millisecond} }

// consumers are the names of a stream's consumers.
func consumers(t testing.TB, js jetstream.JetStream, stream string) []string {
	t.Helper()
	var names []string
	list := getStream(t, js, stream).ConsumerNames(t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// One reader serves everybody, and says whose it is. When it goes, it takes its
// consumer along, also after it had to make others in between.
func TestTailHasOneConsumerAndTakesItAlong(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	o := quick()
	o.Instance = "pod_1"
	s := openSource(t, srv.URL, o)
	l := listen(t, s, true)
	for round := range 3 {
		last := publish(t, js, "s.a", fmt.Sprint("round ", round, " "), 5)
		l.untilRecord(t, last)
		names := consumers(t, js, "S")
		if len(names) != 1 || !strings.HasPrefix(names[0], "ssebridge-pod_1-") {
			t.Fatalf("consumers are %q, want one called ssebridge-pod_1-…", names)
		}
		config, err := js.Consumer(t.Context(), "S", names[0])
		if err != nil {
			t.Fatal(err)
		}
		c := config.CachedInfo().Config
		if c.AckPolicy != jetstream.AckNonePolicy || !c.MemoryStorage || c.Replicas != 1 || c.InactiveThreshold != 30*time.Second || c.Durable != "" {
			t.Errorf("consumer is %+v", c)
		}
		if err := js.DeleteConsumer(t.Context(), "S", names[0]); err != nil { // as an operator might
			t.Fatal(err)
		}
	}
	last := publish(t, js, "s.a", "after ", 5)
	l.untilRecord(t, last)
	if got := offsets(l.heard()); len(got) != 20 || !slices.IsSorted(got) || got[19] != 20 {
		t.Errorf("read %v, want 1 to 20 once each", got)
	}
	l.stop()
	if names := consumers(t, js, "S"); len(names) != 0 {
		t.Errorf("consumers %q are left behind", names)
	}
}

// Every record that an ordinary client library stumbles over: the reader must
// pass it, live and in replay, and show it as it is.
func TestPoisonousRecordsPass(t *testing.T) {
	messages := []*natsgo.Msg{
		{Header: natsgo.Header{"Status": {"100"}}},
		{Header: natsgo.Header{"Status": {"200"}}},
		{Header: natsgo.Header{"Status": {"204"}, "Description": {"EOB"}}},
		{Header: natsgo.Header{"Status": {"404"}}},
		{Header: natsgo.Header{"Status": {"408"}, "Nats-Pending-Messages": {"100000"}, "Nats-Pending-Bytes": {"100000"}}},
		{Header: natsgo.Header{"Status": {"409"}, "Description": {"Consumer Deleted"}}},
		{Header: natsgo.Header{"Status": {"503"}}},
		{Header: natsgo.Header{"Status": {"100"}, "Nats-Last-Consumer": {"99"}, "Nats-Consumer-Stalled": {"s.evil"}}},
		{Header: natsgo.Header{headerSequence: {"999"}, headerSubject: {"evil"}, headerStream: {"OTHER"}, headerTimeStamp: {"x"}, headerLastSeq: {"7"}, headerNumPending: {"0"}}, Data: []byte("spoofed")},
		{Header: natsgo.Header{headerSequence: {"999", "1000"}}},
		{Header: natsgo.Header{"b": {"2", "1"}, "a": {""}}, Data: []byte{}},
		{Data: []byte("\r\n\x00")},
		{},
	}
	for _, direct := range []bool{true, false} {
		t.Run(fmt.Sprintf("direct=%v", direct), func(t *testing.T) {
			srv := natstest.Embedded(t)
			nc := srv.Conn()
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			makeStream(t, js, func(c *jetstream.StreamConfig) { c.AllowDirect = direct })
			s := openSource(t, srv.URL, quick())
			l := listen(t, s, true)
			for _, m := range messages {
				m.Subject = "s.poison"
				if err := nc.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
			}
			last := publish(t, js, "s.a", "end", 1)
			l.untilRecord(t, last)
			live, replayed := l.heard(), readAll(t, s, 1, bridge.Offset(last+1))
			if stats := s.Stats(); direct && stats.Consumers != 1 {
				t.Errorf("%d consumers were made, want only the reader's: direct get was not understood", stats.Consumers)
			}
			if len(live) != len(messages)+1 || len(replayed) != len(live) {
				t.Fatalf("%d live, %d replayed, want %d", len(live), len(replayed), len(messages)+1)
			}
			for i, m := range messages {
				var want []string
				for _, h := range headersOf(m.Header) {
					want = append(want, h.Key+"="+string(h.Value))
				}
				for way, r := range map[string]bridge.Record{"live": live[i], "replayed": replayed[i]} {
					var got []string
					for _, h := range r.Headers {
						got = append(got, h.Key+"="+string(h.Value))
					}
					if r.Offset != bridge.Offset(i+1) || r.Origin != "s.poison" || string(r.Data) != string(m.Data) || r.Kind != bridge.Data || !slices.Equal(got, want) {
						t.Errorf("%s: %d %s %q %q kind %d; want %d %q %q", way, r.Offset, r.Origin, r.Data, got, r.Kind, i+1, m.Data, want)
					}
				}
				m := ask(t, func(ctx context.Context) (*storedMessage, error) { return s.cold.at(ctx, bridge.Offset(i+1)) })
				if leader := s.stored(m); leader.Proof != live[i].Proof || len(leader.Headers) != len(live[i].Headers) {
					t.Errorf("from the leader: %+v, want %+v", leader, live[i])
				}
			}
			if fs := l.find(bridge.Found); len(fs) > 0 {
				t.Errorf("found %+v", fs)
			}
		})
	}
}

// Header lines that no library can parse: the record is there all the same.
func TestRecordsWithBrokenHeadersPass(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	s := openSource(t, srv.URL, quick())
	l := listen(t, s, true)
	publish(t, js, "s.a", "before", 1)
	rawPublish(t, srv.URL, "s.a", "NATS/1.0\r\nno colon here\r\n\r\n", "body")
	rawPublish(t, srv.URL, "s.a", "NATS/1.0\r\n\r\n", "")
	last := publish(t, js, "s.a", "after", 1)
	l.untilRecord(t, last)
	live, replayed := l.heard(), readAll(t, s, 1, bridge.Offset(last+1))
	if len(live) != 4 || len(replayed) != 4 {
		t.Fatalf("live %v, replayed %v, want 1 to 4", offsets(live), offsets(replayed))
	}
	for i := range live {
		if string(live[i].Data) != string(replayed[i].Data) || live[i].Proof != replayed[i].Proof || len(live[i].Headers) != len(replayed[i].Headers) {
			t.Errorf("live %+v, replayed %+v", live[i], replayed[i])
		}
	}
	if string(live[1].Data) != "body" {
		t.Errorf("record 2 is %q, want body", live[1].Data)
	}
}

// Holes in the middle are everyday life: deleted records, older values of a
// subject. Nobody is told of them, and nothing beside them is lost.
func TestHolesInTheMiddleAreSilent(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1; c.MaxMsgs = 1000 })
	s := openSource(t, srv.URL, quick())
	l := listen(t, s, true)
	for i := range 300 {
		publishMsg(t, js, &natsgo.Msg{Subject: fmt.Sprintf("s.%d", i%7)})
	}
	last := publish(t, js, "s.end", "", 1)
	l.untilRecord(t, last)
	got := offsets(l.heard())
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("read %v: out of order, or twice", got)
	}
	for _, r := range readAll(t, s, 1, bridge.Offset(last+1)) {
		if !slices.Contains(got, r.Offset) {
			t.Errorf("record %d is held and was not read live", r.Offset)
		}
	}
	for _, c := range l.find(bridge.Found) {
		if c.Finding.Reason != bridge.Limits {
			t.Errorf("found %+v", c.Finding)
		}
	}
}

// The end of the log can move without a record to show for it. A live position
// that stays behind would keep clients from ever being level.
func TestTailFollowsTheEndOverDeletedRecords(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	s := openSource(t, srv.URL, quick())
	l := listen(t, s, true)
	l.untilRecord(t, publish(t, js, "s.a", "seen", 3))
	// The consumer is held, so that the records go before it can deliver them.
	pause(t, js, time.Now().Add(time.Hour))
	publish(t, js, "s.a", "unseen", 3)
	deleteRecord(t, js, 4, 5, 6)
	l.until(t, "Moved to 7", func() bool {
		last := l.changes[len(l.changes)-1]
		return last.Kind == bridge.Moved && last.Place == bridge.Place{Offset: 7}
	})
	pause(t, js, time.Time{})
	l.untilRecord(t, publish(t, js, "s.a", "after", 1))
	if got := offsets(l.heard()); !slices.Equal(got, []bridge.Offset{1, 2, 3, 7}) {
		t.Errorf("read %v, want 1 to 3 and 7", got)
	}
	if fs := l.find(bridge.Found); len(fs) > 0 {
		t.Errorf("found %+v, want nothing", fs)
	}
}

// What retention takes between the answer that shows the log and the one that
// shows it empty is a loss all the same: to move over it in silence would hide it.
func TestTailDoesNotMoveOverWhatRetentionTookMeanwhile(t *testing.T) {
	for _, c := range []struct {
		name  string
		lose  func(t *testing.T, js jetstream.JetStream)
		stale bool
	}{
		{"purged", func(t *testing.T, js jetstream.JetStream) { t.Helper(); purge(t, js) }, true},
		{"deleted", func(t *testing.T, js jetstream.JetStream) { t.Helper(); deleteRecord(t, js, 4, 5) }, false},
		{"made again", func(t *testing.T, js jetstream.JetStream) {
			t.Helper()
			deleteStream(t, js, "S")
			makeStream(t, js)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := natstest.Embedded(t)
			js := srv.JS()
			makeStream(t, js)
			publish(t, js, "s.a", "seen", 3)
			s := openSource(t, srv.URL, quick())
			heard := &listener{news: make(chan struct{}, 1)}
			tl := &tail{s: s, out: heard, started: true, pos: placeAt(t, s, 3)}
			publish(t, js, "s.a", "unseen", 2)
			v := ask(t, s.live.view)
			c.lose(t, js)
			nc := srv.Conn()
			in, err := openInbox(nc)
			if err != nil {
				t.Fatal(err)
			}
			defer in.close()
			stale, err := tl.move(t.Context(), v, &puller{nc: nc, inbox: in, subject: nc.NewInbox()})
			if err != nil || stale != c.stale {
				t.Errorf("stale is %t, want %t, error %v", stale, c.stale, err)
			}
			if moved := heard.count(bridge.Moved); moved != 0 && c.stale || moved != 1 && !c.stale {
				t.Errorf("moved %d times, stale is %t", moved, c.stale)
			}
		})
	}
}

// pause holds the stream's one consumer until a time; the zero time lets it go.
func pause(t testing.TB, js jetstream.JetStream, until time.Time) {
	t.Helper()
	names := consumers(t, js, "S")
	if len(names) != 1 {
		t.Fatalf("consumers are %q, want one", names)
	}
	if _, err := js.PauseConsumer(t.Context(), "S", names[0], until); err != nil {
		t.Fatal(err)
	}
}

// What retention takes before it was read is told with its exact bounds, and
// reading goes on right behind.
func TestTailTellsWhatRetentionTook(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(*jetstream.StreamConfig)
		lose   func(t *testing.T, js jetstream.JetStream)
		reason bridge.Reason
		to     bridge.Offset
	}{
		{"purge", func(*jetstream.StreamConfig) {}, func(t *testing.T, js jetstream.JetStream) {
			t.Helper()
			purge(t, js, jetstream.WithPurgeSequence(8))
		}, bridge.Retention, 7},
		{"purge of everything", func(*jetstream.StreamConfig) {}, func(t *testing.T, js jetstream.JetStream) {
			t.Helper()
			purge(t, js)
		}, bridge.Retention, 9},
		{"purge beyond the end", func(*jetstream.StreamConfig) {}, func(t *testing.T, js jetstream.JetStream) {
			t.Helper()
			purge(t, js, jetstream.WithPurgeSequence(100))
		}, bridge.Retention, 99},
		{"count", func(c *jetstream.StreamConfig) { c.MaxMsgs = 2 }, func(*testing.T, jetstream.JetStream) {}, bridge.Retention, 7},
		{"age", func(c *jetstream.StreamConfig) { c.MaxAge = 500 * time.Millisecond; c.Duplicates = c.MaxAge }, func(t *testing.T, js jetstream.JetStream) {
			t.Helper()
			for getStream(t, js, "S").CachedInfo().State.Msgs > 0 {
				if err := sleep(t.Context(), 10*time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
		}, bridge.Retention, 9},
		{"count beside per-subject limits", func(c *jetstream.StreamConfig) { c.MaxMsgs = 2; c.MaxMsgsPerSubject = 5 }, func(*testing.T, jetstream.JetStream) {}, bridge.Limits, 7},
		{"values replaced", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 }, func(*testing.T, jetstream.JetStream) {}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := natstest.Embedded(t)
			js := srv.JS()
			makeStream(t, js, c.edit)
			s := openSource(t, srv.URL, quick())
			l := listen(t, s, true)
			for range 3 { // one by one, as the stream may hold very few
				l.untilRecord(t, publish(t, js, "s.a", "seen", 1))
			}
			pause(t, js, time.Now().Add(time.Hour))
			publish(t, js, "s.a", "unseen", 6)
			c.lose(t, js)
			if c.reason != "" {
				l.until(t, "Found", func() bool {
					last := l.changes[len(l.changes)-1]
					return last.Kind == bridge.Found && (c.name != "age" || last.Finding.To == c.to)
				})
				fs := l.find(bridge.Found)
				last := len(fs) - 1 // age may take records one by one
				if f := fs[last].Finding; fs[0].Finding.From != 4 || last > 0 && c.name != "age" || f.Reason != c.reason || f.Partition != 0 || f.To != c.to || f.Next.Place(0).Offset != c.to+1 {
					t.Fatalf("found %+v, want %s 4 to %d", fs, c.reason, c.to)
				}
			} else {
				pause(t, js, time.Time{})
			}
			last := publish(t, js, "s.a", "after", 1)
			l.untilRecord(t, last)
			if fs := l.find(bridge.Found); c.reason == "" && len(fs) > 0 {
				t.Errorf("found %+v, want nothing", fs)
			}
			held := readAll(t, s, 1, bridge.Offset(last+1))
			got := offsets(l.heard())
			for _, r := range held {
				if r.Offset > 3 && !slices.Contains(got, r.Offset) {
					t.Errorf("read %v, which lacks %d", got, r.Offset)
				}
			}
		})
	}
}

// A record that arrives behind a loss tells of it even before anybody polls.
func TestTailSeesALossInTheSequence(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	s := openSource(t, srv.URL, SourceOptions{Stream: "S", Poll: time.Hour})
	l := listen(t, s, true)
	l.untilRecord(t, publish(t, js, "s.a", "seen", 3))
	pause(t, js, time.Now().Add(time.Hour))
	publish(t, js, "s.a", "unseen", 9)
	deleteRecord(t, js, 10)
	purge(t, js, jetstream.WithPurgeSequence(8))
	pause(t, js, time.Time{})
	l.untilRecord(t, 12)
	fs := l.find(bridge.Found)
	if len(fs) != 1 || fs[0].Finding.Reason != bridge.Retention || fs[0].Finding.From != 4 || fs[0].Finding.To != 7 {
		t.Errorf("found %+v, want retention 4 to 7", fs)
	}
	if got := offsets(l.heard()); !slices.Equal(got, []bridge.Offset{1, 2, 3, 8, 9, 11, 12}) {
		t.Errorf("read %v", got)
	}
}

// The stream behind a running reader is deleted and made again. What the new
// one holds is read from its first record, behind a reset, not spliced to the old.
func TestTailFindsARecreatedStream(t *testing.T) {
	for _, records := range []int{0, 3, 30} {
		for _, hole := range []bool{false, true} {
			t.Run(fmt.Sprintf("records=%d hole=%v", records, hole), func(t *testing.T) {
				srv := natstest.Embedded(t)
				js := srv.JS()
				makeStream(t, js)
				s := openSource(t, srv.URL, quick())
				l := listen(t, s, true)
				l.untilRecord(t, publish(t, js, "s.a", "old", 10))
				old := ends(t, s).First.Incarnation
				deleteStream(t, js, "S")
				srv.Settle("S")
				makeStream(t, js)
				publish(t, js, "s.a", "new", records)
				if hole && records > 10 {
					deleteRecord(t, js, 10)
				}
				l.until(t, "Found", func() bool { return l.count(bridge.Found) > 0 })
				last := publish(t, js, "s.a", "after", 2)
				l.until(t, "the last record", func() bool { return len(l.records) > 10 && l.records[len(l.records)-1].Offset == bridge.Offset(last) })
				fs := l.find(bridge.Found)
				f := fs[0].Finding
				if len(fs) != 1 || f.Reason != bridge.Recreated || f.Partition != bridge.AllPartitions || f.From != 11 || f.To != bridge.UnknownOffset ||
					f.Next.Incarnation == old || f.Next.Place(0).Offset != 1 {
					t.Errorf("found %+v, want recreated from 11, on at 1", fs)
				}
				got := offsets(l.heard()[10:])
				got = slices.DeleteFunc(got, func(o bridge.Offset) bool { return hole && o == 10 }) // it may have been read before it went
				if want := offsets(readAll(t, s, 1, bridge.Offset(last+1))); !slices.Equal(got, want) {
					t.Errorf("read %v of the new stream, which holds %v", got, want)
				}
			})
		}
	}
}

// Where the live reader goes on after a reset is the operator's choice.
func TestTailGoesOnByItsResetPolicy(t *testing.T) {
	for policy, want := range map[bridge.OnReset]bridge.Offset{
		"": 21, bridge.ResetSince: 21, bridge.ResetFail: 21, bridge.ResetAll: 1, bridge.ResetNew: 26,
	} {
		t.Run(string(policy), func(t *testing.T) {
			srv := natstest.Process(t)
			nc := srv.Conn()
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			makeStream(t, js)
			publish(t, js, "s.a", "old", 20)
			o := quick()
			o.OnReset = policy
			s := openSource(t, srv.URL, o)
			l := listen(t, s, true)
			older := srv.CopyData()
			l.untilRecord(t, publish(t, js, "s.a", "lost", 5))
			srv.RollBack(older)
			srv.Start()
			untilConnected(t, nc)
			publish(t, js, "s.a", "other", 5)
			l.until(t, "Found", func() bool { return l.count(bridge.Found) > 0 })
			f := l.find(bridge.Found)[0].Finding
			if f.Reason != bridge.RolledBack || f.To != 25 || f.Next.Place(0).Offset != want {
				t.Errorf("found %+v, want rolled-back to 25, on at %d", f, want)
			}
		})
	}
}

// Tombstones, orders for later records, and keys of buckets.
func TestKindsOfRecords(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "B", LimitMarkerTTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	s := openSource(t, srv.URL, SourceOptions{Stream: "KV_B", Poll: 50 * time.Millisecond})
	l := listen(t, s, true)
	for i, do := range []func() error{
		func() error { _, err := kv.Put(t.Context(), "a.b", []byte("v")); return err },
		func() error { return kv.Delete(t.Context(), "a.b") },
		func() error { return kv.Purge(t.Context(), "c") },
		func() error {
			_, err := kv.Create(t.Context(), "d", []byte("short"), jetstream.KeyTTL(time.Second))
			return err
		},
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		l.untilRecord(t, uint64(i+1)) // before the next one of its key replaces it
	}
	l.untilRecord(t, 5) // the marker that follows the expiry
	got := l.heard()
	want := []struct {
		key  string
		kind bridge.RecordKind
	}{{"a.b", bridge.Data}, {"a.b", bridge.Delete}, {"c", bridge.Delete}, {"d", bridge.Data}, {"d", bridge.Delete}}
	for i, w := range want {
		if i >= len(got) || string(got[i].Key) != w.key || got[i].Kind != w.kind || got[i].Origin != "$KV.B."+w.key {
			t.Errorf("record %d is %+v, want key %q of kind %d", i+1, got[min(i, len(got)-1)], w.key, w.kind)
		}
	}
	// What is held of them looks the same in replay.
	for _, r := range readAll(t, s, 1, 6) {
		if i := int(r.Offset) - 1; r.Kind != got[i].Kind || string(r.Key) != string(got[i].Key) || len(r.Headers) != len(got[i].Headers) {
			t.Errorf("replayed %+v, live %+v", r, got[i])
		}
	}
}

// Records larger than a whole pull, many more records than a pull, and both at
// once: nothing may stall or be lost.
func TestLargeAndManyRecordsArrive(t *testing.T) {
	srv := natstest.Embedded(t, natstest.Config(t, "max_payload: 8MB\nmax_pending: 64MB"))
	js := srv.JS()
	makeStream(t, js)
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"}) // looking often would read the large records again and again
	l := listen(t, s, true)
	var last uint64
	for i := range 12 {
		size := []int{10, 6 << 20, 4 << 20, 1 << 20, 4<<20 - 200, 0}[i%6]
		last = publishMsg(t, js, &natsgo.Msg{Subject: "s.large", Data: make([]byte, size)})
	}
	var futures []jetstream.PubAckFuture
	for i := range 10000 {
		f, err := js.PublishAsync("s.many", fmt.Appendf(nil, "%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if futures = append(futures, f); len(futures) == 1000 {
			<-js.PublishAsyncComplete()
			futures = futures[:0]
		}
	}
	<-js.PublishAsyncComplete()
	last += 10000
	l.untilRecord(t, last)
	got := l.heard()
	if len(got) != int(last) {
		t.Fatalf("read %d records, want %d", len(got), last)
	}
	for i := range got {
		if got[i].Offset != bridge.Offset(i+1) {
			t.Fatalf("record %d has offset %d", i+1, got[i].Offset)
		}
	}
	replayed := readAll(t, s, 1, bridge.Offset(last+1))
	for i := range got {
		if replayed[i].Offset != got[i].Offset || len(replayed[i].Data) != len(got[i].Data) || replayed[i].Proof != got[i].Proof {
			t.Fatalf("record %d: replayed %d of %d bytes, live %d of %d", i+1, replayed[i].Offset, len(replayed[i].Data), got[i].Offset, len(got[i].Data))
		}
	}
	if fs := l.find(bridge.Found); len(fs) > 0 || len(l.find(bridge.Doubted)) > 0 {
		t.Errorf("found %+v, doubted %d times; want nothing of the kind", fs, len(l.find(bridge.Doubted)))
	}
}

// A stream that is not there (yet), or that may not be read, is waited for in
// words that an operator can act on.
func TestTailSaysWhatItWaitsFor(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	s := openSource(t, srv.URL, quick())
	l := listen(t, s, false)
	waits := func(want error, text string) func() bool {
		return func() bool {
			last := l.changes
			return len(last) > 0 && last[len(last)-1].Kind == bridge.Waiting && errors.Is(last[len(last)-1].Err, want) && strings.Contains(last[len(last)-1].Err.Error(), text)
		}
	}
	l.until(t, "Waiting for the stream", waits(bridge.ErrMissing, `stream "S"`))
	makeStream(t, js)
	l.until(t, "Reading", func() bool { return l.changes[len(l.changes)-1].Kind == bridge.Reading })
	l.untilRecord(t, publish(t, js, "s.a", "r", 1))

	for retention, want := range map[jetstream.RetentionPolicy]string{jetstream.WorkQueuePolicy: "WorkQueue", jetstream.InterestPolicy: "Interest"} {
		name := "R" + want
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}, Retention: retention}); err != nil {
			t.Fatal(err)
		}
		o := quick()
		o.Stream = name
		s := openSource(t, srv.URL, o)
		l = listen(t, s, false)
		l.until(t, "Waiting for another "+want, waits(bridge.ErrRefused, "mirror or source"))
		if _, err := s.Verify(t.Context(), bridge.Position{}, nil); !errors.Is(err, bridge.ErrRefused) {
			t.Errorf("Verify of a %s stream: %v, want ErrRefused", want, err)
		}
		if names := consumers(t, js, name); len(names) > 0 {
			t.Errorf("a %s stream got consumers %q", want, names)
		}
	}
}

// The subjects are those a client can ask for: of the stream, of the filter, or
// anything where the broker changes or copies them.
func TestTailTellsSubjects(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	for name, c := range map[string]jetstream.StreamConfig{
		"M": {Mirror: &jetstream.StreamSource{Name: "S"}},
		"A": {Sources: []*jetstream.StreamSource{{Name: "S"}}},
		"T": {Subjects: []string{"t.>"}, SubjectTransform: &jetstream.SubjectTransformConfig{Source: "t.*", Destination: "u.{{wildcard(1)}}"}},
	} {
		c.Name = name
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		stream string
		filter []string
		want   []string
	}{
		{"S", nil, []string{"s.>"}},
		{"M", nil, []string{">"}},
		{"A", nil, []string{">"}},
		{"T", nil, []string{">"}},
		{"S", []string{"s.a.*", "s.b"}, []string{"s.a.*", "s.b"}},
	} {
		o := quick()
		o.Stream, o.Filter = c.stream, c.filter
		l := listen(t, openSource(t, srv.URL, o), true)
		if got := l.find(bridge.Spaced); len(got) != 1 || !slices.Equal(got[0].Subjects, c.want) {
			t.Errorf("%s filtered by %q: %+v, want %q", c.stream, c.filter, got, c.want)
		}
	}
}

// With a filter at the broker the reader sees less, and says nothing of what it
// does not see; its place still follows the log.
func TestFilterAtTheBroker(t *testing.T) {
	for _, filter := range [][]string{{"s.a.>"}, {"s.a.*", "s.c"}} {
		srv := natstest.Embedded(t)
		js := srv.JS()
		makeStream(t, js)
		o := quick()
		o.Filter = filter
		s := openSource(t, srv.URL, o)
		l := listen(t, s, true)
		publish(t, js, "s.b", "other", 10)
		l.untilRecord(t, publish(t, js, "s.a.x", "mine", 3))
		last := publish(t, js, "s.b", "other", 10)
		l.until(t, "the end of the log", func() bool {
			c := l.changes[len(l.changes)-1]
			return c.Kind == bridge.Moved && c.Place.Offset == bridge.Offset(last+1) && c.Place.Proof != 0
		})
		if got := offsets(l.heard()); !slices.Equal(got, []bridge.Offset{11, 12, 13}) {
			t.Errorf("filter %q: read %v, want 11 to 13", filter, got)
		}
		if fs := l.find(bridge.Found); len(fs) > 0 {
			t.Errorf("filter %q: found %+v", filter, fs)
		}
	}
}

// A server that announces its end is left while it still answers.
func TestTailDoubtsWhenTheServerIsAboutToLeave(t *testing.T) {
	srv := natstest.Embedded(t, natstest.Config(t, "lame_duck_duration: 30s\nlame_duck_grace_period: 20s"))
	js := srv.JS()
	makeStream(t, js)
	s := openSource(t, srv.URL, SourceOptions{Stream: "S", Poll: time.Hour})
	l := listen(t, s, true)
	var wg sync.WaitGroup
	wg.Go(srv.LameDuck)
	l.until(t, "Doubted", func() bool { return l.count(bridge.Doubted) > 0 })
	if err := s.cluster.Connected(); err != nil {
		t.Errorf("doubted only when the server was gone: %v", err)
	}
	srv.Shutdown()
	wg.Wait()
}

// Poke makes the reader look at once, and a poke for nothing says nothing.
func TestPokeVerifiesAtOnce(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	s := openSource(t, srv.URL, SourceOptions{Stream: "S", Poll: time.Hour})
	l := listen(t, s, true)
	before := s.Stats().Infos
	for range 100 {
		s.Poke()
	}
	for s.Stats().Infos == before {
		if err := sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	l.untilRecord(t, publish(t, js, "s.a", "r", 1))
	if d, fs := l.find(bridge.Doubted), l.find(bridge.Found); len(d)+len(fs) > 0 {
		t.Errorf("doubted %v, found %v; want nothing", d, fs)
	}
}

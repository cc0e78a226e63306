package nats

import (
	"context"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// wanted is a verdict in short: no reason means exact.
type wanted struct {
	reason   bridge.Reason
	from, to bridge.Offset
	next     bridge.Offset
	open     bool
}

// judged compares a verdict with what is wanted.
func judged(t *testing.T, name string, s *Source, pos bridge.Position, want wanted) {
	t.Helper()
	v := verdict(t, s, pos)
	inc := ends(t, s).First.Incarnation
	if v.Incarnation != inc || len(v.Epochs) != 1 || v.Epoch(0) == 0 {
		t.Errorf("%s: verdict %+v, want incarnation %d and an epoch", name, v, inc)
	}
	if want.reason == "" {
		if len(v.Findings) > 0 {
			t.Errorf("%s: %+v, want exact", name, v.Findings)
		}
		return
	}
	if len(v.Findings) != 1 {
		t.Errorf("%s: %+v, want one finding", name, v.Findings)
		return
	}
	f := v.Findings[0]
	got := wanted{f.Reason, f.From, f.To, f.Next.Place(0).Offset, f.Open}
	if got != want || f.Next.Incarnation != inc || f.Next.Place(0).Proof != 0 {
		t.Errorf("%s: %+v, want %+v in incarnation %d", name, f, want, inc)
	}
	if (f.Partition == bridge.AllPartitions) != (f.Reason == bridge.Recreated) {
		t.Errorf("%s: partition %d", name, f.Partition)
	}
	if ms := sinceOf(pos.Place(0).Proof); f.Open && f.Since != ms {
		t.Errorf("%s: since %d, want %d", name, f.Since, ms)
	}
}

// noProof is the same place without its proof.
func noProof(pos bridge.Position) bridge.Position {
	return pos.With(0, bridge.Place{Offset: pos.Place(0).Offset})
}

// Each row of the resume table on a real server: what a client is told decides
// whether it trusts what it has.
func TestResumeTable(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	nc := srv.Conn()
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	gap := func(from, to bridge.Offset) wanted {
		return wanted{reason: bridge.Retention, from: from, to: to, next: to + 1}
	}
	recreated := func(want, first bridge.Offset) wanted {
		return wanted{bridge.Recreated, want, bridge.UnknownOffset, first, true}
	}
	again := func(t *testing.T, n int) {
		t.Helper()
		deleteStream(t, js, "S")
		srv.Settle("S")
		makeStream(t, js)
		publish(t, js, "s.a", "new", n)
	}
	for _, c := range []struct {
		name    string
		happens func(t *testing.T) // to a stream of 20 records; the client has read 10
		proven  wanted             // with the proof of record 10
		bare    wanted             // without it
	}{
		{"nothing", func(*testing.T) {}, wanted{}, wanted{}},
		{"record 10 is deleted", func(t *testing.T) { t.Helper(); deleteRecord(t, js, 10) }, wanted{}, wanted{}},
		{"records 8 to 13 are deleted", func(t *testing.T) { t.Helper(); deleteRecord(t, js, 8, 9, 10, 11, 12, 13) }, wanted{}, wanted{}},
		{"purged below 11", func(t *testing.T) { t.Helper(); purge(t, js, jetstream.WithPurgeSequence(11)) }, wanted{}, wanted{}},
		{"purged below 15", func(t *testing.T) { t.Helper(); purge(t, js, jetstream.WithPurgeSequence(15)) }, gap(11, 14), gap(11, 14)},
		{"purged", func(t *testing.T) { t.Helper(); purge(t, js) }, gap(11, 20), gap(11, 20)},
		{"purged beyond the end", func(t *testing.T) { t.Helper(); purge(t, js, jetstream.WithPurgeSequence(100)) }, gap(11, 99), gap(11, 99)},
		{"recreated, empty", func(t *testing.T) { t.Helper(); again(t, 0) }, recreated(11, 1), recreated(11, 1)},
		{"recreated, fewer", func(t *testing.T) { t.Helper(); again(t, 5) }, recreated(11, 1), recreated(11, 1)},
		{"recreated, more", func(t *testing.T) { t.Helper(); again(t, 30) }, recreated(11, 1), recreated(11, 1)},
		{"recreated, more, record 10 deleted", func(t *testing.T) { t.Helper(); again(t, 30); deleteRecord(t, js, 10) }, recreated(11, 1), recreated(11, 1)},
		{"recreated and purged", func(t *testing.T) { t.Helper(); again(t, 30); purge(t, js, jetstream.WithPurgeSequence(25)) }, recreated(11, 25), recreated(11, 25)},
		{"restored from a backup", func(t *testing.T) {
			t.Helper()
			restore := backup(t, nc, "S")
			deleteStream(t, js, "S")
			restore()
		}, wanted{}, recreated(11, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			makeStream(t, js)
			defer srv.Settle("S")
			defer deleteStream(t, js, "S")
			publish(t, js, "s.a", "old", 20)
			pos := placeAt(t, s, 10)
			c.happens(t)
			judged(t, "with a proof", s, pos, c.proven)
			judged(t, "without a proof", s, noProof(pos), c.bare)
		})
	}
}

// A backup that is older than the client: the numbers above its end come again,
// with other records under them.
func TestRestoreOfAnOlderBackupIsFound(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	makeStream(t, js)
	publish(t, js, "s.a", "old", 20)
	kept := placeAt(t, s, 10)
	restore := backup(t, srv.Conn(), "S")
	publish(t, js, "s.a", "lost", 10)
	lost := placeAt(t, s, 25)
	deleteStream(t, js, "S")
	restore()
	want := wanted{bridge.Recreated, 26, bridge.UnknownOffset, 1, true}
	judged(t, "kept", s, kept, wanted{})
	judged(t, "lost", s, lost, want)
	publish(t, js, "s.a", "other", 20)
	judged(t, "kept, grown again", s, kept, wanted{})
	judged(t, "lost, grown again", s, lost, want)
}

// A crash of the machine can take the end of the log with it. The creation time
// stays, and the numbers come again: only the proof tells.
func TestRollbackIsFound(t *testing.T) {
	srv := natstest.Process(t)
	nc := srv.Conn()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	makeStream(t, js)
	publish(t, js, "s.a", "old", 20)
	kept := placeAt(t, s, 10)
	atEnd := placeAt(t, s, 20)
	older := srv.CopyData()
	publish(t, js, "s.a", "lost", 10)
	lost := placeAt(t, s, 25)

	srv.Kill9()
	srv.Start()
	untilConnected(t, nc)
	judged(t, "killed", s, lost, wanted{})
	epoch := verdict(t, s, lost).Epoch(0)

	srv.RollBack(older)
	srv.Start()
	untilConnected(t, nc)
	judged(t, "kept", s, kept, wanted{})
	judged(t, "at the new end", s, atEnd, wanted{})
	judged(t, "lost", s, lost, wanted{bridge.RolledBack, 21, 25, 1, true})
	judged(t, "lost, without a proof", s, noProof(lost), wanted{bridge.RolledBack, 21, 25, 1, true})
	// What was cached before belongs to another history.
	if now := verdict(t, s, kept).Epoch(0); now == epoch {
		t.Errorf("the epoch is %d before and after the restart", now)
	}

	publish(t, js, "s.a", "other", 20)
	judged(t, "kept, grown again", s, kept, wanted{})
	judged(t, "lost, grown again", s, lost, wanted{bridge.RolledBack, 25, 25, 1, true})
	judged(t, "lost, grown again, without a proof", s, noProof(lost), wanted{})
}

// A client may be ahead of the leader's answer for a moment, after an election
// or because another replica was quicker. That is no roll-back.
func TestPlaceBeyondTheEndIsGivenTime(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	makeStream(t, js)
	publish(t, js, "s.a", "r", 5)
	ahead := noProof(placeAt(t, s, 5)).With(0, bridge.Place{Offset: 8})
	before := s.Stats().Infos
	var wg sync.WaitGroup
	wg.Go(func() { judged(t, "ahead", s, ahead, wanted{}) })
	for s.Stats().Infos < before+2 { // it has asked and asked again
		if err := sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, js, "s.a", "late", 2)
	wg.Wait()
}

// An id from before anything was published, or from another system, must not
// look like a loss, and places that JetStream has not are carried.
func TestUnusualPositions(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	makeStream(t, js)
	inc := ends(t, s).First.Incarnation
	at := func(o bridge.Offset) bridge.Position {
		return bridge.Position{Incarnation: inc, Places: []bridge.Place{{Offset: o}}}
	}
	judged(t, "zero position, empty stream", s, bridge.Position{}, wanted{})
	judged(t, "place 0, empty stream", s, at(0), wanted{})
	judged(t, "place 1, empty stream", s, at(1), wanted{})
	publish(t, js, "s.a", "r", 5)
	judged(t, "zero position", s, bridge.Position{}, wanted{})
	judged(t, "place 0", s, at(0), wanted{})
	judged(t, "end", s, at(6), wanted{})
	judged(t, "far beyond", s, at(1<<62), wanted{bridge.RolledBack, 6, 1<<62 - 1, 1, true})
	purge(t, js, jetstream.WithPurgeSequence(4))
	judged(t, "zero position, trimmed", s, bridge.Position{}, wanted{bridge.Retention, 1, 3, 4, false})

	several := bridge.Position{Incarnation: inc, Places: []bridge.Place{{Offset: 2}, {Offset: 7, Proof: 9}}}
	v := verdict(t, s, several)
	if len(v.Findings) != 1 || v.Findings[0].Next.Place(1) != several.Places[1] {
		t.Errorf("verdict on %+v is %+v, want a gap that leaves place 1 alone", several, v)
	}
}

// A stream may begin at any number. Nothing before it was ever lost.
func TestStreamThatBeginsAtAThousand(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.FirstSeq = 1000 })
	inc := ends(t, s).First.Incarnation
	beginning := bridge.Position{Incarnation: inc, Places: []bridge.Place{{Offset: 1}}}
	judged(t, "empty", s, beginning, wanted{})
	publish(t, js, "s.a", "r", 10)
	judged(t, "from 1", s, beginning, wanted{})
	judged(t, "from 0", s, bridge.Position{}, wanted{})
	if got := readAll(t, s, 1, 1010); len(got) != 10 || got[0].Offset != 1000 {
		t.Errorf("read %v, want 1000 to 1009", offsets(got))
	}
	purge(t, js, jetstream.WithPurgeSequence(1005))
	judged(t, "from 1, trimmed", s, beginning, wanted{bridge.Retention, 1000, 1004, 1005, false})
}

// In a bucket the first record goes whenever the oldest key is written again. A
// gap for that would reach every client on every reconnect.
func TestBucketsGiveNoFalseGaps(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	bucket := func(name string, ttl time.Duration) (jetstream.KeyValue, *Source) {
		kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: name, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return kv, openSource(t, srv.URL, SourceOptions{Stream: "KV_" + name})
	}
	write := func(kv jetstream.KeyValue, n int) {
		for i := range n {
			if _, err := kv.Put(t.Context(), string(rune('a'+i%10)), []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
	}
	kv, s := bucket("plain", 0)
	write(kv, 20)
	pos := placeAt(t, s, 15)
	write(kv, 100)
	judged(t, "bucket", s, pos, wanted{})
	if got := readAll(t, s, pos.Place(0).Offset, 121); len(got) != 10 || got[0].Offset != 111 {
		t.Errorf("read %v, want the last ten", offsets(got))
	}
	// The hole is named, so that nobody has to walk through it chunk by chunk.
	c := ask(t, func(ctx context.Context) (bridge.Chunk, error) {
		return s.ReadChunk(ctx, bridge.ChunkQuery{From: 16, Limit: 32, MaxBytes: 1 << 20, Incarnation: pos.Incarnation})
	})
	if c.From != 16 || c.End != 32 || c.Skip != 111 || len(c.Records) != 0 {
		t.Errorf("chunk of [16,32) is %+v, want an empty one that skips to 111", c)
	}

	kv, s = bucket("aging", time.Hour)
	write(kv, 20)
	pos = placeAt(t, s, 15)
	write(kv, 100)
	judged(t, "bucket with an age limit", s, pos, wanted{bridge.Limits, 16, 110, 111, false})
}

// Numbers and times of a mirror are its origin's, so that ids from one are good
// on the other.
func TestIDsOfAMirrorAreThoseOfItsOrigin(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	publish(t, js, "s.a", "r", 20)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "M", Mirror: &jetstream.StreamSource{Name: "S"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	origin := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	mirror := openSource(t, srv.URL, SourceOptions{Stream: "M"})
	for ends(t, mirror).End.Place(0).Offset < 21 { // mirrors fill in the background
		if err := sleep(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	judged(t, "the origin's id on the mirror", mirror, placeAt(t, origin, 10), wanted{})
	judged(t, "the mirror's id on the origin", origin, placeAt(t, mirror, 10), wanted{})
	judged(t, "without a proof", mirror, noProof(placeAt(t, origin, 10)), wanted{bridge.Recreated, 11, bridge.UnknownOffset, 1, true})
}

// A thousand clients that come back at once must cost the broker a few
// questions, not a thousand, and one record, not a thousand.
func TestCrowdOfEqualPositionsSharesQuestions(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	makeStream(t, js)
	publish(t, js, "s.a", "r", 20)
	pos := placeAt(t, s, 10)
	before := s.Stats()
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if v, err := s.Verify(t.Context(), pos, nil); err != nil || len(v.Findings) > 0 {
				t.Errorf("verdict %+v, %v", v, err)
			}
		})
	}
	wg.Wait()
	after := s.Stats()
	if infos, gets := after.Infos-before.Infos, after.Gets-before.Gets; infos+gets > 200 {
		t.Errorf("%d questions about the stream and %d about the record for 1,000 clients, want at most 200 in all", infos, gets)
	}
}

// A caller that holds the record before the place needs no read for an exact
// verdict; whatever else it says is confirmed by the leader.
func TestKnownRecordsSpareQuestions(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	makeStream(t, js)
	publish(t, js, "s.a", "r", 20)
	pos := placeAt(t, s, 10)
	for _, c := range []struct {
		name  string
		proof bridge.Proof
		held  bool
		gets  uint64
	}{
		{"the same", pos.Place(0).Proof, true, 0},
		{"another", pos.Place(0).Proof + 1, true, 1},
		{"none there", 0, true, 1},
		{"not known", 0, false, 1},
	} {
		before := s.Stats().Gets
		v, err := s.Verify(t.Context(), pos, func(_ context.Context, partition int32, o bridge.Offset) (bridge.Proof, bool) {
			if partition != 0 || o != 10 {
				t.Errorf("%s: asked for %d@%d, want 0@10", c.name, partition, o)
			}
			return c.proof, c.held
		})
		if err != nil || len(v.Findings) > 0 {
			t.Errorf("%s: %+v, %v; want exact", c.name, v, err)
		}
		if gets := s.Stats().Gets - before; gets != c.gets {
			t.Errorf("%s: the leader was asked for %d records, want %d", c.name, gets, c.gets)
		}
	}
	// A record that the caller holds of a stream that was made again is no proof of
	// the new one.
	stale := pos.Clone()
	stale.Incarnation++
	before := s.Stats().Gets
	_, err := s.Verify(t.Context(), stale, func(context.Context, int32, bridge.Offset) (bridge.Proof, bool) {
		t.Error("asked for a record of another incarnation")
		return 0, false
	})
	if err != nil || s.Stats().Gets != before+1 {
		t.Errorf("another incarnation: %v, the leader was asked for %d records, want 1", err, s.Stats().Gets-before)
	}
	// A cached record that is no longer in the log proves nothing.
	purge(t, js, jetstream.WithPurgeSequence(15))
	v, err := s.Verify(t.Context(), pos, func(context.Context, int32, bridge.Offset) (bridge.Proof, bool) { return pos.Place(0).Proof, true })
	if err != nil || len(v.Findings) != 1 || v.Findings[0].Reason != bridge.Retention {
		t.Errorf("purged below 15: %+v, %v; want a gap", v, err)
	}
}

// Times are in milliseconds in every way of reading, or an id that was made by
// one replica's replay would look rewritten to another's live reader.
func TestProofsAreTheSameHoweverARecordIsRead(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	direct := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	makeStream(t, js)
	l := listen(t, direct, true)
	for i := range 50 {
		publishMsg(t, js, &natsgo.Msg{Subject: "s.a", Data: []byte{byte(i)}})
	}
	l.untilRecord(t, 50)
	live := l.heard()
	replayed := readAll(t, direct, 1, 51)
	if len(live) != 50 || len(replayed) != 50 {
		t.Fatalf("%d live, %d replayed, want 50", len(live), len(replayed))
	}
	for i := range 50 {
		leader := placeAt(t, direct, uint64(i+1)).Place(0).Proof
		if live[i].Proof != leader || replayed[i].Proof != leader {
			t.Errorf("record %d: live %v, replayed %v, leader %v", i+1, live[i].Proof, replayed[i].Proof, leader)
		}
	}
}

package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

func chunk(t testing.TB, s *Source, q bridge.ChunkQuery) bridge.Chunk {
	t.Helper()
	return ask(t, func(ctx context.Context) (bridge.Chunk, error) { return s.ReadChunk(ctx, q) })
}

// Ten thousand clients share one chunk, so a chunk must cost the broker one
// question, and one about the stream.
func TestChunkCostsOneBatch(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	publish(t, js, "s.a", "r", 300)
	inc := ends(t, s).First.Incarnation
	for _, q := range []bridge.ChunkQuery{
		{From: 1, Limit: 257}, {From: 257, Limit: 301}, {From: 100, Limit: 101},
	} {
		q.MaxBytes, q.Incarnation = 1<<20, inc
		before := s.Stats()
		c := chunk(t, s, q)
		after := s.Stats()
		if len(c.Records) != int(q.Limit-q.From) || c.End != q.Limit || (c.Before != 0) != (q.From > 1) {
			t.Errorf("chunk of [%d,%d) is [%d,%d) with %d records, before %v", q.From, q.Limit, c.From, c.End, len(c.Records), c.Before)
		}
		if after.Batches-before.Batches != 1 || after.Infos-before.Infos != 1 || after.Gets != before.Gets || after.Consumers != before.Consumers {
			t.Errorf("chunk of [%d,%d) cost %+v, before it was %+v", q.From, q.Limit, after, before)
		}
	}
}

// A mirror may answer for its origin (mirror_direct). One that holds less would
// make records vanish from replay.
func TestMirrorsThatAnswerForTheirOriginAreNotBelieved(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	publish(t, js, "s.a", "r", 30)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "M", Mirror: &jetstream.StreamSource{Name: "S", OptStartSeq: 21}, MirrorDirect: true,
	}); err != nil {
		t.Fatal(err)
	}
	for getStream(t, js, "M").CachedInfo().State.LastSeq < 30 { // mirrors fill in the background
		if err := sleep(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	answers := map[string]int{}
	nc := srv.Conn()
	for range 200 { // until the mirror has been seen to answer
		m, err := nc.Request("$JS.API.DIRECT.GET.S", []byte(`{"seq":21}`), patience)
		if err != nil {
			t.Fatal(err)
		}
		if answers[lastValue(m.Header, headerStream)]++; len(answers) == 2 {
			break
		}
	}
	if answers["M"] == 0 {
		t.Fatalf("the mirror never answered for its origin: %v", answers)
	}
	for range 50 {
		if got := readAll(t, s, 1, 31); len(got) != 30 {
			t.Fatalf("read %v, want 1 to 30", offsets(got))
		}
	}

	// And the mirror itself, whose first records are not lost by chance.
	m := openSource(t, srv.URL, SourceOptions{Stream: "M"})
	if got := readAll(t, m, 1, 31); len(got) != 10 || got[0].Offset != 21 {
		t.Errorf("of the mirror read %v, want 21 to 30", offsets(got))
	}
	judged(t, "mirror from the beginning", m, bridge.Position{}, wanted{bridge.Retention, 1, 20, 21, false})
}

// A replica that lags behind answers "nothing there" for records that clients
// elsewhere have already got. That must not become a hole.
func TestTruncatedAnswersAreNotBelieved(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	publish(t, js, "s.a", "r", 30)
	nc := srv.Conn()
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	for _, c := range []struct {
		name   string
		answer func(m *natsgo.Msg, seq uint64)
	}{
		{"nothing at or after it", func(m *natsgo.Msg, _ uint64) {
			_ = m.RespondMsg(&natsgo.Msg{Header: natsgo.Header{"Status": {"404"}, "Description": {"Message Not Found"}}})
		}},
		{"two records and the end", func(m *natsgo.Msg, seq uint64) {
			for i := seq; i < seq+2; i++ {
				last := fmt.Sprint(i - 1)
				if i == seq {
					last = "0"
				}
				stored, err := getStream(t, js, "S").GetMsg(context.WithoutCancel(t.Context()), i)
				if err != nil {
					return
				}
				_ = m.RespondMsg(&natsgo.Msg{Data: stored.Data, Header: natsgo.Header{
					headerStream: {"S"}, headerSubject: {"s.a"}, headerSequence: {fmt.Sprint(i)}, headerLastSeq: {last}, headerNumPending: {"0"},
					headerTimeStamp: {stored.Time.UTC().Format(time.RFC3339Nano)},
				}})
			}
			_ = m.RespondMsg(&natsgo.Msg{Header: natsgo.Header{"Status": {"204"}, headerNumPending: {"0"}, headerLastSeq: {fmt.Sprint(seq + 1)}}})
		}},
		{"a record missing in the middle", func(m *natsgo.Msg, seq uint64) {
			for i, last := seq, uint64(0); i < seq+4; i, last = i+1, i {
				if i == seq+2 {
					continue
				}
				_ = m.RespondMsg(&natsgo.Msg{Header: natsgo.Header{
					headerStream: {"S"}, headerSubject: {"s.a"}, headerSequence: {fmt.Sprint(i)}, headerLastSeq: {fmt.Sprint(last)}, headerNumPending: {"9"},
					headerTimeStamp: {time.Now().UTC().Format(time.RFC3339Nano)},
				}})
			}
		}},
		{"a server without batches", func(m *natsgo.Msg, seq uint64) {
			_ = m.RespondMsg(&natsgo.Msg{Header: natsgo.Header{
				headerStream: {"S"}, headerSubject: {"s.a"}, headerSequence: {fmt.Sprint(seq)}, headerTimeStamp: {time.Now().UTC().Format(time.RFC3339Nano)},
			}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The false server answers in the place of the true one.
			s := falseDirect(t, s, nc, c.answer)
			got := readAll(t, s, 1, 31)
			if len(got) != 30 {
				t.Errorf("read %v, want 1 to 30", offsets(got))
			}
			for i := range got {
				if string(got[i].Data) != fmt.Sprint("r", i) {
					t.Errorf("record %d is %q", i+1, got[i].Data)
				}
			}
		})
	}
}

// falseDirect returns a source on the same stream whose direct get is answered
// by answer instead of the server.
func falseDirect(t *testing.T, s *Source, nc *natsgo.Conn, answer func(m *natsgo.Msg, seq uint64)) *Source {
	t.Helper()
	other := runCluster(t, s.cluster.opt)
	o, err := NewSource(other, s.opt)
	if err != nil {
		t.Fatal(err)
	}
	o.waitConnected(t)
	o.directSubject = "false.direct"
	sub, err := nc.Subscribe(o.directSubject, func(m *natsgo.Msg) {
		var seq uint64
		if _, err := fmt.Sscanf(string(m.Data), `{"seq":%d`, &seq); err == nil {
			answer(m, seq)
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return o
}

// What the log lost while it was read must not look as if it had been a hole.
func TestChunkOfAStreamThatChanges(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js)
	publish(t, js, "s.a", "old", 30)
	s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
	q := bridge.ChunkQuery{From: 5, Limit: 20, MaxBytes: 1 << 20, Incarnation: ends(t, s).First.Incarnation}
	purge(t, js, jetstream.WithPurgeSequence(10))
	if c := chunk(t, s, q); c.From != 10 || c.End != 20 || len(c.Records) != 10 || c.Before != 0 {
		t.Errorf("purged below 10: [%d,%d) with %d records, before %v; want [10,20)", c.From, c.End, len(c.Records), c.Before)
	}
	purge(t, js)
	if c := chunk(t, s, q); c.From != 20 || c.End != 20 || len(c.Records) != 0 {
		t.Errorf("purged: [%d,%d) with %d records; want [20,20)", c.From, c.End, len(c.Records))
	}
	deleteStream(t, js, "S")
	if _, err := s.ReadChunk(t.Context(), q); !errors.Is(err, bridge.ErrMissing) {
		t.Errorf("deleted: %v, want ErrMissing", err)
	}
	srv.Settle("S")
	makeStream(t, js)
	publish(t, js, "s.a", "new", 30)
	if _, err := s.ReadChunk(t.Context(), q); !errors.Is(err, bridge.ErrHistoryChanged) {
		t.Errorf("recreated: %v, want ErrHistoryChanged", err)
	}
}

// Holes at every place of a chunk, with and without direct get: what is held is
// read, and the end of the log is not run over.
func TestChunkStopsAtTheEndOfTheLog(t *testing.T) {
	for _, direct := range []bool{true, false} {
		srv := natstest.Embedded(t)
		js := srv.JS()
		makeStream(t, js, func(c *jetstream.StreamConfig) { c.AllowDirect = direct })
		publish(t, js, "s.a", "r", 20)
		deleteRecord(t, js, 5, 6, 7, 18, 19, 20)
		s := openSource(t, srv.URL, SourceOptions{Stream: "S"})
		inc := ends(t, s).First.Incarnation
		for _, c := range []struct {
			from, limit, end, skip bridge.Offset
			records                []bridge.Offset
			before                 bool
		}{
			{1, 5, 5, 8, []bridge.Offset{1, 2, 3, 4}, false},
			{5, 8, 8, 0, nil, true},
			{6, 9, 9, 0, []bridge.Offset{8}, false},
			{8, 9, 9, 0, []bridge.Offset{8}, false},
			{17, 19, 19, 21, []bridge.Offset{17}, true},
			{17, 30, 21, 0, []bridge.Offset{17}, true},
			{18, 21, 21, 0, nil, true},
			{21, 30, 21, 0, nil, false},
		} {
			got := chunk(t, s, bridge.ChunkQuery{From: c.from, Limit: c.limit, MaxBytes: 1 << 20, Incarnation: inc})
			if got.Skip != 0 && got.Skip != c.skip { // it may not be known
				t.Errorf("direct=%v [%d,%d): skips to %d, want %d", direct, c.from, c.limit, got.Skip, c.skip)
			}
			if got.From != c.from || got.End != c.end || !slices.Equal(offsets(got.Records), append([]bridge.Offset{}, c.records...)) || (got.Before != 0) != c.before {
				t.Errorf("direct=%v [%d,%d): [%d,%d) %v before %v, want end %d, %v, %v", direct, c.from, c.limit, got.From, got.End, offsets(got.Records), got.Before, c.end, c.records, c.before)
			}
		}
		if names := consumers(t, js, "S"); len(names) > 0 {
			t.Errorf("direct=%v: replay left consumers %q behind", direct, names)
		}
	}
}

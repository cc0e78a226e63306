package kafka

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// put publishes a message.
func put(t testing.TB, client *kgo.Client, topic string, m sourcetest.Message) bridge.Offset {
	t.Helper()
	o, err := produce(t.Context(), client, topic, m)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// wantSame checks that live and replay show the same records.
func wantSame(t testing.TB, live, replayed []bridge.Record) {
	t.Helper()
	if !slices.EqualFunc(live, replayed, sameRecord) {
		t.Errorf("%d records live, %d replayed, or they differ", len(live), len(replayed))
	}
}

// Producers choose the codec, so every one must come out as it went in, batch
// after batch, small and large.
func TestEveryCodec(t *testing.T) {
	k := kafkatest.Shared(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			topic := k.Topic(t, 1, 1)
			s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
			live := follow(t, s)
			client := k.Client(t, kgo.ProducerBatchCompression(codec))
			var records []*kgo.Record
			for i := range 300 {
				value := bytes.Repeat(fmt.Appendf(nil, "record %d ", i), rnd.IntN(200))
				if i%50 == 7 {
					value = make([]byte, 3<<20) // several windows
					for j := range value {
						value[j] = byte(rnd.Uint32() & 0x3f)
					}
				}
				r := &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: value}
				for h := range i % 4 {
					r.Headers = append(r.Headers, kgo.RecordHeader{Key: fmt.Sprint("h", h), Value: bytes.Repeat([]byte{byte(i)}, h)})
				}
				records = append(records, r)
			}
			if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			live.reaches(t, 300)
			got := live.records[0]
			if len(got) != len(records) {
				t.Fatalf("%d records, want %d", len(got), len(records))
			}
			for i, r := range records {
				if !bytes.Equal(got[i].Data, r.Value) || !bytes.Equal(got[i].Key, r.Key) || len(got[i].Headers) != len(r.Headers) {
					t.Fatalf("record %d is %d bytes with key %q and headers %v", i, len(got[i].Data), got[i].Key, got[i].Headers)
				}
				for h := range r.Headers {
					if got[i].Headers[h].Key != r.Headers[h].Key || !bytes.Equal(got[i].Headers[h].Value, r.Headers[h].Value) {
						t.Fatalf("record %d has headers %v", i, got[i].Headers)
					}
				}
			}
			wantSame(t, got, replay(t, s, 0, 1<<20))
		})
	}
}

// A tombstone deletes, an empty value is one: applications tell them apart. Keys
// too may be absent, empty, or any bytes.
func TestNullIsNotEmpty(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 1, 1)
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	live := follow(t, s)
	client := k.Client(t)
	put(t, client, topic, sourcetest.Message{Key: []byte("k"), Data: []byte{}})
	put(t, client, topic, sourcetest.Message{Key: []byte("k"), Tombstone: true})
	put(t, client, topic, sourcetest.Message{Data: []byte("no key")})
	put(t, client, topic, sourcetest.Message{Key: []byte{}, Data: []byte("empty key")})
	live.reaches(t, 4)
	for _, recs := range [][]bridge.Record{live.records[0], replay(t, s, 0, 1<<20)} {
		if r := recs[0]; r.Kind != bridge.Data || r.Data == nil || len(r.Data) != 0 {
			t.Errorf("empty value is %+v", r)
		}
		if r := recs[1]; r.Kind != bridge.Delete || r.Data != nil || string(r.Key) != "k" {
			t.Errorf("null value is %+v", r)
		}
		if recs[2].Key != nil || recs[3].Key == nil || len(recs[3].Key) != 0 {
			t.Errorf("keys are %#v and %#v, want none and an empty one", recs[2].Key, recs[3].Key)
		}
	}
}

// A topic may stamp records itself; the producer's time is not the record's then.
func TestLogAppendTime(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 1, 1, "message.timestamp.type", "LogAppendTime")
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	live := follow(t, s)
	before := time.Now().Add(-time.Second)
	put(t, k.Client(t), topic, sourcetest.Message{Data: []byte("x"), Time: before.Add(-time.Hour)})
	live.reaches(t, 1)
	if at := live.records[0][0].Time; at.Before(before) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("the record's time is %v, want the broker's", at)
	}
}

// What is too large for clients must not be too large for the bridge either: it
// is told, with what identifies it, and the next record follows.
func TestLargeRecords(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 1, 1)
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	live := follow(t, s)
	client, packed := k.Client(t), k.Client(t, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	header := []bridge.Header{{Key: "region", Value: []byte("eu")}}
	limit := bytes.Repeat([]byte("y"), recordLimit)
	put(t, client, topic, sourcetest.Message{Key: []byte("at the limit"), Data: limit, Headers: header})
	put(t, client, topic, sourcetest.Message{Key: []byte("one more"), Data: append(limit[:recordLimit:recordLimit], 'z'), Headers: header})
	put(t, client, topic, sourcetest.Message{Key: []byte("far more"), Data: make([]byte, 30<<20), Headers: header})
	put(t, packed, topic, sourcetest.Message{Key: []byte("packed"), Data: make([]byte, 60<<20), Headers: header})
	put(t, client, topic, sourcetest.Message{Key: []byte("small"), Data: []byte("behind them")})
	live.reaches(t, 5)
	replayed := replay(t, s, 0, 1<<20)
	wantSame(t, live.records[0], replayed)
	for i, r := range replayed {
		switch {
		case i == 0 && (r.Kind != bridge.Data || !bytes.Equal(r.Data, limit)):
			t.Errorf("the record at the limit is of kind %d with %d bytes", r.Kind, len(r.Data))
		case i > 0 && i < 4 && (r.Kind != bridge.Oversized || r.Data != nil || len(r.Key) == 0 || len(r.Headers) != 1 || string(r.Headers[0].Value) != "eu"):
			t.Errorf("record %d is of kind %d with key %q and headers %v, want it oversized", i, r.Kind, r.Key, r.Headers)
		case i == 4 && string(r.Data) != "behind them":
			t.Errorf("the last record is %q", r.Data)
		}
	}
}

// A few kilobytes on the wire may unpack to gigabytes. That is the producer's
// doing, and must not be our memory.
func TestABatchThatUnpacksToMuchIsReadInPieces(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 1, 1)
	client := k.Client(t, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerLinger(100*time.Millisecond))
	var records []*kgo.Record
	for range 60 {
		records = append(records, &kgo.Record{Topic: topic, Value: make([]byte, 1<<20)})
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic, MaxRecordBytes: 64 << 10})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if recs := replay(t, s, 0, 1<<20); len(recs) != 60 || recs[59].Kind != bridge.Oversized {
		t.Errorf("%d records", len(recs))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 32<<20 {
		t.Errorf("%d bytes are kept", kept)
	}
}

// Compaction takes single records, whole batches, and the last records of
// batches. A reader that takes a hole for an end stops there; one that counts
// records instead of offsets goes wrong for good.
func TestCompactedTopic(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 1, 1, "cleanup.policy", "compact", "segment.ms", "1000", "min.cleanable.dirty.ratio", "0.01",
		"min.compaction.lag.ms", "0", "delete.retention.ms", "100", "max.compaction.lag.ms", "1000")
	client := k.Client(t)
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	live := follow(t, s)
	// Batches of ten over five keys: the first ones will be emptied.
	latest := map[string]bridge.Offset{}
	for range 8 {
		var batch []*kgo.Record
		for i := range 10 {
			batch = append(batch, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i%5), Value: fmt.Append(nil, i)})
		}
		if err := client.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for _, r := range batch {
			latest[string(r.Key)] = bridge.Offset(r.Offset)
		}
	}
	live.reaches(t, 80)
	places := []bridge.Place{}
	for _, r := range live.records[0] {
		places = append(places, r.Next())
	}
	// The segment in use is never compacted: a record a while later begins another.
	var held []bridge.Record
	deadline := time.Now().Add(patience)
	for n := 0; ; n++ {
		put(t, client, topic, sourcetest.Message{Key: []byte("roll"), Data: fmt.Append(nil, n)})
		held = slices.DeleteFunc(replay(t, s, 0, 1<<20), func(r bridge.Record) bool { return string(r.Key) == "roll" })
		if len(held) == len(latest) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the broker has not compacted: %d records are left of 80, want %d", len(held), len(latest))
		}
		if err := sleep(t.Context(), time.Second); err != nil { // the broker looks at its segments by the clock
			t.Fatal(err)
		}
	}
	for _, r := range held {
		if latest[string(r.Key)] != r.Offset {
			t.Errorf("%q is held at %d, want %d", r.Key, r.Offset, latest[string(r.Key)])
		}
	}
	b, err := s.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range places { // of records that are gone too
		wantExact(t, s, b.End.With(0, place))
	}
	for from := range b.End.Place(0).Offset {
		for _, size := range []int{1, 1 << 20} {
			c, err := s.ReadChunk(t.Context(), bridge.ChunkQuery{From: from, Limit: b.End.Place(0).Offset, MaxBytes: size, Incarnation: b.End.Incarnation})
			if err != nil || c.From != from || c.End <= from {
				t.Fatalf("chunk from %d by %d bytes: [%d,%d), %v", from, size, c.From, c.End, err)
			}
		}
	}
	late := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	if got := replay(t, late, 0, 1); len(got) < len(latest) || !slices.EqualFunc(got[:len(latest)], held, sameRecord) {
		t.Errorf("another source reads %d records", len(got))
	}
	live.until(t, "the last record", func() bool { return live.pos.Place(0).Offset == b.End.Place(0).Offset })
	if len(live.findings) > 0 {
		t.Errorf("found %+v, want nothing", live.findings)
	}
}

// A hundred partitions are one connection for data, whatever the number of
// topics.
func TestManyPartitionsShareOneConnection(t *testing.T) {
	k := kafkatest.Shared(t)
	c := runCluster(t, Options{Brokers: k.Brokers()})
	client := k.Client(t)
	var lives []*follower
	var names []string
	for range 3 {
		topic := k.Topic(t, 100, 1)
		s, err := NewSource(c, SourceOptions{Topic: topic})
		if err != nil {
			t.Fatal(err)
		}
		lives, names = append(lives, follow(t, s)), append(names, topic)
	}
	ends := make([]bridge.Offset, 100)
	for round := range 3 {
		for i, topic := range names {
			var records []*kgo.Record
			for p := range int32(100) {
				records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: fmt.Append(nil, round, p)})
			}
			for retry := true; retry; {
				err := client.ProduceSync(t.Context(), records...).FirstErr()
				if retry = err != nil; retry && !notWritten(err) {
					t.Fatal(err)
				}
			}
			for p := range ends {
				ends[p] = bridge.Offset(round + 1)
			}
			lives[i].reaches(t, ends...)
		}
	}
	// One for data. Questions share another, but for those that meet: each of the
	// three tails has one at a time, and the library looks for brokers by itself.
	if dials := c.live.dials.Load(); dials > 6 {
		t.Errorf("%d connections were made for 300 partitions, want up to 6", dials)
	}
}

// Two names for one topic are two tails, which take turns.
func TestTwoTailsOfOneTopic(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 2, 1)
	c := runCluster(t, Options{Brokers: k.Brokers()})
	var lives []*follower
	for range 2 {
		s, err := NewSource(c, SourceOptions{Topic: topic})
		if err != nil {
			t.Fatal(err)
		}
		lives = append(lives, follow(t, s))
	}
	client := k.Client(t)
	for i := range 40 {
		put(t, client, topic, sourcetest.Message{Partition: int32(i % 2), Data: fmt.Append(nil, i)})
	}
	for _, live := range lives {
		live.reaches(t, 20, 20)
		if n := len(live.records[0]) + len(live.records[1]); n != 40 {
			t.Errorf("%d records, want 40", n)
		}
	}
}

// What check tells is what an operator goes by.
func TestCheckTellsWhatThereIs(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 12, 1, "retention.ms", "86400000")
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	put(t, k.Client(t), topic, sourcetest.Message{Partition: 3, Data: []byte("x")})
	r, err := s.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Partitions) != 12 || r.Partitions[3].End != 1 || r.Partitions[4].End != 0 || r.CleanupPolicy != "delete" ||
		r.RetentionTime != 24*time.Hour || r.RetentionBytes != -1 || len(r.Warnings) > 0 {
		t.Errorf("report is %+v", r)
	}
	if n := r.IDBytes("orders"); n < 60 || n > 140 {
		t.Errorf("ids are expected to have %d bytes", n)
	}
	missing := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: "not-there"})
	if _, err := missing.Check(t.Context()); err == nil {
		t.Error("a topic that does not exist checks well")
	}
}

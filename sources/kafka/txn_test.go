package kafka

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// txn is a producer of transactions.
type txn struct {
	t      testing.TB
	client *kgo.Client
	topic  string
}

func newTxn(t testing.TB, k *kafkatest.Cluster, topic, id string) *txn {
	t.Helper()
	return &txn{t, k.Client(t, kgo.TransactionalID(topic+id), kgo.ProducerBatchMaxBytes(1<<20)), topic}
}

func (x *txn) begin() {
	x.t.Helper()
	if err := x.client.BeginTransaction(); err != nil {
		x.t.Fatal(err)
	}
}

func (x *txn) put(partition int32, text string) bridge.Offset {
	x.t.Helper()
	o, err := produce(x.t.Context(), x.client, x.topic, sourcetest.Message{Partition: partition, Data: []byte(text)})
	if err != nil {
		x.t.Fatal(err)
	}
	return o
}

func (x *txn) end(commit bool) {
	x.t.Helper()
	if err := x.client.EndTransaction(x.t.Context(), kgo.TransactionEndTry(commit)); err != nil {
		x.t.Fatal(err)
	}
}

// highWatermarks are the ends of the log, markers included.
func highWatermarks(t testing.TB, k *kafkatest.Cluster, topic string, partitions int) []bridge.Offset {
	t.Helper()
	listed, err := k.Admin(t).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]bridge.Offset, partitions)
	for p := range out {
		o, _ := listed.Lookup(topic, int32(p))
		out[p] = bridge.Offset(o.Offset)
	}
	return out
}

// A record of an aborted transaction was never said. Brokers send it all the
// same, so it is for the reader to leave out, whatever the transactions are
// woven into, wherever a chunk begins or ends.
func TestTransactionsShowWhatWasCommittedOnly(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 3, 1)
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	live := follow(t, s)

	plain := k.Client(t)
	var producers []*txn
	for i := range 4 {
		producers = append(producers, newTxn(t, k, topic, fmt.Sprint(i)))
	}
	want := make([][]string, 3)
	at := map[string]bridge.Offset{}
	type said struct {
		partition int32
		text      string
	}
	open := make([][]said, len(producers))
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 160 {
		i, p := rnd.IntN(len(producers)), int32(rnd.IntN(3))
		text := fmt.Sprintf("%d by %d", n, i)
		switch x := rnd.IntN(10); {
		case x < 2:
			o, err := produce(t.Context(), plain, topic, sourcetest.Message{Partition: p, Data: []byte(text)})
			if err != nil {
				t.Fatal(err)
			}
			at[text] = o
			want[p] = append(want[p], text)
		case x < 7:
			if open[i] == nil {
				producers[i].begin()
			}
			at[text] = producers[i].put(p, text)
			open[i] = append(open[i], said{p, text})
		case open[i] != nil:
			commit := rnd.IntN(2) == 0
			producers[i].end(commit)
			for _, r := range open[i] {
				if commit {
					want[r.partition] = append(want[r.partition], r.text)
				}
			}
			open[i] = nil
		}
	}
	for i := range producers {
		if open[i] != nil {
			producers[i].end(false)
		}
	}
	ends := highWatermarks(t, k, topic, 3)
	live.reaches(t, ends...)
	for p := range int32(3) {
		slices.SortFunc(want[p], func(a, b string) int { return int(at[a] - at[b]) })
		if got := live.texts(p); !slices.Equal(got, want[p]) {
			t.Errorf("partition %d live: %q, want %q", p, got, want[p])
		}
		for _, maxBytes := range []int{1, 700, 1 << 20} {
			if got := texts(replay(t, s, p, maxBytes)); !slices.Equal(got, want[p]) {
				t.Errorf("partition %d replayed by %d bytes: %q, want %q", p, maxBytes, got, want[p])
			}
		}
		// From every offset, also from inside of a transaction.
		for from := range ends[p] {
			q := bridge.ChunkQuery{Partition: p, From: from, Limit: ends[p], MaxBytes: 1 << 20, Incarnation: live.pos.Incarnation}
			c, err := s.ReadChunk(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var rest []string
			for _, text := range want[p] {
				if at[text] >= from {
					rest = append(rest, text)
				}
			}
			if got := texts(c.Records); c.From != from || c.End != ends[p] || !slices.Equal(got, rest) {
				t.Fatalf("partition %d from %d: [%d,%d) %q, want %q", p, from, c.From, c.End, got, rest)
			}
		}
	}
	live.mu.Lock()
	defer live.mu.Unlock()
	wantExact(t, s, live.pos)
	if len(live.findings) > 0 {
		t.Errorf("found %+v, want nothing", live.findings)
	}
}

// Ten megabytes that come to nothing must not be held in memory, shown, or stop
// anything: the place moves over them.
func TestLargeAbortedTransactionOverPartitions(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 3, 1)
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	live := follow(t, s)
	aborted, committed := newTxn(t, k, topic, "a"), newTxn(t, k, topic, "c")
	body := string(bytes.Repeat([]byte("x"), 100<<10))
	want := make([][]string, 3)
	aborted.begin()
	for i := range 102 {
		p := int32(i % 3)
		aborted.put(p, body)
		if i%20 == 0 {
			text := fmt.Sprint("between ", i)
			committed.begin()
			committed.put(p, text)
			committed.end(true)
			want[p] = append(want[p], text)
		}
	}
	aborted.end(false)
	for p := range int32(3) {
		text := fmt.Sprint("behind ", p)
		aborted.begin() // the same producer, another transaction
		aborted.put(p, text)
		aborted.end(true)
		want[p] = append(want[p], text)
	}
	live.reaches(t, highWatermarks(t, k, topic, 3)...)
	for p := range int32(3) {
		if got := live.texts(p); !slices.Equal(got, want[p]) {
			t.Errorf("partition %d live: %d records, want %q", p, len(got), want[p])
		}
		if got := texts(replay(t, s, p, 64<<10)); !slices.Equal(got, want[p]) {
			t.Errorf("partition %d replayed: %d records, want %q", p, len(got), want[p])
		}
	}
}

// A producer that died in the middle of a transaction holds the partition up
// until the broker gives up on it. Operators must see that, and nobody may be
// told what is not settled; afterwards nothing may be missing.
func TestHangingTransactionHoldsItsPartition(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprintf("commit %v", commit), func(t *testing.T) {
			k := kafkatest.Shared(t)
			topic := k.Topic(t, 1, 1)
			plain := k.Client(t)
			put := func(text string) {
				t.Helper()
				if _, err := produce(t.Context(), plain, topic, sourcetest.Message{Data: []byte(text)}); err != nil {
					t.Fatal(err)
				}
			}
			put("before")
			hanging := newTxn(t, k, topic, "h")
			hanging.begin()
			hanging.put(0, "hanging")
			put("behind it")

			s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
			live := follow(t, s)
			if at := live.pos.Place(0); at.Offset != 1 || at.Proof == 0 {
				t.Errorf("started at %+v, want 1, before the transaction, with a proof", at)
			}
			live.until(t, "Reading", func() bool {
				return slices.ContainsFunc(live.changes, func(c bridge.Change) bool { return c.Kind == bridge.Reading })
			})
			put("behind that")
			held := false
			for !held { // the status follows the fetch that met it
				st := s.Status()
				held = len(st) == 1 && !st[0].Held.IsZero() && st[0].Lag > 0
				if err := sleep(t.Context(), firstWait); err != nil {
					t.Fatal(err)
				}
			}
			if got := live.texts(0); len(got) > 0 {
				t.Errorf("showed %q while the transaction was open", got)
			}
			b, err := s.Bounds(t.Context())
			if err != nil || b.End.Place(0).Offset != 1 {
				t.Errorf("the end is %+v, %v; want 1", b.End, err)
			}
			hanging.end(commit)
			want := []string{"behind it", "behind that"}
			if commit {
				want = []string{"hanging", "behind it", "behind that"}
			}
			live.reaches(t, 5)
			if got := live.texts(0); !slices.Equal(got, want) {
				t.Errorf("showed %q, want %q", got, want)
			}
			if got := texts(replay(t, s, 0, 1<<20)); !slices.Equal(got, append([]string{"before"}, want...)) {
				t.Errorf("replayed %q", got)
			}
			put("last")
			live.reaches(t, 6)
			if st := s.Status(); !st[0].Held.IsZero() {
				t.Errorf("the status is %+v after the transaction ended", st)
			}
		})
	}
}

// Whoever chooses read_uncommitted gets everything but the markers.
func TestReadUncommittedShowsOpenTransactions(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 1, 1)
	s := openSource(t, Options{Brokers: k.Brokers(), Isolation: ReadUncommitted}, SourceOptions{Topic: topic})
	live := follow(t, s)
	x := newTxn(t, k, topic, "x")
	x.begin()
	x.put(0, "open")
	live.reaches(t, 1)
	x.end(false)
	live.reaches(t, 2)
	if got := live.texts(0); !slices.Equal(got, []string{"open"}) {
		t.Errorf("showed %q, want the record that was aborted", got)
	}
}

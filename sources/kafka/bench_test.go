package kafka

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
)

// cpu is the processor time that the process has used.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counter is a receiver that only counts.
type counter struct {
	started chan struct{}
	n, want int
	done    chan struct{}
}

func (c *counter) Records(recs []bridge.Record) {
	if c.n += len(recs); c.n >= c.want {
		select {
		case <-c.done:
		default:
			close(c.done)
		}
	}
}

func (c *counter) Change(ch bridge.Change) {
	if ch.Kind == bridge.Started {
		close(c.started)
	}
}

// BenchmarkBesideFranzGo measures what reading costs, beside franz-go in the same
// process: the processor time per record, by a live reader that has fallen behind
// and by a client of the other library that makes its records too, in five
// alternating rounds. Each takes longer than the benchmark time, so it runs once.
func BenchmarkBesideFranzGo(b *testing.B) {
	for _, size := range []struct{ bytes, records int }{{200, 1_000_000}, {1000, 250_000}} {
		b.Run(fmt.Sprint(size.bytes), func(b *testing.B) {
			k := kafkatest.Shared(b)
			topic := k.Topic(b, 12, 1)
			var readers []*reader
			for range 5 {
				readers = append(readers, newReader(b, k, topic, size.records))
			}
			produceMany(b, k, topic, size.bytes, size.records)
			var ours, theirs []float64
			var rate float64
			for _, r := range readers {
				n, used, took := r.read(b)
				ours = append(ours, float64(used.Nanoseconds())/float64(n)/1000)
				rate = float64(n) / took.Seconds()
				n, used = readTheirs(b, k, topic, size.records)
				theirs = append(theirs, float64(used.Nanoseconds())/float64(n)/1000)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ours), "us-cpu/record")
			b.ReportMetric(median(theirs), "us-cpu/record-franz-go")
			b.ReportMetric(median(ours)/median(theirs), "of-franz-go")
			b.ReportMetric(rate, "records/s")
			b.ReportMetric(rate*float64(size.bytes)/1e6, "MB/s")
			b.Logf("ours %.2f to %.2f us, franz-go %.2f to %.2f us", slices.Min(ours), slices.Max(ours), slices.Min(theirs), slices.Max(theirs))
		})
	}
}

// BenchmarkIdle measures what following costs while nothing happens: connections,
// goroutines, processor time, and the length of event ids.
func BenchmarkIdle(b *testing.B) {
	const measured = 4 * time.Second
	for _, n := range []int{1, 10, 12, 100, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := kafkatest.Shared(b)
			topic := k.Topic(b, n, 1)
			before := runtime.NumGoroutine()
			c := runCluster(b, Options{Brokers: k.Brokers()})
			s, err := NewSource(c, SourceOptions{Topic: topic})
			if err != nil {
				b.Fatal(err)
			}
			live := follow(b, s)
			live.until(b, "Reading", func() bool {
				return slices.ContainsFunc(live.changes, func(c bridge.Change) bool { return c.Kind == bridge.Reading })
			})
			used := cpu(b)
			if err := sleep(b.Context(), measured); err != nil { // what is measured is that time
				b.Fatal(err)
			}
			used = cpu(b) - used
			r, err := s.Check(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(c.live.dials.Load()), "connections")
			b.ReportMetric(float64(runtime.NumGoroutine()-before), "goroutines")
			b.ReportMetric(100*used.Seconds()/measured.Seconds(), "%cpu")
			b.ReportMetric(float64(r.IDBytes("orders")), "id-bytes")
			b.ReportMetric(float64(bigID(r)), "id-bytes-at-1e9")
		})
	}
}

// bigID is how long ids become when offsets are large.
func bigID(r CheckReport) int {
	r.End = r.End.Clone()
	for i := range r.End.Places {
		r.End.Places[i].Offset = 1e9
	}
	return r.IDBytes("orders")
}

func median(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	return x[len(x)/2]
}

func produceMany(t testing.TB, k *kafkatest.Cluster, topic string, size, n int) {
	t.Helper()
	client := k.Client(t, kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(20000), kgo.ProducerBatchMaxBytes(512<<10))
	value := bytes.Repeat([]byte("v"), size)
	failed := make(chan error, 1)
	for i := range n {
		client.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: int32(i % 12), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// reader is a Tail that has started at the beginning of an empty topic, and will
// read when it is let.
type reader struct {
	cluster *Cluster
	c       *counter
}

func newReader(t testing.TB, k *kafkatest.Cluster, topic string, n int) *reader {
	t.Helper()
	cluster, err := NewCluster(Options{Brokers: k.Brokers()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSource(cluster, SourceOptions{Topic: topic, Poll: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{cluster, &counter{started: make(chan struct{}), done: make(chan struct{}), want: n}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Tail(ctx, r.c)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	<-r.c.started
	return r
}

// read runs the cluster until everything has been read.
func (r *reader) read(t testing.TB) (records int, used, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	begun, before := time.Now(), cpu(t)
	go func() {
		defer close(ended)
		_ = r.cluster.Run(ctx)
	}()
	<-r.c.done
	used, took = cpu(t)-before, time.Since(begun)
	cancel()
	<-ended
	return r.c.n, used, took
}

func readTheirs(t testing.TB, k *kafkatest.Cluster, topic string, n int) (records int, used time.Duration) {
	t.Helper()
	before := cpu(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(partitionBytes))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for records < n {
		f := client.PollFetches(t.Context())
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		records += f.NumRecords()
	}
	return records, cpu(t) - before
}

// BenchmarkRecords measures what one record costs from the bytes of a response
// to the receiver, without a broker.
func BenchmarkRecords(b *testing.B) {
	for _, size := range []int{200, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			deltas := make([]int64, 1000)
			for i := range deltas {
				deltas[i] = int64(i)
			}
			raw := makeBatch(0, 0, 0, -1, 999, deltas, make([]byte, size))
			s := &Source{opt: SourceOptions{Topic: "t", MaxRecordBytes: recordLimit}}
			t := &tail{s: s, topic: "t", out: &counter{want: 1 << 62}}
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				p := &part{}
				if err := t.batches(p, &fetched{records: raw}); err != nil {
					b.Fatal(err)
				}
				t.flush()
				t.moves = t.moves[:0]
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
		})
	}
}

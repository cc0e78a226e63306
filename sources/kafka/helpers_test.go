package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// patience is how long a test waits for what must happen. Nothing measures it.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	kafkatest.StopShared()
	os.Exit(code)
}

// runCluster runs a cluster until the test ends.
func runCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := NewCluster(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

// openSource opens a topic over a cluster of its own.
func openSource(t testing.TB, o Options, so SourceOptions) *Source {
	t.Helper()
	if so.Poll == 0 {
		so.Poll = 200 * time.Millisecond
	}
	s, err := NewSource(runCluster(t, o), so)
	if err != nil {
		t.Fatal(err)
	}
	s.beyondFor = 300 * time.Millisecond
	return s
}

// produce publishes one message and returns its offset.
func produce(ctx context.Context, client *kgo.Client, topic string, m sourcetest.Message) (bridge.Offset, error) {
	r := &kgo.Record{Topic: topic, Partition: m.Partition, Key: m.Key, Value: m.Data, Timestamp: m.Time}
	if m.Tombstone {
		r.Value = nil
	} else if r.Value == nil {
		r.Value = []byte{}
	}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	for {
		err := client.ProduceSync(ctx, r).FirstErr()
		if err == nil {
			return bridge.Offset(r.Offset), nil
		}
		if !notWritten(err) {
			return 0, fmt.Errorf("produce to %s/%d: %w", topic, m.Partition, err)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil { // until the broker leads it
			return 0, err
		}
	}
}

// notWritten reports whether a broker refused a record because it does not lead
// the partition (yet).
func notWritten(err error) bool {
	return errors.Is(err, kerr.NotLeaderForPartition) || errors.Is(err, kerr.UnknownTopicID) ||
		errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.LeaderNotAvailable)
}

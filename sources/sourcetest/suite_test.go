package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/ssebridge/ssebridge/bridge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// subject is a broker in memory with all it can do.
func subject(kind Kind, partitions int) Subject {
	b := NewBroker(BrokerOptions{Kind: kind, Partitions: partitions, Subjects: []string{"orders.>"}})
	s := Subject{
		Source:     b.Source(SourceOptions{}),
		Partitions: partitions,
		Keyed:      kind == KafkaLike,
		Publish: func(_ context.Context, m Message) (bridge.Offset, error) {
			rec, ok := b.Append(m)
			if !ok {
				return 0, errors.New("no such partition")
			}
			return rec.Offset, nil
		},
		Replica: func(*testing.T) bridge.Source { return b.Source(SourceOptions{}) },
		Delete: func(t *testing.T, p int32, o bridge.Offset) {
			if !b.Delete(p, o) {
				t.Fatalf("nothing to delete at %d", o)
			}
		},
		Trim: func(t *testing.T, p int32, to bridge.Offset) {
			if !b.Trim(p, to) {
				t.Fatalf("nothing to trim below %d", to)
			}
		},
		Keep: func(*testing.T) func() {
			ends := make([]bridge.Offset, b.Partitions())
			for p := range ends {
				ends[p] = b.Ends(int32(p)).End
			}
			return func() {
				for p, end := range ends {
					b.Rollback(int32(p), end)
				}
			}
		},
		Recreate: func(*testing.T) { b.Recreate(partitions) },
		Remove:   func(*testing.T) { b.Remove() },
		Restart:  func(*testing.T) { b.Down(); b.Up() },
		Down:     func(*testing.T) { b.Down() },
		Up:       func(*testing.T) { b.Up() },
	}
	if kind == KafkaLike {
		s.Grow = func(t *testing.T, n int) {
			if !b.Grow(n) {
				t.Fatalf("the topic did not grow to %d partitions", n)
			}
		}
		return s
	}
	s.Restore = func(*testing.T) { b.Restore() }
	return s
}

// Tests that stand on the broker in memory are worth what it is: it is held to
// the same contract as the real ones.
func TestMemoryKeepsTheContract(t *testing.T) {
	for _, c := range []struct {
		kind       Kind
		partitions int
	}{{JetStreamLike, 1}, {KafkaLike, 1}, {KafkaLike, 3}} {
		t.Run(fmt.Sprintf("%v/%d", c.kind, c.partitions), func(t *testing.T) {
			Run(t, func(*testing.T) Subject { return subject(c.kind, c.partitions) })
		})
	}
}

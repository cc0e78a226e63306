package kafka

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// goroutines are those that go on after a Tail: the lanes of the cluster, and
// the client libraries' own.
var goroutines = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/ssebridge/ssebridge/sources/kafka.(*lane).run"),
	goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*conn).run"),
	goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"),
	goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connGroup).grabConnOrConnect.func1"),
}

// contract describes a fresh topic to the contract suite. Compaction takes a
// broker many seconds, so what the suite knows as deleting a record has tests of
// its own. again lets the producer begin anew, once brokers are back.
func contract(t *testing.T, k *kafkatest.Cluster, partitions int, o Options) (s sourcetest.Subject, again func(t *testing.T)) {
	t.Helper()
	topic := k.Topic(t, partitions, 1)
	// A producer that has seen the topic before goes on with what it knew of it.
	var client atomic.Pointer[kgo.Client]
	again = func(t *testing.T) {
		t.Helper()
		k.AwaitLeaders(t, topic, partitions)
		client.Store(k.Client(t, kgo.DisableIdempotentWrite(), kgo.RecordRetries(0)))
	}
	again(t)
	o.Brokers = k.Brokers()
	open := func(t *testing.T) *Source { return openSource(t, o, SourceOptions{Topic: topic}) }
	source := open(t)
	return sourcetest.Subject{
		Source:     source,
		Partitions: partitions,
		Keyed:      true,
		Publish: func(ctx context.Context, m sourcetest.Message) (bridge.Offset, error) {
			return produce(ctx, client.Load(), topic, m)
		},
		Replica: func(t *testing.T) bridge.Source { return open(t) },
		Trim:    func(t *testing.T, p int32, to bridge.Offset) { t.Helper(); k.Trim(t, topic, p, int64(to)) },
		Remove:  func(t *testing.T) { t.Helper(); k.Delete(t, topic) },
		Grow: func(t *testing.T, n int) {
			t.Helper()
			k.Grow(t, topic, n)
			again(t)
		},
		Recreate: func(t *testing.T) {
			t.Helper()
			k.Delete(t, topic)
			k.Create(t, topic, partitions, 1)
			again(t)
		},

		Goroutines: append([]goleak.Option{goleak.IgnoreCurrent()}, goroutines...),
	}, again
}

// The contract is what the rest of the bridge is built on.
func TestContract(t *testing.T) {
	k := kafkatest.Shared(t)
	sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
		s, _ := contract(t, k, 2, Options{})
		return s
	})
}

// A broker that is killed, restarted, unreachable, or that loses the end of its
// log, must cost time only, or be told.
func TestContractFaults(t *testing.T) {
	k := kafkatest.Start(t, kafkatest.Options{})
	node := k.Nodes[0]
	sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
		s, again := contract(t, k, 2, Options{})
		s.Restart = func(t *testing.T) {
			t.Helper()
			node.Restart(t)
			again(t)
		}
		s.Down = func(t *testing.T) { t.Helper(); node.Kill9() }
		s.Up = func(t *testing.T) {
			t.Helper()
			node.Start(t)
			again(t)
		}
		s.Keep = func(t *testing.T) func() {
			t.Helper()
			older := node.CopyData(t)
			return func() {
				node.RollBack(t, older)
				again(t)
			}
		}
		return s
	})
}

// Older brokers have other ways to the same.
func TestContractOlderProtocol(t *testing.T) {
	k := kafkatest.Shared(t)
	for _, version := range []int16{12, 11} {
		t.Run(fmt.Sprint("Fetch ", version), func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
				s, _ := contract(t, k, 2, Options{fetchCap: version})
				return s
			})
		})
	}
}

// The last release before 4.0 is what many run.
func TestContractOlderBroker(t *testing.T) {
	k := kafkatest.Start(t, kafkatest.Options{Version: kafkatest.Older})
	sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
		s, _ := contract(t, k, 2, Options{})
		return s
	})
}

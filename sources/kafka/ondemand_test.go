package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// wanted counts the partitions that a cluster's lanes have still to fetch. A lane
// fetches nothing else.
func (c *Cluster) wanted() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lanes {
		l.mu.Lock()
		for _, parts := range l.wants {
			n += len(parts)
		}
		l.mu.Unlock()
	}
	return n
}

// A stream that is read on demand is not fetched while nobody looks, and is read
// from its end when somebody does.
func TestIdleStreamIsNotFetched(t *testing.T) {
	k := kafkatest.Shared(t)
	topic := k.Topic(t, 3, 1)
	client := k.Client(t)
	source := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	hub, stream := sourcetest.RunOnDemand(t, source)
	until := func(what string, holds func() bool) {
		t.Helper()
		sourcetest.Until(t, what, patience, func() any { return stream.Status() }, holds)
	}
	written := 0
	write := func() {
		for range 5 {
			for p := range int32(3) {
				put(t, client, topic, sourcetest.Message{Partition: p, Data: fmt.Append(nil, written)})
			}
			written++
		}
	}
	read := func() bool {
		live, _ := stream.Live()
		for p := range int32(3) {
			if live.Place(p).Offset != bridge.Offset(written) {
				return false
			}
		}
		return true
	}
	for range 3 {
		until("idle", func() bool { return stream.Status().State == "idle" })
		time.Sleep(2 * fetchWait) // the last fetch comes back
		write()
		if n := source.cluster.wanted(); n != 0 {
			t.Errorf("%d partitions are wanted of an idle stream, want none", n)
		}
		for _, st := range source.Status() {
			if int(st.Place.Offset) == written {
				t.Errorf("partition %d was read to %d while nobody looked", st.Partition, st.Place.Offset)
			}
		}
		before := stream.Status().Records
		var d bridge.Demand
		until("ready", func() bool { _, ready, err := hub.Resolve(bridge.Subscription{}, &d); return ready && err == nil })
		if !read() {
			t.Errorf("reading begins at %+v, want %d, the end of the log", stream.Status().Live, written)
		}
		write()
		until("live", read)
		if got := stream.Status().Records - before; got != 15 {
			t.Errorf("%d records were read, want the 15 that were published then", got)
		}
		d.Release()
	}
}

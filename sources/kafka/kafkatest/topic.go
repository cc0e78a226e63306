package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// topics counts the topics of the process, so that each has a name of its own.
var topics atomic.Int64

// Topic makes a topic with a name of its own and returns the name. Configs are
// pairs of names and values. On a broker that was there already it is deleted
// with the end of the test; others end themselves.
func (c *Cluster) Topic(t testing.TB, partitions, replicas int, configs ...string) string {
	t.Helper()
	name := fmt.Sprintf("t%d-%d", time.Now().UnixMilli(), topics.Add(1))
	c.Create(t, name, partitions, replicas, configs...)
	if c.ID == "" {
		admin := c.Admin(t)
		t.Cleanup(func() { _, _ = admin.DeleteTopic(context.WithoutCancel(t.Context()), name) }) // the test may have
	}
	return name
}

// Create makes a topic of this name, after one that was deleted too, and returns
// when it has leaders.
func (c *Cluster) Create(t testing.TB, name string, partitions, replicas int, configs ...string) {
	t.Helper()
	settings := map[string]*string{"max.message.bytes": new("67108864")}
	for i := 0; i+1 < len(configs); i += 2 {
		settings[configs[i]] = &configs[i+1]
	}
	admin := c.Admin(t)
	until(t, "topic "+name, func(ctx context.Context) error {
		_, err := admin.CreateTopic(ctx, int32(partitions), int16(replicas), settings, name)
		return err
	})
	c.AwaitLeaders(t, name, partitions)
}

// AwaitLeaders waits until every partition of a topic has a leader, as it has to
// after a restart.
func (c *Cluster) AwaitLeaders(t testing.TB, name string, partitions int) {
	t.Helper()
	admin := c.Admin(t)
	until(t, "leaders of "+name, func(ctx context.Context) error { return led(ctx, admin, name, partitions) })
}

// led reports whether all partitions of a topic have leaders.
func led(ctx context.Context, admin *kadm.Client, name string, partitions int) error {
	m, err := admin.Metadata(ctx, name)
	if err != nil {
		return err
	}
	d := m.Topics[name]
	if d.Err != nil {
		return d.Err
	}
	if len(d.Partitions) < partitions {
		return fmt.Errorf("%d of %d partitions", len(d.Partitions), partitions)
	}
	for _, p := range d.Partitions {
		if p.Err != nil {
			return p.Err
		}
		if p.Leader < 0 {
			return errors.New("no leader")
		}
	}
	return nil
}

// Delete deletes a topic and returns when no broker knows it any more.
func (c *Cluster) Delete(t testing.TB, name string) {
	t.Helper()
	admin := c.Admin(t)
	until(t, "deletion of "+name, func(ctx context.Context) error {
		_, err := admin.DeleteTopic(ctx, name)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil
		}
		if err == nil {
			err = errors.New("it is going")
		}
		return err
	})
}

// Grow adds partitions to a topic until there are n.
func (c *Cluster) Grow(t testing.TB, name string, n int) {
	t.Helper()
	admin := c.Admin(t)
	if _, err := admin.UpdatePartitions(t.Context(), n, name); err != nil {
		t.Fatalf("grow %s: %v", name, err)
	}
	until(t, "new partitions of "+name, func(ctx context.Context) error { return led(ctx, admin, name, n) })
}

// Trim deletes the records of a partition below an offset.
func (c *Cluster) Trim(t testing.TB, name string, partition int32, to int64) {
	t.Helper()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: name, Partition: partition, At: to})
	got, err := c.Admin(t).DeleteRecords(t.Context(), offsets)
	if err == nil {
		err = got.Error()
	}
	if err != nil {
		t.Fatalf("trim %s: %v", name, err)
	}
}

// until repeats do until it has no error.
func until(t testing.TB, what string, do func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no %s: %v", what, err)
		case <-time.After(20 * time.Millisecond): // between two questions
		}
	}
}

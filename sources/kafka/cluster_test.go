package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// leaderOf returns the node that leads a partition.
func leaderOf(t testing.TB, k *kafkatest.Cluster, topic string, partition int32) *kafkatest.Node {
	t.Helper()
	m, err := k.Admin(t).Metadata(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	id := m.Topics[topic].Partitions[partition].Leader
	for _, n := range k.Nodes {
		if n.ID == id {
			return n
		}
	}
	t.Fatalf("partition %d is led by %d", partition, id)
	return nil
}

// untilLed waits until a node leads a partition.
func untilLed(t testing.TB, k *kafkatest.Cluster, topic string, partition int32, by *kafkatest.Node) {
	t.Helper()
	admin := k.Admin(t)
	deadline := time.Now().Add(patience)
	for {
		m, err := admin.Metadata(t.Context(), topic)
		if err == nil && m.Topics[topic].Partitions[partition].Leader == by.ID {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("node %d does not lead: %v, %+v", by.ID, err, m.Topics[topic])
		}
		if err := sleep(t.Context(), 100*time.Millisecond); err != nil { // between two questions
			t.Fatal(err)
		}
	}
}

// Brokers die, and leaders move. With enough replicas that costs time only.
func TestLeaderIsKilled(t *testing.T) {
	k := kafkatest.Start(t, kafkatest.Options{Nodes: 3})
	t.Run("under load", func(t *testing.T) { leaderIsKilled(t, k) })
	t.Run("and another wins that lacks its end", func(t *testing.T) { uncleanElections(t, k) })
}

func leaderIsKilled(t *testing.T, k *kafkatest.Cluster) {
	const partitions = 3
	topic := k.Topic(t, partitions, 3, "min.insync.replicas", "2")
	var lives []*follower
	var sources []*Source
	for range 2 {
		s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
		sources, lives = append(sources, s), append(lives, follow(t, s))
	}
	client := k.Client(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	sent := make([][]string, partitions)
	for p := range int32(partitions) {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				text := fmt.Sprintf("%d/%d", p, i)
				if _, err := produce(t.Context(), client, topic, sourcetest.Message{Partition: p, Data: []byte(text)}); err == nil {
					sent[p] = append(sent[p], text)
				}
				<-time.After(5 * time.Millisecond) // some load
			}
		})
	}
	node := leaderOf(t, k, topic, 0)
	for _, live := range lives {
		live.reaches(t, 5, 5, 5)
	}
	node.Kill9()
	for _, live := range lives {
		live.until(t, "Doubted", func() bool {
			return slices.ContainsFunc(live.changes, func(c bridge.Change) bool { return c.Kind == bridge.Doubted })
		})
		at := live.pos.Place(0).Offset
		live.until(t, "another leader", func() bool { return live.pos.Place(0).Offset > at+20 })
	}
	node.Start(t)
	at := highWatermarks(t, k, topic, partitions)
	for _, live := range lives {
		live.reaches(t, at[0]+20, at[1]+20, at[2]+20)
	}
	cancel()
	wg.Wait()
	ends := highWatermarks(t, k, topic, partitions)
	for i, live := range lives {
		live.reaches(t, ends...)
		for p := range int32(partitions) {
			got := live.texts(p)
			if !slices.Equal(got, sent[p]) { // an idempotent producer: each once
				t.Errorf("replica %d partition %d: %d records, want %d", i, p, len(got), len(sent[p]))
			}
			wantSame(t, live.records[p], replay(t, sources[i], p, 1<<20))
		}
		if len(live.findings) > 0 {
			t.Errorf("found %+v, want nothing", live.findings)
		}
		wantExact(t, sources[1-i], live.pos)
	}
}

// createOn makes a topic of one partition whose replicas are on these nodes.
func createOn(t testing.TB, k *kafkatest.Cluster, topic string, nodes ...*kafkatest.Node) {
	t.Helper()
	r := kmsg.NewPtrCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = topic, -1, -1
	a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
	for _, n := range nodes {
		a.Replicas = append(a.Replicas, n.ID)
	}
	ct.ReplicaAssignment = append(ct.ReplicaAssignment, a)
	for name, value := range map[string]string{"unclean.leader.election.enable": "true", "min.insync.replicas": "1"} {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, new(value)
		ct.Configs = append(ct.Configs, c)
	}
	r.Topics = append(r.Topics, ct)
	k.Admin(t) // makes sure of the cluster
	got, err := r.RequestWith(t.Context(), k.Client(t))
	if err != nil || got.Topics[0].ErrorCode != 0 {
		t.Fatalf("create %s: %v, %+v", topic, err, got)
	}
	k.AwaitLeaders(t, topic, 1)
}

// A broker that lacks the end of the log may win an election when operators
// prefer to go on. Numbers are given twice then, and only the leader epochs tell.
func uncleanElections(t *testing.T, k *kafkatest.Cluster) {
	a, b := k.Nodes[0], k.Nodes[1]
	topic := fmt.Sprintf("unclean-%d", time.Now().UnixNano())
	createOn(t, k, topic, a, b)
	untilLed(t, k, topic, 0, a)
	s := openSource(t, Options{Brokers: k.Brokers()}, SourceOptions{Topic: topic})
	live := follow(t, s)
	client := k.Client(t, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	var common, lost, regrown []string
	fill := func(n int, what string, to *[]string) {
		t.Helper()
		for i := range n {
			*to = append(*to, fmt.Sprint(what, i))
			put(t, client, topic, sourcetest.Message{Data: fmt.Append(nil, what, i)})
		}
	}
	fill(50, "common", &common)
	live.reaches(t, 50)
	at50 := live.pos.Clone()
	b.Kill9()
	fill(50, "lost", &lost)
	live.reaches(t, 100)
	at100 := live.pos.Clone()

	a.Kill9()
	b.Start(t)
	untilLed(t, k, topic, 0, b)
	live.until(t, "Found", func() bool { return len(live.findings) > 0 })
	fill(20, "regrown", &regrown)
	live.reaches(t, 70)
	if f := live.findings[0]; f.Reason != bridge.RolledBack || f.Partition != 0 || f.From != 50 || f.To != 99 || f.Open || f.Next.Place(0).Offset != 50 {
		t.Errorf("found %+v, want 50 to 99 rolled back, on at 50", f)
	}
	if got := live.texts(0); !slices.Equal(got, slices.Concat(common, lost, regrown)) {
		t.Errorf("live: %q", got)
	}
	wantExact(t, s, at50)
	at70 := live.pos.Clone()
	wantExact(t, s, at70)
	v, err := s.Verify(t.Context(), at100, nil)
	if err != nil || len(v.Findings) != 1 || v.Findings[0].Reason != bridge.RolledBack || v.Findings[0].From != 50 || v.Findings[0].Open {
		t.Errorf("verdict on 100 is %+v, %v; want it rolled back to 50", v.Findings, err)
	}

	// And back: the one with the longer, older log. It has never heard of the epoch
	// in which the last twenty were written, and its log reaches past them.
	b.Kill9()
	a.Start(t)
	untilLed(t, k, topic, 0, a)
	v, err = verifyAgain(t, s, at70)
	if err != nil || len(v.Findings) != 1 || v.Findings[0].Reason != bridge.RolledBack || !v.Findings[0].Open || v.Findings[0].To != 69 {
		t.Errorf("verdict on 70 is %+v, %v; want it rolled back, nobody knows to where", v.Findings, err)
	}
	wantExact(t, s, at50)
	live.until(t, "another finding", func() bool { return len(live.findings) > 1 })
	live.reaches(t, 100)
	if f := live.findings[1]; f.Reason != bridge.RolledBack || !f.Open || f.Next.Place(0).Offset != 0 {
		t.Errorf("found %+v, want all of it open, on at 0", f)
	}
	if got, want := live.texts(0), slices.Concat(common, lost, regrown, common, lost); !slices.Equal(got, want) {
		t.Errorf("live: %d records, want %d", len(got), len(want))
	}
	b.Start(t)
}

// verifyAgain asks until the broker answers.
func verifyAgain(t testing.TB, s *Source, pos bridge.Position) (v bridge.Verdict, err error) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if v, err = s.Verify(t.Context(), pos, nil); err == nil {
			return v, nil
		}
		if err := sleep(t.Context(), 100*time.Millisecond); err != nil {
			return v, err
		}
	}
	return v, err
}

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
)

// Brokers die while pages are open. What became of the records decides what
// clients are told, and nothing else does: nothing where they are all there, and
// where some are not, which.
//
// It is not run beside other tests: three brokers and two bridges have enough to
// do with each other.
func TestKafkaClusterLosesBrokers(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Nodes: 3})
	t.Run("a leader is killed", func(t *testing.T) { leaderIsKilled(t, cluster) })
	t.Run("an unclean election rewrites the end", func(t *testing.T) { endIsRewritten(t, cluster) })
}

// clusterScene is a topic of a cluster of its own, followed by two bridges.
func clusterScene(t *testing.T, cluster *kafkatest.Cluster, topic string) *topicScene {
	t.Helper()
	s := &topicScene{t: t, cluster: cluster, topic: topic}
	s.a, s.b = s.bridge(), s.bridge()
	for _, b := range []*bridgeProcess{s.a, s.b} {
		b.Start()
	}
	for _, b := range []*bridgeProcess{s.a, s.b} {
		b.await("/readyz", http.StatusOK)
	}
	return s
}

// leader returns the node that leads a partition, nil if none does.
func (s *topicScene) leader(partition int32) *kafkatest.Node {
	s.t.Helper()
	m, err := s.cluster.Admin(s.t).Metadata(s.t.Context(), s.topic)
	if err != nil {
		return nil // it is electing
	}
	for _, n := range s.cluster.Nodes {
		if n.ID == m.Topics[s.topic].Partitions[partition].Leader {
			return n
		}
	}
	return nil
}

// place is where a client stands in a partition of stream s.
func (h history) place(partition int32) int64 {
	id, err := bridge.ParseID(h.lastID())
	if err != nil {
		return -1
	}
	pos, _ := id.Lookup("s")
	return int64(pos.Place(partition).Offset)
}

// awaitEnd waits until a client stands behind everything that a topic held.
func (r *reader) awaitEnd(life topicLife) {
	r.t.Helper()
	r.await("the end of the topic", func(h history) bool {
		for p, records := range life {
			if len(records) > 0 && h.place(p) <= records[len(records)-1].offset {
				return false
			}
		}
		return true
	})
}

// awaitPlace waits until a client stands at an offset of a partition or behind it.
func (r *reader) awaitPlace(partition int32, offset int64) {
	r.t.Helper()
	r.await(fmt.Sprintf("offset %d of partition %d", offset, partition), func(h history) bool { return h.place(partition) >= offset })
}

// steady is what a steady producer has written, by partition.
type steady struct {
	sent [][]string
	err  error
}

// produceSteadily writes about a hundred records a second to all partitions in
// turn until it is enough, and returns when all of them are acknowledged by every
// replica in sync, or ctx has ended. A partition without a leader does not hold up
// the others.
func (s *topicScene) produceSteadily(ctx context.Context, partitions int, enough <-chan struct{}) steady {
	done := make(chan error, 1<<16) // more than a test has the patience to write
	out := steady{sent: make([][]string, partitions)}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	n := 0
	for over := false; !over; n++ {
		p := n % partitions
		value := fmt.Sprintf("%d-%d", p, n)
		out.sent[p] = append(out.sent[p], value)
		s.client.Produce(ctx, &kgo.Record{Topic: s.topic, Partition: int32(p), Key: fmt.Appendf(nil, "k%d", n%4), Value: []byte(value)},
			func(_ *kgo.Record, err error) { done <- err })
		select {
		case <-tick.C:
		case <-enough:
			over = true
		case <-ctx.Done():
			over = true
		}
	}
	for range n {
		if err := <-done; err != nil {
			out.err = err
		}
	}
	return out
}

// With enough replicas the death of a broker costs time and nothing else,
// whether a page stays where it is or is taken to another bridge just then.
func leaderIsKilled(t *testing.T, cluster *kafkatest.Cluster) {
	const (
		partitions = 6
		staying    = 20 // clients that keep their connections
		moving     = 20 // clients that go to the other bridge whenever something happens
		hopping    = 10 // clients that do so all the time
	)
	s := clusterScene(t, cluster, cluster.Topic(t, partitions, 3, "min.insync.replicas", "2"))
	s.client = cluster.Client(t, kgo.RequiredAcks(kgo.AllISRAcks()))
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(errStopped)

	enough, written := make(chan struct{}), make(chan steady, 1)
	running.Go(func() { written <- s.produceSteadily(ctx, partitions, enough) })

	bridges := []*bridgeProcess{s.a, s.b}
	var readers []*reader
	for i := range staying + moving {
		here, there := bridges[i%2], bridges[(i+1)%2]
		readers = append(readers, read(t, "", here.events("format=envelope&start=all"), there.events("format=envelope&start=all")))
	}
	movers := readers[staying:]
	move := func() {
		for _, r := range movers {
			r.move()
		}
	}
	type told struct {
		h    history
		hops int
	}
	hoppers := make(chan told, hopping)
	for i := range hopping {
		running.Go(func() {
			h, hops, _ := hop(ctx, uint64(i), "start=all", bridges[i%2], bridges[(i+1)%2])
			hoppers <- told{h, hops}
		})
	}
	everywhere := func(more int64) { // every client gets more of every partition
		t.Helper()
		var ends kadm.ListedOffsets
		admin := cluster.Admin(t)
		until(t, "leaders that know the ends", func() bool {
			var err error
			ends, err = admin.ListEndOffsets(t.Context(), s.topic)
			return err == nil && ends.Error() == nil
		})
		for p := range int32(partitions) {
			end, _ := ends.Lookup(s.topic, p)
			for _, r := range readers {
				r.awaitPlace(p, end.Offset+more)
			}
		}
	}
	everywhere(5)
	move()
	everywhere(5)

	node := s.leader(0)
	if node == nil {
		t.Fatal("nobody leads partition 0")
	}
	node.Kill9()
	move() // to a bridge that cannot know either
	until(t, "another leader", func() bool { n := s.leader(0); return n != nil && n != node })
	move()
	everywhere(5)
	node.Start(t)
	move()
	everywhere(5)

	close(enough)
	w := <-written
	if w.err != nil {
		t.Fatalf("produce: %v", w.err)
	}
	life := readTopic(t, cluster, s.topic)
	for p, sent := range w.sent {
		var kept []string
		for _, r := range life[int32(p)] {
			kept = append(kept, r.value)
		}
		if !slices.Equal(kept, sent) {
			t.Errorf("partition %d holds %d records, %d were acknowledged: the test cannot tell what was lost", p, len(kept), len(sent))
		}
	}
	for _, r := range readers {
		r.awaitEnd(life)
	}
	stop(errStopped)
	var silence time.Duration
	reconnections := 0
	for i, r := range readers {
		h := r.close()
		silence = max(silence, r.silence)
		reconnections += r.connections() - 1
		if i < staying && r.connections() != 1 {
			t.Errorf("client %d, which stayed, connected %d times", i, r.connections())
		}
		wantLosses(t, fmt.Sprint("client ", i), mustAuditTopic(t, fmt.Sprint("client ", i), h, bridge.Filter{}, life))
	}
	hops := 0
	for i := range hopping {
		got := <-hoppers
		hops += got.hops
		rest := read(t, got.h.lastID(), s.b.events("format=envelope&start=all"))
		rest.awaitEnd(life)
		who := fmt.Sprint("hopping client ", i)
		wantLosses(t, who, mustAuditTopic(t, who, append(got.h, rest.close()...), bridge.Filter{}, life))
	}
	if want := 3 * moving; reconnections < want {
		t.Errorf("%d reconnections of those who move, want at least %d", reconnections, want)
	}
	t.Logf("%d records to %d clients, %d reconnections and %d hops; the longest stall of a client was %s",
		life.count(), staying+moving+hopping, reconnections, hops, silence.Round(10*time.Millisecond))
}

// createOn makes the topic with the replicas of its partitions on these nodes,
// and allows a replica to lead that lacks the end of the log.
func (s *topicScene) createOn(replicas ...[]*kafkatest.Node) {
	s.t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = s.topic, -1, -1 // as assigned
	for p, nodes := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition = int32(p)
		for _, n := range nodes {
			a.Replicas = append(a.Replicas, n.ID)
		}
		topic.ReplicaAssignment = append(topic.ReplicaAssignment, a)
	}
	unclean := kmsg.NewCreateTopicsRequestTopicConfig()
	unclean.Name, unclean.Value = "unclean.leader.election.enable", new("true")
	topic.Configs = append(topic.Configs, unclean)
	r := kmsg.NewPtrCreateTopicsRequest()
	r.Topics = append(r.Topics, topic)
	s.cluster.Admin(s.t) // makes sure of the cluster
	got, err := r.RequestWith(s.t.Context(), s.cluster.Client(s.t))
	if err != nil || got.Topics[0].ErrorCode != 0 {
		s.t.Fatalf("create %s: %v, %+v", s.topic, err, got)
	}
	s.cluster.AwaitLeaders(s.t, s.topic, len(replicas))
}

// Operators may prefer a broker that lacks the end of the log to none. Its
// partition gives the same offsets twice then, and a page that had the first
// records must hear that they are void, and from where on; the more so when the
// log has grown past its place again, and looks whole.
func endIsRewritten(t *testing.T, cluster *kafkatest.Cluster) {
	full, behind, third := cluster.Nodes[0], cluster.Nodes[1], cluster.Nodes[2]
	made := &topicScene{t: t, cluster: cluster, topic: fmt.Sprintf("rewritten-%d", time.Now().UnixNano())}
	made.createOn([]*kafkatest.Node{full, behind}, []*kafkatest.Node{third, behind}, []*kafkatest.Node{third, behind})
	s := clusterScene(t, cluster, made.topic)
	until(t, "the first replica to lead", func() bool { return s.leader(0) == full })
	write := func(partition int32, prefix string, n int) {
		t.Helper()
		client := cluster.Client(t, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()) // one that asks who leads
		defer client.Close()
		produce(t, client, numbered(s.topic, partition, prefix, 0, n-1)...)
	}
	const all = "format=envelope&start=all"
	live := map[string]*reader{"live at a": read(t, "", s.a.events(all)), "live at b": read(t, "", s.b.events(all))}
	write(0, "common", 50)
	write(1, "one", 25)
	write(2, "two", 25)
	early := read(t, "", s.a.events(all))
	early.awaitRecords(100)
	beginning := early.close()

	behind.Kill9()
	write(0, "lost", 50)
	for _, r := range live {
		r.awaitPlace(0, 100)
	}
	leave := func() history {
		r := read(t, "", s.a.events(all))
		r.awaitRecords(150)
		return r.close()
	}
	first, second := leave(), leave()
	before := readTopic(t, cluster, s.topic)

	full.Kill9()
	write(1, "alone", 5) // nobody leads partition 0
	for _, r := range live {
		r.awaitValue("alone4")
	}
	held := read(t, first.lastID(), s.b.events("format=envelope")) // by a bridge that can ask nobody
	behind.Start(t)
	until(t, "the replica that lacks the end to lead", func() bool { return s.leader(0) == behind })
	for _, r := range live {
		r.awaitType("reset", 1)
	}
	held.awaitType("reset", 1)
	write(0, "regrown", 60) // past where those who left stand
	write(2, "later", 5)
	late := read(t, second.lastID(), s.b.events("format=envelope"))
	old := read(t, beginning.lastID(), s.b.events("format=envelope"))

	after := readTopic(t, cluster, s.topic)
	if len(before[0]) != 100 || len(after[0]) != 110 || after[0][50].value != "regrown0" {
		t.Fatalf("partition 0 held %d records and holds %d, want 100, and 110 of which those from 50 on are others", len(before[0]), len(after[0]))
	}
	before = topicLife{0: before[0], 1: after[1], 2: after[2]} // nothing happened to the others
	const rolledBack = "reset 0 rolled-back 50-99 next 50"
	for who, r := range live {
		r.awaitEnd(after)
		h := r.close()
		wantLosses(t, who, mustAuditTopic(t, who, h, bridge.Filter{}, before, after), rolledBack)
		if n := r.connections(); n != 1 {
			t.Errorf("%s: connected %d times, want once", who, n)
		}
	}
	for who, c := range map[string]struct {
		left history
		back *reader
	}{"back while nobody led": {first, held}, "back when the log had grown past its place": {second, late}} {
		c.back.awaitEnd(after)
		h := c.back.close()
		if got := h.verdicts(); !slices.Equal(got, []string{"reset"}) {
			t.Errorf("%s: verdicts %q, want reset", who, got)
		}
		wantLosses(t, who, mustAuditTopic(t, who, append(c.left, h...), bridge.Filter{}, before, after), rolledBack)
	}
	old.awaitEnd(after)
	h := old.close()
	if got := h.verdicts(); !slices.Equal(got, []string{"exact"}) {
		t.Errorf("who left before the divergence: verdicts %q, want exact", got)
	}
	wantLosses(t, "who left before the divergence", mustAuditTopic(t, "who left before the divergence", append(beginning, h...), bridge.Filter{}, after))
}

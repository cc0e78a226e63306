package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
)

// topicScene is a topic on a real broker, followed as s by two bridges. Live
// clients are at a, and those that come back are at b.
type topicScene struct {
	t       *testing.T
	cluster *kafkatest.Cluster
	client  *kgo.Client
	topic   string
	a, b    *bridgeProcess
}

func newTopicScene(t *testing.T, partitions int, settings ...string) *topicScene {
	t.Helper()
	s := &topicScene{t: t, cluster: kafkatest.Shared(t)}
	s.client = s.cluster.Client(t)
	s.topic = s.cluster.Topic(t, partitions, 1)
	s.a, s.b = s.bridge(settings...), s.bridge(settings...)
	for _, b := range []*bridgeProcess{s.a, s.b} {
		b.Start()
	}
	for _, b := range []*bridgeProcess{s.a, s.b} {
		b.await("/readyz", http.StatusOK)
	}
	return s
}

// bridge makes a bridge that follows the topic, and does not start it.
func (s *topicScene) bridge(settings ...string) *bridgeProcess {
	s.t.Helper()
	b := newBridge(s.t, "", append([]string{"STREAMS=s=kafka:" + s.topic, "KAFKA_BROKERS=" + strings.Join(s.cluster.Brokers(), ",")}, settings...)...)
	delete(b.env, "NATS_URL")
	return b
}

// live connects a client that begins at the end, and waits until it is live.
func (s *topicScene) live(query string) *reader {
	s.t.Helper()
	r := read(s.t, "", s.a.events("format=envelope&"+query))
	r.awaitType("caught-up", 1)
	return r
}

// leaveAfter reads n records from the beginning, and returns the id of the last,
// as a client keeps it that leaves at that moment.
func (s *topicScene) leaveAfter(n int) (id string) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), patience)
	defer stop()
	c := &ssetest.Client{URL: s.a.events("start=all")}
	err := c.Follow(ctx, reconnectPause, func(e ssetest.Event) bool {
		if e.Type == "message" || e.Type == "delete" {
			n--
		}
		return n > 0
	})
	if err != nil {
		s.t.Fatalf("read from the beginning: %v", err)
	}
	return c.LastID
}

// back comes back at the other bridge.
func (s *topicScene) back(id string) *reader {
	s.t.Helper()
	return read(s.t, id, s.b.events("format=envelope"))
}

// awaitValue waits for a record whose value this is.
func (r *reader) awaitValue(value string) {
	r.t.Helper()
	r.await("the record "+value, func(h history) bool {
		return slices.ContainsFunc(h, func(e ssetest.Event) bool { return strings.Contains(e.Data, `"data":"`+value+`"`) })
	})
}

// awaitRecords waits for so many records.
func (r *reader) awaitRecords(n int) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d records", n), func(h history) bool { return len(h.only("message"))+len(h.only("delete")) >= n })
}

// wantLosses compares gaps and resets, in any order: that of partitions is each
// replica's own.
func wantLosses(t *testing.T, who string, got []string, want ...string) {
	t.Helper()
	got = slices.Sorted(slices.Values(got))
	if !slices.Equal(got, want) {
		t.Errorf("%s: losses %q, want %q", who, got, want)
	}
}

// topicStatus is what /streams tells of a stream.
type topicStatus struct {
	State, LastError string
	Partitions       []struct {
		Position, End, Lag           *int64
		Leader, OpenTransactionSince string
	}
}

func (b *bridgeProcess) status() (topicStatus, error) {
	a, err := get(b.t.Context(), b.Admin+"/streams", nil)
	var got struct{ Streams []topicStatus }
	if err == nil {
		err = json.Unmarshal([]byte(a.body), &got)
	}
	if err != nil || len(got.Streams) == 0 {
		return topicStatus{}, errors.Join(err, errors.New(a.body))
	}
	return got.Streams[0], nil
}

// hop follows a subscription over many connections. Each goes to another bridge
// than the one before and ends after a few events, wherever that is.
func hop(ctx context.Context, seed uint64, query string, bridges ...*bridgeProcess) (h history, hops int, err error) {
	random := rand.New(rand.NewPCG(seed, 0))
	c := &ssetest.Client{}
	for {
		c.URL = bridges[hops%len(bridges)].events("format=envelope&" + query)
		s, err := c.Open(ctx)
		if err != nil {
			return h, hops, context.Cause(ctx)
		}
		for n := random.IntN(40); n >= 0; n-- {
			e, err := s.Next(ctx)
			if err != nil {
				s.Close()
				if errors.Is(err, io.EOF) || errors.Is(err, ssetest.ErrCut) {
					break
				}
				return h, hops, context.Cause(ctx)
			}
			h = append(h, e)
		}
		s.Close()
		hops++
	}
}

// Replicas merge partitions in orders of their own. Whoever comes from another
// one, at any moment, must neither miss nor get again what that one had merged
// differently.
func TestKafkaClientsHopBetweenBridgesThatMergeDifferently(t *testing.T) {
	t.Parallel()
	const partitions, rounds = 12, 60
	s := newTopicScene(t, partitions)
	watchers := []*reader{s.live(""), read(t, "", s.b.events("format=envelope"))}
	watchers[1].awaitType("caught-up", 1)

	type told struct {
		query string
		h     history
		hops  int
	}
	results := make(chan told, 8)
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(errStopped)
	for i := range cap(results) {
		query := []string{"start=all", "start=all&subject=s.k1", "start=all&subject=s.k2&subject=s.k3"}[i%3]
		go func() {
			h, hops, _ := hop(ctx, uint64(i), query, s.a, s.b)
			results <- told{query, h, hops}
		}()
	}
	// Partitions get records at the same time, or their order would be that of the
	// producer.
	var wg sync.WaitGroup
	for p := range int32(partitions) {
		wg.Go(func() {
			for n := range rounds {
				for _, r := range numbered(s.topic, p, fmt.Sprintf("%d-", p), n*3, n*3+2) {
					if err := s.client.ProduceSync(ctx, r).FirstErr(); err != nil {
						t.Errorf("produce: %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for _, w := range watchers {
		w.awaitRecords(partitions * rounds * 3)
	}
	// The end of every hopper's history is audited up to the broker's, so each is
	// given the rest by one more connection.
	stop(errStopped)
	life := readTopic(t, s.cluster, s.topic)
	hops := 0
	for range cap(results) {
		r := <-results
		hops += r.hops
		rest := read(t, r.h.lastID(), s.b.events("format=envelope&"+r.query))
		rest.awaitType("caught-up", 1)
		var patterns []bridge.Pattern
		for part := range strings.SplitSeq(r.query, "&") {
			if pattern, ok := strings.CutPrefix(part, "subject="); ok {
				patterns = append(patterns, bridge.Pattern(pattern))
			}
		}
		wantLosses(t, r.query, mustAuditTopic(t, r.query, append(r.h, rest.close()...), bridge.NewFilter(patterns...), life))
	}
	var orders []string
	for i, w := range watchers {
		h := w.close()
		wantLosses(t, fmt.Sprint("watcher ", i), mustAuditTopic(t, fmt.Sprint("watcher ", i), h, bridge.Filter{}, life))
		orders = append(orders, strings.Join(h.data(), "\n"))
	}
	if orders[0] == orders[1] {
		t.Error("both bridges merged the partitions alike, so nothing was tested")
	}
	if hops < 100 {
		t.Errorf("%d hops, want at least 100", hops)
	}
	t.Logf("%d hops between bridges, %d records in %d partitions", hops, life.count(), partitions)
}

// A key that is deleted, a value that is empty, and no value at all are three
// things, and pages have to tell them apart.
func TestKafkaTombstonesAreDeletesAndEmptyValuesAreRecords(t *testing.T) {
	t.Parallel()
	s := newTopicScene(t, 2)
	live := s.live("")
	plain := read(t, "", s.a.events("start=all"))
	produce(t, s.client,
		&kgo.Record{Topic: s.topic, Partition: 1, Key: []byte("a"), Value: []byte("full")},
		&kgo.Record{Topic: s.topic, Partition: 1, Key: []byte("a"), Value: []byte{}},
		&kgo.Record{Topic: s.topic, Partition: 1, Key: []byte("a.b/c*"), Value: nil},
		&kgo.Record{Topic: s.topic, Partition: 1, Key: nil, Value: []byte("no key")},
		&kgo.Record{Topic: s.topic, Partition: 1, Key: []byte{}, Value: nil},
	)
	live.awaitRecords(5)
	plain.awaitRecords(5)
	var got []string
	for _, e := range plain.close() {
		if e.Type == "message" || e.Type == "delete" {
			got = append(got, e.Type+" "+e.Data)
		}
	}
	want := []string{"message full", "message ", `delete {"subject":"s.a%2Eb/c%2A","key":"a.b/c*"}`, "message no key", `delete {"subject":"s._","key":""}`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	back := s.back(s.leaveAfter(1))
	back.awaitRecords(4)
	life := readTopic(t, s.cluster, s.topic)
	wantLosses(t, "live", mustAuditTopic(t, "live", live.close(), bridge.Filter{}, life))
	wantLosses(t, "back", mustAuditTopic(t, "back", back.close(), bridge.Filter{}, life))
}

// What a producer took back must never have been on anybody's screen, whether it
// was read live or later, and must not hold up what others have committed.
func TestKafkaAbortedTransactionsAreNeverShown(t *testing.T) {
	t.Parallel()
	s := newTopicScene(t, 3)
	live := s.live("")
	producers := make([]*kgo.Client, 3)
	for i := range producers {
		producers[i] = s.cluster.Client(t, kgo.TransactionalID(fmt.Sprintf("%s-%d", s.topic, i)))
	}
	begin := func(p *kgo.Client) {
		t.Helper()
		if err := p.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
	}
	end := func(p *kgo.Client, try kgo.TransactionEndTry) {
		t.Helper()
		if err := p.EndTransaction(t.Context(), try); err != nil {
			t.Fatal(err)
		}
	}
	committed := 0
	for round := range 8 {
		for i, p := range producers { // interleaved, over all partitions
			begin(p)
			for part := range int32(3) {
				produce(t, p, numbered(s.topic, part, fmt.Sprintf("r%d-p%d-", round, i), 0, 2)...)
			}
		}
		produce(t, s.client, numbered(s.topic, int32(round%3), fmt.Sprintf("r%d-plain-", round), 0, 0)...)
		committed++
		for i, p := range producers {
			if try := kgo.TransactionEndTry((round+i)%2 == 0); try == kgo.TryCommit {
				committed += 9
				end(p, try)
			} else {
				end(p, try)
			}
		}
	}
	live.awaitRecords(committed)

	// One that is left open: nobody can know what will be shown of it, so what
	// stands behind it waits, and the operator sees why.
	begin(producers[0])
	produce(t, producers[0], numbered(s.topic, 0, "open", 1, 1)...)
	produce(t, s.client, numbered(s.topic, 0, "behind", 1, 1)...)
	produce(t, s.client, numbered(s.topic, 1, "beside", 1, 1)...)
	live.awaitValue("beside1")
	until(t, "/streams to tell of the open transaction", func() bool {
		st, err := s.a.status()
		return err == nil && len(st.Partitions) == 3 && st.Partitions[0].OpenTransactionSince != "" && st.Partitions[1].OpenTransactionSince == "" &&
			st.Partitions[0].Lag != nil && *st.Partitions[0].Lag > 0
	})
	end(producers[0], kgo.TryCommit)
	live.awaitValue("behind1")

	back := s.back(s.leaveAfter(5))
	back.awaitValue("behind1")
	life := readTopic(t, s.cluster, s.topic)
	if got, want := life.count(), committed+3; got != want {
		t.Fatalf("the broker holds %d committed records, want %d", got, want)
	}
	wantLosses(t, "live", mustAuditTopic(t, "live", live.close(), bridge.Filter{}, life))
	back.await("everything", func(h history) bool { return len(h.only("message")) >= life.count()-5 })
	wantLosses(t, "back", mustAuditTopic(t, "back", back.close(), bridge.Filter{}, life))
}

// A topic that is deleted and made again has the same name and the same offsets.
// Nobody may be shown the new records as if they went on from the old ones.
func TestKafkaRecreatedTopicIsToldAndReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	s := newTopicScene(t, 3)
	for p := range int32(3) {
		produce(t, s.client, numbered(s.topic, p, fmt.Sprintf("old%d-", p), 0, 9)...)
	}
	id := s.leaveAfter(20)
	live := s.live("start=all")
	live.awaitRecords(30)
	before := readTopic(t, s.cluster, s.topic)

	s.cluster.Delete(t, s.topic)
	s.cluster.Create(t, s.topic, 3, 1)
	client := s.cluster.Client(t) // one that does not know the old topic
	for p := range int32(3) {
		produce(t, client, numbered(s.topic, p, fmt.Sprintf("new%d-", p), 0, 14)...)
	}
	live.awaitType("reset", 1)
	back := s.back(id)
	back.awaitType("reset", 1)
	live.awaitRecords(30 + 45)
	back.awaitRecords(45)
	after := readTopic(t, s.cluster, s.topic)
	wantLosses(t, "live", mustAuditTopic(t, "live", live.close(), bridge.Filter{}, before, after), "reset null recreated null-null next null")
	h := back.close()
	wantLosses(t, "back", mustAuditTopic(t, "back", h, bridge.Filter{}, before, after), "reset null recreated null-null next null")
	if got := h.verdicts(); !slices.Equal(got, []string{"reset"}) {
		t.Errorf("verdicts %q, want reset", got)
	}
}

// Retention goes on while clients are away, in each partition at its own pace.
// What it took is named exactly.
func TestKafkaRecordsThatExpiredAreAGapInTheirPartition(t *testing.T) {
	t.Parallel()
	s := newTopicScene(t, 3)
	for p := range int32(3) {
		produce(t, s.client, numbered(s.topic, p, fmt.Sprintf("%d-", p), 0, 19)...)
	}
	id := s.leaveAfter(15)
	at, err := bridge.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	pos, _ := at.Lookup("s")
	live := s.live("start=all")
	live.awaitRecords(60)
	before := readTopic(t, s.cluster, s.topic)
	s.cluster.Trim(t, s.topic, 0, 12)
	s.cluster.Trim(t, s.topic, 2, 20) // all of it

	back := s.back(id)
	back.awaitType("caught-up", 1)
	for p := range int32(3) {
		produce(t, s.client, numbered(s.topic, p, fmt.Sprintf("later%d-", p), 20, 22)...)
	}
	for p := range 3 {
		live.awaitValue(fmt.Sprintf("later%d-22", p))
		back.awaitValue(fmt.Sprintf("later%d-22", p))
	}
	life := readTopic(t, s.cluster, s.topic).join(before)
	wantLosses(t, "live", mustAuditTopic(t, "live", live.close(), bridge.Filter{}, life))
	var want []string
	for p, first := range map[int32]int64{0: 12, 2: 20} {
		if from := int64(pos.Place(p).Offset); from < first {
			want = append(want, fmt.Sprintf("gap %d retention %d-%d next %d", p, from, first-1, first))
		}
	}
	slices.Sort(want)
	wantLosses(t, "back", mustAuditTopic(t, "back", back.close(), bridge.Filter{}, life), want...)
}

// Topics get partitions while clients read. Those who are connected go on and
// get what is written to the new ones, from the first record on; those who come
// back with an id that has no place for them, too.
func TestKafkaPartitionsThatAreAddedAreReadFromTheirBeginning(t *testing.T) {
	t.Parallel()
	s := newTopicScene(t, 3)
	var live []*reader
	for range 5 {
		live = append(live, s.live("start=all"))
	}
	for p := range int32(3) {
		produce(t, s.client, numbered(s.topic, p, fmt.Sprintf("%d-", p), 0, 9)...)
	}
	id := s.leaveAfter(17)
	s.cluster.Grow(t, s.topic, 6)
	client := s.cluster.Client(t) // one that knows all partitions
	for p := range int32(6) {
		produce(t, client, numbered(s.topic, p, fmt.Sprintf("grown%d-", p), 10, 19)...)
	}
	back := s.back(id)
	back.awaitRecords(90 - 17)
	life := readTopic(t, s.cluster, s.topic)
	for i, r := range live {
		r.awaitRecords(90)
		if n := r.connections(); n != 1 {
			t.Errorf("live client %d connected %d times, want once", i, n)
		}
		wantLosses(t, "live", mustAuditTopic(t, fmt.Sprint("live client ", i), r.close(), bridge.Filter{}, life))
	}
	wantLosses(t, "back", mustAuditTopic(t, "back", back.close(), bridge.Filter{}, life))
}

// A pod and its broker start in any order. Clients are held, not refused.
func TestKafkaBrokerThatIsAbsentAtTheStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, kafkatest.Options{})
	s := &topicScene{t: t, cluster: cluster, topic: cluster.Topic(t, 2, 1)}
	node := cluster.Nodes[0]
	node.Kill9()
	s.a = s.bridge("READY=listening")
	s.a.Start()
	s.a.await("/readyz", http.StatusOK)
	until(t, "/streams to tell what is waited for", func() bool {
		st, err := s.a.status()
		return err == nil && st.State == "waiting" && strings.Contains(st.LastError, node.Address)
	})
	held := read(t, "", s.a.events("format=envelope&start=all"))
	until(t, "a response without a broker", func() bool { return held.connections() == 1 })

	node.Start(t)
	produce(t, cluster.Client(t), numbered(s.topic, 1, "first", 1, 1)...)
	held.awaitValue("first1")
	if n := held.connections(); n != 1 {
		t.Errorf("the client connected %d times, want once", n)
	}
	wantLosses(t, "held", mustAuditTopic(t, "held", held.close(), bridge.Filter{}, readTopic(t, cluster, s.topic)))
}

// An event id names every partition and travels in a header. The sizes are
// printed; a topic with more than fits is refused to its clients.
func TestKafkaEventIDsStayShort(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	client := cluster.Client(t)
	for _, partitions := range []int{1, 12, 100} {
		s := &topicScene{t: t, cluster: cluster, client: client, topic: cluster.Topic(t, partitions, 1)}
		var records []*kgo.Record
		for p := range int32(partitions) {
			records = append(records, numbered(s.topic, p, "x", 0, 9)...)
		}
		produce(t, client, records...)
		s.a = s.bridge("MAX_ID_BYTES=1200")
		s.a.Start()
		s.a.await("/readyz", http.StatusOK)
		id := s.leaveAfter(10 * partitions)
		t.Logf("%d partitions: %d bytes, %s", partitions, len(id), id)
		if limit := 40 + 9*partitions; len(id) > limit {
			t.Errorf("%d partitions: the id has %d bytes, want at most %d", partitions, len(id), limit)
		}
		if partitions < 100 {
			continue
		}
		s.a.Kill9()
		s.a.env["MAX_ID_BYTES"] = "128"
		s.a.Start()
		s.a.await("/readyz", http.StatusOK)
		a, err := get(t.Context(), s.a.events("start=all"), nil)
		if err != nil || a.status != http.StatusBadRequest || a.code() != "id-too-long" {
			t.Errorf("%d partitions and ids of at most 128 bytes: got %v, %+v; want 400 id-too-long", partitions, err, a)
		}
	}
}

// An operator asks before the deployment what clients will get.
func TestKafkaCheckSaysWhatATopicHolds(t *testing.T) {
	t.Parallel()
	s := &topicScene{t: t, cluster: kafkatest.Shared(t)}
	s.client, s.topic = s.cluster.Client(t), s.cluster.Topic(t, 3, 1, "retention.ms", "3600000")
	produce(t, s.client, numbered(s.topic, 1, "x", 0, 9)...)
	s.cluster.Trim(t, s.topic, 1, 4)
	check := func(settings ...string) (string, error) { return s.bridge(settings...).Check() }
	out, err := check()
	for _, want := range []string{
		"s=kafka:" + s.topic + ": ok, 3 partitions, at most 6 records",
		"offsets by partition: none before 0, 4 to 9, none before 0",
		"retention: delete, after 1h, no limit of bytes",
		"event ids: up to ", "permissions: Describe and Read are granted",
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("check: %v, want %q in\n%s", err, want, out)
		}
	}
	if out, err = check("STREAMS=s=kafka:"+s.topic+",gone=kafka:"+s.topic+".gone", "READY=listening"); err == nil ||
		!strings.Contains(out, "gone=kafka:"+s.topic+".gone: failed") || !strings.Contains(out, "UNKNOWN_TOPIC_OR_PARTITION") || !strings.Contains(out, "1 of 2 streams") {
		t.Errorf("check of a topic that is not there: %v\n%s", err, out)
	}
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
)

// topicRecord is a record as the broker shows it to who reads what is committed.
type topicRecord struct {
	offset  int64
	key     string
	value   string
	deleted bool // the value is null
}

// topicLife is what a topic ever held between its creation and its deletion: by
// partition, ascending. Records that are gone by now stay in it.
type topicLife map[int32][]topicRecord

// readTopic reads a topic by another client library than the bridge's.
func readTopic(t testing.TB, c *kafkatest.Cluster, topic string) topicLife {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	admin := c.Admin(t)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		t.Fatalf("ask for the beginning of topic %s: %v", topic, err)
	}
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		t.Fatalf("ask for the end of topic %s: %v", topic, err)
	}
	life, from, wanted := topicLife{}, map[int32]kgo.Offset{}, map[int32]int64{}
	for p, end := range ends[topic] {
		if start, _ := starts.Lookup(topic, p); start.Offset < end.Offset {
			from[p], wanted[p] = kgo.NewOffset().At(start.Offset), end.Offset
		}
	}
	if len(from) == 0 {
		return life
	}
	client := c.Client(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer client.Close()
	for len(wanted) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read topic %s: %v", topic, err)
		}
		for r := range fetches.RecordsAll() {
			if !r.Attrs.IsControl() {
				life[r.Partition] = append(life[r.Partition], topicRecord{r.Offset, string(r.Key), string(r.Value), r.Value == nil})
			}
			if r.Offset+1 >= wanted[r.Partition] {
				delete(wanted, r.Partition)
			}
		}
	}
	return life
}

// join adds the records of an earlier look at the same life.
func (l topicLife) join(earlier topicLife) topicLife {
	joined := maps.Clone(l)
	for p, records := range earlier {
		kept := slices.DeleteFunc(slices.Clone(records), func(r topicRecord) bool {
			return len(l[p]) > 0 && r.offset >= l[p][0].offset
		})
		joined[p] = append(kept, l[p]...)
	}
	return joined
}

// count is the number of records.
func (l topicLife) count() int {
	n := 0
	for _, records := range l {
		n += len(records)
	}
	return n
}

// topicLoss is a gap or a reset, as a client is told of it.
type topicLoss struct {
	Stream         string
	Partition      *int32
	From, To, Next *int64
	Reason         string
}

// topicAudit compares what one client was told, in envelopes, with what its topic
// held. It accuses of
//
//   - a record that is lost without a gap, doubled, out of order in its partition,
//     or not what the broker has at this offset
//   - an id that is not the position behind its event, in any partition
//   - a gap that begins in what was accounted for, or does not go on behind itself
//   - a rollback of a partition that does not take back all that came behind the
//     divergence, or does not go on at it
//   - a connection that does not begin at the position the last one ended at
type topicAudit struct {
	stream string
	filter bridge.Filter
	lives  []topicLife // the first is the one that the client reads; each reset begins the next

	want   map[int32]int64 // the next offset that was not accounted for
	begun  bool
	lastID string
	faults []string
	losses []string
	seen   int
}

// mustAuditTopic fails the test for every fault in what a client was told, and
// returns the gaps and resets, as in "gap 2 retention 3-4 next 5".
func mustAuditTopic(t testing.TB, who string, h history, filter bridge.Filter, lives ...topicLife) []string {
	t.Helper()
	a := newTopicAudit(filter, lives)
	a.run(h)
	for _, f := range a.faults[:min(len(a.faults), 10)] {
		t.Errorf("%s: %s", who, f)
	}
	if len(a.faults) > 0 {
		t.Logf("%s: %d faults; it was told:\n%s", who, len(a.faults), h)
	}
	if a.seen == 0 {
		t.Errorf("%s was told of no record", who)
	}
	return a.losses
}

func newTopicAudit(filter bridge.Filter, lives []topicLife) *topicAudit {
	return &topicAudit{stream: "s", filter: filter, lives: lives, want: map[int32]int64{}}
}

// run audits a whole history, which must reach the end of the last life, and
// returns the faults.
func (a *topicAudit) run(h history) []string {
	for i, e := range h {
		a.see(i, e)
	}
	if len(a.lives) > 1 {
		a.accuse("%d resets are missing", len(a.lives)-1)
	}
	for p, records := range a.lives[0] {
		if len(records) > 0 && len(a.lives) == 1 {
			a.skip("the end", p, records[len(records)-1].offset+1)
		}
	}
	return a.faults
}

func (a *topicAudit) accuse(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// shown reports whether a filter lets a record through.
func (a *topicAudit) shown(r topicRecord) bool {
	return a.filter.Match(string(bridge.AppendToken([]byte(a.stream+"."), []byte(r.key))))
}

// skip accounts for the offsets of a partition below next.
func (a *topicAudit) skip(where string, p int32, next int64) {
	for _, r := range a.lives[0][p] {
		if r.offset >= a.want[p] && r.offset < next && a.shown(r) {
			a.accuse("%s: record %d of partition %d (%s) is lost", where, r.offset, p, r.value)
		}
	}
	a.want[p] = max(a.want[p], next)
}

// position accounts for what an id says of all partitions but one.
func (a *topicAudit) position(where string, id bridge.ID, but int32) {
	pos, ok := id.Lookup(a.stream)
	if !ok {
		a.accuse("%s: the id has no position", where)
	}
	for p := range max(int32(len(pos.Places)), int32(len(a.want))) {
		if p == but {
			continue
		}
		next := int64(pos.Place(p).Offset)
		if next < a.want[p] {
			a.accuse("%s: the id goes back to %d in partition %d, after %d", where, next, p, a.want[p])
		}
		a.skip(where, p, next)
	}
}

func (a *topicAudit) see(i int, e ssetest.Event) {
	where := fmt.Sprintf("event %d (%s)", i, e.Type)
	id, err := bridge.ParseID(e.ID)
	if err != nil {
		a.accuse("%s: id %q: %v", where, e.ID, err)
		return
	}
	if !a.begun {
		a.begun, a.lastID = true, e.ID
		pos, _ := id.Lookup(a.stream)
		for p, pl := range pos.Places {
			a.want[int32(p)] = int64(pl.Offset)
		}
	}
	switch e.Type {
	case "connected":
		if e.ID != a.lastID {
			a.accuse("%s: at %s, want the caller's own %s", where, e.ID, a.lastID)
		}
	case "message", "delete":
		a.record(where, e, id)
	case "gap", "reset":
		a.loss(where, e, id)
	case "position", "caught-up", "closing":
		a.position(where, id, -1)
	default:
		a.accuse("%s: unknown type", where)
	}
	a.lastID = e.ID
}

func (a *topicAudit) record(where string, e ssetest.Event, id bridge.ID) {
	a.seen++
	var env struct {
		Partition int32
		Offset    int64
		Key       string
		Data      string
		Deleted   bool
	}
	if err := json.Unmarshal([]byte(e.Data), &env); err != nil {
		a.accuse("%s: %s: %v", where, e.Data, err)
		return
	}
	p := env.Partition
	at, found := slices.BinarySearchFunc(a.lives[0][p], env.Offset, func(r topicRecord, o int64) int { return int(r.offset - o) })
	if !found {
		a.accuse("%s: the broker has no record %d in partition %d: %s", where, env.Offset, p, e.Data)
		return
	}
	r := a.lives[0][p][at]
	if got := (topicRecord{env.Offset, env.Key, env.Data, env.Deleted}); got != r || (e.Type == "delete") != r.deleted {
		a.accuse("%s: %+v, the broker has %+v", where, got, r)
	}
	if !a.shown(r) {
		a.accuse("%s: record %d of partition %d was filtered out", where, r.offset, p)
	}
	if r.offset < a.want[p] {
		a.accuse("%s: record %d of partition %d again or out of order, want %d or later", where, r.offset, p, a.want[p])
	}
	a.skip(where, p, r.offset)
	a.want[p] = max(a.want[p], r.offset+1)
	if pos, _ := id.Lookup(a.stream); int64(pos.Place(p).Offset) != r.offset+1 {
		a.accuse("%s: record %d of partition %d has an id that says %d", where, r.offset, p, pos.Place(p).Offset)
	}
	a.position(where, id, p)
}

func (a *topicAudit) loss(where string, e ssetest.Event, id bridge.ID) {
	var l topicLoss
	if err := json.Unmarshal([]byte(e.Data), &l); err != nil || l.Stream != a.stream {
		a.accuse("%s: %s: %v", where, e.Data, err)
		return
	}
	a.losses = append(a.losses, fmt.Sprintf("%s %s %s %s-%s next %s", e.Type, number(l.Partition), l.Reason, number(l.From), number(l.To), number(l.Next)))
	pos, _ := id.Lookup(a.stream)
	if e.Type == "reset" {
		if len(a.lives) < 2 {
			a.accuse("%s: %s: the topic had one life", where, e.Data)
			return
		}
		a.lives = a.lives[1:]
		if l.Partition != nil {
			a.rollback(where, l, id)
			return
		}
		a.want = map[int32]int64{}
		for p, pl := range pos.Places {
			a.want[int32(p)] = int64(pl.Offset)
		}
		return
	}
	if l.Partition == nil || l.From == nil || l.To == nil || l.Next == nil || *l.From > *l.To {
		a.accuse("%s: gap %s", where, e.Data)
		return
	}
	p := *l.Partition
	if *l.From < a.want[p] {
		a.accuse("%s: begins below %d, which was accounted for", where, a.want[p])
	}
	a.skip(where, p, *l.From)
	if *l.Next != *l.To+1 || int64(pos.Place(p).Offset) != *l.Next {
		a.accuse("%s: %d-%d goes on at %d, and its id at %d", where, *l.From, *l.To, *l.Next, pos.Place(p).Offset)
	}
	a.want[p] = max(a.want[p], *l.To+1)
	a.position(where, id, p)
}

// rollback accounts for a partition whose end was taken back. Its bounds are all
// that the client has of it from the divergence on.
func (a *topicAudit) rollback(where string, l topicLoss, id bridge.ID) {
	if l.From == nil || l.To == nil || l.Next == nil || *l.From > *l.To {
		a.accuse("%s: a rollback without bounds", where)
		return
	}
	p := *l.Partition
	if a.want[p] != *l.To+1 {
		a.accuse("%s: the rollback ends at %d, and the client had all below %d", where, *l.To, a.want[p])
	}
	if pos, _ := id.Lookup(a.stream); *l.Next != *l.From || int64(pos.Place(p).Offset) != *l.Next {
		a.accuse("%s: rolled back to %d, goes on at %d, and its id at %d", where, *l.From, *l.Next, pos.Place(p).Offset)
	}
	a.want[p] = *l.Next
	a.position(where, id, p)
}

func number[T any](n *T) string {
	if n == nil {
		return "null"
	}
	return fmt.Sprint(*n)
}

// produce writes records and returns when the broker has them.
func produce(t testing.TB, client *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// numbered makes records of one partition with the keys k0 to k3 in turn and the
// payloads from prefix and first to prefix and last.
func numbered(topic string, partition int32, prefix string, first, last int) []*kgo.Record {
	var records []*kgo.Record
	for n := first; n <= last; n++ {
		records = append(records, &kgo.Record{
			Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "k%d", n%4), Value: fmt.Appendf(nil, "%s%d", prefix, n),
		})
	}
	return records
}

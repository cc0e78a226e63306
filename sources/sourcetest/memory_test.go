package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// journal is a receiver that writes down what it is told, a line each.
type journal struct{ lines []string }

func (j *journal) Records(recs []bridge.Record) {
	for _, r := range recs {
		if r.Kind == bridge.Hidden {
			j.add("hidden %d@%d", r.Partition, r.Offset)
			continue
		}
		j.add("%d@%d %s", r.Partition, r.Offset, r.Data)
	}
}

func (j *journal) Change(c bridge.Change) {
	switch c.Kind {
	case bridge.Started:
		j.add("started %s", offsets(c.Position))
	case bridge.Moved:
		j.add("moved %d to %d=%v", c.Partition, c.Place.Offset, c.Place.Proof)
	case bridge.Found:
		f := c.Finding
		j.add("%s %d %d-%d next %s open %v", f.Reason, f.Partition, f.From, f.To, offsets(f.Next), f.Open)
	case bridge.Grown:
		j.add("grown %d", c.Partitions)
	case bridge.Doubted:
		j.add("doubted")
	case bridge.Waiting:
		j.add("waiting")
	case bridge.Reading:
		j.add("reading")
	case bridge.Spaced:
		j.add("spaced %v", c.Subjects)
	}
}

func (j *journal) add(format string, a ...any) { j.lines = append(j.lines, fmt.Sprintf(format, a...)) }

// take returns what was told since the last take.
func (j *journal) take() []string {
	lines := j.lines
	j.lines = nil
	return lines
}

func offsets(p bridge.Position) string {
	var o []bridge.Offset
	for _, pl := range p.Places {
		o = append(o, pl.Offset)
	}
	return fmt.Sprint(o)
}

// stepped starts a stepped Tail in the test's bubble and returns its journal.
func stepped(t *testing.T, s *Source) *journal {
	t.Helper()
	j := &journal{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Tail(ctx, j); !errors.Is(err, context.Canceled) {
			t.Errorf("Tail returned %v, want context.Canceled", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return j
}

func told(t *testing.T, j *journal, want ...string) {
	t.Helper()
	if got := j.take(); !slices.Equal(got, want) {
		t.Errorf("told\n%q, want\n%q", got, want)
	}
}

func say(p int32, text string) Message { return Message{Partition: p, Data: []byte(text)} }

// A simulation decides when a replica reads what, so a stepped source moves by
// exactly one thing, and only when told to.
func TestSteppedSourceMovesOneThingAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker(BrokerOptions{Kind: KafkaLike, Partitions: 2})
		b.Append(say(0, "old"))
		s := b.Source(SourceOptions{Stepped: true})
		j := stepped(t, s)
		told(t, j, "started [1 0]", "reading")

		b.Append(say(0, "a"))
		b.Append(say(0, "b"))
		b.Append(say(1, "c"))
		synctest.Wait()
		told(t, j)
		for _, p := range []int32{1, 0, 0} {
			if !s.Step(p) {
				t.Errorf("Step(%d) moved nothing", p)
			}
		}
		told(t, j, "1@0 c", "0@1 a", "0@2 b")
		if s.Step(0) || s.Step(1) || s.Step(2) {
			t.Error("a step at the end moved")
		}

		b.Grow(3)
		b.Append(say(2, "d"))
		if s.Step(2) {
			t.Error("a partition was read before it was discovered")
		}
		s.Discover()
		s.Step(2)
		told(t, j, "grown 3", "2@0 d")
	})
}

// Aborted records and open transactions must never reach a client, and the
// position has to get past them all the same.
func TestTransactionsHideWhatIsNotCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker(BrokerOptions{Kind: KafkaLike})
		s := b.Source(SourceOptions{Stepped: true})
		j := stepped(t, s)
		j.take()
		x, _ := b.Begin(0)
		x.Append(say(0, "dead"))
		b.Append(say(0, "behind"))
		if s.Step(0) {
			t.Error("the reader passed an open transaction")
		}
		if got := b.Ends(0); got != (Ends{0, 0, 2}) {
			t.Errorf("ends are %+v, want stable 0", got)
		}
		x.Abort()
		for s.Step(0) {
		}
		told(t, j, "hidden 0@0", "0@1 behind", "moved 0 to 3=0")

		y, _ := b.Begin(0)
		y.Append(say(0, "alive"))
		y.Commit()
		for s.Step(0) {
		}
		told(t, j, "0@3 alive", "moved 0 to 5=0")
		if x.Commit() || y.Append(say(0, "late")) {
			t.Error("a transaction that has ended did something")
		}

		c, err := s.ReadChunk(t.Context(), bridge.ChunkQuery{Limit: 9, MaxBytes: 1 << 20, Incarnation: b.Incarnation()})
		if err != nil || c.End != 5 || len(c.Records) != 3 || c.Records[0].Kind != bridge.Hidden || len(c.Records[0].Data) > 0 {
			t.Errorf("chunk is %+v, %v; want the aborted record hidden and no markers", c, err)
		}
	})
}

// Each line of the resume table as the live reader meets it in its own history.
func TestLiveReaderFindsWhatHappenedToItsHistory(t *testing.T) {
	fill := func(b *Broker, n int) {
		for i := range n {
			b.Append(say(0, fmt.Sprint("r", i)))
		}
	}
	for _, c := range []struct {
		name   string
		kind   Kind
		happen func(b *Broker)
		want   []string
	}{
		{"expired", JetStreamLike, func(b *Broker) { fill(b, 3); b.Trim(0, 7) }, []string{"retention 0 5-6 next [7] open false"}},
		{"expired", KafkaLike, func(b *Broker) { fill(b, 3); b.Trim(0, 6) }, []string{"retention 0 4-5 next [6] open false"}},
		{"trimmed below", KafkaLike, func(b *Broker) { b.Trim(0, 4) }, nil},
		{"deleted at the end", JetStreamLike, func(b *Broker) { fill(b, 1); b.Delete(0, 5) }, []string{"moved 0 to 6=none"}},
		{"rolled back", JetStreamLike, func(b *Broker) { b.Rollback(0, 3) }, []string{"doubted", "rolled-back 0 3-4 next [1] open true"}},
		{"rolled back and regrown", JetStreamLike, func(b *Broker) { b.Rollback(0, 3); fill(b, 5) }, []string{"doubted", "rolled-back 0 4-4 next [1] open true"}},
		{"rolled back above", JetStreamLike, func(b *Broker) { fill(b, 2); b.Rollback(0, 5) }, []string{"doubted"}},
		{"rolled back", KafkaLike, func(b *Broker) { b.Rollback(0, 2) }, []string{"doubted", "rolled-back 0 2-3 next [2] open false"}},
		{"rolled back and regrown", KafkaLike, func(b *Broker) { b.Rollback(0, 2); fill(b, 5) }, []string{"doubted", "rolled-back 0 2-3 next [2] open false"}},
		{"new epoch", KafkaLike, func(b *Broker) { b.NewEpoch(0) }, []string{"doubted"}},
		{"recreated", JetStreamLike, func(b *Broker) { b.Recreate(1); fill(b, 9) }, []string{"doubted", "recreated -1 5--1 next [1] open true"}},
		{"recreated with more partitions", KafkaLike, func(b *Broker) { b.Recreate(2); fill(b, 9) }, []string{"doubted", "recreated -1 4--1 next [0 0] open true"}},
		{"away", JetStreamLike, func(b *Broker) { b.Down(); b.Up() }, []string{"doubted"}},
	} {
		t.Run(fmt.Sprintf("%v/%s", c.kind, c.name), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := NewBroker(BrokerOptions{Kind: c.kind})
				fill(b, 4)
				s := b.Source(SourceOptions{Stepped: true})
				j := stepped(t, s)
				j.take()
				c.happen(b)
				s.Step(0)
				told(t, j, c.want...)
			})
		})
	}
}

// Two unclean elections can put an old history back under a place of a newer
// one; the end of the proof's epoch alone calls that exact.
func TestRevertedHistoryIsFoundByTheRecordItself(t *testing.T) {
	b := NewBroker(BrokerOptions{Kind: KafkaLike})
	for range 10 {
		b.Append(say(0, "of A"))
	}
	b.Rollback(0, 5)
	for range 2 {
		b.Append(say(0, "of B"))
	}
	s := b.Source(SourceOptions{})
	bounds, err := s.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pos := bounds.End
	if pos.Places[0] != (bridge.Place{Offset: 7, Proof: bridge.ProofOf(1)}) {
		t.Fatalf("end is %+v", pos)
	}
	if !b.Revert(0) {
		t.Fatal("nothing reverted")
	}
	v, err := s.Verify(t.Context(), pos, nil)
	want := []bridge.Finding{{
		Reason: bridge.RolledBack, From: 6, To: 6, Open: true,
		Next: bridge.Position{Incarnation: b.Incarnation(), Places: []bridge.Place{{}}},
	}}
	if err != nil || !reflect.DeepEqual(v.Findings, want) {
		t.Errorf("verdict is %+v, %v; want %+v", v, err, want)
	}
	if fates := b.History(); fates[9].Fate != Held || fates[10].Fate != RolledBack {
		t.Errorf("fates are %v and %v", fates[9].Fate, fates[10].Fate)
	}
	// An epoch that wrote nothing is unknown to the next leader as well, and no
	// reason for a reset.
	b.NewEpoch(0)
	pos = bridge.Position{Incarnation: b.Incarnation(), Places: []bridge.Place{{Offset: 10, Proof: bridge.ProofOf(0)}}}
	if v, err := s.Verify(t.Context(), pos, nil); err != nil || len(v.Findings) > 0 {
		t.Errorf("verdict is %+v, %v; want exact", v, err)
	}
}

// In a bucket of keys every overwrite of the oldest one moves the first record;
// to tell that as a loss would be false in most resumes.
func TestLossSaysWhatExpiryMeans(t *testing.T) {
	for loss, want := range map[Loss][]bridge.Reason{
		LossRetention: {bridge.Retention}, LossLimits: {bridge.Limits}, LossNone: nil,
	} {
		b := NewBroker(BrokerOptions{Loss: loss})
		for range 5 {
			b.Append(say(0, "x"))
		}
		b.Trim(0, 4)
		s := b.Source(SourceOptions{})
		v, err := s.Verify(t.Context(), bridge.Position{Incarnation: b.Incarnation(), Places: []bridge.Place{{Offset: 2}}}, nil)
		var got []bridge.Reason
		for _, f := range v.Findings {
			got = append(got, f.Reason)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("loss %v: findings %v, %v; want %v", loss, got, err, want)
		}
		c, err := s.ReadChunk(t.Context(), bridge.ChunkQuery{From: 2, Limit: 6, MaxBytes: 1 << 20, Incarnation: b.Incarnation()})
		if from := map[bool]bridge.Offset{true: 2, false: 4}[loss == LossNone]; err != nil || c.From != from || c.End != 6 {
			t.Errorf("loss %v: chunk [%d,%d), %v; want [%d,6)", loss, c.From, c.End, err, from)
		}
	}
}

// Races between a question and a change decide whether catch-up is exact, so
// hooks must be able to let the world move on in the middle of an operation.
func TestHooksLetAnswersGoStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker(BrokerOptions{})
		b.Append(say(0, "x"))
		s := b.Source(SourceOptions{After: func(ctx context.Context, op Op) error {
			if op == OpReadChunk {
				time.Sleep(time.Second)
			}
			return nil
		}})
		q := bridge.ChunkQuery{Limit: 2, MaxBytes: 1, Incarnation: b.Incarnation()}
		time.AfterFunc(time.Millisecond, func() { b.Rollback(0, 1) })
		if c, err := s.ReadChunk(t.Context(), q); err != nil || len(c.Records) != 1 {
			t.Errorf("chunk is %+v, %v; want the record that was rolled back meanwhile", c, err)
		}
		time.AfterFunc(time.Millisecond, func() { b.Recreate(1) })
		if _, err := s.ReadChunk(t.Context(), q); !errors.Is(err, bridge.ErrHistoryChanged) {
			t.Errorf("error is %v, want ErrHistoryChanged", err)
		}
		if got := s.Asked(OpReadChunk); got != 2 {
			t.Errorf("asked %d times, want 2", got)
		}
	})
}

// A broker may list a new partition later than another one did; until then its
// records are neither there nor missing.
func TestPartitionThatIsNotListedHasNoAnswer(t *testing.T) {
	b := NewBroker(BrokerOptions{Kind: KafkaLike, Partitions: 2})
	s := b.Source(SourceOptions{})
	c, err := s.ReadChunk(t.Context(), bridge.ChunkQuery{Partition: 2, Limit: 5, MaxBytes: 1, Incarnation: b.Incarnation()})
	if !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("chunk is %+v, %v; want ErrUnavailable", c, err)
	}
}

// Where a live reader goes on after a reset is its stream's policy, and clients
// with another one have to be able to tell that it was a choice.
func TestLiveReaderGoesOnByItsResetPolicy(t *testing.T) {
	for policy, next := range map[bridge.OnReset]string{
		"": "[1]", bridge.ResetAll: "[1]", bridge.ResetNew: "[6]", bridge.ResetSince: "[4]",
	} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBroker(BrokerOptions{})
			start := time.Now()
			at := func(s int) Message { return Message{Time: start.Add(time.Duration(s) * time.Second)} }
			for i := range 4 {
				b.Append(at(i))
			}
			s := b.Source(SourceOptions{Stepped: true, OnReset: policy})
			j := stepped(t, s)
			j.take()
			b.Rollback(0, 2)
			for _, second := range []int{1, 3, 4, 5} { // the reader has seen up to second 3
				b.Append(at(second))
			}
			s.Step(0)
			told(t, j, "doubted", "rolled-back 0 4-4 next "+next+" open true")
		})
	}
}

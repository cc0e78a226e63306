package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ssebridge/ssebridge/bridge"
)

var tailChecks = []check{
	{"TailStartsAtTheEnd", tailStartsAtTheEnd, nil},
	{"TailOfAnEmptyStream", tailOfAnEmptyStream, nil},
	{"TailKeepsOrderUnderConcurrentPublishing", tailKeepsOrder, nil},
	{"TailShowsWhatReplayShows", tailShowsWhatReplayShows, nil},
	{"TailOnTwoReplicasIsTheSame", tailOnTwoReplicas, hasReplica},
	{"TailLeavesOutDeletedRecords", tailLeavesOutDeleted, canDelete},
	{"TailIsNotDisturbedByTrimmingBehindIt", tailTrimmedBehind, canTrim},
	{"TailThatIsHeldUpTellsWhatItMissed", tailHeldUp, canTrim},
	{"TailEndsWithItsContext", tailEndsWithItsContext, nil},
	{"TailCanRunAgain", tailCanRunAgain, nil},
	{"PokeFindsNothingWhereNothingHappened", pokeFindsNothing, nil},
	{"AllRolesAtOnce", allRolesAtOnce, nil},
}

// A client that starts "from now on" must get what is published after it is
// told so, and nothing older.
func tailStartsAtTheEnd(t *testing.T, f *fixture) {
	f.fill(t, 3, "old")
	before := f.bounds(t)
	tl := tail(t, f.Source)
	tl.mu.Lock()
	started := tl.pos.Clone()
	spaced := false
	for _, h := range tl.heard {
		if h.records != nil || !slices.Contains([]bridge.ChangeKind{bridge.Started, bridge.Waiting, bridge.Spaced, bridge.Reading}, h.change.Kind) {
			t.Errorf("told %+v before Started", h)
		}
		spaced = spaced || h.change.Kind == bridge.Spaced
		if h.change.Kind == bridge.Started {
			break
		}
	}
	tl.mu.Unlock()
	if started.Incarnation != before.End.Incarnation || started.Incarnation == 0 {
		t.Errorf("started in incarnation %d, bounds say %d", started.Incarnation, before.End.Incarnation)
	}
	if len(started.Places) != int(f.partitions()) {
		t.Errorf("started with %d places, want %d", len(started.Places), f.partitions())
	}
	for p := range f.partitions() {
		l, proofs := f.log(p), f.proofs(t, p)
		if got := started.Place(p); got.Offset != l.end || got.Proof != 0 && got.Proof != proofs[l.end-1] {
			t.Errorf("partition %d started at %+v, want offset %d with proof %v or none", p, got, l.end, proofs[l.end-1])
		}
	}
	f.fill(t, 4, "new")
	tl.reaches(t, f)
	tl.until(t, "Reading", func() bool { return tl.state() == bridge.Reading })
	tl.mu.Lock()
	if !spaced && tl.count(bridge.Spaced) > 0 {
		t.Error("told the subjects only after Started")
	}
	tl.mu.Unlock()
	for p := range f.partitions() {
		f.match(t, fmt.Sprintf("partition %d", p), tl.records(p), f.log(p).sent[3:])
	}
}

// The first record ever is the one that an off-by-one loses.
func tailOfAnEmptyStream(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	f.fill(t, 1, "first")
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, fmt.Sprintf("partition %d", p), tl.records(p), f.log(p).sent)
	}
}

// publishAtOnce lets several producers publish to every partition at once.
func publishAtOnce(t *testing.T, f *fixture, producers, each int) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, producers)
	for i := range producers {
		wg.Go(func() {
			for n := range each {
				p := int32(i+n) % f.partitions()
				if errs[i] = f.put(t.Context(), Message{Partition: p, Data: fmt.Appendf(nil, "producer %d record %d", i, n)}); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// The one promise that everything else stands on: each record once, in order.
func tailKeepsOrder(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	publishAtOnce(t, f, 6, 100)
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, fmt.Sprintf("partition %d", p), tl.records(p), f.log(p).sent)
	}
}

// A client gets a record live or from a chunk as chance has it; the bytes, the
// time and above all the proof must not tell which.
func tailShowsWhatReplayShows(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	for p := range f.partitions() {
		f.publish(t, awkward(p)...)
	}
	tl.reaches(t, f)
	for p := range f.partitions() {
		live, replayed := tl.records(p), f.read(t, f.Source, p)
		f.match(t, "live", live, f.log(p).sent)
		f.match(t, "replayed", replayed, f.log(p).sent)
		for i := range min(len(live), len(replayed)) {
			if !same(live[i], replayed[i]) {
				t.Errorf("live %+v\nreplayed %+v", live[i], replayed[i])
			}
		}
	}
}

// An id made on one replica is resumed on another: both must number and prove
// alike.
func tailOnTwoReplicas(t *testing.T, f *fixture) {
	other := f.Replica(t)
	one, two := tail(t, f.Source), tail(t, other)
	publishAtOnce(t, f, 3, 30)
	one.reaches(t, f)
	two.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, "first replica", one.records(p), f.log(p).sent)
		if !slices.EqualFunc(one.records(p), two.records(p), same) {
			t.Errorf("partition %d: the replicas differ", p)
		}
		if !slices.EqualFunc(f.read(t, f.Source, p), f.read(t, other, p), same) {
			t.Errorf("partition %d: the replicas' chunks differ", p)
		}
	}
	one.mu.Lock()
	pos := one.pos.Clone()
	one.mu.Unlock()
	v := answer(t, func(ctx context.Context) (bridge.Verdict, error) { return other.Verify(ctx, pos, nil) })
	if len(v.Findings) > 0 || v.Incarnation != pos.Incarnation {
		t.Errorf("the other replica says of %+v: %+v; want exact", pos, v)
	}
}

// Holes are normal; taken for a loss, or for an end, they stop a stream.
func tailLeavesOutDeleted(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	f.fill(t, 4, "a")
	tl.reaches(t, f)
	var before [][]sent
	for p := range f.partitions() {
		before = append(before, f.log(p).sent)
		f.delete(t, p, 1)
	}
	f.fill(t, 4, "b")
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, "over the hole", tl.records(p), slices.Concat(before[p], f.log(p).sent[3:]))
	}
	if fs := tl.findings(); len(fs) > 0 {
		t.Errorf("found %+v, want nothing", fs)
	}
}

// Retention works behind the live place all day long; a gap would be false.
func tailTrimmedBehind(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	f.fill(t, 5, "a")
	tl.reaches(t, f)
	var before [][]sent
	for p := range f.partitions() {
		before = append(before, f.log(p).sent)
		f.trim(t, p, 5)
	}
	f.Source.Poke()
	f.fill(t, 3, "b")
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, "over the trimming", tl.records(p), slices.Concat(before[p], f.log(p).sent))
	}
	if fs := tl.findings(); len(fs) > 0 {
		t.Errorf("found %+v, want nothing", fs)
	}
}

// A replica that could not keep up reads on, or says what it has lost; what its
// buffers held decides which. Nothing may fall between.
func tailHeldUp(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	release := tl.hold()
	t.Cleanup(release) // before the Tail is stopped
	f.fill(t, 30, "a")
	var all [][]sent
	for p := range f.partitions() {
		all = append(all, f.log(p).sent)
		f.trim(t, p, 25)
	}
	release()
	f.fill(t, 2, "b")
	tl.reaches(t, f)
	for p := range f.partitions() {
		all[p] = append(all[p], f.log(p).sent[5:]...)
		var lost []bridge.Finding
		for _, fd := range tl.findings() {
			if fd.Reason != f.Gap {
				t.Errorf("found %+v, want %s", fd, f.Gap)
			}
			if fd.Partition == p {
				lost = append(lost, fd)
			}
		}
		got := map[bridge.Offset]bridge.Record{}
		for _, r := range tl.everything(p) {
			got[r.Offset] = r
		}
		for _, s := range all[p] {
			_, read := got[s.offset]
			missed := slices.ContainsFunc(lost, func(fd bridge.Finding) bool { return fd.From <= s.offset && s.offset <= fd.To })
			if read == missed {
				t.Errorf("%d@%d: read %v, told as lost %v", p, s.offset, read, missed)
			}
			if read {
				f.match(t, "held up", []bridge.Record{got[s.offset]}, []sent{s})
			}
		}
	}
}

// A process that drains must end, and a stream that is closed must not leave a
// reader behind at the broker's expense.
func tailEndsWithItsContext(t *testing.T, f *fixture) {
	f.bounds(t) // connections that are kept are made now
	running := append([]goleak.Option{goleak.IgnoreCurrent()}, f.Goroutines...)
	for _, busy := range []bool{false, true} {
		tl := tail(t, f.Source)
		if busy {
			publishAtOnce(t, f, 2, 50)
		}
		tl.stop(t)
		tl.mu.Lock()
		heard := len(tl.heard)
		tl.mu.Unlock()
		f.fill(t, 1, "late")
		if err := goleak.Find(running...); err != nil {
			t.Errorf("busy %v: after Tail returned: %v", busy, err)
		}
		tl.mu.Lock()
		if len(tl.heard) != heard {
			t.Errorf("busy %v: the receiver was called after Tail had returned", busy)
		}
		tl.mu.Unlock()
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	if err := f.Source.Tail(ended, &recorder{told: make(chan struct{})}); !errors.Is(err, errStop) {
		t.Errorf("Tail with an ended context returned %v, want its cause", err)
	}
}

// A stream that is read on demand is followed again and again, each time from
// the end.
func tailCanRunAgain(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	f.fill(t, 2, "first run")
	tl.reaches(t, f)
	tl.stop(t)
	f.fill(t, 2, "between")
	tl = tail(t, f.Source)
	f.fill(t, 2, "second run")
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, "second run", tl.records(p), f.log(p).sent[4:])
	}
}

// Any client whose place does not fit pokes the source, so it must be harmless
// however often, and also when nothing runs.
func pokeFindsNothing(t *testing.T, f *fixture) {
	f.Source.Poke()
	tl := tail(t, f.Source)
	for i := range 5 {
		f.Source.Poke()
		f.fill(t, 2, fmt.Sprint("round ", i))
	}
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, "live", tl.records(p), f.log(p).sent)
	}
	if fs := tl.findings(); len(fs) > 0 {
		t.Errorf("found %+v, want nothing", fs)
	}
	tl.stop(t)
	f.Source.Poke()
}

// Thousands of clients verify, read and seek while the live reader reads.
func allRolesAtOnce(t *testing.T, f *fixture) {
	f.fill(t, 5, "old")
	tl := tail(t, f.Source)
	first := f.bounds(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, 4*4) // one for each goroutine at most
	again := func(question func() error) {
		for range 4 {
			wg.Go(func() {
				for range 20 {
					if err := question(); err != nil && ctx.Err() == nil && !errors.Is(err, bridge.ErrUnavailable) {
						errs <- err
						return
					}
				}
			})
		}
	}
	again(func() error {
		v, err := f.Source.Verify(ctx, first.End, nil)
		if err == nil && len(v.Findings) > 0 {
			return fmt.Errorf("verdict on the end as it was is %+v, want exact", v)
		}
		return err
	})
	again(func() error {
		b, err := f.Source.Bounds(ctx)
		for p := range b.End.Places {
			if b.End.Places[p].Offset < first.End.Places[p].Offset {
				return fmt.Errorf("the end of partition %d went back from %d to %d", p, first.End.Places[p].Offset, b.End.Places[p].Offset)
			}
		}
		return err
	})
	again(func() error {
		end := first.End.Place(0).Offset
		c, err := f.Source.ReadChunk(ctx, bridge.ChunkQuery{From: end - 5, Limit: end, MaxBytes: 1 << 20, Incarnation: first.End.Incarnation})
		if err == nil && len(c.Records) != 5 {
			return fmt.Errorf("chunk [%d,%d) of the last 5 has %d records", c.From, c.End, len(c.Records))
		}
		return err
	})
	again(func() error {
		_, err := f.Source.PositionAt(ctx, time.Unix(0, 0))
		return err
	})
	publishAtOnce(t, f, 2, 50)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, "live", tl.records(p), f.log(p).sent[5:])
	}
}

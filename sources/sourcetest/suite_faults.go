package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

var faultChecks = []check{
	{"BrokerAwayIsNoAnswer", brokerAway, canGoAway},
	{"TailRidesOutTheBrokersAbsence", tailRidesOut, canGoAway},
	{"TailWaitsForABrokerThatIsAwayAtStart", tailWaitsAtStart, canGoAway},
	{"TailEndsWhileTheBrokerIsAway", tailEndsWhileAway, canGoAway},
	{"TailSurvivesARestartUnderLoad", tailSurvivesRestart, canRestart},
	{"StreamThatIsMissing", streamMissing, canRemove},
	{"TailFindsARecreatedStreamOnce", tailRecreated, canRecreate},
	{"TailFindsARolledBackLogOnce", tailRolledBack, canRollBack},
	{"TailFindsARolledBackLogThatHasGrownAgain", tailRegrown, canRollBack},
	{"RestoredStreamIsTheSameHistory", restored, canRestore},
	{"TailReadsNewPartitionsFromTheirBeginning", tailGrows, canGrow},
}

// asking asks a source everything there is to ask, and returns the errors.
func asking(ctx context.Context, s bridge.Source, b bridge.Bounds) map[string]error {
	errs := map[string]error{}
	_, errs["Verify"] = s.Verify(ctx, b.End, nil)
	_, errs["Bounds"] = s.Bounds(ctx)
	_, errs["ReadChunk"] = s.ReadChunk(ctx, bridge.ChunkQuery{
		From: b.First.Place(0).Offset, Limit: b.First.Place(0).Offset + 1, MaxBytes: 1 << 20, Incarnation: b.First.Incarnation,
	})
	_, errs["PositionAt"] = s.PositionAt(ctx, time.Unix(0, 0))
	return errs
}

// No answer is not an answer: taken for an empty stream, or waited for without
// end, an outage of the broker becomes one of every client.
func brokerAway(t *testing.T, f *fixture) {
	f.fill(t, 2, "r")
	b := f.bounds(t)
	f.Down(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for range 3 { // many clients ask at once
		wg.Go(func() {
			for what, err := range asking(ctx, f.Source, b) {
				if !errors.Is(err, bridge.ErrUnavailable) {
					t.Errorf("%s while the broker is away: %v, want ErrUnavailable", what, err)
				}
			}
		})
	}
	wg.Wait()
	f.Up(t)
	f.wantExact(t, b.End, nil)
	for p := range f.partitions() {
		f.match(t, "after the broker was back", f.read(t, f.Source, p), f.log(p).sent)
	}
}

// doubtedFirst checks that nothing was read on a new connection before it was
// told that what was read before is in doubt.
func (tl *tailing) doubtedFirst(t *testing.T) {
	t.Helper()
	tl.mu.Lock()
	defer tl.mu.Unlock()
	away := false
	for _, h := range tl.heard {
		switch {
		case h.records != nil && away:
			t.Errorf("read %s after Waiting, without Doubted", brief(h.records[0]))
			return
		case h.records != nil:
		case h.change.Kind == bridge.Waiting && tl.started:
			away = true
		case h.change.Kind == bridge.Doubted || h.change.Kind == bridge.Started:
			away = false
		}
	}
}

func tailRidesOut(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	for round := range 2 {
		f.fill(t, 3, fmt.Sprint("before ", round))
		tl.reaches(t, f)
		f.Down(t)
		tl.until(t, "Waiting", func() bool { return tl.count(bridge.Waiting) > round })
		f.Up(t)
		tl.until(t, "Reading", func() bool {
			return tl.count(bridge.Reading) > round+1 || round > 0 && tl.count(bridge.Reading) > round
		})
		f.fill(t, 3, fmt.Sprint("after ", round))
		tl.reaches(t, f)
	}
	tl.doubtedFirst(t)
	for p := range f.partitions() {
		f.match(t, "live", tl.records(p), f.log(p).sent)
	}
	if fs := tl.findings(); len(fs) > 0 {
		t.Errorf("found %+v, want nothing", fs)
	}
}

// The bridge is started before its broker as often as after it.
func tailWaitsAtStart(t *testing.T, f *fixture) {
	f.fill(t, 2, "old")
	f.Down(t)
	tl := begin(t, f.Source)
	tl.until(t, "Waiting", func() bool {
		return slices.ContainsFunc(tl.heard, func(h heard) bool { return errors.Is(h.change.Err, bridge.ErrUnavailable) })
	})
	f.Up(t)
	tl.until(t, "Started", func() bool { return tl.started })
	f.fill(t, 2, "new")
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, "live", tl.records(p), f.log(p).sent[2:])
	}
}

func tailEndsWhileAway(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	f.Down(t)
	tl.until(t, "Waiting", func() bool { return tl.state() == bridge.Waiting })
	tl.stop(t)
	f.Up(t)
}

// Restarts and rolling upgrades of the broker must cost time only. What the
// producers got no acknowledgement for may be in the log or not: the log says.
func tailSurvivesRestart(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	f.fill(t, 5, "before")
	tl.reaches(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for p := range f.partitions() {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				attempt, done := context.WithTimeout(ctx, time.Second)
				_ = f.put(attempt, Message{Partition: p, Data: fmt.Appendf(nil, "under load %d", i)}) // the broker may be away
				done()
				<-time.After(time.Millisecond) // some load, not as much as goes
			}
		})
	}
	f.Restart(t)
	tl.until(t, "Doubted", func() bool { return tl.count(bridge.Doubted) > 0 })
	cancel()
	wg.Wait()
	f.publish(t, Message{Data: []byte("after")})
	for p := range f.partitions() {
		end := f.bounds(t).End.Place(p).Offset
		held := f.read(t, f.Source, p)
		tl.until(t, "arrival at the end", func() bool { return tl.pos.Place(p).Offset >= end })
		if live := tl.records(p); !slices.EqualFunc(live, held, same) {
			t.Errorf("partition %d: %d records live, %d in the log, or they differ", p, len(live), len(held))
		}
		at := map[bridge.Offset]bridge.Record{}
		for _, r := range held {
			at[r.Offset] = r
		}
		for _, s := range f.log(p).sent {
			if err := f.like(at[s.offset], s); err != nil {
				t.Errorf("partition %d: of what the broker had acknowledged: %v", p, err)
			}
		}
	}
	if fs := tl.findings(); len(fs) > 0 {
		t.Errorf("found %+v, want nothing", fs)
	}
}

// A stream that does not exist is another matter than a broker that does not
// answer: somebody has to make it.
func streamMissing(t *testing.T, f *fixture) {
	f.fill(t, 3, "old")
	b := f.bounds(t)
	tl := tail(t, f.Source)
	f.Remove(t)
	for what, err := range asking(t.Context(), f.Source, b) {
		if !errors.Is(err, bridge.ErrMissing) {
			t.Errorf("%s of a stream that is gone: %v, want ErrMissing", what, err)
		}
	}
	tl.until(t, "Waiting for the stream", func() bool {
		return slices.ContainsFunc(tl.heard, func(h heard) bool { return errors.Is(h.change.Err, bridge.ErrMissing) })
	})
	f.recreate(t)
	f.fill(t, 2, "new")
	tl.until(t, "Found", func() bool { return tl.count(bridge.Found) > 0 })
	f.wantResetOnce(t, tl, bridge.Recreated)
}

// wantResetOnce checks that a Tail found one reset, and behind it everything
// from where it said it would go on.
func (f *fixture) wantResetOnce(t *testing.T, tl *tailing, reason bridge.Reason) {
	t.Helper()
	f.fill(t, 3, "behind the reset")
	tl.reaches(t, f)
	f.Source.Poke() // finds nothing more
	f.fill(t, 1, "last")
	tl.reaches(t, f)
	fs := tl.findings()
	if !slices.ContainsFunc(fs, func(fd bridge.Finding) bool { return f.concerns(fd, 0) || fd.Partition == bridge.AllPartitions }) {
		t.Fatalf("found %+v, want a reset of partition 0", fs)
	}
	seen := map[int32]bool{}
	for _, fd := range fs {
		if fd.Reason != reason || seen[fd.Partition] {
			t.Errorf("found %+v, want one %s for each partition or the stream", fs, reason)
		}
		seen[fd.Partition] = true
	}
	for p := range f.partitions() {
		l := f.log(p)
		from := l.first
		for _, fd := range fs {
			if fd.Partition == bridge.AllPartitions || fd.Partition == p {
				from = fd.Next.Place(p).Offset
			}
		}
		if !seen[p] && !seen[bridge.AllPartitions] {
			continue
		}
		behind := slices.DeleteFunc(l.sent, func(s sent) bool { return s.offset < from })
		f.match(t, fmt.Sprintf("partition %d behind the reset", p), tl.records(p), behind)
	}
}

// Whoever deletes a stream and makes it again must not leave browsers on the
// old one, nor splice both into one history.
func tailRecreated(t *testing.T, f *fixture) {
	f.fill(t, 3, "old")
	tl := tail(t, f.Source)
	f.fill(t, 3, "old, live")
	tl.reaches(t, f)
	f.recreate(t)
	f.fill(t, 8, "new") // as many as before, and more
	tl.until(t, "Found", func() bool { return tl.count(bridge.Found) > 0 })
	f.wantResetOnce(t, tl, bridge.Recreated)
	if fd := tl.findings()[0]; fd.Partition != bridge.AllPartitions || !fd.Open || fd.To != bridge.UnknownOffset {
		t.Errorf("found %+v, want the whole stream, open", fd)
	}
}

func tailRolledBack(t *testing.T, f *fixture) {
	f.fill(t, 4, "kept")
	rollBack := f.keep(t)
	tl := tail(t, f.Source)
	f.fill(t, 4, "lost")
	tl.reaches(t, f)
	rollBack()
	tl.until(t, "Found", func() bool { return tl.count(bridge.Found) > 0 })
	f.wantResetOnce(t, tl, bridge.RolledBack)
}

// The live reader may meet the log only after it has grown past its own place.
func tailRegrown(t *testing.T, f *fixture) {
	f.fill(t, 4, "kept")
	rollBack := f.keep(t)
	tl := tail(t, f.Source)
	f.fill(t, 4, "lost")
	tl.reaches(t, f)
	rollBack()
	f.fill(t, 8, "regrown")
	tl.until(t, "Found", func() bool { return tl.count(bridge.Found) > 0 })
	f.wantResetOnce(t, tl, bridge.RolledBack)
}

// A stream that comes back from a backup has another identity and the same
// records: clients who can prove theirs lose nothing.
func restored(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	f.fill(t, 4, "before")
	tl.reaches(t, f)
	old := f.bounds(t)
	places := f.places(t, 0)
	f.Restore(t)
	f.fill(t, 2, "after")
	inc := f.bounds(t).End.Incarnation
	if inc == old.End.Incarnation {
		t.Fatalf("the incarnation is still %d", inc)
	}
	for _, place := range places {
		pos := bridge.Position{Incarnation: old.End.Incarnation}.With(0, place)
		if place.Proof == 0 {
			f.wantOne(t, pos, bridge.Recreated) // nothing shows that it is the same
			continue
		}
		if v := f.verify(t, pos, nil); len(v.Findings) > 0 || v.Incarnation != inc {
			t.Errorf("verdict on %+v is %+v, want exact in %d", pos, v, inc)
		}
	}
	tl.until(t, "Started in the new incarnation", func() bool { return tl.pos.Incarnation == inc })
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, "live", tl.records(p), f.log(p).sent)
	}
	if fs := tl.findings(); len(fs) > 0 {
		t.Errorf("found %+v, want nothing", fs)
	}
}

// What is written to a new partition before anybody has noticed it counts too.
func tailGrows(t *testing.T, f *fixture) {
	tl := tail(t, f.Source)
	f.fill(t, 2, "before")
	n := int(f.partitions()) + 2
	f.Grow(t, n)
	f.mu.Lock()
	for len(f.logs) < n {
		f.logs = append(f.logs, truth{first: f.base, end: f.base})
	}
	f.mu.Unlock()
	f.fill(t, 3, "after")
	tl.until(t, "Grown", func() bool { return len(tl.pos.Places) == n })
	tl.reaches(t, f)
	for p := range f.partitions() {
		f.match(t, fmt.Sprintf("partition %d", p), tl.records(p), f.log(p).sent)
	}
	f.wantExact(t, f.bounds(t).End, nil)
}

package sourcetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
)

var verifyChecks = []check{
	{"VerifyIsExactAtEveryOffset", verifyExact, nil},
	{"VerifyIsExactBesideHoles", verifyHoles, canDelete},
	{"VerifyTrustsTheBrokerOverTheCaller", verifyKnown, nil},
	{"VerifyTellsAnotherRecordBeforeThePlace", verifyWrongProof, nil},
	{"VerifyTellsWhatRetentionTook", verifyGap, canTrim},
	{"VerifyReadsMissingPlacesAsZero", verifyMissingPlaces, func(s *Subject) bool { return canTrim(s) && hasSeveral(s) }},
	{"VerifyTellsAPlaceBeyondTheEnd", verifyBeyond, nil},
	{"VerifyKeepsPlacesItDoesNotKnow", verifySurplus, nil},
	{"VerifyTellsARecreatedStream", verifyRecreated, canRecreate},
	{"VerifyTellsARolledBackLog", verifyRolledBack, canRollBack},
	{"VerifyTellsARolledBackLogThatHasGrownAgain", verifyRegrown, canRollBack},
	{"ReadEpochOutlivesNoHistory", readEpoch, canRollBack},
}

// at returns the position that has one partition at a place and all others at
// the end of what is held.
func (f *fixture) at(t *testing.T, partition int32, place bridge.Place) bridge.Position {
	t.Helper()
	return f.bounds(t).End.With(partition, place)
}

// places returns every place of a partition that must be exact now: each
// offset up to the end, with and without the proof that belongs to it.
func (f *fixture) places(t *testing.T, partition int32) []bridge.Place {
	t.Helper()
	l, proofs := f.log(partition), f.proofs(t, partition)
	var places []bridge.Place
	for o := l.first; o <= l.end; o++ {
		places = append(places, bridge.Place{Offset: o})
		if proof := proofs[o-1]; proof != 0 {
			places = append(places, bridge.Place{Offset: o, Proof: proof})
		}
	}
	return places
}

func (f *fixture) wantExact(t *testing.T, pos bridge.Position, known bridge.Known) {
	t.Helper()
	v := f.verify(t, pos, known)
	if len(v.Findings) > 0 || v.Incarnation != pos.Incarnation {
		t.Errorf("verdict on %+v is %+v, want exact", pos, v)
	}
}

// wantOne returns the one finding that a position must have.
func (f *fixture) wantOne(t *testing.T, pos bridge.Position, reason bridge.Reason) (bridge.Finding, bool) {
	t.Helper()
	v := f.verify(t, pos, nil)
	if len(v.Findings) != 1 || v.Findings[0].Reason != reason {
		t.Errorf("verdict on %+v is %+v, want one finding: %s", pos, v, reason)
		return bridge.Finding{}, false
	}
	if next := v.Findings[0].Next; next.Incarnation != v.Incarnation {
		t.Errorf("verdict on %+v: next %+v is not in incarnation %d", pos, next, v.Incarnation)
	}
	return v.Findings[0], true
}

// wantNext checks where one partition goes on, and that the others stay.
func (f *fixture) wantNext(t *testing.T, fd bridge.Finding, pos bridge.Position, partition int32, offset bridge.Offset) {
	t.Helper()
	proof := fd.Next.Place(partition).Proof
	if proofs := f.proofs(t, partition); proof != 0 && proofs[offset-1] != 0 && proof != proofs[offset-1] {
		t.Errorf("finding %+v goes on with proof %v, want %v or none", fd, proof, proofs[offset-1])
	}
	if want := (bridge.Position{Incarnation: fd.Next.Incarnation, Places: pos.Places}).With(partition, bridge.Place{Offset: offset, Proof: proof}); !fd.Next.Equal(want) {
		t.Errorf("finding %+v of position %+v goes on at %+v, want %+v", fd, pos, fd.Next, want)
	}
}

// A false reset costs a client its whole history, so every place that was ever
// true must be exact for as long as it is.
func verifyExact(t *testing.T, f *fixture) {
	f.wantExact(t, f.bounds(t).First, nil)
	f.wantExact(t, f.bounds(t).End, nil)
	f.fill(t, 6, "r")
	for p := range f.partitions() {
		for _, place := range f.places(t, p) {
			f.wantExact(t, f.at(t, p, place), nil)
		}
	}
	b := f.bounds(t)
	f.wantExact(t, b.First, nil)
	f.wantExact(t, b.End, nil)
	f.wantExact(t, bridge.Position{Incarnation: b.End.Incarnation}, nil)
	f.wantExact(t, bridge.Position{Incarnation: b.End.Incarnation, Places: make([]bridge.Place, len(b.End.Places))}, nil)
}

// The record before a place may be gone for good reasons. A place keeps the
// proof of a record that was deleted later.
func verifyHoles(t *testing.T, f *fixture) {
	f.fill(t, 8, "r")
	for p := range f.partitions() {
		before := f.places(t, p)
		f.delete(t, p, 5)
		f.delete(t, p, 4)
		f.delete(t, p, 2)
		for _, place := range before {
			f.wantExact(t, f.at(t, p, place), nil)
		}
	}
}

// What a replica holds spares a read; where it is wrong, or lacks the record,
// the broker decides.
func verifyKnown(t *testing.T, f *fixture) {
	f.fill(t, 4, "r")
	for p := range f.partitions() {
		proofs := f.proofs(t, p)
		for name, known := range map[string]bridge.Known{
			"right":   func(_ context.Context, _ int32, o bridge.Offset) (bridge.Proof, bool) { return proofs[o], true },
			"none":    func(context.Context, int32, bridge.Offset) (bridge.Proof, bool) { return 0, true },
			"not":     func(context.Context, int32, bridge.Offset) (bridge.Proof, bool) { return 0, false },
			"another": func(_ context.Context, _ int32, o bridge.Offset) (bridge.Proof, bool) { return proofs[o] + 1, true },
		} {
			t.Run(name, func(t *testing.T) {
				for _, place := range f.places(t, p) {
					pos := bridge.Position{Incarnation: f.bounds(t).End.Incarnation}.With(p, place)
					f.wantExact(t, pos, known)
				}
			})
		}
	}
}

// A record that is not the one the client has read before its place is another
// history, however well the numbers fit.
func verifyWrongProof(t *testing.T, f *fixture) {
	f.fill(t, 4, "r")
	for p := range f.partitions() {
		for _, s := range f.log(p).sent {
			pos := f.at(t, p, bridge.Place{Offset: s.offset + 1, Proof: f.proofs(t, p)[s.offset] + 1})
			fd, ok := f.wantOne(t, pos, bridge.RolledBack)
			if ok && (!f.concerns(fd, p) || fd.To != s.offset || !fd.Open) {
				t.Errorf("finding is %+v, want offset %d of partition %d and the place to go on open", fd, s.offset, p)
			}
		}
	}
}

// concerns reports whether a finding is about a partition; of a stream that has
// only one it may be about the whole.
func (f *fixture) concerns(fd bridge.Finding, partition int32) bool {
	return fd.Partition == partition || fd.Partition == bridge.AllPartitions && f.partitions() == 1
}

// What is lost for good is told with its exact bounds, once for each partition.
func verifyGap(t *testing.T, f *fixture) {
	f.fill(t, 8, "r")
	before := make([][]bridge.Place, f.partitions())
	for p := range f.partitions() {
		before[p] = f.places(t, p)
		f.trim(t, p, 5)
	}
	for p := range f.partitions() {
		first := f.log(p).first
		for _, place := range append(before[p], bridge.Place{}) {
			pos := f.at(t, p, place)
			want := max(place.Offset, f.base)
			if want >= first {
				f.wantExact(t, pos, nil)
				continue
			}
			fd, ok := f.wantOne(t, pos, f.Gap)
			if !ok {
				continue
			}
			if fd.Partition != p || fd.From != want || fd.To != first-1 || fd.Open {
				t.Errorf("gap at %+v is %+v, want [%d,%d] of partition %d", place, fd, want, first-1, p)
			}
			f.wantNext(t, fd, pos, p, first)
		}
	}
}

// A partition that was added while the client was away has no place in its id.
// What it lost meanwhile is a gap; "its first record" would be a silent loss.
func verifyMissingPlaces(t *testing.T, f *fixture) {
	f.fill(t, 4, "r")
	for p := range f.partitions() {
		f.trim(t, p, 2)
	}
	pos := bridge.Position{Incarnation: f.bounds(t).End.Incarnation}
	v := f.verify(t, pos, nil)
	if len(v.Findings) != int(f.partitions()) {
		t.Fatalf("verdict on a position without places is %+v, want a gap for each of %d partitions", v, f.partitions())
	}
	for p, fd := range v.Findings {
		first := f.log(int32(p)).first
		if fd.Partition != int32(p) || fd.Reason != f.Gap || fd.From != f.base || fd.To != first-1 {
			t.Errorf("finding is %+v, want a gap [%d,%d] of partition %d", fd, f.base, first-1, p)
		}
		f.wantNext(t, fd, pos, int32(p), first)
		pos = fd.Next
	}
}

// A place that the log has not reached yet was read from a longer log.
func verifyBeyond(t *testing.T, f *fixture) {
	f.fill(t, 4, "r")
	p := f.partitions() - 1
	l, proofs := f.log(p), f.proofs(t, p)
	for _, place := range []bridge.Place{{Offset: l.end + 1}, {Offset: l.end + 50, Proof: proofs[l.end-1]}} {
		pos := f.at(t, p, place)
		fd, ok := f.wantOne(t, pos, bridge.RolledBack)
		if !ok {
			continue
		}
		if !f.concerns(fd, p) || fd.From != l.end || fd.To != place.Offset-1 {
			t.Errorf("finding at %+v is %+v, want [%d,%d] of partition %d", place, fd, l.end, place.Offset-1, p)
		}
		next := l.end
		if fd.Open {
			next = l.first
		}
		f.wantNext(t, fd, pos, p, next)
	}
}

// In a rolling change of the number of partitions a replica, or a broker, may
// know fewer of them than a client's id. To drop the place is to repeat them all.
func verifySurplus(t *testing.T, f *fixture) {
	f.fill(t, 4, "r")
	surplus := []bridge.Place{{Offset: 17}, {Offset: 4, Proof: bridge.ProofOf(1)}}
	pos := f.bounds(t).End
	pos.Places = slices.Concat(pos.Places, surplus)
	f.wantExact(t, pos, nil)
	if f.Trim == nil {
		return
	}
	f.trim(t, 0, 2)
	pos = pos.With(0, bridge.Place{Offset: f.base})
	if fd, ok := f.wantOne(t, pos, f.Gap); ok {
		f.wantNext(t, fd, pos, 0, f.log(0).first)
	}
}

// A stream that was deleted and made again counts from the beginning, so its
// offsets fit every old place sooner or later.
func verifyRecreated(t *testing.T, f *fixture) {
	f.fill(t, 5, "old")
	old := f.bounds(t)
	f.recreate(t)
	for _, n := range []int{0, 2, 6} { // empty, shorter than before, longer
		f.fill(t, n, "new")
		b := f.bounds(t)
		if b.First.Incarnation == old.First.Incarnation || b.First.Incarnation == 0 {
			t.Fatalf("incarnation is %d, was %d before the stream was made again", b.First.Incarnation, old.First.Incarnation)
		}
		for _, pos := range []bridge.Position{old.First, old.End} {
			fd, ok := f.wantOne(t, pos, bridge.Recreated)
			if !ok {
				continue
			}
			if fd.Partition != bridge.AllPartitions || fd.To != bridge.UnknownOffset || !fd.Open || !fd.Next.Equal(b.First) {
				t.Errorf("finding is %+v, want the whole stream, to an unknown offset, open, on at %+v", fd, b.First)
			}
			if f.partitions() == 1 && fd.From != pos.Place(0).Offset {
				t.Errorf("finding is from %d, want %d", fd.From, pos.Place(0).Offset)
			}
		}
		f.wantExact(t, b.First, nil)
		f.wantExact(t, b.End, nil)
	}
	q := bridge.ChunkQuery{From: f.base, Limit: f.log(0).end, MaxBytes: 1 << 20, Incarnation: old.First.Incarnation}
	if c, err := f.Source.ReadChunk(t.Context(), q); !errors.Is(err, bridge.ErrHistoryChanged) {
		t.Errorf("chunk of the old incarnation is %+v, %v; want ErrHistoryChanged", c, err)
	}
}

// rolledBack publishes, loses half of it again, and returns the places of
// partition 0 that are still true and those that are not.
func rolledBack(t *testing.T, f *fixture) (kept, lost []bridge.Place) {
	t.Helper()
	f.fill(t, 5, "kept")
	rollBack := f.keep(t)
	kept = f.places(t, 0)
	f.fill(t, 5, "lost")
	for _, place := range f.places(t, 0) {
		if place.Offset > f.log(0).sent[4].offset+1 {
			lost = append(lost, place)
		}
	}
	rollBack()
	return kept, lost
}

// wantRolledBack checks the finding at a place that was lost.
func (f *fixture) wantRolledBack(t *testing.T, pos bridge.Position, keptEnd bridge.Offset) {
	t.Helper()
	want := pos.Place(0).Offset
	fd, ok := f.wantOne(t, pos, bridge.RolledBack)
	if !ok {
		return
	}
	if !f.concerns(fd, 0) || fd.From < keptEnd || fd.From > want-1 || fd.To != want-1 {
		t.Errorf("finding at %+v is %+v, want it from %d or later to %d", pos, fd, keptEnd, want-1)
	}
	next := keptEnd
	if fd.Open {
		next = f.log(0).first
	}
	f.wantNext(t, fd, pos, 0, next)
}

// A broker that lost its end in a crash gives the same numbers again.
func verifyRolledBack(t *testing.T, f *fixture) {
	kept, lost := rolledBack(t, f)
	for _, place := range kept {
		f.wantExact(t, f.at(t, 0, place), nil)
	}
	// Each place beyond the end may have to be watched for a while: two suffice.
	for _, place := range []bridge.Place{lost[0], lost[len(lost)-1]} {
		f.wantRolledBack(t, f.at(t, 0, place), f.log(0).end)
	}
}

// Grown again under the same numbers, only the proofs tell the histories apart.
func verifyRegrown(t *testing.T, f *fixture) {
	kept, lost := rolledBack(t, f)
	keptEnd := f.log(0).end
	f.fill(t, 8, "regrown")
	for _, place := range kept {
		f.wantExact(t, f.at(t, 0, place), nil)
	}
	for _, place := range lost {
		if place.Proof != 0 { // without one nobody can know
			f.wantRolledBack(t, f.at(t, 0, place), keptEnd)
		}
	}
	for p := range f.partitions() {
		f.match(t, "regrown", f.read(t, f.Source, p), f.log(p).sent)
	}
}

// Replay shares chunks within one read epoch: it must last while nothing
// happens, and a rewritten history must not have it.
func readEpoch(t *testing.T, f *fixture) {
	f.fill(t, 3, "kept")
	rollBack := f.keep(t)
	f.fill(t, 3, "lost")
	pos := f.bounds(t).First
	before := f.verify(t, pos, nil)
	if len(before.Epochs) < int(f.partitions()) {
		t.Errorf("verdict has %d read epochs for %d partitions", len(before.Epochs), f.partitions())
	}
	f.fill(t, 1, "lost too")
	if again := f.verify(t, pos, nil); !slices.Equal(again.Epochs, before.Epochs) {
		t.Errorf("read epochs went from %v to %v though nothing happened", before.Epochs, again.Epochs)
	}
	rollBack()
	f.fill(t, 6, "regrown")
	after := f.verify(t, pos, nil)
	if after.Incarnation == before.Incarnation && after.Epoch(0) == before.Epoch(0) {
		t.Errorf("read epoch is %d before and after the log was rolled back", before.Epoch(0))
	}
}

package bridge

import (
	"math/rand/v2"
	"testing"
)

// An id that is put together in a quicker way must be the same id: any other one
// would be a place that nobody was at.
func TestIDTrailWritesTheSameIDs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	place := func() Place {
		pl := Place{Offset: Offset(rnd.Int64N(1 << rnd.IntN(62)))}
		if rnd.IntN(3) > 0 {
			pl.Proof = ProofOf(rnd.Int64N(1 << rnd.IntN(62)))
		}
		return pl
	}
	var trail IDTrail // used again, as by a client that goes from place to place
	for range 2000 {
		var id ID
		for _, name := range []string{"a", "orders.eu", "z"}[:1+rnd.IntN(3)] {
			pos := Position{Incarnation: Incarnation(rnd.Uint32())}
			for range 1 + rnd.IntN(4) {
				pos.Places = append(pos.Places, place())
			}
			id = append(id, IDPart{name, pos})
		}
		stream := rnd.IntN(len(id))
		partition := rnd.IntN(len(id[stream].Position.Places))
		trail.Aim(id, stream, int32(partition))
		for range 3 {
			pl := place()
			id[stream].Position.Places[partition] = pl
			got, want := string(trail.Append([]byte("x"), pl)), "x"+id.String()
			if got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			if len(got)-1 > trail.MaxBytes() {
				t.Fatalf("%d bytes, more than the %d that it may have: %s", len(got)-1, trail.MaxBytes(), got)
			}
		}
	}
}

// The shortest and the longest numbers, and a stream without places beside.
func TestIDTrailAtTheBounds(t *testing.T) {
	id := ID{{"a", Position{}}, {"b", Position{Incarnation: 1<<32 - 1, Places: []Place{{}, {Offset: 7}}}}}
	var trail IDTrail
	for _, pl := range []Place{{}, {Offset: 1<<63 - 1, Proof: ProofOf(1 << 62)}, {Offset: -1}, {Proof: ProofOf(1<<62 + 1)}} {
		trail.Aim(id, 1, 0)
		id[1].Position.Places[0] = pl
		if got, want := string(trail.Append(nil, pl)), id.String(); got != want || len(got) > trail.MaxBytes() {
			t.Errorf("got %s, at most %d bytes, want %s", got, trail.MaxBytes(), want)
		}
	}
}

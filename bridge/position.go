package bridge

import (
	"slices"
	"strconv"
)

// Offset is the place of one record in one partition: a JetStream sequence or a
// Kafka offset. Offsets rise and may have holes. JetStream counts from 1 and
// Kafka from 0, so 0 reads as "from the first record" on both.
type Offset int64

// Incarnation says which life of a stream offsets belong to. It changes when
// the stream is deleted and made again; 0 means not known.
type Incarnation uint32

// Proof is what the broker says of the last record before a place: it shows
// that history was rewritten under the same offsets. JetStream proves with the
// record's timestamp in milliseconds, Kafka with its leader epoch. The zero
// Proof means that nothing is known.
type Proof int64

// ProofOf makes the Proof that carries v, which must not be negative.
func ProofOf(v int64) Proof { return Proof(v + 1) }

// Value returns what the proof carries; ok is false for the zero Proof.
func (p Proof) Value() (v int64, ok bool) { return int64(p) - 1, p > 0 }

func (p Proof) String() string {
	v, ok := p.Value()
	if !ok {
		return "none"
	}
	return strconv.FormatInt(v, 10)
}

// Place is one partition's part of a position: the next offset to read, and
// the proof of the record at Offset-1.
type Place struct {
	Offset Offset
	Proof  Proof
}

// Position says where to read a stream next: for each partition, the first
// offset not yet delivered. A missing place is 0, so the zero Position reads
// from the beginning. A Position is a value: methods return a new one and never
// change the places of the old.
type Position struct {
	Incarnation Incarnation
	Places      []Place // indexed by partition
}

// Place returns the place of a partition, the zero Place where it is missing.
func (p Position) Place(partition int32) Place {
	if int(partition) >= len(p.Places) {
		return Place{}
	}
	return p.Places[partition]
}

// With returns p with the place of one partition changed; partitions between
// are filled with the zero Place.
func (p Position) With(partition int32, pl Place) Position {
	places := make([]Place, max(len(p.Places), int(partition)+1))
	copy(places, p.Places)
	places[partition] = pl
	return Position{p.Incarnation, places}
}

// Clone returns a Position that shares no memory with p.
func (p Position) Clone() Position {
	return Position{p.Incarnation, slices.Clone(p.Places)}
}

// Equal reports whether both positions name the same incarnation and the same
// places with the same proofs. A missing place equals the zero Place.
func (p Position) Equal(q Position) bool {
	if p.Incarnation != q.Incarnation {
		return false
	}
	for i := range max(len(p.Places), len(q.Places)) {
		if p.Place(int32(i)) != q.Place(int32(i)) {
			return false
		}
	}
	return true
}

// set changes one place of p itself, which must own its places.
func (p *Position) set(partition int32, pl Place) {
	for int(partition) >= len(p.Places) {
		p.Places = append(p.Places, Place{})
	}
	p.Places[partition] = pl
}

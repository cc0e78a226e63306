package bridge

import "hash/crc32"

// IDTrail appends the texts of one ID again and again while one of its places moves
// on, at the price of that place and the check. The zero IDTrail is ready. It is
// used by one goroutine.
//
//	1~k.a. 0=1-  7=2  -5=1 . check
//	└─ before ┘  └ moves   └─ after
type IDTrail struct {
	before, after []byte
	crc           uint32 // of before
}

// Aim sets which place of id moves: those of the others, and everything else of id,
// are taken as they are now. The place is there.
func (t *IDTrail) Aim(id ID, stream int, partition int32) {
	b := append(t.before[:0], idVersion...)
	for i := range stream {
		b = id[i].append(b)
	}
	part := &id[stream]
	places := part.Position.Places
	b = appendIDPlaces(part.appendName(b), places[:partition], '.')
	if partition == 0 {
		b = append(b, '.')
	} else {
		b = append(b, '-')
	}
	a := appendIDPlaces(t.after[:0], places[partition+1:], '-')
	for i := stream + 1; i < len(id); i++ {
		a = id[i].append(a)
	}
	t.before, t.after = b, append(a, '.')
	t.crc = crc32.ChecksumIEEE(b)
}

// Append appends the text of the ID with its place moved to pl, as [ID.Append]
// does.
func (t *IDTrail) Append(dst []byte, pl Place) []byte {
	dst = append(dst, t.before...)
	moves := len(dst)
	dst = appendIDPlace(dst, pl)
	dst = append(dst, t.after...)
	return appendIDCheck(dst, crc32.Update(t.crc, crc32.IEEETable, dst[moves:]))
}

// MaxBytes is the most that a text that Append appends may be long.
func (t *IDTrail) MaxBytes() int {
	const number = 13 // digits of an int64 in base 36
	return len(t.before) + number + len("=") + number + len(t.after) + idCheckBytes
}

package sink

import "hash/crc32"

// sum is the checksum of a text as gzip has it, with the text's length.
type sum struct {
	crc   uint32
	bytes int64
}

// add returns the sum of the text and what is appended to it.
func (s sum) add(text []byte) sum {
	return sum{crc32.Update(s.crc, crc32.IEEETable, text), s.bytes + int64(len(text))}
}

// then returns the sum of two texts behind each other.
func (s sum) then(t sum) sum {
	return sum{shiftCRC(s.crc, t.bytes) ^ t.crc, s.bytes + t.bytes}
}

// since returns the sum of what was appended to a text since it had the sum
// before.
func (s sum) since(before sum) sum {
	n := s.bytes - before.bytes
	return sum{s.crc ^ shiftCRC(before.crc, n), n}
}

// shiftCRC returns what a CRC contributes to the one of its text with so many
// bytes appended: it is multiplied by x to the power of 8 for each, modulo the
// polynomial. So checksums are put together without the texts (as crc32_combine of
// zlib does, https://github.com/madler/zlib/blob/master/crc32.c).
func shiftCRC(crc uint32, bytes int64) uint32 {
	power := uint32(1) << 23 // x^8, as the highest bit is x^0
	for ; bytes > 0; bytes >>= 1 {
		if bytes&1 == 1 {
			crc = multiplyCRC(crc, power)
		}
		power = multiplyCRC(power, power)
	}
	return crc
}

// multiplyCRC multiplies two polynomials modulo that of the CRC.
func multiplyCRC(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a>>31 == 1 {
			product ^= b
		}
		b = b>>1 ^ crc32.IEEE*(b&1)
	}
	return product
}

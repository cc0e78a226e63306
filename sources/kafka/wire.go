package kafka

import (
	"encoding/binary"
	"errors"
)

// errShort reports bytes that end before what they announce does.
var errShort = errors.New("malformed response: it ends early")

// encoder appends the types of the Kafka protocol guide ("Protocol Primitive
// Types"). flexible chooses between the two encodings that every API has had:
// compact strings and arrays with tagged fields (KIP-482), or the older ones.
type encoder struct {
	b        []byte
	flexible bool
}

func (e *encoder) int8(v int8)      { e.b = append(e.b, byte(v)) }
func (e *encoder) int16(v int16)    { e.b = binary.BigEndian.AppendUint16(e.b, uint16(v)) }
func (e *encoder) int32(v int32)    { e.b = binary.BigEndian.AppendUint32(e.b, uint32(v)) }
func (e *encoder) int64(v int64)    { e.b = binary.BigEndian.AppendUint64(e.b, uint64(v)) }
func (e *encoder) uvarint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }

func (e *encoder) bool(v bool) {
	if v {
		e.int8(1)
	} else {
		e.int8(0)
	}
}

func (e *encoder) uuid(v [16]byte) { e.b = append(e.b, v[:]...) }

func (e *encoder) string(s string) {
	if e.flexible {
		e.uvarint(uint64(len(s)) + 1)
	} else {
		e.int16(int16(len(s)))
	}
	e.b = append(e.b, s...)
}

// array begins an array of n elements.
func (e *encoder) array(n int) {
	if e.flexible {
		e.uvarint(uint64(n) + 1)
	} else {
		e.int32(int32(n))
	}
}

// tags ends a structure: no tagged fields.
func (e *encoder) tags() {
	if e.flexible {
		e.uvarint(0)
	}
}

// decoder reads the same types. After the first fault everything reads as zero
// and bad is set, so callers check once. What it returns refers to its input.
type decoder struct {
	b        []byte
	flexible bool
	bad      bool
}

func (d *decoder) fail() {
	d.bad, d.b = true, nil
}

// take returns the next n bytes, nil where there are fewer.
func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.fail()
		return nil
	}
	x := d.b[:n:n]
	d.b = d.b[n:]
	return x
}

func (d *decoder) int8() int8 {
	if x := d.take(1); x != nil {
		return int8(x[0])
	}
	return 0
}

func (d *decoder) int16() int16 {
	if x := d.take(2); x != nil {
		return int16(binary.BigEndian.Uint16(x))
	}
	return 0
}

func (d *decoder) int32() int32 {
	if x := d.take(4); x != nil {
		return int32(binary.BigEndian.Uint32(x))
	}
	return 0
}

func (d *decoder) int64() int64 {
	if x := d.take(8); x != nil {
		return int64(binary.BigEndian.Uint64(x))
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// varint reads a zigzag number, as records have them.
func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uuid() (v [16]byte) {
	copy(v[:], d.take(16))
	return v
}

// length reads the length of a string, of bytes or of an array: -1 means null.
// classic is the width of the older encoding in bytes.
func (d *decoder) length(classic int) int {
	n := int64(0)
	switch {
	case d.flexible:
		n = int64(d.uvarint()) - 1
	case classic == 2:
		n = int64(d.int16())
	default:
		n = int64(d.int32())
	}
	if n < -1 || n > int64(len(d.b)) { // nothing takes less than a byte
		d.fail()
		return -1
	}
	return int(n)
}

// string reads a string; null reads as empty.
func (d *decoder) string() string { return string(d.bytesOf(2)) }

// bytes reads bytes, such as records; null reads as nil.
func (d *decoder) bytes() []byte { return d.bytesOf(4) }

func (d *decoder) bytesOf(classic int) []byte {
	if n := d.length(classic); n > 0 {
		return d.take(n)
	}
	return nil
}

// array calls each for every element of an array.
func (d *decoder) array(each func()) {
	for n := d.length(4); n > 0 && !d.bad; n-- {
		each()
	}
}

// tags reads the tagged fields at the end of a structure. field, if not nil, is
// called with each.
func (d *decoder) tags(field func(tag uint64, d *decoder)) {
	if !d.flexible {
		return
	}
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		tag := d.uvarint()
		size := d.uvarint()
		if size > uint64(len(d.b)) {
			d.fail()
			return
		}
		value := d.take(int(size))
		if field != nil {
			inner := decoder{b: value, flexible: true}
			field(tag, &inner)
			d.bad = d.bad || inner.bad
		}
	}
}

// err reports whether everything could be read.
func (d *decoder) err() error {
	if d.bad {
		return errShort
	}
	return nil
}

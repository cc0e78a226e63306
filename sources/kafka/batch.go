package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// batchHead is what of a record batch stands before its records, and
	// batchLead what stands before the part that its length counts. The layout is
	// that of the protocol guide's "Record Batch", version 2.
	batchHead = 61
	batchLead = 12
)

// errPartial reports a batch that is cut off: brokers fill a response up to its
// limit and no further.
var errPartial = errors.New("batch is cut off")

// batch is one record batch. payload refers to the bytes it was read from.
type batch struct {
	base      int64
	epoch     int32 // of the leader that appended it
	attrs     int16
	lastDelta int32
	count     int32
	firstTime int64 // ms
	maxTime   int64 // ms
	producer  int64
	payload   []byte
}

// last is the last offset that the batch stands for; compaction may have
// removed the record there, never the batch's claim to it.
func (b *batch) last() int64         { return b.base + int64(b.lastDelta) }
func (b *batch) compression() int16  { return b.attrs & 0x07 }
func (b *batch) logAppendTime() bool { return b.attrs&0x08 != 0 }
func (b *batch) transactional() bool { return b.attrs&0x10 != 0 }
func (b *batch) control() bool       { return b.attrs&0x20 != 0 }

// checksums is the polynomial of record batches.
var checksums = crc32.MakeTable(crc32.Castagnoli)

// nextBatch splits the first batch off b. With [errPartial] the batch has no
// payload, and base -1 when not even its head is there.
func nextBatch(b []byte) (x batch, rest []byte, err error) {
	x.base = -1
	if len(b) < batchLead {
		return x, nil, errPartial
	}
	size := int64(int32(binary.BigEndian.Uint32(b[8:])))
	if size < batchHead-batchLead {
		return x, nil, fmt.Errorf("record batch at offset %d has length %d", int64(binary.BigEndian.Uint64(b)), size)
	}
	if len(b) < batchHead {
		return x, nil, errPartial
	}
	if b[16] != 2 {
		return x, nil, fmt.Errorf("message format %d at offset %d: only format 2 (Kafka 0.11 and later) can be read", b[16], int64(binary.BigEndian.Uint64(b)))
	}
	x = batch{
		base:      int64(binary.BigEndian.Uint64(b)),
		epoch:     int32(binary.BigEndian.Uint32(b[12:])),
		attrs:     int16(binary.BigEndian.Uint16(b[21:])),
		lastDelta: int32(binary.BigEndian.Uint32(b[23:])),
		firstTime: int64(binary.BigEndian.Uint64(b[27:])),
		maxTime:   int64(binary.BigEndian.Uint64(b[35:])),
		producer:  int64(binary.BigEndian.Uint64(b[43:])),
		count:     int32(binary.BigEndian.Uint32(b[57:])),
	}
	if x.base < 0 || x.lastDelta < 0 || x.count < 0 || int64(x.count) > int64(x.lastDelta)+1 || x.last() < x.base {
		return x, nil, fmt.Errorf("record batch at offset %d has %d records up to %d", x.base, x.count, x.last())
	}
	if int64(len(b)) < batchLead+size {
		return x, nil, errPartial
	}
	whole := b[:batchLead+size]
	if crc32.Checksum(whole[21:], checksums) != binary.BigEndian.Uint32(whole[17:]) {
		return x, nil, fmt.Errorf("record batch at offset %d: checksum does not fit", x.base)
	}
	x.payload = whole[batchHead:]
	return x, b[len(whole):], nil
}

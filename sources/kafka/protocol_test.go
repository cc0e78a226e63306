package kafka

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// seal makes a batch of what stands behind the checksum.
func seal(base int64, epoch int32, rest []byte) []byte {
	e := encoder{}
	e.int64(base)
	e.int32(int32(len(rest) + 9))
	e.int32(epoch)
	e.int8(2)
	e.int32(int32(crc32.Checksum(rest, checksums)))
	return append(e.b, rest...)
}

// makeBatch makes a batch of records with these offset deltas.
func makeBatch(base int64, epoch int32, attrs int16, producer int64, lastDelta int32, deltas []int64, value []byte) []byte {
	var records []byte
	for _, d := range deltas {
		var r []byte
		r = append(r, 0)
		r = binary.AppendVarint(r, d) // time delta
		r = binary.AppendVarint(r, d)
		r = binary.AppendVarint(r, -1)
		r = binary.AppendVarint(r, int64(len(value)))
		r = append(r, value...)
		r = binary.AppendVarint(r, 0)
		records = append(binary.AppendVarint(records, int64(len(r))), r...)
	}
	e := encoder{}
	e.int16(attrs)
	e.int32(lastDelta)
	e.int64(1000)
	e.int64(2000)
	e.int64(producer)
	e.int16(0)
	e.int32(-1)
	e.int32(int32(len(deltas)))
	return seal(base, epoch, append(e.b, pack(attrs&7, records)...))
}

// pack compresses as a producer does.
func pack(codec int16, b []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case codecGzip:
		w = gzip.NewWriter(&out)
	case codecLZ4:
		w = lz4.NewWriter(&out)
	case codecZstd:
		w, _ = zstd.NewWriter(&out)
	case codecSnappy:
		return snappy.Encode(nil, b)
	default:
		return b
	}
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// offsets reads the offsets of a batch.
func offsets(t testing.TB, b *batch, limit int) (out []int64, err error) {
	t.Helper()
	r := newRecordReader(b, limit)
	defer r.close()
	for r.next() {
		out = append(out, r.rec.offset)
	}
	return out, r.err
}

// Compaction leaves batches with holes, and with none of their records: both
// stand for all their offsets.
func TestBatchesKeepTheirOffsetsOverHoles(t *testing.T) {
	for _, codec := range []int16{codecNone, codecGzip, codecSnappy, codecLZ4, codecZstd} {
		raw := makeBatch(100, 7, codec, -1, 9, []int64{1, 4, 5}, []byte("v"))
		b, rest, err := nextBatch(append(raw, 1, 2, 3))
		if err != nil || len(rest) != 3 {
			t.Fatalf("codec %d: %v, %d bytes are left", codec, err, len(rest))
		}
		got, err := offsets(t, &b, 10)
		if err != nil || !slices.Equal(got, []int64{101, 104, 105}) || b.last() != 109 || b.epoch != 7 {
			t.Errorf("codec %d: offsets %v up to %d, epoch %d, %v", codec, got, b.last(), b.epoch, err)
		}
	}
	empty, _, err := nextBatch(makeBatch(5, 1, 0, -1, 3, nil, nil))
	if got, err2 := offsets(t, &empty, 10); err != nil || err2 != nil || len(got) > 0 || empty.last() != 8 {
		t.Errorf("empty batch: %v up to %d, %v, %v", got, empty.last(), err, err2)
	}
}

// A response ends where its limit is. What is cut off must be read again, not
// taken for damage, and never half.
func TestABatchThatIsCutOffIsNoError(t *testing.T) {
	raw := makeBatch(100, 7, 0, -1, 2, []int64{0, 1, 2}, []byte("value"))
	for n := range raw {
		b, _, err := nextBatch(raw[:n])
		if err != errPartial { //nolint:errorlint // it is this very value
			t.Fatalf("%d of %d bytes: %v", n, len(raw), err)
		}
		if known := n >= batchHead; known != (b.base == 100) || !known && b.base != -1 {
			t.Errorf("%d of %d bytes: base %d", n, len(raw), b.base)
		}
	}
}

// A damaged byte anywhere must not become a record.
func TestChecksumCoversTheBatch(t *testing.T) {
	raw := makeBatch(100, 7, 0, -1, 2, []int64{0, 1, 2}, []byte("value"))
	for i := 21; i < len(raw); i++ {
		bad := slices.Clone(raw)
		bad[i] ^= 0x10
		if _, _, err := nextBatch(bad); err == nil {
			t.Errorf("byte %d changed, and it was read", i)
		}
	}
}

// A client must have nothing that was aborted and everything that was not,
// whatever order the broker lists the transactions in.
func TestAbortFilter(t *testing.T) {
	marker := func(base, producer int64, kind int16) []byte {
		key := []byte{0, 0, byte(kind >> 8), byte(kind)}
		var r []byte
		r = append(r, 0, 0, 0)
		r = binary.AppendVarint(r, int64(len(key)))
		r = append(r, key...)
		r = binary.AppendVarint(r, -1)
		r = binary.AppendVarint(r, 0)
		e := encoder{}
		e.int16(0x30)
		e.int32(0)
		e.int64(0)
		e.int64(0)
		e.int64(producer)
		e.int16(0)
		e.int32(-1)
		e.int32(1)
		return seal(base, 0, append(binary.AppendVarint(e.b, int64(len(r))), r...))
	}
	data := func(base, producer int64, attrs int16) []byte {
		return makeBatch(base, 0, attrs, producer, 0, []int64{0}, []byte("v"))
	}
	log := [][]byte{
		data(0, 1, 0x10),  // aborted at 6
		data(1, 2, 0x10),  // committed at 4
		data(2, -1, 0),    // plain
		data(3, 3, 0x10),  // aborted at 7
		marker(4, 2, 1),   //
		data(5, 1, 0),     // plain, of the producer that aborts
		marker(6, 1, 0),   //
		marker(7, 3, 0),   //
		data(8, 1, 0x10),  // committed at 9
		marker(9, 1, 1),   //
		data(10, 3, 0x10), // aborted at 12
		data(11, 2, 0x10), // committed later
		marker(12, 3, 0),  //
	}
	f := newAbortFilter([]abortedTxn{{3, 10}, {3, 3}, {1, 0}})
	var shown []int64
	for _, raw := range log {
		b, _, err := nextBatch(raw)
		if err != nil {
			t.Fatal(err)
		}
		ok, err := f.shows(&b)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			shown = append(shown, b.base)
		}
	}
	if want := []int64{1, 2, 5, 8, 11}; !slices.Equal(shown, want) {
		t.Errorf("shows %v, want %v", shown, want)
	}
}

// A value over the limit is left out, and what follows is found again.
func TestOversizedRecordsAreLeftOut(t *testing.T) {
	for _, codec := range []int16{codecNone, codecGzip, codecSnappy, codecLZ4, codecZstd} {
		big := makeBatch(0, 0, codec, -1, 3, []int64{0, 1, 2, 3}, make([]byte, 1<<20))
		b, _, err := nextBatch(big)
		if err != nil {
			t.Fatal(err)
		}
		r := newRecordReader(&b, 1000)
		n := 0
		for r.next() {
			if !r.rec.oversized || r.rec.value != nil || r.rec.offset != int64(n) {
				t.Errorf("codec %d: record %d is %+v", codec, n, r.rec)
			}
			n++
		}
		if r.close(); n != 4 || r.err != nil {
			t.Errorf("codec %d: %d records, %v", codec, n, r.err)
		}
	}
}

// Whatever a broker, or somebody between, sends: no crash, no endless loop, and
// no more memory than the limits say.
func FuzzBatches(f *testing.F) {
	for _, codec := range []int16{codecNone, codecGzip, codecSnappy, codecLZ4, codecZstd} {
		f.Add(makeBatch(100, 7, codec, 5, 9, []int64{1, 4, 5}, []byte("value")), false)
		f.Add(makeBatch(1<<40, 7, codec|0x30, 5, 0, []int64{0}, []byte("value")), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, mend bool) {
		if mend && len(raw) > batchHead { // let damage through the checksum
			binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-batchLead))
			raw[16] = 2
			binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], checksums))
		}
		filter := newAbortFilter([]abortedTxn{{5, 0}})
		for len(raw) > 0 {
			b, rest, err := nextBatch(raw)
			if err != nil {
				return
			}
			if len(rest) >= len(raw) {
				t.Fatal("no progress")
			}
			raw = rest
			if _, err := filter.shows(&b); err != nil {
				continue
			}
			r, last := newRecordReader(&b, 4096), b.base-1
			for r.next() {
				if r.rec.offset <= last || r.rec.offset > b.last() {
					t.Fatalf("offset %d after %d in a batch up to %d", r.rec.offset, last, b.last())
				}
				last = r.rec.offset
				if len(r.rec.value) > 4096 {
					t.Fatalf("value of %d bytes", len(r.rec.value))
				}
			}
			r.close()
		}
	})
}

// The same for all responses, in both encodings.
func FuzzResponses(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Add(bytes.Repeat([]byte{1, 2, 3, 4}, 40))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for version := int16(8); version <= 13; version++ {
			for _, flexible := range []bool{false, true} {
				d := func() *decoder { return &decoder{b: raw, flexible: flexible} }
				if got, err := decodeFetch(d(), version); err == nil && len(got.parts) > len(raw) {
					t.Fatalf("%d partitions in %d bytes", len(got.parts), len(raw))
				}
				_, _ = decodeMetadata(d(), version)
				_, _ = decodeListOffsets(d())
				_, _ = decodeEpochEnd(d())
				_, _ = decodeVersions(d())
			}
		}
	})
}

// Brokers differ in age; the newest way that both speak is taken, and a broker
// that is too old is told from one that is away.
func TestVersionsAreChosenTogether(t *testing.T) {
	all := func(fetch, list, meta, ends int16) map[int16][2]int16 {
		return map[int16][2]int16{keyFetch: {0, fetch}, keyListOffsets: {0, list}, keyMetadata: {0, meta}, keyEpochEnd: {0, ends}}
	}
	for _, c := range []struct {
		ranges map[int16][2]int16
		want   versions
		ok     bool
	}{
		{all(18, 11, 13, 4), versions{13, 7, 12, 4}, true},
		{all(12, 6, 11, 4), versions{12, 6, 11, 4}, true},
		{all(13, 6, 9, 4), versions{12, 6, 9, 4}, true}, // no ids to fetch by
		{all(11, 5, 8, 3), versions{11, 5, 8, 3}, true},
		{all(10, 5, 8, 3), versions{}, false},
		{map[int16][2]int16{keyFetch: {0, 13}}, versions{}, false},
	} {
		got, err := choose(c.ranges, 0)
		if (err == nil) != c.ok || c.ok && got != c.want {
			t.Errorf("from %v: %+v, %v; want %+v", c.ranges, got, err, c.want)
		}
	}
}

package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// recordLimit is the largest value that is read where nothing else is said.
	recordLimit = 8 << 20
	// besidesValue bounds what a record may have besides its value: key and headers.
	besidesValue = 256 << 10
	// windowBytes is how much of a compressed batch is decompressed at a time, if
	// no record is larger.
	windowBytes = 1 << 20
)

// record is one record of a batch. Its bytes refer to the batch's payload or to
// what it was decompressed into, which nobody writes to again.
type record struct {
	offset    int64
	time      int64  // ms
	key       []byte // nil: null
	value     []byte // nil: null
	headers   []bridge.Header
	oversized bool // the value was over the limit and has been left out
}

// recordReader reads the records of a batch one by one. A batch that is
// compressed is decompressed as it is read, in windows, so that neither a batch
// that unpacks to gigabytes nor one huge record takes more memory than the limit
// for a record.
//
//	r := newRecordReader(b, limit)
//	defer r.close()
//	for r.next() { use(&r.rec) }
//	return r.err
type recordReader struct {
	b     *batch
	rec   record
	err   error
	left  int32
	limit int
	prev  int64         // offset of the record before
	buf   []byte        // not read yet
	src   io.ReadCloser // what follows buf; nil: nothing
	heads []bridge.Header
}

// newRecordReader returns a reader that leaves out values over limit bytes.
func newRecordReader(b *batch, limit int) *recordReader {
	r := &recordReader{b: b, left: b.count, limit: limit, prev: b.base - 1}
	if b.compression() == codecNone || b.count == 0 {
		r.buf = b.payload
		return r
	}
	r.src, r.err = decoders.open(b.compression(), b.payload)
	return r
}

func (r *recordReader) close() {
	if r.src != nil {
		_ = r.src.Close() // only gives it back
		r.src = nil
	}
}

// next reads the next record into rec. It returns false at the end and after an
// error, which is in err.
func (r *recordReader) next() bool {
	if r.err != nil || r.left == 0 {
		return false
	}
	r.left--
	if err := r.read(); err != nil {
		r.err = fmt.Errorf("record batch at offset %d: %w", r.b.base, err)
		return false
	}
	return true
}

// read reads one record: its length, and then as many bytes.
func (r *recordReader) read() error {
	size, err := r.length()
	if err != nil {
		return err
	}
	if size > int64(r.limit)+besidesValue {
		return r.readOversized(size)
	}
	if !r.fill(int(size)) {
		return r.cut()
	}
	d := decoder{b: r.buf[:size:size]}
	r.buf = r.buf[size:]
	if err := r.head(&d); err != nil {
		return err
	}
	r.rec.key = d.nullable()
	r.rec.value = d.nullable()
	if r.rec.oversized = len(r.rec.value) > r.limit; r.rec.oversized {
		r.rec.value = nil
	}
	r.headers(&d)
	return d.err()
}

// head reads what every record begins with.
func (r *recordReader) head(d *decoder) error {
	r.rec = record{}
	d.int8() // attributes, none of which are used
	r.rec.time = r.b.firstTime + d.varint()
	if r.b.logAppendTime() {
		r.rec.time = r.b.maxTime
	}
	delta := d.varint()
	r.rec.offset = r.b.base + delta
	if d.bad || delta < 0 || delta > int64(r.b.lastDelta) || r.rec.offset <= r.prev {
		return errors.New("an offset is out of order")
	}
	r.prev = r.rec.offset
	return nil
}

func (r *recordReader) headers(d *decoder) {
	n := d.varint()
	if n <= 0 || n > int64(len(d.b)) {
		d.bad = d.bad || n != 0
		return
	}
	if int64(cap(r.heads)-len(r.heads)) < n {
		r.heads = make([]bridge.Header, 0, max(64, n)) // records before keep the old one
	}
	from := len(r.heads)
	for ; n > 0 && !d.bad; n-- {
		key := d.nullable()
		r.heads = append(r.heads, bridge.Header{Key: string(key), Value: d.nullable()})
	}
	r.rec.headers = r.heads[from:len(r.heads):len(r.heads)]
}

// readOversized reads a record of size bytes but for its value: the key and the
// headers still say what it is about, unless they are large themselves.
func (r *recordReader) readOversized(size int64) error {
	r.fill(64) // enough for all that precedes the key
	d := decoder{b: r.buf}
	before := len(d.b)
	if err := r.head(&d); err != nil {
		return err
	}
	size -= int64(before - len(d.b))
	r.buf = d.b
	r.rec.oversized = true
	for _, part := range []*[]byte{&r.rec.key, nil} {
		n, used, err := r.varint()
		if err != nil {
			return err
		}
		size -= int64(used)
		if n > size {
			return errShort
		}
		if n > 0 && part != nil && n <= besidesValue {
			if !r.fill(int(n)) {
				return r.cut()
			}
			*part, r.buf = r.buf[:n:n], r.buf[n:]
		} else if err := r.skip(n); err != nil {
			return err
		}
		size -= max(n, 0)
	}
	if size > besidesValue {
		return r.skip(size)
	}
	if !r.fill(int(size)) {
		return r.cut()
	}
	rest := decoder{b: r.buf[:size:size]}
	r.buf = r.buf[size:]
	r.headers(&rest)
	return rest.err()
}

// length reads the length of the next record.
func (r *recordReader) length() (int64, error) {
	n, _, err := r.varint()
	if err == nil && n < 0 {
		err = errShort
	}
	return n, err
}

// varint reads a number, and says how many bytes it took.
func (r *recordReader) varint() (v int64, used int, err error) {
	v, used = binary.Varint(r.buf)
	if used == 0 && r.src != nil {
		r.fill(binary.MaxVarintLen64)
		v, used = binary.Varint(r.buf)
	}
	if used <= 0 {
		return 0, 0, r.cut()
	}
	r.buf = r.buf[used:]
	return v, used, nil
}

// skip leaves out n bytes.
func (r *recordReader) skip(n int64) error {
	for n > 0 {
		if len(r.buf) == 0 && !r.fill(1) {
			return r.cut()
		}
		step := min(n, int64(len(r.buf)))
		r.buf, n = r.buf[step:], n-step
	}
	return nil
}

// fill makes sure that buf has n bytes and reports whether it has.
func (r *recordReader) fill(n int) bool {
	if len(r.buf) >= n || r.src == nil {
		return len(r.buf) >= n
	}
	size := windowBytes
	if guess := 4 * len(r.b.payload); r.prev < r.b.base { // the first window: small batches have small ones
		size = min(size, max(guess, 4<<10))
	}
	// A new one each time: records that were read refer to the old.
	window := make([]byte, max(n, size))
	have := copy(window, r.buf)
	got, err := io.ReadFull(r.src, window[have:])
	r.buf = window[:have+got]
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			r.err = fmt.Errorf("decompress: %w", err)
		}
		r.close()
	}
	return len(r.buf) >= n
}

// cut is the error of a batch that has less than it says.
func (r *recordReader) cut() error {
	if r.err != nil {
		return r.err
	}
	return errors.New("records end early")
}

// nullable reads bytes as records have them: -1 stands for null, which reads as
// nil; empty bytes are not nil.
func (d *decoder) nullable() []byte {
	n := d.varint()
	if n < 0 {
		return nil
	}
	if n > int64(len(d.b)) {
		d.fail()
		return nil
	}
	x := d.b[:n:n]
	d.b = d.b[n:]
	return x
}

package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The codes of compression in a batch's attributes.
const (
	codecNone   int16 = 0
	codecGzip   int16 = 1
	codecSnappy int16 = 2
	codecLZ4    int16 = 3
	codecZstd   int16 = 4
)

const (
	// zstdWindow is the largest window of zstd's own levels, 22.
	zstdWindow = 128 << 20
	// snappyBlock is the most that one block of snappy may hold. Producers write
	// blocks of 32 KiB, or a whole batch as one.
	snappyBlock = 64 << 20
)

// decompressors keeps decoders for the next batch: they are costly to make.
type decompressors struct{ gzip, lz4, zstd sync.Pool }

// decoders is shared by all batches; pools hold no state of their own.
var decoders decompressors

// open returns a reader of what payload holds, uncompressed.
func (p *decompressors) open(codec int16, payload []byte) (io.ReadCloser, error) {
	src := bytes.NewReader(payload)
	switch codec {
	case codecGzip:
		r, _ := p.gzip.Get().(*gzip.Reader)
		if r == nil {
			r = new(gzip.Reader)
		}
		if err := r.Reset(src); err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return &pooled{r, func() { p.gzip.Put(r) }}, nil
	case codecSnappy:
		return io.NopCloser(&snappyReader{src: payload}), nil
	case codecLZ4:
		r, _ := p.lz4.Get().(*lz4.Reader)
		if r == nil {
			r = lz4.NewReader(nil)
		}
		r.Reset(src)
		return &pooled{r, func() { r.Reset(nil); p.lz4.Put(r) }}, nil
	case codecZstd:
		r, _ := p.zstd.Get().(*zstd.Decoder)
		if r == nil {
			var err error
			// One goroutine less per decoder, and nothing is read ahead of the caller.
			r, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
			if err != nil {
				return nil, fmt.Errorf("zstd: %w", err)
			}
		}
		if err := r.Reset(src); err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return &pooled{r, func() {
			if r.Reset(nil) == nil {
				p.zstd.Put(r)
			}
		}}, nil
	}
	return nil, fmt.Errorf("compression codec %d is not known", codec)
}

// pooled is a decoder that goes back to its pool when it is closed.
type pooled struct {
	io.Reader
	back func()
}

func (p *pooled) Close() error {
	p.back()
	return nil
}

// xerialMagic begins what Java producers write: blocks of snappy, each with its
// length before it. Other producers write one block alone.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

// xerialHead is the length of the magic, a version and a compatible version.
const xerialHead = 16

// snappyReader reads both forms.
type snappyReader struct {
	src    []byte
	framed bool
	begun  bool
	block  []byte // decoded
	rest   []byte // of block, not read yet
}

func (s *snappyReader) Read(p []byte) (int, error) {
	if !s.begun {
		s.begun = true
		if s.framed = len(s.src) >= xerialHead && bytes.HasPrefix(s.src, xerialMagic); s.framed {
			s.src = s.src[xerialHead:]
		}
	}
	for len(s.rest) == 0 {
		if len(s.src) == 0 {
			return 0, io.EOF
		}
		if err := s.decode(); err != nil {
			return 0, fmt.Errorf("snappy: %w", err)
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *snappyReader) decode() error {
	in := s.src
	if s.framed {
		if len(in) < 4 {
			return io.ErrUnexpectedEOF
		}
		size := int64(binary.BigEndian.Uint32(in))
		if size > int64(len(in)-4) {
			return io.ErrUnexpectedEOF
		}
		in, s.src = in[4:4+size], in[4+size:]
	} else {
		s.src = nil
	}
	n, err := snappy.DecodedLen(in)
	if err != nil {
		return err
	}
	// A block cannot hold more than 64 bytes for each three of its own (the copy
	// elements of the format), so a length above that is a lie to allocate for.
	if n > snappyBlock || int64(n) > 32*int64(len(in))+64 {
		return errors.New("block is larger than it can be")
	}
	s.block, err = snappy.Decode(s.block[:cap(s.block)], in)
	s.rest = s.block
	return err
}

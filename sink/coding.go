package sink

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"sync"
	"weak"
)

// Coding is a content coding (RFC 9110, section 8.4.1), by its registered name.
type Coding string

// The codings that responses may have.
const (
	Gzip Coding = "gzip" // RFC 1952
	Zstd Coding = "zstd" // RFC 8878
)

// identity is no coding.
const identity Coding = ""

// negotiate returns the coding for a client with these Accept-Encoding lines: the
// one that it likes most of ours, of equals the first. No header means identity,
// though it would allow all (RFC 9110, section 12.5.3).
func negotiate(ours []Coding, lines []string) Coding {
	weights := map[Coding]float64{}
	for item := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, parameters, _ := strings.Cut(item, ";")
		c := Coding(strings.ToLower(strings.TrimSpace(name)))
		if c == "x-gzip" { // the same (RFC 9110, section 8.4.1.3)
			c = Gzip
		}
		weights[c] = weight(parameters)
	}
	other := weights["*"]
	best, most := identity, 0.0
	for _, c := range ours {
		w, named := weights[c]
		if !named {
			w = other
		}
		if w > most {
			best, most = c, w
		}
	}
	return best
}

// weight reads the parameters of an item of Accept-Encoding: 1 without a q, 0 with
// one that is no number of 0 to 1.
func weight(parameters string) float64 {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		w, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(w >= 0 && w <= 1) {
			return 0
		}
		return w
	}
	return 1
}

// storedBytes is the most that a stored block of deflate holds (RFC 1951, section
// 3.2.4), and rawBytes the most that a block of zstd does (RFC 8878, section
// 3.1.1.2.4).
const (
	storedBytes = 1<<16 - 1
	rawBytes    = 128 << 10
)

// gzipFlush is an empty stored block. Go's compress/flate keeps what it has decoded
// until it meets one, or its window is full.
const gzipFlush = "\x00\x00\x00\xff\xff"

// appendStored appends text in a coding, but not compressed. Nothing that comes
// before or after it matters, as long as both end where the other begins: it is
// stored blocks for gzip, and a frame of raw blocks for zstd.
func (c Coding) appendStored(dst, text []byte) []byte {
	switch {
	case c == Gzip && len(text) > 0:
		for piece := range slices.Chunk(text, storedBytes) {
			dst = append(dst, 0) // not the last block; stored; the rest of the byte is padding
			dst = binary.LittleEndian.AppendUint16(dst, uint16(len(piece)))
			dst = binary.LittleEndian.AppendUint16(dst, ^uint16(len(piece)))
			dst = append(dst, piece...)
		}
		dst = append(dst, gzipFlush...)
	case c == Zstd && len(text) > 0:
		// Magic number, and a descriptor: no size is told, and a window of rawBytes (2 to
		// the power of 10 and 7). A single segment would be a window of its own size, and
		// browsers refuse those over 8 MB (RFC 9659).
		dst = append(dst, 0x28, 0xb5, 0x2f, 0xfd, 0, 7<<3)
		for len(text) > 0 {
			piece := text[:min(len(text), rawBytes)]
			text = text[len(piece):]
			header := uint32(len(piece)) << 3 // of a raw block
			if len(text) == 0 {
				header |= 1 // the last one
			}
			dst = append(dst, byte(header), byte(header>>8), byte(header>>16))
			dst = append(dst, piece...)
		}
	default:
		dst = append(dst, text...)
	}
	return dst
}

// gzipHead begins a gzip member: deflate, no flags, no time, unknown system (RFC
// 1952, section 2.3).
const gzipHead = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// gzipLast is an empty stored block that says it is the last one, and zstdLast an
// empty raw block that does.
const (
	gzipLast = "\x01\x00\x00\xff\xff"
	zstdLast = "\x01\x00\x00"
)

// body is the content of one response in a coding. What it holds is either said to
// this client alone, and then it is stored, or it is what the compressor of the
// client's group has made for all (see compressor).
//
//	gzip  head  stored …  ┃ blocks of the shared history …  ┃ stored …  last, CRC, length
//	zstd        frames …  ┃ frame of the shared history, in pieces …  last ┃ frames …
//
// It belongs to whoever serves the client.
type body struct {
	coding  Coding
	control bool         // the client is told positions
	all     *compressors // of all groups
	begun   bool         // of gzip: the head is written; of zstd: a frame that is shared is
	text    sum          // of gzip: all that the client decodes, but for what is in share
	share   share        // in the history of the client's group
}

// open returns what must come before something that is said to this client alone,
// and takes it out of the shared history.
func (b *body) open() (before string) {
	b.text = b.text.then(b.share.leave())
	switch {
	case b.coding == Gzip && !b.begun:
		b.begun = true
		return gzipHead
	case b.coding == Zstd && b.begun:
		b.begun = false
		return zstdLast
	}
	return ""
}

// appendEnd appends what ends the content, so that a client knows that it has all
// of it.
func (b *body) appendEnd(dst []byte) []byte {
	dst = append(dst, b.open()...)
	if b.coding == Gzip {
		dst = append(dst, gzipLast...)
		dst = binary.LittleEndian.AppendUint32(dst, b.text.crc)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(b.text.bytes))
	}
	return dst
}

// payload is what one write brings to a client: blocks, each of which becomes a
// chunk.
type payload struct {
	before string // a chunk of its own in front of them; empty: none
	blocks [][]byte
	stored Coding // in which each block has still to be stored; identity: it is as it is to be
}

// alone returns the payload of blocks that are said to this client alone, and
// notes that they are. b may be nil. Large ones are stored in pieces, so that a
// client that is waited for holds a copy of no more than one.
func (b *body) alone(units [][]byte) payload {
	if b == nil {
		return payload{blocks: units}
	}
	p := payload{b.open(), units, b.coding}
	if slices.ContainsFunc(units, func(u []byte) bool { return len(u) > pieceBytes }) {
		p.blocks = nil
		for _, u := range units {
			p.blocks = slices.AppendSeq(p.blocks, slices.Chunk(u, pieceBytes))
		}
	}
	if b.coding == Gzip {
		for _, u := range units {
			if len(u) > pieceBytes && b.all != nil {
				b.text = b.text.then(b.all.last.of(u))
			} else {
				b.text = b.text.add(u)
			}
		}
	}
	return p
}

// lastSum is the sum of the large text that was asked for last: thousands of clients
// are told the same one, each alone. It is safe for concurrent use.
type lastSum struct {
	mu    sync.Mutex
	first weak.Pointer[byte]
	sum   sum
}

// of returns the sum of a text, which must not be empty.
func (l *lastSum) of(text []byte) sum {
	first := weak.Make(&text[0])
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first != first || l.sum.bytes != int64(len(text)) {
		l.first, l.sum = first, sum{}.add(text)
	}
	return l.sum
}

// parts returns how many parts there are.
func (p *payload) parts() int {
	if p.before != "" {
		return len(p.blocks) + 1
	}
	return len(p.blocks)
}

// part returns a part as it is sent. It may use room, which it returns for the next
// one. The part is valid until then.
func (p *payload) part(i int, room []byte) (part, grown []byte) {
	if p.before != "" {
		if i == 0 {
			return append(room[:0], p.before...), room
		}
		i--
	}
	if p.stored == identity {
		return p.blocks[i], room
	}
	room = p.stored.appendStored(room[:0], p.blocks[i])
	return room, room
}

package sink

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// endWait bounds how long a client may take for the last chunk, and then for its
// end of the connection.
const endWait = time.Second

// takeOver takes the connection out of net/http's hands, which keep a goroutine
// and some 25 KB for it for as long as the response lasts. From here on the bytes
// are written by hand: head, chunks (RFC 9112, section 7.1) and the last one. It
// returns false where that cannot be, and the response stays as it is: HTTP/2,
// TLS, and HTTP/1.0, whose bodies end with the connection.
func (o *response) takeOver(header http.Header) bool {
	conn, buffers, err := o.control.Hijack()
	if err != nil {
		return false
	}
	_ = conn.SetDeadline(time.Time{}) // those of net/http; one that is closed says so when it is written to
	buffers.Writer.Reset(nil)
	buffers.Reader.Reset(nil)
	o.mu.Lock()
	o.conn = conn
	if o.ended {
		_ = conn.Close()
	}
	o.mu.Unlock()
	o.head = appendHead(nil, header)
	o.w, o.control = nil, nil
	return true
}

// appendHead appends status line and header fields, Content-Type first. The
// connection ends with the response, as nobody reads another request from it.
func appendHead(dst []byte, header http.Header) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Type: "...)
	dst = append(dst, header.Get("Content-Type")...)
	dst = append(dst, "\r\n"...)
	names := make([]string, 0, len(header))
	for name := range header {
		if !strings.EqualFold(name, "Content-Type") && !strings.EqualFold(name, "Connection") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range header[name] {
			dst = append(dst, name...)
			dst = append(dst, ": "...)
			dst = append(dst, oneLine(value)...)
			dst = append(dst, "\r\n"...)
		}
	}
	dst = append(dst, "Date: "...)
	dst = time.Now().UTC().AppendFormat(dst, http.TimeFormat)
	return append(dst, "\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"...)
}

// oneLine keeps a value from ending its line, as net/http does.
func oneLine(value string) string {
	if !strings.ContainsAny(value, "\r\n") {
		return value
	}
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(value)
}

// appendChunk appends a block as a chunk of its own: some clients hand on whole
// chunks only.
func appendChunk(dst, unit []byte) []byte {
	return appendChunkFrom(slices.Grow(dst, chunkBytes(len(unit))), unit, 0)
}

// lastChunk ends a body.
const lastChunk = "0\r\n\r\n"

// sendBytes is how much a goroutine sends at once without waiting: about what a
// socket has room for.
const sendBytes = 64 << 10

// writeTaken writes a payload, from the byte skip of its chunks on, and the head
// before it if it has not left. What the socket takes at once leaves from a large
// buffer, which is lent for that moment; a client that has to be waited for holds a
// small one.
func (o *response) writeTaken(p payload, skip int) error {
	rest := chunks{p: &p, head: o.head}
	o.head = nil
	o.count(rest.pass(skip))
	if err := o.sendTaken(&rest); err != nil {
		return err
	}
	if rest.ended() {
		return nil
	}
	small := smallBuffers.Get().(*[pieceBytes]byte)
	defer smallBuffers.Put(small)
	for !rest.ended() {
		piece := rest.fill(small[:0])
		if err := o.extend(); err != nil {
			return err
		}
		if _, err := o.conn.Write(piece); err != nil {
			return fmt.Errorf("%w: %w", errClientGone, err)
		}
		o.count(rest.pass(len(piece)))
	}
	return nil
}

// sendTaken sends what the socket has room for.
func (o *response) sendTaken(rest *chunks) error {
	if o.socket == nil {
		return nil
	}
	large := largeBuffers.Get().(*[sendBytes]byte)
	defer largeBuffers.Put(large)
	for !rest.ended() {
		piece := rest.fill(large[:0])
		n, err := sendNow(o.socket, piece)
		if err != nil {
			return fmt.Errorf("%w: %w", errClientGone, err)
		}
		o.count(rest.pass(n))
		if n < len(piece) {
			break
		}
	}
	return nil
}

// The buffers of goroutines that write.
var (
	smallBuffers = sync.Pool{New: func() any { return new([pieceBytes]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([sendBytes]byte) }}
)

// chunks is what is left of a head and a payload's chunks. It copies what it is
// asked for and no more, however large a part is.
type chunks struct {
	p    *payload
	head []byte // what is left of it
	i    int    // the first part that is not done
	off  int    // bytes of its chunk that are
	part []byte // part i, if made
	made bool

	room, more []byte // for part i, and for those behind it
}

// ended reports whether nothing is left.
func (c *chunks) ended() bool { return len(c.head) == 0 && c.i == c.p.parts() }

// first returns part i.
func (c *chunks) first() []byte {
	if !c.made {
		c.part, c.room = c.p.part(c.i, c.room)
		c.made = true
	}
	return c.part
}

// fill appends what is left to dst, as far as that has room.
func (c *chunks) fill(dst []byte) []byte {
	dst = appendRoom(dst, c.head)
	if c.i < c.p.parts() {
		dst = appendChunkFrom(dst, c.first(), c.off)
	}
	var part []byte
	for i := c.i + 1; i < c.p.parts() && len(dst) < cap(dst); i++ {
		part, c.more = c.p.part(i, c.more)
		dst = appendChunkFrom(dst, part, 0)
	}
	return dst
}

// pass goes over n bytes. It returns how many bytes the parts have whose chunks
// ended with that.
func (c *chunks) pass(n int) (done int) {
	h := min(n, len(c.head))
	c.head, n = c.head[h:], n-h
	for len(c.head) == 0 && c.i < c.p.parts() {
		part := c.first()
		left := chunkBytes(len(part)) - c.off
		if n < left {
			c.off += n
			break
		}
		n -= left
		done += len(part)
		c.i, c.off, c.made = c.i+1, 0, false
	}
	return done
}

// chunkBytes is the length of the chunk of a part.
func chunkBytes(part int) int {
	if part == 0 {
		return 0
	}
	digits := 0
	for n := part; n > 0; n >>= 4 {
		digits++
	}
	return digits + 2 + part + 2
}

// appendChunkFrom appends the chunk of a part from its byte off on, as far as dst
// has room.
func appendChunkFrom(dst, part []byte, off int) []byte {
	if len(part) == 0 {
		return dst // an empty chunk would be the last one
	}
	var line [18]byte
	for _, piece := range [][]byte{append(strconv.AppendUint(line[:0], uint64(len(part)), 16), '\r', '\n'), part, []byte("\r\n")} {
		if off >= len(piece) {
			off -= len(piece)
			continue
		}
		dst = appendRoom(dst, piece[off:])
		off = 0
	}
	return dst
}

// appendRoom appends text as far as dst has room.
func appendRoom(dst, text []byte) []byte {
	return append(dst, text[:min(len(text), cap(dst)-len(dst))]...)
}

// finishTaken ends a response that has begun by its last chunk, and the
// connection.
func (o *response) finishTaken(whole bool) {
	if whole && o.setDeadline(time.Now().Add(endWait)) == nil {
		end := o.head
		if o.body != nil {
			last := o.body.appendEnd(nil)
			end = appendChunk(end, last)
			o.count(len(last))
		}
		if _, err := o.conn.Write(append(end, lastChunk...)); err == nil {
			o.sayFIN()
		}
	}
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	_ = o.conn.Close()
}

// sayFIN lets the client end the connection first: one that is closed while
// something of the client's lies unread is reset, and with it may go what is still
// on its way to the client.
func (o *response) sayFIN() {
	tcp, ok := o.conn.(*net.TCPConn)
	if !ok || tcp.CloseWrite() != nil {
		return
	}
	_ = tcp.SetReadDeadline(time.Now().Add(endWait))
	var rest [512]byte
	for {
		if _, err := tcp.Read(rest[:]); err != nil {
			return
		}
	}
}

// errTaken reports a client that the sweeper writes to from now on.
var errTaken = errors.New("the sweeper has the client")

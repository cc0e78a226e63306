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
	if len(unit) == 0 {
		return dst // an empty chunk would be the last one
	}
	dst = strconv.AppendUint(dst, uint64(len(unit)), 16)
	dst = append(dst, "\r\n"...)
	dst = append(dst, unit...)
	return append(dst, "\r\n"...)
}

// lastChunk ends a body.
const lastChunk = "0\r\n\r\n"

// writeTaken writes a payload, from the byte skip of its chunks on, and the head
// before it if it has not left.
func (o *response) writeTaken(p payload, skip int) error {
	held := buffers.Get().(*[pieceBytes]byte)
	defer buffers.Put(held)
	buf := append(held[:0], o.head...)
	o.head = nil
	var part, room []byte
	for i, parts := 0, p.parts(); ; i++ {
		if i < parts {
			part, room = p.part(i, room)
			begin := len(buf)
			buf = appendChunk(buf, part)
			skipped := min(skip, len(buf)-begin)
			buf, skip = slices.Delete(buf, begin, begin+skipped), skip-skipped
			o.count(len(part))
			if len(buf) < pieceBytes*3/4 {
				continue
			}
		}
		for len(buf) > 0 {
			piece := buf[:min(len(buf), pieceBytes)]
			if err := o.extend(); err != nil {
				return err
			}
			if _, err := o.conn.Write(piece); err != nil {
				return fmt.Errorf("%w: %w", errClientGone, err)
			}
			buf = buf[len(piece):]
		}
		if i >= parts {
			return nil
		}
		buf = held[:0]
	}
}

// buffers are for what goroutines write. Events that are larger than one grow out
// of it.
var buffers = sync.Pool{New: func() any { return new([pieceBytes]byte) }}

// finishTaken ends a response that has begun by its last chunk, and the
// connection.
func (o *response) finishTaken(whole bool) {
	if whole && o.setDeadline(time.Now().Add(endWait)) == nil {
		end := o.head
		if o.body != nil {
			end = appendChunk(end, o.body.appendEnd(nil))
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

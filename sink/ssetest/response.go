package ssetest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// response reads one HTTP/1 response from bytes handed to it in pieces of any
// size (RFC 9112). It is stricter than a browser: what the standard calls
// malformed is an error.
type response struct {
	status  int
	header  map[string]string // names in lower case; repeated ones joined by ", "
	chunked bool
	chunks  int // complete chunks with data

	headOnly bool // the request was a HEAD, so no body follows

	state state
	line  []byte // unfinished line
	left  int64  // bytes to come of this chunk or body
	body  func([]byte)
}

// state is what the next byte belongs to.
//
//	statusLine ─► headerLines ─┬─► chunkSize ─► chunkData ─► chunkEnd ─┐
//	                           │       ▲───────────────────────────────┘
//	                           │       └─(size 0)─► trailers ─► done
//	                           ├─► fixedBody ─► done
//	                           └─► openBody: until the connection closes
type state int

const (
	statusLine state = iota
	headerLines
	chunkSize
	chunkData
	chunkEnd
	trailers
	fixedBody
	openBody
	done
)

var errMalformed = errors.New("malformed response")

func (r *response) feed(b []byte) error {
	for len(b) > 0 {
		switch r.state {
		case chunkData, fixedBody:
			n := min(r.left, int64(len(b)))
			r.body(b[:n])
			b, r.left = b[n:], r.left-n
			if r.left == 0 {
				r.bodyPartDone()
			}
		case openBody:
			r.body(b)
			return nil
		case done:
			return fmt.Errorf("%w: %d bytes behind its end", errMalformed, len(b))
		case statusLine, headerLines, chunkSize, chunkEnd, trailers:
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				r.line = append(r.line, b...)
				return nil
			}
			line := string(append(r.line, b[:i+1]...))
			r.line, b = r.line[:0], b[i+1:]
			text, ok := strings.CutSuffix(line, "\r\n")
			if !ok {
				return fmt.Errorf("%w: line %.40q does not end with CR LF", errMalformed, line)
			}
			if err := r.endLine(text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *response) bodyPartDone() {
	if r.state == fixedBody {
		r.state = done
		return
	}
	r.chunks++
	r.state = chunkEnd
}

func (r *response) endLine(line string) error {
	switch r.state {
	case statusLine:
		version, rest, _ := strings.Cut(line, " ")
		code, _, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if !strings.HasPrefix(version, "HTTP/1.") || len(code) != 3 || err != nil {
			return fmt.Errorf("%w: status line %.40q", errMalformed, line)
		}
		r.status, r.header, r.state = status, map[string]string{}, headerLines
	case headerLines:
		if line == "" {
			return r.startBody()
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("%w: header line %.40q", errMalformed, line)
		}
		name, value = strings.ToLower(name), strings.Trim(value, " \t")
		if old, doubled := r.header[name]; doubled {
			value = old + ", " + value
		}
		r.header[name] = value
	case chunkSize:
		digits, _, _ := strings.Cut(line, ";")
		size, err := strconv.ParseInt(digits, 16, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("%w: chunk size %.40q", errMalformed, line)
		}
		r.left, r.state = size, chunkData
		if size == 0 {
			r.state = trailers
		}
	case chunkEnd:
		if line != "" {
			return fmt.Errorf("%w: %.40q behind a chunk", errMalformed, line)
		}
		r.state = chunkSize
	case trailers:
		if line == "" {
			r.state = done
		}
	case chunkData, fixedBody, openBody, done:
	}
	return nil
}

func (r *response) startBody() error {
	if r.headOnly {
		r.state = done
		return nil
	}
	if coding, ok := r.header["transfer-encoding"]; ok {
		if !strings.EqualFold(coding, "chunked") {
			return fmt.Errorf("%w: transfer coding %.40q", errMalformed, coding)
		}
		r.chunked, r.state = true, chunkSize
		return nil
	}
	length, ok := r.header["content-length"]
	switch {
	case r.status == 204 || r.status == 304:
		r.state = done
	case ok:
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%w: content length %.40q", errMalformed, length)
		}
		r.left, r.state = n, fixedBody
		if n == 0 {
			r.state = done
		}
	default:
		r.state = openBody
	}
	return nil
}

// complete judges an end of the connection: whether the response had ended.
func (r *response) complete() bool { return r.state == done || r.state == openBody }

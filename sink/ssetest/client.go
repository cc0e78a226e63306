package ssetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// ErrCut reports a connection that ended before its response did, or that the
// client cut itself.
var ErrCut = errors.New("connection cut in the middle of the response")

// Client follows one event stream over any number of connections, one at a
// time, and keeps its place between them as an EventSource does. Fields may be
// changed between connections. It is not safe for concurrent use.
type Client struct {
	// URL is where to connect: http only.
	URL string
	// LastID goes out as Last-Event-ID, unless it is empty. [Stream.Next] sets it
	// to the id of each event as it hands it over.
	LastID string
	// Retry is the reconnection time that the server asked for last.
	Retry time.Duration
	// Header is sent along. It replaces the client's own of the same name
	// (Host, Accept, Cache-Control, Last-Event-ID), and an empty value leaves
	// that one out.
	Header map[string]string
	// Method is GET if empty.
	Method string
	// HTTP10 asks as a client of HTTP/1.0 does.
	HTTP10 bool
	// CutAfter, if above 0, cuts the connection when this many bytes of the
	// response, head included, have been read.
	CutAfter int64
	// Keep keeps the bytes of event streams for [Stream.ReadAll]; those of other
	// bodies are always kept.
	Keep bool
	// Dial replaces the dialling of TCP connections, for in-memory ones.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Stream is one response being read. Close it.
type Stream struct {
	client *Client
	conn   net.Conn
	resp   response
	parser Parser
	events []Event
	kept   []byte
	read   int64
	buf    []byte
	err    error // that ended the response
}

// Open connects, sends the request, and waits for the head of the response. It
// returns [ErrCut] when the connection ends before the head does. ctx bounds
// Open alone, not what follows.
func (c *Client) Open(ctx context.Context) (*Stream, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("open event stream: %w", err)
	}
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("open event stream: %w", err)
	}
	s := &Stream{client: c, conn: conn, buf: make([]byte, 16<<10)}
	s.resp.body = s.takeBody
	s.resp.headOnly = c.Method == "HEAD"
	defer s.interruptibly(ctx)()
	if _, err := io.WriteString(conn, c.request(u)); err != nil {
		s.Close()
		return nil, fmt.Errorf("open event stream: send request: %w", err)
	}
	for s.resp.state == statusLine || s.resp.state == headerLines {
		err := s.fill(ctx)
		if err != nil && (s.resp.state == statusLine || s.resp.state == headerLines) {
			s.Close()
			return nil, fmt.Errorf("open event stream: read head: %w", err)
		}
	}
	return s, nil
}

func (c *Client) request(u *url.URL) string {
	header := map[string]string{
		"Host":          u.Host,
		"Accept":        "text/event-stream",
		"Cache-Control": "no-cache",
		"Last-Event-ID": c.LastID,
	}
	maps.Copy(header, c.Header)
	method, version := c.Method, "HTTP/1.1"
	if method == "" {
		method = "GET"
	}
	if c.HTTP10 {
		version = "HTTP/1.0"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", method, u.RequestURI(), version)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if value := header[name]; value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	b.WriteString("\r\n")
	return b.String()
}

// Status is the status code of the response.
func (s *Stream) Status() int { return s.resp.status }

// Header returns a header of the response, "" where there is none. Repeated
// headers are joined by ", ".
func (s *Stream) Header(name string) string { return s.resp.header[strings.ToLower(name)] }

// Chunked reports whether the body comes in chunks.
func (s *Stream) Chunked() bool { return s.resp.chunked }

// Chunks counts the complete chunks read so far.
func (s *Stream) Chunks() int { return s.resp.chunks }

// Comments counts the comment lines read so far: the heartbeats.
func (s *Stream) Comments() int { return s.parser.Comments() }

// BytesRead counts the bytes of the response read so far, head included.
func (s *Stream) BytesRead() int64 { return s.read }

// Next waits for the next event. It returns io.EOF at the proper end of the
// response, [ErrCut] when the connection ended before, and the error of ctx when
// ctx is done first: then nothing is lost and Next may be called again.
func (s *Stream) Next(ctx context.Context) (Event, error) {
	defer s.interruptibly(ctx)()
	for len(s.events) == 0 {
		if err := s.fill(ctx); err != nil {
			if ctx.Err() == nil && s.parser.Settled() { // blocks without data set the id too
				s.client.LastID = s.parser.LastID()
			}
			return Event{}, err
		}
	}
	e := s.events[0]
	s.events = s.events[1:]
	s.client.LastID, s.client.Retry = e.ID, s.parser.Retry()
	return e, nil
}

// ReadAll reads to the end of the response and returns all bytes of its body.
// Those of an event stream are kept only if [Client].Keep is set.
func (s *Stream) ReadAll(ctx context.Context) ([]byte, error) {
	defer s.interruptibly(ctx)()
	for {
		switch err := s.fill(ctx); {
		case errors.Is(err, io.EOF):
			return s.kept, nil
		case err != nil:
			return s.kept, err
		}
	}
}

// Close closes the connection.
func (s *Stream) Close() { _ = s.conn.Close() }

// Reset closes the connection so that the server sees a reset where the
// operating system can do that, and not an orderly close.
func (s *Stream) Reset() error {
	if tcp, ok := s.conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return errors.Join(err, s.conn.Close())
		}
	}
	return s.conn.Close()
}

// interruptibly makes reads end when ctx does, until the returned function is
// called.
func (s *Stream) interruptibly(ctx context.Context) func() {
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = s.conn.SetDeadline(time.Unix(1, 0))
		close(fired)
	})
	return func() {
		if !stop() {
			<-fired
			_ = s.conn.SetDeadline(time.Time{})
		}
	}
}

// fill reads once from the connection.
func (s *Stream) fill(ctx context.Context) error {
	if s.err != nil {
		return s.err
	}
	if s.resp.state == done {
		s.err = io.EOF
		return s.err
	}
	buf := s.buf
	if cut := s.client.CutAfter; cut > 0 {
		if s.read >= cut {
			s.err = errors.Join(ErrCut, s.conn.Close())
			return s.err
		}
		buf = buf[:min(int64(len(buf)), cut-s.read)]
	}
	n, err := s.conn.Read(buf)
	s.read += int64(n)
	if bad := s.resp.feed(buf[:n]); bad != nil {
		s.err = bad
		return bad
	}
	switch {
	case err == nil || n > 0:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF) && s.resp.complete():
		s.err = io.EOF
	default:
		s.err = fmt.Errorf("%w: %s", ErrCut, err.Error()) // not wrapped: an io.EOF here is no end
	}
	return s.err
}

func (s *Stream) takeBody(b []byte) {
	stream := s.resp.status == 200 && strings.HasPrefix(s.resp.header["content-type"], "text/event-stream")
	if stream {
		s.events = append(s.events, s.parser.Feed(b)...)
	}
	if !stream || s.client.Keep {
		s.kept = append(s.kept, b...)
	}
}

package ssetest

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// Event is one dispatched event, as an EventSource would hand it to a page.
type Event struct {
	Type string // the event field, or message
	Data string // the data lines joined by LF
	ID   string // the last event id at the dispatch, which may be that of an earlier block
}

// Parser interprets an event stream, handed to it in pieces of any size (HTML
// standard, sections 9.2.5 and 9.2.6). Bytes that are not UTF-8 are kept as
// they are where a browser would put U+FFFD, so that tests can see them.
//
// An id takes effect at the blank line that ends its block, as the standard
// says: a cut before that line leaves the earlier one. The zero Parser is
// ready. It is not safe for concurrent use.
type Parser struct {
	begun    bool // the first line has been read, so no more byte order mark
	afterCR  bool // the next LF belongs to the line end before
	line     []byte
	data     []byte
	event    string
	idBuffer string
	lastID   string
	settled  bool // a blank line has set lastID
	retry    time.Duration
	comments int
}

var byteOrderMark = []byte("\ufeff")

// Feed interprets the next bytes of the stream and returns the events that they
// complete.
func (p *Parser) Feed(b []byte) []Event {
	var events []Event
	for _, c := range b {
		switch {
		case c == '\n' && p.afterCR:
			p.afterCR = false
		case c == '\n' || c == '\r':
			p.afterCR = c == '\r'
			if e, ok := p.endLine(); ok {
				events = append(events, e)
			}
		default:
			p.afterCR = false
			p.line = append(p.line, c)
		}
	}
	return events
}

// LastID is the last event id that the stream has set: what a reconnect sends.
func (p *Parser) LastID() string { return p.lastID }

// Settled reports whether the stream has set the last event id, which its first
// blank line does. Until then a reconnect sends the id of the stream before.
func (p *Parser) Settled() bool { return p.settled }

// Retry is the reconnection time that the stream asked for last, 0 if it never did.
func (p *Parser) Retry() time.Duration { return p.retry }

// Comments counts the comment lines so far.
func (p *Parser) Comments() int { return p.comments }

// Pending reports whether bytes of an unfinished block are held, which an end
// of the stream throws away.
func (p *Parser) Pending() bool {
	return len(p.line) > 0 || len(p.data) > 0 || p.event != "" || p.idBuffer != p.lastID
}

func (p *Parser) endLine() (Event, bool) {
	line := p.line
	p.line = p.line[:0]
	if !p.begun {
		p.begun = true
		line = bytes.TrimPrefix(line, byteOrderMark)
	}
	if len(line) == 0 {
		return p.dispatch()
	}
	name, value, colon := strings.Cut(string(line), ":")
	if colon && name == "" {
		p.comments++
		return Event{}, false
	}
	p.field(name, strings.TrimPrefix(value, " "))
	return Event{}, false
}

func (p *Parser) field(name, value string) {
	switch name {
	case "event":
		p.event = value
	case "data":
		p.data = append(p.data, value...)
		p.data = append(p.data, '\n')
	case "id":
		if !strings.ContainsRune(value, 0) {
			p.idBuffer = value
		}
	case "retry":
		if strings.Trim(value, "0123456789") == "" {
			if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
				p.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

func (p *Parser) dispatch() (Event, bool) {
	p.lastID, p.settled = p.idBuffer, true
	if len(p.data) == 0 {
		p.event = ""
		return Event{}, false
	}
	e := Event{Type: p.event, Data: string(p.data[:len(p.data)-1]), ID: p.lastID}
	if e.Type == "" {
		e.Type = "message"
	}
	p.data, p.event = p.data[:0], ""
	return e, true
}

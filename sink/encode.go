package sink

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ssebridge/ssebridge/bridge"
)

// The formats in which records are delivered.
const (
	FormatData     = "data"     // the payload as it is, if it is text
	FormatEnvelope = "envelope" // a JSON object with the payload and what is known of it
	FormatBase64   = "base64"   // the payload in base64, whatever it is
)

// CheckFormat returns nil if format is the name of one. Otherwise the error says
// what was expected.
func CheckFormat(format string) error {
	switch format {
	case FormatData, FormatEnvelope, FormatBase64:
		return nil
	case "cloudevents":
		return errCloudEvents
	}
	return fmt.Errorf("format %.40q: want data, envelope or base64", format)
}

var errCloudEvents = fmt.Errorf("format %q is not available, use envelope", "cloudevents")

// EncoderOptions configure an [Encoder].
type EncoderOptions struct {
	// Format is that of every record; empty means what StreamFormats says.
	Format string
	// Names lets records carry the event names that were mapped for them. Without
	// them every record is a plain message, but for what its data alone does not
	// show: a delete or a binary payload outside of an envelope.
	Names bool
	// StreamFormats are the formats by name of stream, used if Format is empty;
	// a stream that is missing has [FormatData].
	StreamFormats map[string]string
}

// Encoder writes events in the event stream format (HTML standard, section
// 9.2). It holds no state: equal events give equal bytes, for every client.
//
// Each event is one block, with the id as its last line: clients that take an
// id as soon as they read its line, before the blank line, then lose nothing
// when the connection is cut in between.
//
//	event: <name>     only if it is not a plain message
//	data: <line>      one per line of the payload, split at CR, LF and CR LF
//	retry: <ms>
//	id: <event id>
//	                  blank line
//
// A heartbeat is a comment line without a blank line, as some clients dispatch
// an empty event at that one.
//
// Nothing that a record holds can end a line that it did not begin: see the
// methods on how each part is kept in its place.
type Encoder struct {
	format  string
	names   bool
	streams map[string]string
}

var _ bridge.Encoder = (*Encoder)(nil)

// NewEncoder returns the encoder for the given form. The options must hold
// formats that [CheckFormat] accepts; any other is taken for [FormatData].
func NewEncoder(o EncoderOptions) *Encoder {
	return &Encoder{o.Format, o.Names, maps.Clone(o.StreamFormats)}
}

// AppendEvent appends e as one complete block to dst. Records that nobody is
// shown append nothing.
func (enc *Encoder) AppendEvent(dst []byte, e bridge.Event) []byte {
	switch e.Kind {
	case bridge.HeartbeatEvent:
		return append(dst, ":\n"...)
	case bridge.RecordEvent:
		if e.Record.Kind == bridge.Hidden {
			return dst
		}
		dst = enc.appendRecord(dst, e.Stream, e.Record)
	case bridge.LossEvent:
		dst = appendLoss(dst, e.Stream, e.Finding)
	case bridge.ConnectedEvent:
		dst = appendConnected(dst, e.Connected)
	case bridge.CaughtUpEvent:
		dst = append(dst, "event: caught-up\ndata: {}\n"...)
	case bridge.PositionEvent:
		dst = append(dst, "event: position\ndata: {}\n"...)
	case bridge.ClosingEvent:
		dst = append(dst, "event: closing\ndata: {\"reason\":"...)
		dst = appendJSONString(dst, e.Closing)
		dst = append(dst, "}\n"...)
	}
	if e.Retry > 0 {
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, e.Retry.Milliseconds(), 10)
		dst = append(dst, '\n')
	}
	return enc.AppendEnd(dst, e.ID)
}

// AppendEnd appends what every block with this event id ends with: the id line,
// unless id is empty, and the blank line. An id with CR, LF or NUL is no id, and
// is left out.
func (enc *Encoder) AppendEnd(dst []byte, id string) []byte {
	if id != "" && !strings.ContainsAny(id, "\r\n\x00") {
		dst = append(dst, "id: "...)
		dst = append(dst, id...)
		dst = append(dst, '\n')
	}
	return append(dst, '\n')
}

func (enc *Encoder) appendRecord(dst []byte, stream string, r *bridge.Record) []byte {
	if r.Kind == bridge.Oversized {
		return appendLoss(dst, stream, &bridge.Finding{
			Reason: bridge.TooLarge, Partition: r.Partition, From: r.Offset, To: r.Offset,
			Next: bridge.Position{}.With(r.Partition, r.Next()),
		})
	}
	format := enc.format
	if format == "" {
		format = enc.streams[stream]
	}
	name := ""
	if enc.names {
		name = r.Name
	}
	switch {
	case format == FormatEnvelope:
		if r.Kind == bridge.Delete && enc.names {
			dst = append(dst, "event: delete\n"...)
		} else {
			dst = appendEventName(dst, name, "")
		}
		dst = append(dst, "data: "...)
		dst = appendEnvelope(dst, stream, r)
		return append(dst, '\n')
	case r.Kind == bridge.Delete:
		dst = append(dst, "event: delete\ndata: {\"subject\":"...)
		dst = appendJSONString(dst, r.Subject)
		dst = append(dst, ",\"key\":"...)
		dst = appendKey(dst, r.Key)
		return append(dst, "}\n"...)
	case format == FormatBase64:
		dst = appendEventName(dst, name, "")
		return appendBase64(dst, r.Data)
	case !utf8.Valid(r.Data):
		dst = appendEventName(dst, name, "binary")
		return appendBase64(dst, r.Data)
	}
	dst = appendEventName(dst, name, "")
	return appendLines(dst, r.Data)
}

// appendLines appends text as data lines: one for each of its lines, however
// they end, and one for an empty text, which is an event all the same.
func appendLines(dst, text []byte) []byte {
	returns := bytes.IndexByte(text, '\r') >= 0
	for {
		end := bytes.IndexByte(text, '\n')
		if returns {
			end = bytes.IndexAny(text, "\r\n")
		}
		dst = append(dst, "data: "...)
		if end < 0 {
			dst = append(dst, text...)
			return append(dst, '\n')
		}
		dst = append(dst, text[:end]...)
		dst = append(dst, '\n')
		if text[end] == '\r' && end+1 < len(text) && text[end+1] == '\n' {
			end++
		}
		text = text[end+1:]
	}
}

func appendBase64(dst, data []byte) []byte {
	dst = append(dst, "data: "...)
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '\n')
}

// appendEventName appends the event line for a mapped name and a suffix that
// tells how the data is written. A plain message has none.
//
// Names come from records. Control characters and bytes that are not UTF-8 are
// percent-encoded, so that none of them ends the line; a name that is the
// bridge's own gets an x- in front, so that no record passes for one.
func appendEventName(dst []byte, name, suffix string) []byte {
	if name == "" && suffix == "" {
		return dst
	}
	dst = append(dst, "event: "...)
	if name == "" {
		dst = append(dst, suffix...)
		return append(dst, '\n')
	}
	if bridge.ReservedName(name) {
		dst = append(dst, "x-"...)
	}
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		if r < ' ' || r == 0x7f || r == utf8.RuneError && size == 1 {
			dst = append(dst, '%', upperHex[name[i]>>4], upperHex[name[i]&15])
		} else {
			dst = append(dst, name[i:i+size]...)
		}
		i += size
	}
	if suffix != "" {
		dst = append(dst, '.')
		dst = append(dst, suffix...)
	}
	return append(dst, '\n')
}

const upperHex = "0123456789ABCDEF"

package bridge

import "time"

// EventKind says what an [Event] tells the client.
type EventKind uint8

// The kinds of events. All but RecordEvent and Heartbeat are the bridge's own.
const (
	RecordEvent    EventKind = iota // a record: Stream, Record
	LossEvent                       // a gap or a reset: Stream, Finding
	ConnectedEvent                  // first of every response: Connected, Retry
	CaughtUpEvent                   // once a connection, when its history is delivered
	PositionEvent                   // the position moved over records that were filtered out
	ClosingEvent                    // last of a response the bridge ends: Closing, Retry
	HeartbeatEvent                  // keeps the connection alive; has no id
)

// Event is something a client is told. ID is the event id to end it with; empty
// means none. An encoder reads it and keeps nothing of it.
type Event struct {
	Kind      EventKind
	ID        string
	Stream    string
	Record    *Record
	Finding   *Finding
	Connected *Connected
	Closing   string // reason
	Retry     time.Duration
}

// Connected is the verdict that opens every response.
type Connected struct {
	Resume    string            `json:"resume"`  // new, exact, gap or reset: the worst of the streams
	Streams   map[string]string `json:"streams"` // by name: exact, gap, reset or started
	Dropped   []string          `json:"dropped"` // streams of the id that are not in this subscription; never null
	Heartbeat float64           `json:"heartbeat"`
}

// An Encoder turns events into the bytes that clients read. The bridge encodes
// a record once and shares the bytes, so an encoder depends on nothing but the
// event. It is safe for concurrent use.
type Encoder interface {
	// AppendEvent appends e as one complete unit to dst. A record that nobody is
	// shown appends nothing.
	AppendEvent(dst []byte, e Event) []byte
	// AppendEnd appends what every unit with this event id ends with, so that
	// the same unit can be sent with another id.
	AppendEnd(dst []byte, id string) []byte
}

// Form is what makes the bytes of two clients of the same streams differ.
// Clients with equal forms share a feed.
type Form struct {
	Format  string // data, envelope, base64; empty: what each stream is configured for
	NoNames bool   // every record as plain message
	Encoder Encoder
}

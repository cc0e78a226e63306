package replay

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ssebridge/ssebridge/bridge"
)

// simEvent is an event as a client of the simulation reads it.
type simEvent struct {
	kind      string // record, gap, reset, connected, caught-up, position, heartbeat
	stream    string
	partition int32
	offset    bridge.Offset
	uid       int // what the record says of itself; 0 for one that is told as too large
	reason    bridge.Reason
	from, to  bridge.Offset
	open      bool
	resume    string
	streams   string // of connected: the verdicts by name, sorted
	dropped   string
	id        string
}

func (e simEvent) String() string {
	switch e.kind {
	case "record":
		return fmt.Sprintf("%s/%d@%d u%d  %s", e.stream, e.partition, e.offset, e.uid, e.id)
	case "gap", "reset":
		return fmt.Sprintf("%s %s %s/%d %d-%d open=%v  %s", e.kind, e.reason, e.stream, e.partition, e.from, e.to, e.open, e.id)
	}
	return fmt.Sprintf("%s %s  %s", e.kind, e.resume, e.id)
}

// simEncoder writes events as fields between bars, the id last.
type simEncoder struct{}

func (simEncoder) AppendEvent(dst []byte, e bridge.Event) []byte {
	switch e.Kind {
	case bridge.RecordEvent:
		dst = fmt.Appendf(dst, "record|%s|%d|%d|%s", e.Stream, e.Record.Partition, e.Record.Offset, e.Record.Data)
	case bridge.LossEvent:
		kind := "gap"
		if e.Finding.Reason.Reset() {
			kind = "reset"
		}
		dst = fmt.Appendf(dst, "%s|%s|%d|%d|%d|%s|%t", kind, e.Stream, e.Finding.Partition, e.Finding.From, e.Finding.To, e.Finding.Reason, e.Finding.Open)
	case bridge.ConnectedEvent:
		dst = fmt.Appendf(dst, "connected|%s|%v|%v", e.Connected.Resume, e.Connected.Streams, e.Connected.Dropped)
	case bridge.CaughtUpEvent:
		dst = append(dst, "caught-up"...)
	case bridge.PositionEvent:
		dst = append(dst, "position"...)
	case bridge.HeartbeatEvent, bridge.ClosingEvent:
		dst = append(dst, "heartbeat"...)
	}
	return simEncoder{}.AppendEnd(dst, e.ID)
}

func (simEncoder) AppendEnd(dst []byte, id string) []byte {
	return append(append(dst, '#'), id...)
}

// simDecode reads what simEncoder wrote.
func simDecode(unit []byte) simEvent {
	body, id, _ := strings.Cut(string(unit), "#")
	f := strings.Split(body, "|")
	e := simEvent{kind: f[0], id: id}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			panic(fmt.Sprintf("unit %q: %v", unit, err))
		}
		return n
	}
	switch e.kind {
	case "record":
		e.stream, e.partition, e.offset = f[1], int32(number(2)), bridge.Offset(number(3))
		uid, _, _ := strings.Cut(f[4], " ")
		e.uid, _ = strconv.Atoi(uid)
	case "gap", "reset":
		e.stream, e.partition = f[1], int32(number(2))
		e.from, e.to, e.reason, e.open = bridge.Offset(number(3)), bridge.Offset(number(4)), bridge.Reason(f[5]), f[6] == "true"
	case "connected":
		e.resume, e.streams, e.dropped = f[1], strings.TrimPrefix(f[2], "map"), f[3]
	}
	return e
}

package sink

import (
	"maps"
	"slices"
	"strconv"

	"github.com/ssebridge/ssebridge/bridge"
)

// appendConnected appends the verdict that opens a response. dropped is a list
// even when it is empty.
func appendConnected(dst []byte, c *bridge.Connected) []byte {
	dst = append(dst, "event: connected\ndata: {\"resume\":"...)
	dst = appendJSONString(dst, c.Resume)
	dst = append(dst, ",\"streams\":{"...)
	for i, name := range slices.Sorted(maps.Keys(c.Streams)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSONString(dst, name)
		dst = append(dst, ':')
		dst = appendJSONString(dst, c.Streams[name])
	}
	dst = append(dst, "},\"dropped\":["...)
	for i, name := range c.Dropped {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSONString(dst, name)
	}
	dst = append(dst, "],\"heartbeat\":"...)
	dst = strconv.AppendFloat(dst, c.Heartbeat, 'f', -1, 64)
	return append(dst, "}\n"...)
}

// appendLoss appends a gap or a reset. What is not known is null: the partition
// of a finding about a whole stream, an unknown end, and the next offset of a
// stream that has several.
func appendLoss(dst []byte, stream string, f *bridge.Finding) []byte {
	if f.Reason.Reset() {
		dst = append(dst, "event: reset\ndata: {\"stream\":"...)
	} else {
		dst = append(dst, "event: gap\ndata: {\"stream\":"...)
	}
	if stream == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendJSONString(dst, stream)
	}
	partition, next := bridge.Offset(f.Partition), bridge.UnknownOffset
	switch {
	case f.Partition >= 0:
		next = f.Next.Place(f.Partition).Offset
	case len(f.Next.Places) == 1:
		next = f.Next.Places[0].Offset
	}
	dst = appendOffset(append(dst, ",\"partition\":"...), partition)
	dst = appendOffset(append(dst, ",\"from\":"...), f.From)
	dst = appendOffset(append(dst, ",\"to\":"...), f.To)
	dst = appendOffset(append(dst, ",\"next\":"...), next)
	dst = append(dst, ",\"reason\":"...)
	dst = appendJSONString(dst, string(f.Reason))
	return append(dst, "}\n"...)
}

// appendOffset appends a number, or null for one below 0, which stands for
// unknown.
func appendOffset(dst []byte, o bridge.Offset) []byte {
	if o < 0 {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, int64(o), 10)
}

package sink

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ssebridge/ssebridge/bridge"
)

// appendEnvelope appends the record as one line of JSON, or as several data
// lines where its payload is JSON with line ends between its values.
func appendEnvelope(dst []byte, stream string, r *bridge.Record) []byte {
	dst = append(dst, `{"stream":`...)
	dst = appendJSONString(dst, stream)
	dst = append(dst, `,"subject":`...)
	dst = appendJSONString(dst, r.Subject)
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(r.Partition), 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, int64(r.Offset), 10)
	dst = append(dst, `,"time":`...)
	if r.Time.IsZero() {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, '"')
		dst = r.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	if r.Name != "" {
		dst = append(dst, `,"name":`...)
		dst = appendJSONString(dst, r.Name)
	}
	dst = append(dst, `,"key":`...)
	dst = appendKey(dst, r.Key)
	dst = append(dst, `,"headers":`...)
	dst = appendHeaders(dst, r.Headers)
	if parent, state := r.TraceContext(); parent != "" {
		dst = append(dst, `,"traceparent":`...)
		dst = appendJSONString(dst, parent)
		if state != "" {
			dst = append(dst, `,"tracestate":`...)
			dst = appendJSONString(dst, state)
		}
	}
	if r.Kind == bridge.Delete {
		return append(dst, `,"deleted":true}`...)
	}
	return appendPayload(dst, r.Data)
}

// appendPayload appends the last two members of an envelope. JSON goes in as it
// is and is never written anew: that would change numbers above 2^53 and what
// else a parser does not keep.
func appendPayload(dst, data []byte) []byte {
	switch {
	case !utf8.Valid(data):
		dst = append(dst, `,"encoding":"base64","data":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, data)
		return append(dst, `"}`...)
	case !json.Valid(data):
		dst = append(dst, `,"encoding":"text","data":`...)
		dst = appendJSONString(dst, data)
		return append(dst, '}')
	case bytes.ContainsAny(data, "\r\n"):
		dst = append(dst, `,"encoding":"json","data":`...)
		dst = append(dst, '\n')
		dst = appendLines(dst, data)
		return append(dst, "data: }"...)
	}
	dst = append(dst, `,"encoding":"json","data":`...)
	dst = append(dst, data...)
	return append(dst, '}')
}

// appendHeaders appends the headers as an object of arrays, sorted by name, in
// the record's order within a name.
func appendHeaders(dst []byte, headers []bridge.Header) []byte {
	byKey := func(a, b bridge.Header) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(headers, byKey) {
		headers = slices.Clone(headers)
		slices.SortStableFunc(headers, byKey)
	}
	dst = append(dst, '{')
	for i := range headers {
		switch {
		case i > 0 && headers[i].Key == headers[i-1].Key:
			dst = append(dst, ',')
		case i > 0:
			dst = append(dst, "],"...)
			fallthrough
		default:
			dst = appendJSONString(dst, headers[i].Key)
			dst = append(dst, ":["...)
		}
		dst = appendTextOrBase64(dst, headers[i].Value)
	}
	if len(headers) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendKey(dst, key []byte) []byte {
	if key == nil {
		return append(dst, "null"...)
	}
	return appendTextOrBase64(dst, key)
}

// appendTextOrBase64 appends UTF-8 as a string and anything else as an object
// {"base64": "…"}.
func appendTextOrBase64(dst, value []byte) []byte {
	if utf8.Valid(value) {
		return appendJSONString(dst, value)
	}
	dst = append(dst, `{"base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, value)
	return append(dst, `"}`...)
}

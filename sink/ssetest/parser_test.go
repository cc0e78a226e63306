package ssetest

import (
	"slices"
	"testing"
	"time"
)

// The parser judges the server, so each rule of the standard that a server can
// get wrong is held here against an example of its own.
func TestParserFollowsTheStandard(t *testing.T) {
	tests := []struct {
		name, in string
		want     []Event
		lastID   string
	}{
		{"one line", "data: a\n\n", []Event{{"message", "a", ""}}, ""},
		{"lines are joined by LF", "data: a\ndata: b\n\n", []Event{{"message", "a\nb", ""}}, ""},
		{"CR and CRLF end lines too", "data: a\r\ndata: b\rdata: c\n\r\n", []Event{{"message", "a\nb\nc", ""}}, ""},
		{"CR CR is a blank line", "data: a\r\r", []Event{{"message", "a", ""}}, ""},
		{"CRLF is one line end", "data: a\r\ndata: b\r\n\r\n", []Event{{"message", "a\nb", ""}}, ""},
		{"one blank is removed", "data:  a\n\ndata:b\n\n", []Event{{"message", " a", ""}, {"message", "b", ""}}, ""},
		{"empty data dispatches", "data: \n\ndata\n\ndata:\n\n", []Event{{"message", "", ""}, {"message", "", ""}, {"message", "", ""}}, ""},
		{"two empty lines of data", "data\ndata\n\n", []Event{{"message", "\n", ""}}, ""},
		{"no data, no event", "event: x\n\ndata: a\n\n", []Event{{"message", "a", ""}}, ""},
		{"event type", "event: x\ndata: a\n\ndata: b\n\n", []Event{{"x", "a", ""}, {"message", "b", ""}}, ""},
		{"id stays", "id: 7\ndata: a\n\ndata: b\n\n", []Event{{"message", "a", "7"}, {"message", "b", "7"}}, "7"},
		{"id without data is committed", "id: 7\n\n", nil, "7"},
		{"id without blank line is not", "data: a\n\nid: 7\n", []Event{{"message", "a", ""}}, ""},
		{"id with NUL is ignored", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", []Event{{"message", "a", "1"}, {"message", "b", "1"}}, "1"},
		{"empty id empties", "id: 1\ndata: a\n\nid\ndata: b\n\n", []Event{{"message", "a", "1"}, {"message", "b", ""}}, ""},
		{"unfinished block is dropped", "id: 1\ndata: a\n\nid: 2\ndata: b\n", []Event{{"message", "a", "1"}}, "1"},
		{"comments and unknown fields", ": c\n:\nfoo: bar\nData: x\ndata: a\n\n", []Event{{"message", "a", ""}}, ""},
		{"one byte order mark", "\ufeffdata: a\n\n\ufeffdata: b\n\n", []Event{{"message", "a", ""}}, ""},
		{"mark inside data stays", "data: \ufeffa\n\n", []Event{{"message", "\ufeffa", ""}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var whole, bytewise Parser
			if got := whole.Feed([]byte(tt.in)); !slices.Equal(got, tt.want) {
				t.Errorf("at once: got %q, want %q", got, tt.want)
			}
			var got []Event
			for i := range len(tt.in) {
				got = append(got, bytewise.Feed([]byte{tt.in[i]})...)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("byte by byte: got %q, want %q", got, tt.want)
			}
			if whole.LastID() != tt.lastID || bytewise.LastID() != tt.lastID {
				t.Errorf("last id %q and %q, want %q", whole.LastID(), bytewise.LastID(), tt.lastID)
			}
		})
	}
}

// A retry that is not all digits must not change the reconnection time.
func TestParserTakesRetryOfDigitsOnly(t *testing.T) {
	var p Parser
	p.Feed([]byte("retry: 1500\n"))
	if p.Retry() != 1500*time.Millisecond {
		t.Errorf("got %v, want 1.5s", p.Retry())
	}
	p.Feed([]byte("retry: -1\nretry: 1.5\nretry: 1s\nretry:\nretry:  7\n"))
	if p.Retry() != 1500*time.Millisecond {
		t.Errorf("got %v after malformed ones, want 1.5s", p.Retry())
	}
}

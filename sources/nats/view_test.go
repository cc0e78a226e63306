package nats

import (
	"errors"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// Incarnations are in ids that browsers hold: a release that hashes otherwise
// resets every client.
func TestIncarnationStaysWhatItWas(t *testing.T) {
	info := &streamInfo{Created: time.Date(2026, 3, 4, 5, 6, 7, 890123456, time.UTC), Domain: "hub"}
	info.Config.Name = "ORDERS"
	if got, want := incarnationOf(info), bridge.Incarnation(1709458772); got != want {
		t.Errorf("incarnation %d, want %d as in all releases", got, want)
	}
	elsewhere := *info
	elsewhere.Created = info.Created.In(time.FixedZone("", 3600))
	if incarnationOf(&elsewhere) != incarnationOf(info) {
		t.Error("the same instant in another time zone is another incarnation")
	}
}

// A gap that is none makes applications reload for nothing, on each reconnect;
// a loss that is not told is worse.
func TestLossDependsOnWhatTheStreamForgets(t *testing.T) {
	for _, c := range []struct {
		name       string
		config     streamConfig
		want       bridge.Offset
		reason     bridge.Reason
		from, to   bridge.Offset
		first, end uint64
	}{
		{name: "plain", first: 5, end: 9, want: 3, reason: bridge.Retention, from: 3, to: 4},
		{name: "plain, at the first", first: 5, end: 9, want: 5},
		{name: "plain, from the beginning", first: 5, end: 9, want: 1, reason: bridge.Retention, from: 1, to: 4},
		{name: "limited", config: streamConfig{MaxMessages: 4}, first: 5, end: 9, want: 4, reason: bridge.Retention, from: 4, to: 4},
		{name: "purged to nothing", first: 9, end: 9, want: 3, reason: bridge.Retention, from: 3, to: 8},
		{name: "begins at 1000", config: streamConfig{FirstSeq: 1000}, first: 1000, end: 1000, want: 1},
		{name: "begins at 1000, trimmed", config: streamConfig{FirstSeq: 1000}, first: 1005, end: 1010, want: 1, reason: bridge.Retention, from: 1000, to: 1004},
		{name: "per subject", config: streamConfig{MaxPerSubject: 1}, first: 5, end: 9, want: 3},
		{name: "roll-ups", config: streamConfig{AllowRollup: true}, first: 5, end: 9, want: 3},
		{name: "times to live", config: streamConfig{AllowTTL: true}, first: 5, end: 9, want: 3},
		{name: "per subject and age", config: streamConfig{MaxPerSubject: 1, MaxAge: time.Hour}, first: 5, end: 9, want: 3, reason: bridge.Limits, from: 3, to: 4},
		{name: "roll-ups and bytes", config: streamConfig{AllowRollup: true, MaxBytes: 1 << 20}, first: 5, end: 9, want: 3, reason: bridge.Limits, from: 3, to: 4},
		{name: "no limits in words", config: streamConfig{MaxPerSubject: -1, MaxMessages: -1, MaxBytes: -1}, first: 5, end: 9, want: 3, reason: bridge.Retention, from: 3, to: 4},
	} {
		info := &streamInfo{Config: c.config}
		info.State.FirstSeq, info.State.LastSeq = c.first, c.end-1
		v := newView("S", time.Now(), info, [3]uint64{})
		from, to, gone := v.lost(c.want)
		if gone != (c.reason != "") || gone && (v.loss != c.reason || from != c.from || to != c.to) {
			t.Errorf("%s: [%d,%d) wanted from %d: lost %v, %s, %d to %d; want %q, %d to %d", c.name, c.first, c.end, c.want, gone, v.loss, from, to, c.reason, c.from, c.to)
		}
	}
}

// A stream that was never written to says 0 for both ends.
func TestEmptyStreamBeginsAtOne(t *testing.T) {
	v := newView("S", time.Now(), &streamInfo{}, [3]uint64{})
	if v.first != 1 || v.end != 1 {
		t.Errorf("log is [%d,%d), want [1,1)", v.first, v.end)
	}
}

// Reading a WorkQueue or an Interest stream changes it, so they are refused, in
// words that say what to do instead.
func TestStreamsThatReadingWouldChangeAreRefused(t *testing.T) {
	for _, retention := range []string{"workqueue", "interest"} {
		if err := refusal("S", &streamConfig{Retention: retention}); !errors.Is(err, bridge.ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", retention, err)
		}
	}
	if err := refusal("S", &streamConfig{Retention: "limits"}); err != nil {
		t.Errorf("limits: %v", err)
	}
}

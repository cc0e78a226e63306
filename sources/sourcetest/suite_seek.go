package sourcetest

import (
	"context"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

var seekChecks = []check{
	{"PositionAtEveryTime", positionAtEveryTime, nil},
	{"PositionAtWithHoles", positionAtWithHoles, canDelete},
	{"PositionAtInATrimmedLog", positionAtTrimmed, canTrim},
	{"PositionAtInAnEmptyStream", positionAtEmpty, nil},
}

// everyTime seeks the time of each record, and those right beside it.
func everyTime(t *testing.T, f *fixture) {
	t.Helper()
	logs := make([][]bridge.Record, f.partitions())
	var times []time.Time
	for p := range logs {
		logs[p] = f.read(t, f.Source, int32(p))
		for _, r := range logs[p] {
			times = append(times, r.Time, r.Time.Add(-time.Millisecond), r.Time.Add(time.Millisecond))
		}
	}
	times = append(times, time.Unix(0, 0), time.Now().Add(24*time.Hour))
	for _, at := range times {
		pos := answer(t, func(ctx context.Context) (bridge.Position, error) { return f.Source.PositionAt(ctx, at) })
		if inc := f.bounds(t).First.Incarnation; pos.Incarnation != inc {
			t.Errorf("position at %v is in incarnation %d, want %d", at, pos.Incarnation, inc)
		}
		if len(pos.Places) != len(logs) {
			t.Errorf("position at %v has %d places, want %d", at, len(pos.Places), len(logs))
		}
		for p := range logs {
			want, proofs := f.log(int32(p)).end, map[bridge.Offset]bridge.Proof{}
			for _, r := range logs[p] {
				proofs[r.Offset] = r.Proof
				if want > r.Offset && !r.Time.Before(at) {
					want = r.Offset
				}
			}
			if got := pos.Place(int32(p)); got.Offset != want || got.Proof != 0 && proofs[want-1] != 0 && got.Proof != proofs[want-1] {
				t.Errorf("partition %d at %v: %+v, want offset %d with proof %v or none", p, at, got, want, proofs[want-1])
			}
		}
		if v := f.verify(t, pos, nil); len(v.Findings) > 0 {
			t.Errorf("position at %v is not exact: %+v", at, v.Findings)
		}
	}
}

// "The last quarter of an hour" must begin with its first record, and a time
// with nothing behind it must not lose what comes next.
func positionAtEveryTime(t *testing.T, f *fixture) {
	f.fill(t, 6, "r")
	everyTime(t, f)
}

func positionAtWithHoles(t *testing.T, f *fixture) {
	f.fill(t, 6, "r")
	for p := range f.partitions() {
		f.delete(t, p, 3)
		f.delete(t, p, 2)
	}
	everyTime(t, f)
}

func positionAtTrimmed(t *testing.T, f *fixture) {
	f.fill(t, 6, "r")
	for p := range f.partitions() {
		f.trim(t, p, 2)
	}
	everyTime(t, f)
	for p := range f.partitions() {
		f.trim(t, p, 4)
	}
	everyTime(t, f)
}

func positionAtEmpty(t *testing.T, f *fixture) { everyTime(t, f) }

package bridge

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
)

// heapBytes is what is reachable.
func heapBytes() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// A budget is worth what its numbers are: what is counted must be about what the
// heap holds, for small and large things alike.
func TestWhatIsCountedIsWhatTheHeapHolds(t *testing.T) {
	const big = 1 << 40
	compare := func(what string, counted, before int64) {
		t.Helper()
		real := heapBytes() - before
		t.Logf("%s: %d bytes are counted, %d are held", what, counted, real)
		if real > counted*11/10 || real < counted*4/10 {
			t.Errorf("%s: %d bytes are counted and %d are held", what, counted, real)
		}
	}
	for _, size := range []int{0, 100, 3000, 100_000} {
		r := newLiveRig(t, HubOptions{RingBytes: big}, "a")
		g := r.join(Filter{}, "a")
		data := make([]byte, size)
		before := heapBytes()
		for i := range min(20_000, 1+50<<20/max(1, size)) {
			receiver{r.Stream("a")}.Records([]Record{{Offset: Offset(i), Proof: ProofOf(int64(i)), Origin: "s", Data: data}})
		}
		compare(fmt.Sprintf("entries of %d bytes", size), g.feed.bytes, before)
		runtime.KeepAlive(r)
	}
	r := newLiveRig(t, HubOptions{RingBytes: big, FilterBytes: big}, "a")
	before := heapBytes()
	for i := range 10_000 {
		r.join(NewFilter(Pattern(fmt.Sprintf("orders.%d", i))), "a")
	}
	compare("short filters", r.kept, before)
	before, counted := heapBytes(), r.kept
	for i := range 1000 {
		r.join(NewFilter(Pattern(fmt.Sprintf("%d.some.longer.tokens.of.a.path.%d", i, i)), Pattern(fmt.Sprintf("other.*.%d", i))), "a")
	}
	compare("long filters", r.kept-counted, before)

	for _, size := range []int{0, 100, 3000} {
		before := heapBytes()
		var counted int64
		records := make([]Record, 10_000)
		for i := range records {
			records[i] = Record{
				Origin: fmt.Sprint("origin.", i), Subject: fmt.Sprint("subject.", i), Key: fmt.Append(nil, i), Data: make([]byte, size),
				Headers: []Header{{Key: "name", Value: fmt.Append(nil, "value", i)}},
			}
			counted += int64(records[i].MemoryBytes())
		}
		compare(fmt.Sprintf("records of %d bytes", size), counted, before)
		runtime.KeepAlive(records)
	}
	runtime.KeepAlive(r)
}

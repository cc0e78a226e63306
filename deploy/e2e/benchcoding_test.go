package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// mostGzipEach is how many clients have a gzip of their own.
const mostGzipEach = 500

// buildGzipEach builds the bridge without its sweeper and with a gzip for each
// client.
var buildGzipEach = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "ssebridge-gzipeach")
	return path, goBuild("-tags", "nosweep gzipeach", "-o", path, "../../cmd/ssebridge")
})

// coding is the content coding of what a variant serves; empty: none.
func (v variant) coding() string {
	switch v {
	case gzipShared, gzipEach:
		return "gzip"
	case zstdShared:
		return "zstd"
	default:
		return ""
	}
}

// BenchmarkCompression follows change events, of whom all clients get the same.
//
// A shared compressor begins anew now and then, and until then those that joined
// meanwhile are written what is not compressed. So bytes are counted over many
// beginnings, by a few clients, and what deliveries take is measured when all have
// joined.
func BenchmarkCompression(b *testing.B) {
	const few, counted, joined = 20, 4000, 500
	clients := benchScale(b, 5000)
	which := []variant{swept, gzipShared, gzipEach}
	if lack := lackOf("zstd"); lack == "" {
		which = append(which, zstdShared)
	} else {
		b.Log(lack)
	}
	for _, burst := range []int{1, 10} {
		b.Run(strconv.Itoa(burst), func(b *testing.B) {
			name := fmt.Sprintf("%s clients, change events in bursts of %d", thousands(clients), burst)
			size := benchFigures.rowIn(coded, name, "bytes over the wire per event", "gzip / gzip each ≤ 1.05")
			cost := benchFigures.rowIn(coded, name, "µs CPU per delivery", "gzip / plain ≤ 1.2")
			for b.Loop() {
				a := newArena(b)
				a.payload = changeEvent
				a.bridges[gzipShared] = a.newBridge("COMPRESSION=gzip")
				a.bridges[zstdShared] = a.newBridge("COMPRESSION=zstd")
				a.bridges[gzipEach] = a.newBridge()
				a.bridges[gzipEach].build = buildGzipEach
				a.inTurns(which, func(v variant, l *loadGenerator) {
					l.tell("nap 1000")
					l.open(0, few, "/events")
					a.bursts(v, l, 0, 100, joined)
					before := l.stats(0)
					a.bursts(v, l, 0, burst, counted)
					after := l.check(0, few)
					size.add(v, float64(after.Bytes-before.Bytes)/float64(after.Events-before.Events))
					l.tell("close 0")
					l.await("close", 0)

					clients := clients
					if v == gzipEach {
						clients = min(clients, mostGzipEach)
					}
					l.open(1, clients, "/events")
					a.bursts(v, l, 1, 100, joined)
					cpu, began, first := a.cpu(v), time.Now(), a.last
					for time.Since(began) < benchTime(b) {
						a.bursts(v, l, 1, burst, burst)
					}
					cost.add(v, perRecord(a.cpu(v)-cpu, (a.last-first)*clients))
					l.check(1, clients)
				})
			}
			report(b, size, cost)
		})
	}
}

// bursts publishes records that come together, and the next ones when all clients
// of a group have them, until there are so many.
func (a *arena) bursts(v variant, l *loadGenerator, group, burst, records int) {
	a.b.Helper()
	for done := 0; done < records; done += burst {
		a.publish(v, burst)
		l.reach(group, a.last)
	}
}

// changeEvent makes a record of some 200 bytes as applications do that tell of
// changes: names that repeat, and values that do not.
func changeEvent(n int) []byte {
	now := time.Now()
	r := rand.New(rand.NewPCG(uint64(n), 0))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	return fmt.Appendf(nil, `{"n":"%c%08d%019d","op":%q,"entity":"order","id":%d,"customer":"c-%06x","status":%q,"total":%.2f,"currency":%q,"items":%d,"at":%q}`,
		recordMark, n, now.UnixNano(), pick("update", "update", "update", "insert"), 480000+r.IntN(20000), r.IntN(1<<24),
		pick("open", "paid", "packed", "shipped", "delivered", "returned"), r.Float64()*500, pick("EUR", "EUR", "USD", "GBP"), 1+r.IntN(9),
		now.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
}

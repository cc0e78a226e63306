package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// BenchmarkSoak runs for the time that SSEBRIDGE_BENCH_SOAK says: 5,000 clients,
// of whom some are cut, some read nothing for a while, and all come back. It
// tells how memory grows, and checks that each has got each record once.
func BenchmarkSoak(b *testing.B) {
	const perSecond, cutsPerSecond, stallsPerSecond, stallSeconds = 10, 25, 5, 50
	text := os.Getenv("SSEBRIDGE_BENCH_SOAK")
	if text == "" {
		b.Skip("takes 10 minutes: make bench-soak")
	}
	total, err := time.ParseDuration(text)
	if err != nil {
		b.Fatalf("SSEBRIDGE_BENCH_SOAK: %v", err)
	}
	clients := benchScale(b, 5000)
	early, late := total*3/10, total
	name := fmt.Sprintf("%s clients, cut and stalled", thousands(clients))
	for b.Loop() {
		a := newArena(b, "WRITE_TIMEOUT=30s", "MEMORY=64MiB")
		a.payload = func(n int) []byte { return benchPayload(n, 1000) }
		a.start(swept)
		l := startLoad(b, a.url(swept))
		l.told = a.bridges[swept].clientsByAddress
		a.fill(l)
		l.tell("churn 0 %d %d %d", cutsPerSecond, stallsPerSecond, stallSeconds)
		l.open(0, clients, "/events")
		stop, began := a.trickle(swept, perSecond), time.Now()
		var memory [2]float64
		for i, at := range []time.Duration{early, late} {
			time.Sleep(time.Until(began.Add(at)))
			memory[i] = float64(processBytes(b, a.pid(swept))) / (1 << 20)
			benchFigures.row(name+", after "+at.String(), "MiB resident", "").add(swept, memory[i])
		}
		benchFigures.row(fmt.Sprintf("%s, memory after %s to %s", name, late, early), "times", "≤ 1.1 times").add(swept, memory[1]/memory[0])
		l.tell("churn 0 0 0 0")
		stop()
		l.reach(0, a.last)
		r := l.stats(0)
		if r.Lost+r.Doubled+r.Refused != 0 {
			b.Errorf("%d records lost, %d doubled, %d clients refused", r.Lost, r.Doubled, r.Refused)
		}
		benchFigures.row(name+", lost or doubled", "of "+thousands(int(r.Events))+" events", "0").add(swept, float64(r.Lost+r.Doubled))
		benchFigures.row(name+", came back", "times", "").add(swept, float64(r.Reconnects))
		b.Logf("%d stalls, %d responses ended by the bridge", r.Stalls, r.Ended)
		l.stop()
		a.stop()
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

// fill fills what MEMORY is for, the ring and the cache, by two clients: what grows
// from then on is what should not.
func (a *arena) fill(l *loadGenerator) {
	a.b.Helper()
	const records, atOnce = 25000, 500 // of 1.3 KB with their overhead: more than 3/8 of 64 MiB
	l.open(1, 1, "/events")
	for range records / atOnce {
		a.publish(swept, atOnce)
		l.reach(1, a.last)
	}
	l.open(2, 1, "/events?start=all")
	l.reach(2, a.last)
}

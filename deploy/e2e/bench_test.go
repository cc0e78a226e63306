package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchSize is the payload of a record, in bytes.
const benchSize = 200

// benchRounds is how often each figure is taken; the variants take turns.
func benchRounds(b *testing.B) int { return benchNumber(b, "SSEBRIDGE_BENCH_ROUNDS", 5) }

// benchTime is how long a figure of a round is measured.
func benchTime(b *testing.B) time.Duration {
	return time.Duration(benchNumber(b, "SSEBRIDGE_BENCH_SECONDS", 5)) * time.Second
}

// benchScale divides numbers of clients, for a look at whether all works.
func benchScale(b *testing.B, clients int) int {
	return max(1, clients/benchNumber(b, "SSEBRIDGE_BENCH_SHRINK", 1))
}

func benchNumber(b *testing.B, name string, otherwise int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%s: want a number above 0", name, text)
	}
	return n
}

// arena is a broker and the servers that are compared, one of which runs at a
// time, on a processor that nothing else of the benchmark uses.
//
//	processor 0   the server: limit, or a bridge with GOMAXPROCS=1
//	processor 1   the broker, this process, the load generator
type arena struct {
	b       *testing.B
	broker  benchBroker
	bridges map[variant]*bridgeProcess
	wire    wireImage
	limit   *limitServer       // while it runs
	last    int                // number of the newest record
	payload func(n int) []byte // of a record
	common  []string           // settings of all bridges
}

func newArena(b *testing.B, settings ...string) *arena {
	b.Helper()
	return newArenaOn(b, startJetStream, settings...)
}

// newArenaOn is newArena on any broker. settings are those of the bridges.
func newArenaOn(b *testing.B, broker func(b *testing.B) benchBroker, settings ...string) *arena {
	b.Helper()
	buildTool(b, "limit", "")
	buildTool(b, "load", "")
	if on := onCPU(b, 1); on != nil {
		stayOn(b, "1")
		b.Cleanup(func() { stayOn(b, "0-"+strconv.Itoa(runtime.NumCPU()-1)) })
	}
	a := &arena{b: b, broker: broker(b), bridges: map[variant]*bridgeProcess{}}
	a.payload = func(n int) []byte { return benchPayload(n, benchSize) }
	a.common = slices.Concat([]string{"MEMORY=256MiB", "LOG_LEVEL=warn"}, a.broker.settings(), settings)
	for _, v := range []variant{swept, waited} {
		a.bridges[v] = a.newBridge()
	}
	a.bridges[waited].build = buildWaiting
	a.start(swept)
	a.wire = captureWire(b, a.bridges[swept], func() { a.publish(swept, 1) })
	a.stop()
	return a
}

// newBridge returns a bridge on the processor of those that are compared, with
// settings besides those of all.
func (a *arena) newBridge(settings ...string) *bridgeProcess {
	a.b.Helper()
	settings = slices.Concat(a.common, settings)
	p := newBridge(a.b, "", settings...)
	if !slices.ContainsFunc(settings, func(s string) bool { return strings.HasPrefix(s, "NATS_URL=") }) {
		delete(p.env, "NATS_URL")
	}
	p.under = append([]string{"env", "GOMAXPROCS=1"}, onCPU(a.b, 0)...)
	return p
}

// stayOn keeps this process, and what it starts, on some processors.
func stayOn(b *testing.B, list string) {
	b.Helper()
	if out, err := exec.Command("taskset", "-acp", list, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		b.Fatalf("taskset: %v\n%s", err, out)
	}
}

// start starts a server from nothing.
func (a *arena) start(v variant) {
	a.b.Helper()
	if v == limit {
		a.limit = startLimit(a.b, a.wire)
		return
	}
	a.bridges[v].Start()
	a.bridges[v].await("/readyz", http.StatusOK)
}

// stop ends whatever server runs.
func (a *arena) stop() {
	if a.limit != nil {
		a.limit.stop()
		a.limit = nil
	}
	for _, p := range a.bridges {
		p.Kill9()
	}
}

func (a *arena) pid(v variant) int {
	if v == limit {
		return a.limit.pid()
	}
	return a.bridges[v].PID()
}

func (a *arena) url(v variant) string {
	if v == limit {
		return fmt.Sprintf("http://127.0.0.1:%d", a.limit.port)
	}
	return a.bridges[v].URL
}

// publish adds records that come together.
func (a *arena) publish(v variant, count int) {
	a.b.Helper()
	if v == limit {
		a.limit.send(count, a.last+1)
		a.last += count
		return
	}
	for range count {
		a.last++
		a.publishTo("s.x", a.last)
	}
	a.broker.flush(a.b)
}

// publishTo adds one record, soon.
func (a *arena) publishTo(subject string, n int) {
	a.broker.publish(a.b, subject, a.payload(n))
}

// cpu returns what the server has used so far.
func (a *arena) cpu(v variant) time.Duration { return processCPU(a.b, a.pid(v)) }

// inTurns runs a round of each variant after the other, again and again. Each
// begins with a fresh server and a fresh load generator.
func (a *arena) inTurns(which []variant, round func(v variant, l *loadGenerator)) {
	a.b.Helper()
	for range benchRounds(a.b) {
		for _, v := range which {
			a.start(v)
			l := startLoadCoded(a.b, a.url(v), v.coding())
			for group := range 2 {
				if v.coding() != "" {
					l.tell("coding %d %s", group, v.coding())
				}
			}
			round(v, l)
			l.stop()
			a.stop()
			if a.b.Failed() {
				a.b.FailNow()
			}
		}
	}
}

// report prints a figure's medians beside the benchmark's name.
func report(b *testing.B, rows ...*figure) {
	for _, r := range rows {
		for _, v := range r.in.values {
			if len(r.rounds[v]) > 0 {
				b.ReportMetric(median(r.rounds[v]), strings.ReplaceAll(r.in.label(v)+" "+r.unit, " ", "-"))
			}
		}
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

// BenchmarkPaced is the day-to-day load: each record is a write of its own for
// each client. The load generator naps between reads, so that no server pays for
// waking it.
func BenchmarkPaced(b *testing.B) {
	for _, load := range []struct{ clients, perSecond int }{{1000, 5}, {1000, 50}, {5000, 5}, {10000, 5}} {
		clients, perSecond := benchScale(b, load.clients), load.perSecond
		b.Run(fmt.Sprintf("%dx%d", clients, perSecond), func(b *testing.B) {
			name := fmt.Sprintf("%s clients, %d records a second", thousands(clients), perSecond)
			soon := ""
			if load.clients == 10000 {
				soon = "≤ 1.3"
			}
			cost, late := benchFigures.row(name, "µs CPU per delivery", "≤ 1.25, ≥ 1.6"), benchFigures.row(name+", time to the last client", "ms", soon)
			for b.Loop() {
				a := newArena(b)
				a.inTurns(variants, func(v variant, l *loadGenerator) {
					l.tell("nap 1000")
					l.open(0, clients, "/events")
					a.publish(v, 1)
					l.reach(0, a.last)
					l.stats(0)
					records := perSecond * int(benchTime(b)/time.Second)
					before := a.cpu(v)
					pace := time.NewTicker(time.Second / time.Duration(perSecond))
					for range records {
						<-pace.C
						a.publish(v, 1)
					}
					pace.Stop()
					l.reach(0, a.last)
					cost.add(v, perRecord(a.cpu(v)-before, records*clients))
					late.add(v, l.check(0, clients).P50)
				})
			}
			report(b, cost, late)
		})
	}
}

// BenchmarkBursts publishes records that come together, and the next ones when
// every client has them.
func BenchmarkBursts(b *testing.B) {
	clients := benchScale(b, 5000)
	for _, load := range []struct {
		burst int
		aim   string
	}{{1, "≤ 1.25, ≥ 1.6"}, {10, "≤ 1.4"}, {100, "≤ 1.8"}} {
		burst, aim := load.burst, load.aim
		b.Run(strconv.Itoa(burst), func(b *testing.B) {
			name := fmt.Sprintf("%s clients, bursts of %d", thousands(clients), burst)
			cost := benchFigures.row(name, "µs CPU per delivery", aim)
			for b.Loop() {
				a := newArena(b)
				a.inTurns(variants, func(v variant, l *loadGenerator) {
					l.tell("nap 1000")
					l.open(0, clients, "/events")
					a.publish(v, burst)
					l.reach(0, a.last)
					before, began, first := a.cpu(v), time.Now(), a.last
					for time.Since(began) < benchTime(b) {
						a.publish(v, burst)
						l.reach(0, a.last)
					}
					cost.add(v, perRecord(a.cpu(v)-before, (a.last-first)*clients))
					l.check(0, clients)
				})
			}
			report(b, cost)
		})
	}
}

// BenchmarkIdle is the memory of clients who wait for something to happen, after
// the heap has had a while to shrink.
func BenchmarkIdle(b *testing.B) {
	settle := 2 * benchTime(b)
	var rows []*figure
	for b.Loop() {
		a := newArena(b)
		for _, v := range []variant{swept, waited} {
			a.start(v)
			l := startLoad(b, a.url(v))
			time.Sleep(time.Second)
			empty := processBytes(b, a.pid(v))
			for group, more := range []int{5000, 5000, 8000} {
				l.open(group, benchScale(b, more), "/events")
				time.Sleep(settle)
				clients := []int{5000, 10000, 18000}[group]
				row := benchFigures.row(thousands(benchScale(b, clients))+" idle clients", "KiB resident per client", "≤ 2.5 KB")
				row.add(v, float64(processBytes(b, a.pid(v))-empty)/1024/float64(benchScale(b, clients)))
				rows = append(rows, row)
			}
			l.stop()
			a.stop()
		}
	}
	report(b, rows...)
}

// BenchmarkFilters gives each client a filter of its own, and each record to one
// of them.
func BenchmarkFilters(b *testing.B) {
	const perSecond = 20000
	clients := benchScale(b, 10000)
	name := fmt.Sprintf("%s clients with a filter each, %s records a second", thousands(clients), thousands(perSecond))
	cost, rate := benchFigures.row(name, "µs CPU per record", "≤ 25 µs"), benchFigures.row(name+", reached", "1000 records a second", "")
	for b.Loop() {
		a := newArena(b, "MAX_FILTERS=0")
		number := 0 // of each subject's records
		a.inTurns([]variant{swept, waited}, func(v variant, l *loadGenerator) {
			l.tell("nap 1000")
			l.open(0, clients, "/events?subject=s.c.{i}")
			round := func() {
				number++
				began := time.Now()
				for i := range clients {
					a.publishTo("s.c."+strconv.Itoa(i), number)
					if i%20 == 19 {
						time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / perSecond)))
					}
				}
				a.broker.flush(b)
			}
			round()
			l.reach(0, number)
			before, began, first := a.cpu(v), time.Now(), number
			for time.Since(began) < benchTime(b) {
				round()
			}
			l.reach(0, number)
			records := (number - first) * clients
			cost.add(v, perRecord(a.cpu(v)-before, records))
			rate.add(v, float64(records)/time.Since(began).Seconds()/1000)
			l.check(0, clients)
		})
	}
	report(b, cost, rate)
}

// trickle publishes so many records a second until it is told to stop.
func (a *arena) trickle(v variant, perSecond int) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(time.Second / time.Duration(perSecond))
		defer pace.Stop()
		for {
			select {
			case <-quit:
				return
			case <-pace.C:
				a.publish(v, 1)
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// perRecord is CPU time in µs.
func perRecord(cpu time.Duration, records int) float64 {
	return float64(cpu.Nanoseconds()) / 1000 / float64(records)
}

func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// processCPU returns the CPU time that a process has used: what its threads have
// run (proc(5), schedstat), to the nanosecond. Ticks of 10 ms, as of
// /proc/pid/stat, are too coarse for a light load.
func processCPU(b *testing.B, pid int) time.Duration {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		b.Skip("figures of processes need Linux with schedstat")
	}
	var sum time.Duration
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that has ended
		}
		var ran int64
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			b.Fatalf("read %s: %v", name, err)
		}
		sum += time.Duration(ran)
	}
	return sum
}

// processBytes returns the resident memory of a process.
func processBytes(b *testing.B, pid int) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skipf("figures of processes need Linux: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kB int64
			if _, err := fmt.Sscan(value, &kB); err != nil {
				b.Fatalf("read /proc/%d/status: %v", pid, err)
			}
			return kB << 10
		}
	}
	b.Fatalf("/proc/%d/status has no VmRSS", pid)
	return 0
}

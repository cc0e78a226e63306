//go:build unix

package browsers

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkInspector follows 1,000 events a second for 20 seconds in Chromium,
// half of them on subjects of their own, with rows, chart and search at work, and
// reports what somebody who looks at it would feel: the longest task of the page by
// the clock and in processor time, which a busy machine does not stretch, how busy
// its thread was, frames that came late (a third 60th of a second after the one
// before), and the memory at the end.
func BenchmarkInspector(b *testing.B) {
	const (
		perSecond = 1000
		seconds   = 20
	)
	for b.Loop() {
		i := inspect(b, engines[0])
		i.VisitLive("?subject=prices.>&q=n")
		i.Evaluate(nil, `(() => {
			window.frames = [];
			let last = performance.now();
			const frame = (now) => { window.frames.push(now - last); last = now; requestAnimationFrame(frame); };
			requestAnimationFrame(frame);
		})()`)
		i.do(nil, "record", nil)
		tick := time.NewTicker(time.Second / 100)
		for n := range perSecond * seconds {
			if n%(perSecond/100) == 0 {
				<-tick.C
			}
			number := strconv.Itoa(n)
			payload := `{"n":` + number + `,"symbol":"ACME","price":123.45,"text":"some two hundred bytes, as an order or a quote has them, so that there is something to read and to search in"}`
			subject := "prices.S" + strconv.Itoa(n%50)
			if n%2 == 0 {
				subject = "prices.once." + number
			}
			if _, err := i.Broker.PublishAsync(subject, []byte(payload), jetstream.WithStallWait(patienceSeconds*time.Second)); err != nil {
				b.Fatal(err)
			}
		}
		tick.Stop()
		i.Until(`document.body.dataset.records === "` + strconv.Itoa(perSecond*seconds) + `"`)
		var busy struct{ Longest, LongestCPU, CPU float64 }
		i.do(&busy, "recorded", nil)
		var figures struct{ Late, Frames, Heap float64 }
		i.Evaluate(&figures, `({
			late: window.frames.filter((gap) => gap > 34).length,
			frames: window.frames.length,
			heap: performance.memory.usedJSHeapSize / 1e6,
		})`)
		wantRun(b, i.Told(0), "prices", 1, perSecond*seconds) // behind the figures: it takes the page a while to tell
		b.ReportMetric(busy.Longest, "longest-task-ms")
		b.ReportMetric(busy.LongestCPU, "longest-task-cpu-ms")
		b.ReportMetric(busy.CPU/(seconds*1000)*100, "%-busy")
		b.ReportMetric(figures.Late/figures.Frames*100, "%-late-frames")
		b.ReportMetric(figures.Heap, "heap-MB")
		i.Sound()
		i.Kill()
	}
}

//go:build unix

// Package browsers holds the demo page to its promise in real browsers: whatever
// happens to the bridge, the page shows every event once and in order.
//
//	Go test ── kill -9 ──► ssebridge ◄── text/event-stream ── browser
//	   │                       ▲ started again                   ▲
//	   ├── starts ──► ssebridge-demo (broker, live data, page)   │ puppeteer-core
//	   └── JSON lines ──► node browser.mjs ──────────────────────┘
//
// It needs node, chromium, firefox-esr, and once `npm ci` in the folder above.
package browsers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const live = `document.body.dataset.state === "live"`

// shown waits until the page has shown n more rows.
func shown(b *browser, n int) {
	b.t.Helper()
	b.Until(fmt.Sprintf("window.seen.length >= %d", len(b.Rows(0))+n))
}

// reconnected does something that makes the page connect again, and waits until
// it has.
func reconnected(b *browser, do func()) {
	b.t.Helper()
	before := len(b.Rows(0))
	do()
	b.Until(fmt.Sprintf(`%s && window.seen.slice(%d).some((row) => row.name === "connected")`, live, before))
}

// checkHistory fails the test unless the rows are, subject by subject, every
// record from the first that was shown to the last, each once and in order.
// Those are the numbers that the publisher put into the records, so they owe
// nothing to the bridge or to event ids.
func checkHistory(t *testing.T, rows []row) {
	t.Helper()
	newest := map[string]uint64{}
	ids := map[string]bool{}
	for i, r := range rows {
		switch r.Name {
		case "message":
		case "gap", "reset":
			t.Errorf("row %d: %s %s, though nothing was lost", i, r.Name, r.Text)
			continue
		default:
			continue
		}
		if r.Seq == 0 {
			t.Errorf("row %d of %s has no number: %s", i, r.Subject, r.Text)
			continue
		}
		if last, ok := newest[r.Subject]; ok && r.Seq != last+1 {
			t.Errorf("row %d: number %d of %s follows %d", i, r.Seq, r.Subject, last)
		}
		newest[r.Subject] = r.Seq
		if r.ID == "" || ids[r.ID] {
			t.Errorf("row %d of %s: event id %q is empty or was another row's", i, r.Subject, r.ID)
		}
		ids[r.ID] = true
	}
	for _, subject := range []string{"prices.ACME", "prices.UMBRELLA", "host.cpu", "host.memory"} {
		if newest[subject] == 0 {
			t.Errorf("no row of %s among %d rows", subject, len(rows))
		}
	}
}

// checkVerdicts fails the test unless the page connected afresh once and then
// resumed exactly, at least as often as said.
func checkVerdicts(t *testing.T, rows []row, resumed int) {
	t.Helper()
	var verdicts []string
	for _, r := range rows {
		if r.Name == "connected" {
			_, text, _ := strings.Cut(r.Text, "resume ")
			verdict, _, _ := strings.Cut(text, " ")
			verdicts = append(verdicts, verdict)
		}
	}
	if len(verdicts) < resumed+1 || verdicts[0] != "new" || slices.ContainsFunc(verdicts[1:], func(v string) bool { return v != "exact" }) {
		t.Errorf("verdicts %q, want new and then at least %d times exact", verdicts, resumed)
	}
}

// checkPage fails the test if the page's own counters accuse the bridge, or its
// code broke.
func checkPage(t *testing.T, b *browser) {
	t.Helper()
	if lost, doubled := b.Text("#lost"), b.Text("#doubled"); lost != "0" || doubled != "0" {
		t.Errorf("the page counts %s lost and %s doubled, want none", lost, doubled)
	}
	if problems := b.Problems(); len(problems) > 0 {
		t.Errorf("errors in the page: %q", problems)
	}
}

// each runs a test in every browser.
func each(t *testing.T, test func(t *testing.T, e engine)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, e) })
	}
}

// Bridges crash and are replaced while people look at their pages. What they see
// must not depend on it.
func TestPageShowsEveryEventOnceWhileTheBridgeIsKilled(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		bridge := d.bridge
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 60)
		const kills = 5
		for range kills {
			reconnected(b, func() {
				kill(t, bridge)
				bridge = d.NextBridge()
			})
			shown(b, 40)
		}
		rows := b.Rows(0)
		checkHistory(t, rows)
		checkVerdicts(t, rows, kills)
		checkPage(t, b)
		t.Logf("%d rows over %d kills", len(rows), kills)
	})
}

// A reverse proxy answers 502 while the bridge behind it restarts, and one such
// answer ends a browser's EventSource for good: the page opens a new one, and
// goes on where the old one was.
func TestPageComesBackAfterAnErrorStatus(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 30)
		reconnected(b, func() {
			proxy, refused := takeOver(t, d)
			select {
			case <-refused: // the page has opened a new one, which was refused too
			case <-time.After(patienceSeconds * time.Second):
				t.Fatal("the page does not come back after a 502")
			}
			b.Until(`document.body.dataset.state === "reconnecting"`)
			if err := proxy.Close(); err != nil {
				t.Error(err)
			}
		})
		shown(b, 30)
		rows := b.Rows(0)
		checkHistory(t, rows)
		checkVerdicts(t, rows, 1)
		checkPage(t, b)
	})
}

// takeOver kills bridges until a proxy with nothing behind it has their address.
// refused is closed when a second EventSource has been refused there.
func takeOver(t *testing.T, d *demo) (proxy *http.Server, refused <-chan struct{}) {
	t.Helper()
	addr := strings.TrimSuffix(strings.TrimPrefix(d.EventsURL, "http://"), "/events")
	second := make(chan struct{})
	var streams atomic.Int32
	proxy = &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			if r.Header.Get("Accept") == "text/event-stream" && streams.Add(1) == 2 {
				close(second)
			}
		}),
	}
	t.Cleanup(func() { _ = proxy.Close() })
	for bridge := d.bridge; ; bridge = d.NextBridge() {
		kill(t, bridge)
		l, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue // the next bridge was faster
		}
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = proxy.Serve(l) }()
		return proxy, second
	}
}

// Pause disconnects and keeps nothing: whoever reads in peace for a while gets
// everything that came meanwhile.
func TestPauseLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		_, prices := d.jetStream()
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 30)
		b.Click("#pause")
		b.Until(`document.body.dataset.state === "paused"`)
		newRecords(t, prices, 60)
		reconnected(b, func() { b.Click("#pause") })
		shown(b, 90)
		rows := b.Rows(0)
		checkHistory(t, rows)
		checkVerdicts(t, rows, 1)
		checkPage(t, b)
	})
}

// What the broker has dropped cannot be shown. The page says so where it
// happened, and what is told does not count as lost in silence.
func TestPageTellsWhatTheBrokerHasDropped(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		_, prices := d.jetStream()
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 30)
		b.Click("#pause")
		b.Until(`document.body.dataset.state === "paused"`)
		newRecords(t, prices, 30)
		if err := prices.Purge(t.Context(), jetstream.WithPurgeKeep(5)); err != nil {
			t.Fatal(err)
		}
		before := len(b.Rows(0))
		reconnected(b, func() { b.Click("#pause") })
		shown(b, 30)
		rows := b.Rows(before)
		gap := slices.IndexFunc(rows, func(r row) bool { return r.Name == "gap" })
		record := slices.IndexFunc(rows, func(r row) bool { return strings.HasPrefix(r.Subject, "prices.") })
		if gap < 0 || gap > record || !strings.Contains(rows[gap].Text, "stream prices") {
			t.Errorf("rows after the purge %+v, want a gap of prices before its records", rows[:min(len(rows), 10)])
		}
		if verdict := b.Text("#verdict"); verdict != "gap" {
			t.Errorf("verdict %q, want gap", verdict)
		}
		checkPage(t, b)
	})
}

// A page that is left open for a week must not grow for a week.
func TestPageKeepsTheNewestRows(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		js, _ := d.jetStream()
		b.Open(d.PageURL + "/?subject=prices.FLOOD")
		b.Until(live)
		const records = 2500
		for n := range records {
			publish(t, js, "prices.FLOOD", fmt.Sprintf(`{"n":%d}`, n+1))
		}
		b.Until(fmt.Sprintf(`document.querySelector("#log").lastElementChild.dataset.seq === "%d"`, records))
		var rows int
		b.Evaluate(&rows, `document.querySelector("#log").children.length`)
		if rows != 2000 {
			t.Errorf("%d rows are kept, want 2000", rows)
		}
		if total := b.Text("#total"); total != "2,500" {
			t.Errorf("the page counts %s events, want 2,500", total)
		}
		checkPage(t, b)
	})
}

// Anybody who may publish writes the text of these rows.
func TestRecordsNeverBecomeMarkup(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		js, _ := d.jetStream()
		b.Open(d.PageURL + "/?subject=prices.EVIL.>")
		b.Until(live)
		const evil = `<img src=x onerror=alert(1)><script>alert(1)</script>`
		publish(t, js, "prices.EVIL.<b>bold</b>", evil)
		publish(t, js, "prices.EVIL.x", `{"<b>name</b>":`+quote(evil)+`}`)
		b.Until(`document.querySelectorAll('#log li[data-name="message"]').length === 2`)
		b.Evaluate(nil, `document.querySelectorAll("#log details").forEach((details) => { details.open = true; })`)
		b.Until(`document.querySelectorAll("#log dl").length >= 2`)
		var elements int
		b.Evaluate(&elements, `document.querySelectorAll("#log img, #log script, #log b").length`)
		if elements != 0 {
			t.Errorf("%d elements were made of records, want none", elements)
		}
		rows := b.Rows(0)
		if !slices.ContainsFunc(rows, func(r row) bool { return r.Text == evil && r.Subject == "prices.EVIL.<b>bold</b>" }) {
			t.Errorf("rows %+v, want one that shows the text as it is", rows)
		}
		checkPage(t, b)
	})
}

// publish puts a record into the demo's broker.
func publish(t *testing.T, js jetstream.JetStream, subject, data string) {
	t.Helper()
	if _, err := js.Publish(t.Context(), subject, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// The filter box is how a newcomer learns what subjects are: what it says is
// what comes, and what it cannot mean is explained.
func TestFilterBoxChoosesSubjects(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 10)

		reconnected(b, func() { b.Type("#subjects", "prices.ACME, host.cpu") })
		// The rows since the page connected with the new filter.
		const since = `window.seen.slice(window.seen.findLastIndex((row) => row.name === "connected"))`
		b.Until(since + `.filter((row) => row.name === "message").length >= 10`)
		var rows []row
		b.Evaluate(&rows, since)
		subjects := map[string]bool{}
		for _, r := range rows {
			if r.Name == "message" {
				subjects[r.Subject] = true
			}
		}
		if len(subjects) != 2 || !subjects["prices.ACME"] || !subjects["host.cpu"] {
			t.Errorf("subjects %v, want prices.ACME and host.cpu", subjects)
		}

		b.Type("#subjects", "prices.>.ACME")
		b.Until(`!document.querySelector("#problem").hidden`)
		if text := b.Text("#problem"); !strings.Contains(text, "prices.>.ACME") {
			t.Errorf("problem %q, want it to name the pattern", text)
		}

		reconnected(b, func() { b.Type("#subjects", "host.>") })
		b.Until(`document.querySelector("#problem").hidden`)
		reconnected(b, func() { b.Click(`[data-pattern="prices.ACME"]`) }) // joins what is in the box
		var box string
		b.Evaluate(&box, `document.querySelector("#subjects").value`)
		if want := "host.> prices.ACME"; box != want {
			t.Errorf("the box holds %q, want %q", box, want)
		}
		var pressed []string
		b.Evaluate(&pressed, `[...document.querySelectorAll("#presets [aria-pressed=true]")].map((chip) => chip.dataset.pattern)`)
		if want := []string{"host.>", "prices.ACME"}; !slices.Equal(pressed, want) {
			t.Errorf("presets %q are on, want %q", pressed, want)
		}
		checkPage(t, b)
	})
}

// No mouse is needed: the rows can be walked and opened by keys.
func TestRowsOpenByKeyboard(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 40)
		b.Evaluate(nil, `document.querySelector("#log").focus()`)
		b.Press("ArrowUp") // from the list itself to its newest row
		b.Press("ArrowUp")
		b.Press("Enter")
		b.Until(`document.querySelector("#log details[open] dd") !== null`)
		id := b.Text("#log details[open] dd")
		rows := b.Rows(0)
		if !slices.ContainsFunc(rows, func(r row) bool { return r.ID == id }) {
			t.Errorf("the opened row shows the id %q, which no row has", id)
		}
		var scrolls string
		b.Evaluate(&scrolls, `document.querySelector("#autoscroll").getAttribute("aria-pressed")`)
		if scrolls != "false" {
			t.Error("auto-scroll goes on under an opened row")
		}
		checkPage(t, b)
	})
}

// The page's counters are the demo's own proof, so they must be able to accuse.
func TestPageCountsWhatIsLostAndDoubled(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		b.Open(d.PageURL)
		var counted json.RawMessage
		b.Evaluate(&counted, `import("/continuity.js").then(({ Continuity }) => {
			const c = new Continuity();
			for (const n of [5, 6, 9, 9, 8, 10]) c.see("a", n);
			for (const n of [1, 2]) c.see("b", n);
			c.forget();
			c.see("a", 40);
			return [c.lost, c.doubled];
		})`)
		if string(counted) != "[2,2]" {
			t.Errorf("lost and doubled are %s, want [2,2]", counted)
		}
	})
}

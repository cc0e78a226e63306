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
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
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

// sums are the page's own figures.
type sums struct{ Published, Received, Waiting, Announced, Lost, Doubled int }

func readSums(b *browser) sums {
	b.t.Helper()
	var got sums
	b.Evaluate(&got, `Object.fromEntries(["Published", "Received", "Waiting", "Announced", "Lost", "Doubled"].map((name) =>
		[name, Number(document.querySelector("#" + name.toLowerCase()).textContent.replaceAll(",", ""))]))`)
	return got
}

// checkPage fails the test if the page's own counters accuse the bridge, or its
// code broke.
func checkPage(t *testing.T, b *browser) {
	t.Helper()
	got := readSums(b)
	if got.Lost != 0 || got.Doubled != 0 {
		t.Errorf("the page counts %+v, want none lost and none doubled", got)
	}
	if got.Published != got.Received+got.Waiting+got.Announced+got.Lost {
		t.Errorf("the page counts %+v, which do not balance", got)
	}
	if problems := b.Problems(); len(problems) > 0 {
		t.Errorf("errors in the page: %q", problems)
	}
}

// truth is what the publisher states.
type truth struct {
	Streams map[string]struct {
		Life     int
		Subjects map[string]struct{ First, Last uint64 }
	}
}

// checkTruth waits until the page has shown all that the publisher states now,
// and fails the test unless it has shown exactly that, from its first record of
// each subject on, or from the first of the stream's present life.
func checkTruth(t *testing.T, b *browser) {
	t.Helper()
	var stated truth
	b.Evaluate(&stated, `fetch("/truth").then((answer) => answer.json())`)
	b.Evaluate(nil, `fetch("/truth").then((answer) => answer.json()).then((truth) => { window.stated = truth; })`)
	b.Until(`Object.values(window.stated.streams).every(({ subjects }) => Object.entries(subjects).every(([subject, { last }]) =>
		window.seen.some((row) => row.subject === subject && row.seq >= last)))`)
	shown := map[string]map[uint64]int{}
	for _, r := range b.Rows(0) {
		if r.Name == "message" {
			if shown[r.Subject] == nil {
				shown[r.Subject] = map[uint64]int{}
			}
			shown[r.Subject][r.Seq]++
		}
	}
	for _, stream := range stated.Streams {
		for subject, extent := range stream.Subjects {
			first := extent.First
			if stream.Life == 1 {
				first = slices.Min(slices.Collect(maps.Keys(shown[subject])))
			}
			for n := first; n <= extent.Last; n++ {
				if shown[subject][n] != 1 {
					t.Errorf("the page has shown number %d of %s %d times, want once", n, subject, shown[subject][n])
				}
			}
		}
	}
}

// done waits until a new entry of the journal tells how something ended, and
// returns its title, its verdict and the rest.
func done(b *browser, kind string, do func()) (title, verdict, outcome string) {
	b.t.Helper()
	entries := `document.querySelectorAll('#entries li[data-kind="` + kind + `"]')`
	var before int
	b.Evaluate(&before, entries+".length")
	do()
	b.Until(fmt.Sprintf(`%s.length > %d && %[1]s[0].querySelector(".outcome").textContent.includes(" doubled")`, entries, before))
	var texts []string
	b.Evaluate(&texts, `["b", ".pill", ".outcome"].map((part) => `+entries+`[0].querySelector(part).textContent)`)
	return texts[0], texts[1], texts[2]
}

// lossless are the words of an outcome that has nothing to complain of.
const lossless = "0 lost, 0 doubled"

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

// Each button breaks something, and each time the page gets everything, once:
// it says so itself, and its rows say so.
func TestButtonsBreakNothing(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 60)

		title, verdict, outcome := done(b, "kill", func() { b.Click("#kill") })
		next := d.NextBridge()
		b.Until(fmt.Sprintf(`document.querySelector("#entries b").textContent === "kill -9 %d, %d took over"`, d.bridge, next))
		if verdict != "exact" || !strings.Contains(outcome, " replayed, "+lossless) {
			t.Errorf("killed: %s: %s, %s; want exact and %s", title, verdict, outcome, lossless)
		}

		title, verdict, outcome = done(b, "cut", func() { b.Click("#cut") })
		if !strings.HasPrefix(title, "Cut this connection") || verdict != "exact" || !strings.Contains(outcome, lossless) {
			t.Errorf("cut: %s: %s, %s; want exact and %s", title, verdict, outcome, lossless)
		}
		checkVerdicts(t, b.Rows(0), 2)

		for _, stream := range []string{"prices", "host"} {
			title, verdict, outcome = done(b, "recreate", func() { b.Click("[data-recreate=" + stream + "]") })
			if verdict != "reset" || !strings.HasPrefix(title, "Deleted "+stream) || !strings.Contains(outcome, lossless) {
				t.Errorf("recreated: %s: %s, %s; want reset and %s", title, verdict, outcome, lossless)
			}
		}

		b.Until(`document.querySelector("#power").textContent === "Take it down" && !document.querySelector("#power").disabled`)
		title, verdict, outcome = done(b, "stop", func() {
			b.Click("#power")
			b.Until(`document.querySelector("#power").dataset.do === "start" && document.body.dataset.state === "reconnecting"`)
			before := readSums(b)
			b.Until(fmt.Sprintf(`Number(document.querySelector("#waiting").textContent) >= %d`, before.Waiting+60))
			b.Click("#power")
		})
		if verdict != "exact" || !strings.Contains(outcome, lossless) {
			t.Errorf("taken down: %s: %s, %s; want exact and %s", title, verdict, outcome, lossless)
		}

		shown(b, 60)
		checkTruth(t, b)
		checkPage(t, b)
	})
}

// Whoever shows the page to others lets it break things by itself, and talks.
func TestPageSurvivesTheStorm(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 60)
		b.Click("#storm")
		for _, kind := range []string{"kill", "cut", "recreate"} {
			b.Until(`[...document.querySelectorAll('#entries li[data-kind="` + kind + `"] .outcome')].some((outcome) => outcome.textContent.includes("` + lossless + `"))`)
		}
		b.Click("#storm")
		b.Until(`[...document.querySelectorAll("#entries .outcome")].every((outcome) => outcome.textContent.includes("` + lossless + `"))`)
		var entries int
		b.Evaluate(&entries, `document.querySelectorAll("#entries li").length`)
		if entries < 3 {
			t.Errorf("%d entries after a storm, want three at least", entries)
		}
		checkTruth(t, b)
		checkPage(t, b)
	})
}

// The old life of a stream takes with it what the page has not got yet. That is
// announced, counted as such, and not a loss in silence.
func TestPageTellsWhatARecreatedStreamTookAway(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		_, prices := d.jetStream()
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 30)
		takeDown(b)
		newRecords(t, prices, 30)
		_, verdict, outcome := done(b, "recreate", func() {
			b.Click("[data-recreate=prices]")
			b.Until(`fetch("/truth").then((answer) => answer.json()).then((truth) => truth.streams.prices.life === 2)`)
			b.Click("#power")
		})
		if verdict != "reset" || !strings.Contains(outcome, " announced as gone, "+lossless) {
			t.Errorf("recreated while the bridge was down: %s, %s; want reset, events announced as gone, and %s", verdict, outcome, lossless)
		}
		if got := readSums(b); got.Announced < 30 {
			t.Errorf("the page counts %+v, want 30 announced at least", got)
		}
		shown(b, 30)
		checkTruth(t, b)
		checkPage(t, b)
	})
}

// takeDown takes the bridge down, and waits until the page has noticed.
func takeDown(b *browser) {
	b.t.Helper()
	b.Click("#power")
	b.Until(`document.querySelector("#power").dataset.do === "start" && document.body.dataset.state === "reconnecting"`)
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
		takeDown(b)
		newRecords(t, prices, 30)
		if err := prices.Purge(t.Context(), jetstream.WithPurgeKeep(5)); err != nil {
			t.Fatal(err)
		}
		before := len(b.Rows(0))
		reconnected(b, func() { b.Click("#power") })
		b.Until(`document.body.dataset.verdict === "gap"`)
		shown(b, 30)
		rows := b.Rows(before)
		gap := slices.IndexFunc(rows, func(r row) bool { return r.Name == "gap" })
		record := slices.IndexFunc(rows, func(r row) bool { return strings.HasPrefix(r.Subject, "prices.") })
		if gap < 0 || gap > record || !strings.Contains(rows[gap].Text, "stream prices") {
			t.Errorf("rows after the purge %+v, want a gap of prices before its records", rows[:min(len(rows), 10)])
		}
		if got := readSums(b); got.Announced == 0 {
			t.Errorf("the page counts %+v, want some announced", got)
		}
		checkPage(t, b)
	})
}

// The page's counters are the demo's own proof, so they must be able to accuse:
// of a record left out, of one that comes twice, and of a subject that falls
// silent, which no later record shows.
func TestPageCountsWhatIsLostAndDoubled(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 30)

		b.Evaluate(nil, `{ let once = 1; window.spoil = (data) => JSON.parse(data).subject === "prices.ACME" && once-- > 0 ? 0 : 1; }`)
		b.Until(`document.querySelector("#lost").textContent === "1"`)
		b.Evaluate(nil, `{ let once = 1; window.spoil = (data) => JSON.parse(data).subject === "host.cpu" && once-- > 0 ? 2 : 1; }`)
		b.Until(`document.querySelector("#doubled").textContent === "1"`)
		if got := readSums(b); got.Lost != 1 {
			t.Errorf("the page counts %+v, want 1 lost", got)
		}
		if bad := b.Text(".balance .bad dt"); bad != "lost" {
			t.Errorf("%q stands out first, want lost", bad)
		}
		b.Evaluate(nil, `window.spoil = (data) => JSON.parse(data).subject === "prices.HOOLI" ? 0 : 1`)
		b.Until(`Number(document.querySelector("#lost").textContent) > 3`)
		if problems := b.Problems(); len(problems) > 0 {
			t.Errorf("errors in the page: %q", problems)
		}
	})
}

// A page that is left open for a week must not grow for a week.
func TestPageKeepsTheNewestRows(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		js, _ := d.jetStream()
		b.Open(d.PageURL)
		b.Until(live)
		const records = 2500
		for n := range records {
			publish(t, js, "prices.FLOOD", fmt.Sprintf(`{"n":%d}`, n+1))
		}
		b.Until(fmt.Sprintf(`window.seen.some((row) => row.subject === "prices.FLOOD" && row.seq === %d)`, records))
		var rows int
		b.Evaluate(&rows, `document.querySelector("#ticker").children.length`)
		if rows != 150 {
			t.Errorf("%d rows are kept, want 150", rows)
		}
		if got := readSums(b); got.Received < records {
			t.Errorf("the page counts %+v, want %d received at least", got, records)
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
		b.Open(d.PageURL)
		b.Until(live)
		const evil = `<img src=x onerror=alert(1)><script>alert(1)</script>`
		publish(t, js, "prices.EVIL.<b>bold</b>", evil)
		publish(t, js, "prices.EVIL.x", `{"<b>name</b>":`+quote(evil)+`}`)
		b.Until(`window.seen.filter((row) => row.subject.startsWith("prices.EVIL")).length === 2`)
		var elements int
		b.Evaluate(&elements, `document.querySelectorAll("main img, main script, main li b:not(#entries *)").length`)
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

// The page is the first that people see of the project, on whatever they have:
// it fits their screens, follows their theme, and asks for neither eyes nor a
// mouse. SSEBRIDGE_TEST_SCREENSHOTS names a directory that keeps the pictures.
func TestPageLooksRightEverywhere(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		b := openBrowser(t, e)
		d := startDemo(t)
		b.Open(d.PageURL)
		b.Until(live)
		shown(b, 100)
		done(b, "kill", func() { b.Click("#kill") })
		done(b, "recreate", func() { b.Click("[data-recreate=prices]") })
		pictures := screenshots
		if pictures == "" {
			pictures = t.TempDir()
		}
		looks := func(moment string) {
			for _, theme := range []string{"light", "dark"} {
				for screen, size := range map[string][2]int{"desktop": {1280, 800}, "tablet": {820, 1180}, "phone": {390, 844}} {
					b.Look(theme, size[0], size[1])
					var wide int
					b.Evaluate(&wide, "document.documentElement.scrollWidth")
					if wide > size[0] {
						t.Errorf("%s, %s, %s: the page is %d wide, want %d", moment, theme, screen, wide, size[0])
					}
					var violations []string
					b.do(&violations, "violations", nil)
					for _, v := range violations {
						t.Errorf("%s, %s, %s: %s", moment, theme, screen, v)
					}
					name := fmt.Sprintf("demo-%s-%s-%s-%s.png", e.name, moment, theme, screen)
					b.do(nil, "screenshot", map[string]any{"path": filepath.Join(pictures, name), "fullPage": true})
				}
			}
		}
		looks("calm")
		b.Look("light", 1280, 800)
		takeDown(b)
		looks("down")
		checkPage(t, b)
	})
}

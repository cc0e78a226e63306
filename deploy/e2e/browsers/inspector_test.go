//go:build unix

package browsers

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// inspectEach runs a test with an inspector in every browser.
func inspectEach(t *testing.T, test func(t *testing.T, i *inspection), settings ...string) {
	each(t, func(t *testing.T, e engine) {
		i := inspect(t, e, settings...)
		test(t, i)
		i.Sound()
	})
}

// Somebody who knows no subject chooses one from those that are there, with the
// keyboard alone, and gets it and nothing else.
func TestInspectorCompletesSubjects(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.Publish("orders.eu.1", `{"n":1}`)
		i.Publish("orders.eu.2", `{"n":1}`)
		i.Publish("orders.us.1", `{"n":1}`)
		i.VisitLive("")
		i.Press("s")
		i.Until(`!document.querySelector("#offers").hidden`)
		i.do(nil, "write", map[string]any{"text": "ord"})
		i.Until(`document.querySelectorAll("#offers li").length >= 4`)
		var offers []string
		i.Evaluate(&offers, `[...document.querySelectorAll("#offers .text")].map((offer) => offer.textContent)`)
		if want := []string{"orders.>", "orders.eu.>", "orders.eu.1", "orders.eu.2", "orders.us.1"}; !slices.Equal(offers, want) {
			t.Errorf("offers %q, want %q", offers, want)
		}
		i.Photograph("")
		i.Press("ArrowDown")
		i.Press("ArrowDown")
		i.Press("Enter")
		if got := i.Value("#subjects"); got != "orders.eu.> " {
			t.Errorf("the field holds %q, want the pattern that was chosen", got)
		}
		i.Press("Enter")
		i.Until(`location.search === "?subject=orders.eu.%3E"`)
		i.Live()
		i.Publish("orders.us.1", `{"n":"other"}`)
		i.Publish("orders.eu.2", `{"n":"chosen"}`)
		i.Shown(`"chosen"`)
		if told := records(i.Told(0), "orders"); len(told) != 1 || told[0].Subject != "orders.eu.2" {
			t.Errorf("got %+v, want the record of orders.eu.2 only", told)
		}
	})
}

// A stream is chosen by one press, and what has no chance to match is said to be
// wrong before anything is asked.
func TestInspectorChoosesStreams(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("")
		i.Click(`#streams [data-stream="prices"]`)
		i.Type("#subjects", "a..b")
		i.Until(`!document.querySelector("#fault").hidden`)
		i.Photograph("fault")
		i.Type("#subjects", ">")
		i.Live()
		i.Until(`location.search.includes("stream=prices")`)
		i.Publish("orders.1", `{"of":"orders"}`)
		i.Publish("prices.1", `{"of":"prices"}`)
		i.UntilRecord("prices", 1)
		if n := len(records(i.Told(0), "orders")); n != 0 {
			t.Errorf("%d records of orders, which was not chosen", n)
		}
		i.Photograph("")
	})
}

// Where to begin, and in which form, is a choice; the page says what a record is
// even where the form does not, by its event id.
func TestInspectorStartsWhereToldInTheFormatTold(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.Many("prices.ACME", 50)
		i.VisitLive("")
		i.Select("#start", "all")
		i.Select("#format", "data")
		i.Click("#connect")
		i.Until(`location.search === "?start=all&format=data"`)
		i.UntilKind("caught-up")
		i.UntilRecord("prices", 50)
		told := i.Told(0)
		wantRun(t, told, "prices", 1, 50)
		if last := told[len(told)-1]; last.Name == "message" && last.Text != `{"n":50}` {
			t.Errorf("text %q, want the payload alone", last.Text)
		}
		i.Until(`[...document.querySelectorAll("#rows .lag")].some((lag) => lag.textContent !== "")`) // by the proof
		i.Photograph("")
	})
}

// A crash of the bridge is seen on the timeline, and nowhere else: every record
// comes once.
func TestInspectorComesBackExactlyAfterACrash(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("?subject=prices.>")
		i.Many("prices.ACME", 100)
		i.UntilRecord("prices", 100)
		for round := range 3 {
			i.Kill()
			i.UntilKind("problem")
			i.Until(`document.body.dataset.state === "waiting" || document.body.dataset.state === "connecting"`)
			i.Many("prices.ACME", 100)
			if round == 0 {
				i.Photograph("away")
			}
			i.Start()
			i.UntilRecord("prices", 200+100*round)
		}
		wantRun(t, i.Told(0), "prices", 1, 400)
		var verdicts []string
		i.Evaluate(&verdicts, `[...document.querySelectorAll('#timeline [data-kind="verdict"] .what')].map((entry) => entry.firstChild.textContent)`)
		if !slices.Equal(verdicts, []string{"verdict exact", "verdict exact", "verdict exact", "verdict new"}) {
			t.Errorf("verdicts %q, want new and three times exact, the newest first", verdicts)
		}
		i.UntilKind("end")
		i.Photograph("")
	})
}

// Silence and a dead connection look alike, unless heartbeats are shown. The
// server's own goodbye is told with its reason.
func TestInspectorShowsHeartbeatsAndGoodbyes(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("")
		i.Until(`/[2-9] times/.test(document.querySelector('#timeline [data-kind="heartbeat"]')?.textContent ?? "")`)
		i.Until(`document.querySelector("#strip .heartbeat") !== null`)
		i.Photograph("")
		i.UntilKind("closing") // by MAX_AGE
		var said string
		i.Evaluate(&said, `document.querySelector('#timeline [data-kind="closing"]').textContent`)
		if !strings.Contains(said, "max-age") {
			t.Errorf("the timeline says %q, want the reason max-age", said)
		}
		i.Until(`[...document.querySelectorAll('#timeline [data-kind="verdict"]')].some((entry) => entry.textContent.includes("exact"))`)
	}, "HEARTBEAT=1s", "MAX_AGE=6s")
}

// What a record holds is shown as it was written: no digit is lost to JavaScript,
// and the id is told in numbers.
func TestInspectorShowsARecordWhole(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("")
		const payload = `{"id":12345678901234567890,"price":7.50,"list":[1e400,{"a":null,"a":true}],"text":"é\u00e9\n"}`
		if _, err := i.Broker.PublishMsg(t.Context(), &natsgo.Msg{Subject: "orders.eu.1", Data: []byte(payload), Header: natsgo.Header{"Region": {"eu", "west"}}}); err != nil {
			t.Fatal(err)
		}
		i.Choose("12345678901234567890")
		const want = `{
  "id": 12345678901234567890,
  "price": 7.50,
  "list": [
    1e400,
    {
      "a": null,
      "a": true
    }
  ],
  "text": "é\u00e9\n"
}`
		if got := i.Text("#payload"); got != want {
			t.Errorf("payload %s, want %s", got, want)
		}
		detail := i.Text("#detail")
		for _, part := range []string{"Region", "eu", "west", "partition 0, offset 1", "orders0:2"} {
			if !strings.Contains(strings.ReplaceAll(detail, i.incarnation(), ""), part) {
				t.Errorf("the panel does not say %q: %s", part, detail)
			}
		}
		i.Photograph("")
		i.Press("Escape")
		i.Until(`document.querySelector("#detail").hidden && document.activeElement.id === "grid"`)
	})
}

// incarnation is that of the first stream in the panel.
func (i *inspection) incarnation() string {
	return i.Text("#id-decoded tbody td:nth-child(2)")
}

// Who reads further up must not be moved, however much comes below; and gets back
// to the newest with one press.
func TestInspectorScrollsByItselfUntilSomebodyReads(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		const atEnd = `(() => { const g = document.querySelector("#grid"); return g.scrollHeight - g.scrollTop - g.clientHeight < 30; })()`
		i.VisitLive("?subject=prices.>")
		i.Many("prices.ACME", 500)
		i.UntilRecord("prices", 500)
		i.Until(atEnd)
		i.do(nil, "wheel", map[string]any{"selector": "#grid", "by": -2000})
		i.Until(`document.querySelector("#autoscroll").getAttribute("aria-pressed") === "false"`)
		i.Until(`!(` + atEnd + `)`)
		const first = `document.elementFromPoint(document.querySelector("#grid").getBoundingClientRect().left + 200, document.querySelector("#grid").getBoundingClientRect().top + 100).closest(".line").dataset.n`
		i.Still()
		var before, after string
		i.Evaluate(&before, first)
		i.Many("prices.ACME", 500)
		i.UntilRecord("prices", 1000)
		i.Until(`document.querySelector("#newest").textContent.startsWith("500 newer")`)
		i.Evaluate(&after, first)
		if before != after {
			t.Errorf("row %s moved away, row %s is there now", before, after)
		}
		i.Photograph("")
		i.Click("#autoscroll")
		i.Until(atEnd)
		i.Until(`document.querySelector("#autoscroll").getAttribute("aria-pressed") === "true" && document.querySelector("#newest").hidden`)
	})
}

// Still waits until the rows do not move any more: a wheel scrolls smoothly.
func (i *inspection) Still() {
	i.t.Helper()
	i.Until(`(() => { const at = document.querySelector("#grid").scrollTop; const same = at === window.stillAt; window.stillAt = at; return same; })()`)
}

// A pause keeps what comes, and nothing is lost or comes twice.
func TestInspectorPausesWithoutLosing(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("?subject=prices.>")
		i.Many("prices.ACME", 20)
		i.UntilRecord("prices", 20)
		i.Click("#pause")
		i.Until(`document.body.dataset.state === "paused"`)
		i.Many("prices.ACME", 300)
		i.Until(`document.body.dataset.waiting === "300"`)
		if n := len(records(i.Told(0), "prices")); n != 20 {
			t.Errorf("%d rows while paused, want 20", n)
		}
		i.Photograph("")
		i.Click("#pause")
		i.UntilRecord("prices", 320)
		wantRun(t, i.Told(0), "prices", 1, 320)
	})
}

// A pause over lunch must not fill the memory: beyond a bound the page
// disconnects, and goes on at exactly that place.
func TestInspectorPausesForAnyTime(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("?subject=prices.>&format=data")
		i.Click("#pause")
		i.Until(`document.body.dataset.state === "paused"`)
		i.Many("prices.ACME", 24_000)
		i.Until(`document.querySelector('#timeline [data-kind="pause"]').textContent.includes("disconnected while paused")`)
		i.Until(`document.body.dataset.waiting === "20000"`)
		i.Photograph("")
		i.Click("#pause")
		i.UntilRecord("prices", 24_000)
		wantRun(t, i.Told(0), "prices", 1, 24_000)
	})
}

// One row among thousands is found by what it says.
func TestInspectorSearchesRows(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("?subject=orders.>")
		i.Many("orders.eu.1", 3000)
		i.Publish("orders.us.7", `{"needle":"Found"}`, `{"needle":"other"}`)
		i.UntilRecord("orders", 3002)
		i.Press("/")
		i.do(nil, "write", map[string]any{"text": "US.7 found"})
		i.Until(`document.querySelector("#matches").textContent.startsWith("1 of 3,0")`)
		i.Until(`document.querySelectorAll("#rows .line:not([hidden])").length === 1`)
		var marked []string
		i.Evaluate(&marked, `[...document.querySelectorAll("#rows .line:not([hidden]) mark")].map((mark) => mark.textContent)`)
		if !slices.Equal(marked, []string{"us.7", "Found"}) {
			t.Errorf("marked %q, want what was searched for", marked)
		}
		i.Publish("orders.us.7", `{"needle":"found later"}`)
		i.Until(`document.querySelectorAll("#rows .line:not([hidden])").length === 2`)
		i.Until(`location.search.includes("q=US.7+found")`)
		i.Photograph("")
		i.Type("#search", "nowhere-to-be-seen")
		i.Until(`document.querySelector("#empty").dataset.kind === "unmatched"`)
		i.Photograph("nothing")
		i.Click("#empty button")
		i.Until(`document.querySelector("#matches").textContent === "" && document.querySelectorAll("#rows .line:not([hidden])").length > 10`)
	})
}

// A loss that is told must not be overlooked.
func TestInspectorShowsLossesInRed(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("")
		i.Many("prices.ACME", 40)
		i.Many("orders.eu.1", 10)
		i.UntilRecord("prices", 40)
		i.UntilRecord("orders", 10)
		i.Click("#disconnect")
		i.Until(`document.body.dataset.state === "idle"`)
		i.Many("prices.ACME", 40)
		stream, err := i.Broker.Stream(t.Context(), "PRICES")
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Purge(t.Context(), jetstream.WithPurgeKeep(5)); err != nil {
			t.Fatal(err)
		}
		if err := i.Broker.DeleteStream(t.Context(), "ORDERS"); err != nil {
			t.Fatal(err)
		}
		i.MakeStream("ORDERS")
		i.Many("orders.eu.2", 3)
		i.Click("#disconnect") // which connects again now
		i.Until(`document.body.dataset.verdict === "reset"`)
		i.UntilRecord("prices", 80)
		i.Until(`window.told.some((event) => event.subject === "orders.eu.2")`)
		told := i.Told(0)
		gap := slices.IndexFunc(told, func(e toldEvent) bool { return e.Name == "gap" })
		reset := slices.IndexFunc(told, func(e toldEvent) bool { return e.Name == "reset" })
		if gap < 0 || reset < 0 || told[gap].Stream != "prices" || told[reset].Stream != "orders" {
			t.Errorf("gap %d and reset %d of %d events, want one each, of prices and orders", gap, reset, len(told))
		}
		i.UntilKind("gap")
		i.UntilKind("reset")
		i.Until(`document.querySelectorAll('#rows .line:not([hidden]):is([data-name="gap"], [data-name="reset"])').length === 2`)
		var colours []string
		i.Evaluate(&colours, `[...document.querySelectorAll('#rows .line:not([hidden]):is([data-name="gap"], [data-name="reset"])')].map((line) => {
			const bad = document.createElement("p");
			bad.className = "hint bad";
			document.body.append(bad);
			const red = getComputedStyle(bad).color;
			bad.remove();
			return String(getComputedStyle(line.querySelector(".payload")).color === red && getComputedStyle(line).backgroundColor !== "rgba(0, 0, 0, 0)");
		})`)
		if !slices.Equal(colours, []string{"true", "true"}) {
			t.Errorf("in red: %q", colours)
		}
		i.Photograph("")
	})
}

// From any row the stream is read anew, exactly from there.
func TestInspectorResumesFromARow(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("?subject=prices.>")
		i.Many("prices.ACME", 30)
		i.UntilRecord("prices", 30)
		i.Choose(`{"n":20}`)
		before := len(i.Told(0))
		i.Click("#resume-here")
		i.Until(fmt.Sprintf(`window.told.slice(%d).some((event) => event.offset === 30)`, before))
		wantRun(t, i.Told(before), "prices", 21, 30)
		if got := i.dataset("verdict"); got != "exact" {
			t.Errorf("verdict %q, want exact", got)
		}
		const places = `[...document.querySelectorAll("#rows .line:not([hidden]):not(.control)")].sort((a, b) => a.dataset.n - b.dataset.n).map((line) => line.querySelector(".place").textContent)`
		i.Until(places + `.at(-1) === "0:30"`)
		var offsets []string // of the rows that are kept: one history, without the end that was read before
		i.Evaluate(&offsets, places)
		if len(offsets) < 10 || offsets[len(offsets)-1] != "0:30" || !slices.IsSortedFunc(offsets, func(a, b string) int { return len(a) - len(b) }) {
			t.Errorf("places %q, want them to end with 0:30 and none twice", offsets)
		}
		slices.Sort(offsets)
		if len(slices.Compact(offsets)) != len(offsets) {
			t.Errorf("a place is there twice: %q", offsets)
		}
		i.Until(`location.search.includes("lastEventId=1%7Eprices")`)
		i.Photograph("")
	})
}

func (i *inspection) dataset(name string) string {
	i.t.Helper()
	var value string
	i.Evaluate(&value, `document.body.dataset.`+name)
	return value
}

// What is seen can be taken along, as a command and as code, and both work. A
// token stays where it is.
func TestInspectorGivesCode(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("?subject=prices.>&format=data")
		i.Publish("prices.ACME", `{"n":1}`)
		i.Choose(`{"n":1}`)
		i.Press("y")
		i.Until(`document.querySelector("#code-dialog").open`)
		var id string
		i.Evaluate(&id, `window.told.at(-1).id`)
		want := "curl -gN -H 'Last-Event-ID: " + id + "' '" + i.AdminURL + "/events?subject=prices.%3E&format=data'"
		command, code := i.Text("#curl-text"), i.Text("#source-text")
		if command != want {
			t.Errorf("command %s, want %s", command, want)
		}
		i.Photograph("")
		i.Publish("prices.ACME", `{"n":2}`)
		if line := firstData(t, command); line != `data: {"n":2}` {
			t.Errorf("the command prints %q, want what is behind the row", line)
		}
		i.Evaluate(nil, `window.logged = []; console.log = (...values) => window.logged.push(values.map(String))`)
		i.Evaluate(nil, code)
		i.Until(`window.logged.some(([name, id, data]) => name === "message" && data === '{"n":2}')`)
		i.Until(`window.logged.some(([name]) => name === "connected")`)
		i.Evaluate(nil, "source.close()")
		// Records may make up any number of names.
		i.VisitLive("?stream=orders")
		for n := range 120 {
			m := &natsgo.Msg{Subject: "orders.eu", Data: []byte("{}"), Header: natsgo.Header{"Kind": {fmt.Sprint("kind", n)}}}
			if _, err := i.Broker.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		i.UntilRecord("orders", 120)
		i.Press("y")
		if n := strings.Count(i.Text("#source-text"), `"kind`); n < 90 || n > 100 {
			t.Errorf("%d names of events in the code, want the first 100", n)
		}
		// A typed address may have braces, of which curl would make two.
		i.Visit("?url=" + url.QueryEscape("/events/{orders,prices}?subject=prices.[1-3]&start=all"))
		i.Until(`document.body.dataset.state === "refused"`)
		i.Evaluate(nil, `document.querySelector("#code").click()`)
		answer, err := exec.CommandContext(t.Context(), "sh", "-c", i.Text("#curl-text")).Output()
		if err != nil || strings.Count(string(answer), `"status"`) != 1 {
			t.Errorf("the command prints %q, %v, want the one answer that the page got", answer, err)
		}
		// A token in an address that was typed goes to the server, and nowhere else.
		i.Visit("?url=" + url.QueryEscape("/events?access_token=s3cret"))
		i.Until(`document.body.dataset.state === "refused"`) // the bridge knows no such parameter
		i.Evaluate(nil, `document.querySelector("#code").click()`)
		var shown string
		i.Evaluate(&shown, `location.href + document.querySelector("#curl-text").textContent + document.querySelector("#source-text").textContent`)
		if strings.Contains(shown, "s3cret") || strings.Count(shown, "REDACTED") != 3 {
			t.Errorf("the token is shown: %s", shown)
		}
	}, "STREAM_ORDERS_EVENT={header.Kind}")
}

// firstData runs a shell command, with more variables, and returns the first data
// line of a record that it prints, or none if it ends before.
func firstData(t *testing.T, command string, env ...string) string {
	t.Helper()
	need(t, "apt-get install curl", "curl")
	ctx, stop := context.WithTimeout(t.Context(), patienceSeconds*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+command)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stop()
		_ = cmd.Wait() // it was stopped
	}()
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		if strings.HasPrefix(scan.Text(), `data: {"n"`) {
			return scan.Text()
		}
	}
	return ""
}

// Any event stream of the origin can be looked at, and what is none says why.
func TestInspectorOpensAnyAddress(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.Many("prices.ACME", 5)
		i.VisitLive("")
		i.Click("#from-url")
		i.Type("#url", "/events/prices?start=all")
		i.Live()
		i.UntilRecord("prices", 5)
		i.Photograph("")
		for address, want := range map[string]string{
			"/events?subject=a..b":      "bad-subject",
			"/streams":                  "not an event stream",
			"/events?start=yesterday":   "bad-parameter",
			"/nowhere":                  "404",
			"/events?subject=nothing.>": "no-stream",
			"/events?start=100%":        "bad-query",
			"/events?subject=%ff":       "bad-subject",
		} {
			i.Type("#url", address)
			i.Until(`document.body.dataset.state === "refused"`)
			i.Until(fmt.Sprintf(`document.querySelector("#empty").textContent.includes(%s)`, quote(want)))
			if address == "/events?subject=a..b" {
				i.Photograph("refused")
			}
		}
		i.Visit("?url=" + url.QueryEscape("/events?start=100%")) // the page begins with it
		i.Until(`document.body.dataset.state === "refused"`)
		i.Click("#from-url")
		i.Type("#url", "https://evil.example/events")
		i.Until(`document.querySelector("#fault").textContent.includes("only addresses that begin with")`)
	})
}

// Hands stay on the keyboard.
func TestInspectorIsDrivenByKeys(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("?subject=prices.>")
		i.Many("prices.ACME", 40)
		i.UntilRecord("prices", 40)
		i.Evaluate(nil, `document.querySelector("#grid").focus()`)
		selected := func(text string) {
			t.Helper()
			i.Until(fmt.Sprintf(`(() => {
				const active = document.querySelector("#grid").getAttribute("aria-activedescendant");
				return active !== null && document.getElementById(active).textContent.includes(%s) && document.getElementById(active).getAttribute("aria-selected") === "true";
			})()`, quote(text)))
		}
		i.Press("k")
		selected(`{"n":40}`)
		i.Press("k")
		i.Press("ArrowUp")
		selected(`{"n":38}`)
		i.Press("j")
		selected(`{"n":39}`)
		i.Press("Enter")
		i.Until(`!document.querySelector("#detail").hidden`)
		i.Press("j")
		i.Until(`document.querySelector("#payload").textContent.includes("40")`)
		i.Press("g")
		selected("resume new")
		i.Press("Escape")
		i.Until(`document.querySelector("#detail").hidden`)
		i.Press("?")
		i.Until(`document.querySelector("#help-dialog").open`)
		i.Photograph("")
		i.Press("Escape")
		i.Until(`!document.querySelector("#help-dialog").open`)
		i.Evaluate(nil, `document.querySelector("#grid").focus()`)
		i.Press(" ")
		i.Until(`document.body.dataset.state === "paused"`)
		i.Press(" ")
		i.Until(`document.body.dataset.state === "live"`)
		i.Press("c")
		i.Until(`document.body.dataset.rows === "0"`)
		i.Press("a")
		i.Until(`document.querySelector("#autoscroll").getAttribute("aria-pressed") === "false"`)
		i.Click("#help")
		i.Click("#keys") // whoever speaks to the machine turns them off
		i.Press("Escape")
		i.Evaluate(nil, `document.querySelector("#grid").focus()`)
		i.Press("a")
		i.Press("ArrowDown")
		i.Until(`document.querySelector("#autoscroll").getAttribute("aria-pressed") === "false"`)
		i.Evaluate(nil, `localStorage.clear()`)
	})
}

// The theme is the system's until another one is chosen, which holds.
func TestInspectorKeepsTheTheme(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("")
		background := func() (rgb string) {
			i.Evaluate(&rgb, `getComputedStyle(document.body).backgroundColor`)
			return rgb
		}
		before := background()
		i.Click("#theme")
		if background() == before {
			t.Error("the theme did not change")
		}
		chosen := background()
		i.Photograph("")
		i.VisitLive("")
		if background() != chosen {
			t.Error("the theme was forgotten")
		}
		i.Evaluate(nil, `localStorage.clear()`)
	})
}

// Which subjects make the traffic is seen at a glance, and one press away.
func TestInspectorChartsSubjects(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("?subject=prices.>")
		i.Until(`!document.querySelector("#rate-nothing").hidden`)
		for n := range 7 {
			i.Many(fmt.Sprintf("prices.S%d", n), 10*(7-n))
		}
		i.Until(`document.querySelectorAll("#chart .entry").length === 6`)
		var names []string
		i.Evaluate(&names, `[...document.querySelectorAll("#chart .name")].map((name) => name.textContent)`)
		if !slices.Equal(names, []string{"prices.S0", "prices.S1", "prices.S2", "prices.S3", "prices.S4", "2 more"}) {
			t.Errorf("the chart names %q", names)
		}
		i.Photograph("")
		i.Click("#chart .entry")
		i.Until(`document.querySelector("#search").value === "prices.S0" && document.querySelector("#matches").textContent.startsWith("70 of")`)
	})
}

// Beyond loopback the page asks for the token, keeps it nowhere, and forgets the
// login when told.
func TestInspectorAsksForTheToken(t *testing.T) {
	secret := secrettest.New("inspector")
	inspectEach(t, func(t *testing.T, i *inspection) {
		// A name that is not this machine's, as behind a proxy: the listener's own
		// loopback address would need no token.
		base := strings.Replace(i.AdminURL, "127.0.0.1", "inspector.localhost", 1)
		i.Open(base + "/inspector/?subject=prices.>&format=data")
		i.Until(`document.body.dataset.state === "locked" && document.querySelector("#login-dialog").open`)
		i.Photograph("")
		i.Type("#token", "wrong")
		i.Until(`document.querySelector("#login-fault").textContent.includes("not the token")`)
		i.Press("Escape")
		i.Until(`document.querySelector("#login-dialog").open`)
		i.Type("#token", secret)
		i.Live()
		i.Publish("prices.ACME", `{"n":1}`)
		i.Shown(`{"n":1}`)
		var kept bool
		i.Evaluate(&kept, `[document.documentElement.outerHTML, document.cookie, location.href, JSON.stringify({...localStorage}), JSON.stringify({...sessionStorage}), document.querySelector("#token").value].some((text) => text.includes("`+secret+`"))`)
		if kept {
			t.Error("the page has the token")
		}
		// What is taken along has no token in it, and works where there is one.
		i.Press("y")
		i.Until(`document.querySelector("#code-dialog").open`)
		command := i.Text("#curl-text")
		secrettest.Check(t, "the command", command)
		if !strings.Contains(i.Text("#code-token"), "SSEBRIDGE_ADMIN_TOKEN") {
			t.Errorf("the dialog says of the token %q", i.Text("#code-token"))
		}
		i.Photograph("code")
		i.Press("Escape")
		command = strings.Replace(command, "/events?", "/events?start=all&", 1)
		for token, want := range map[string]string{secret: `data: {"n":1}`, "wrong": ""} {
			if line := firstData(t, command, "SSEBRIDGE_ADMIN_TOKEN="+token); line != want {
				t.Errorf("the command prints %q, want %q", line, want)
			}
		}
		// A login that ends ends at the position, as any connection does.
		i.Evaluate(nil, `fetch("logout", {method: "POST"}).then(() => null)`)
		i.Click("#disconnect")
		i.Publish("prices.ACME", `{"n":2}`)
		i.Click("#disconnect")
		i.Until(`document.body.dataset.state === "locked" && document.querySelector("#login-dialog").open`)
		i.Type("#token", secret)
		i.UntilRecord("prices", 2)
		wantRun(t, i.Told(0), "prices", 1, 2)
		i.Shown(`{"n":1}`) // what was seen stays
		// The login holds.
		i.Open(base + "/inspector/")
		i.Live()
		i.Click("#logout")
		i.Until(`document.body?.dataset.state === "locked"`) // the page is loaded again
	}, "ADMIN_TOKEN="+secret)
}

// On a phone there is room for one thing at a time.
func TestInspectorFitsAPhone(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.do(nil, "size", map[string]any{"width": 390, "height": 844})
		i.VisitLive("?subject=prices.>")
		i.Many("prices.ACME", 60)
		i.Publish("prices.A-RATHER-LONG-NAME-OF-A-SUBJECT.that-goes-on.and-on.and-on", `{"text":"`+strings.Repeat("long ", 100)+`"}`)
		i.Many("prices.ACME", 3)
		i.UntilRecord("prices", 64)
		fits := func(what string) {
			t.Helper()
			i.Photograph(what)
			var wide []string
			i.Evaluate(&wide, `[...document.querySelectorAll("body *")].filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll, svg, .hidden, #say")).map((element) => element.outerHTML.slice(0, 100))`)
			if len(wide) > 0 {
				t.Errorf("%s: beyond the edge: %q", what, wide)
			}
		}
		fits("events")
		i.Choose("long long")
		fits("detail")
		i.Click("#detail header button")
		i.Click(`#views [data-view="rate"]`)
		i.Until(`document.querySelectorAll("#chart .entry").length === 2`)
		fits("rate")
		i.Click(`#views [data-view="connection"]`)
		fits("connection")
		i.Click("#edit")
		i.Click("#subjects")
		i.Until(`!document.querySelector("#offers").hidden`)
		fits("query")
	})
}

// Nothing to see is explained, and there is something to do about it.
func TestInspectorExplainsSilence(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.Many("prices.ACME", 25)
		i.VisitLive("?subject=prices.>")
		i.Until(`document.querySelector("#empty").dataset.kind === "quiet" && !document.querySelector("#empty").hidden`)
		i.Photograph("")
		i.Click("#empty .choices button:last-child")
		i.UntilRecord("prices", 25)
		wantRun(t, i.Told(0), "prices", 1, 25)
		i.Until(`document.querySelector("#empty").hidden`)
	})
}

// An address can be sent to a colleague, who sees the same.
func TestInspectorAddressSaysWhatIsSeen(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.Many("prices.ACME", 10)
		i.VisitLive("?stream=prices&subject=prices.ACME&start=all&format=data&q=%22n%22%3A7")
		i.Until(`document.querySelector("#matches").textContent.startsWith("1 of")`)
		if got := i.Value("#subjects") + " " + i.Value("#start") + " " + i.Value("#format") + " " + i.Value("#search"); got != `prices.ACME all data "n":7` {
			t.Errorf("the fields hold %q", got)
		}
		i.Photograph("")
	})
}

// Anybody who may publish writes the text of these rows.
func TestInspectorNeverMakesMarkupOfRecords(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.VisitLive("")
		const evil = `<img src=x onerror=alert(1)><script>alert(1)</script>`
		message := &natsgo.Msg{Subject: "orders.<b>bold</b>", Data: []byte(`{"<i>name</i>":` + quote(evil) + `}`), Header: natsgo.Header{"X-Evil": {evil}}}
		if _, err := i.Broker.PublishMsg(t.Context(), message); err != nil {
			t.Fatal(err)
		}
		i.Publish("prices.<s>x</s>", evil)
		i.UntilRecord("orders", 1)
		i.UntilRecord("prices", 1)
		i.Choose("alert(1)")
		i.Type("#search", "<b> <script>")
		i.Until(`document.querySelector("#rows mark") !== null`)
		i.Press("s")
		i.Until(`document.querySelector("#offers").textContent.includes("<b>bold</b>")`)
		i.Until(`document.querySelector("#chart").textContent.includes("<b>bold</b>")`)
		i.Photograph("")
		var elements int
		i.Evaluate(&elements, `document.querySelectorAll("main :is(i:not(.legend i), u, s, script, img), main b:not(#offers b, #total)").length`)
		if elements != 0 {
			t.Errorf("%d elements were made of records", elements)
		}
	})
}

// The page is for everybody: what axe-core checks holds in both themes, on both
// sizes, in every state that can be come to.
func TestInspectorIsAccessible(t *testing.T) {
	sizes := map[string][2]int{"desktop": {1280, 800}, "phone": {390, 844}}
	inspectEach(t, func(t *testing.T, i *inspection) {
		check := func(what string) {
			t.Helper()
			i.Photograph(strings.ReplaceAll(what, " ", "-"))
			var violations []string
			i.do(&violations, "violations", nil)
			for _, v := range violations {
				t.Errorf("%s: %s", what, v)
			}
		}
		i.Many("prices.ACME", 30)
		i.Many("orders.eu.1", 30)
		for _, theme := range []string{"light", "dark"} {
			for _, size := range []string{"desktop", "phone"} {
				i.do(nil, "size", map[string]any{"width": sizes[size][0], "height": sizes[size][1]})
				i.Visit("")
				i.Evaluate(nil, `localStorage.setItem("ssebridge-theme", "`+theme+`")`)
				at := theme + " " + size + " "
				i.VisitLive("")
				i.Until(`document.querySelector("#empty").dataset.kind === "quiet"`)
				check(at + "quiet")
				i.VisitLive("?start=all")
				i.UntilKind("caught-up")
				i.Until(`document.body.dataset.records === "60" && document.querySelector("#rate-nothing").hidden`)
				check(at + "busy")
				i.Choose(`{"n":30}`)
				check(at + "detail")
				i.Press("Escape")
				i.Press("?")
				i.Until(`document.querySelector("#help-dialog").open`)
				check(at + "help")
				i.Press("Escape")
				i.Press("y")
				i.Until(`document.querySelector("#code-dialog").open`)
				check(at + "code")
				i.Press("Escape")
				i.Press("s")
				i.Until(`!document.querySelector("#offers").hidden`)
				i.Press("ArrowDown")
				check(at + "offers")
				i.Press("Escape")
				if size == "phone" {
					for _, view := range []string{"rate", "connection"} {
						i.Click(`#views [data-view="` + view + `"]`)
						i.Until(`document.querySelectorAll("#chart .entry").length === 2`)
						check(at + view)
					}
				}
				i.Visit("?url=/streams")
				i.Until(`document.body.dataset.state === "refused"`)
				check(at + "refused")
			}
		}
		i.Evaluate(nil, `localStorage.clear()`)
	})
}

// By a switch the page is where clients are, and only then.
func TestInspectorIsPublicByASwitchOnly(t *testing.T) {
	inspectEach(t, func(t *testing.T, i *inspection) {
		i.Open(i.PublicURL + "/inspector/?subject=prices.>")
		i.Live()
		i.Publish("prices.ACME", `{"n":1}`)
		i.Shown(`{"n":1}`)
		i.Until(`document.querySelector("#version").textContent.includes("on the listener for clients")`)
		i.Photograph("")
	}, "INSPECTOR=public", "HTTP_PATH=/live")
	e := engines[0]
	t.Run("not", func(t *testing.T) {
		i := inspect(t, e)
		i.Open(i.PublicURL + "/inspector/")
		if !strings.Contains(i.Text("body"), "not-found") {
			t.Errorf("the page is public: %s", i.Text("body"))
		}
	})
}

// Value is what a field holds.
func (i *inspection) Value(selector string) string {
	i.t.Helper()
	var value string
	i.Evaluate(&value, "document.querySelector("+quote(selector)+").value")
	return value
}

// Select chooses an entry of a select element.
func (i *inspection) Select(selector, value string) {
	i.t.Helper()
	i.Evaluate(nil, fmt.Sprintf(`(() => {
		const field = document.querySelector(%s);
		field.value = %s;
		field.dispatchEvent(new Event("change", { bubbles: true }));
	})()`, quote(selector), quote(value)))
}

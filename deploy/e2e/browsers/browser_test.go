//go:build unix

package browsers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// engine is a browser that the tests run in.
type engine struct {
	name     string   // what puppeteer calls it
	commands []string // what systems call it
	get      string   // how to get it
}

var engines = []engine{
	{"chrome", []string{"chromium", "chromium-browser", "google-chrome"}, "apt-get install chromium"},
	{"firefox", []string{"firefox-esr", "firefox"}, "apt-get install firefox-esr"},
}

// patienceSeconds bounds every wait for something that must happen.
const patienceSeconds = 60

// browser is a page in a real browser, driven by browser.mjs. Tests use one after
// the other.
type browser struct {
	t   testing.TB // the one that has the page now
	in  io.WriteCloser
	out *bufio.Reader
	cmd *exec.Cmd
}

// row is a row that the page has shown.
type row struct {
	Name, ID, Subject, Text string
	Seq                     uint64 // the record's running number on its subject, 0 if there is none
}

// need returns the path of the first of these commands. Without any, the test is
// skipped, or fails where the environment says that browsers are required.
func need(t testing.TB, get string, commands ...string) string {
	t.Helper()
	for _, command := range commands {
		if path, err := exec.LookPath(command); err == nil {
			return path
		}
	}
	missing(t, strings.Join(commands, " or ")+" is not installed; "+get)
	return ""
}

func missing(t testing.TB, what string) {
	t.Helper()
	required := strings.FieldsFunc(os.Getenv("SSEBRIDGE_TEST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(required, "browser") {
		t.Fatal(what + " (SSEBRIDGE_TEST_REQUIRE asks for browser)")
	}
	t.Skip(what)
}

// running are the browsers that have been started, by engine. They serve all
// tests; TestMain ends them.
var running = map[string]*browser{}

// openBrowser returns a browser with an empty page. If the test fails, a picture
// of the page stays in a temporary directory.
func openBrowser(t testing.TB, e engine) *browser {
	t.Helper()
	b := running[e.name]
	if b == nil {
		b = startBrowser(t, e)
		running[e.name] = b
	}
	b.t = t
	if problem := b.ask(nil, "page", nil); problem != "" {
		b.Close()
		delete(running, e.name)
		t.Fatalf("open a page in %s: %s", e.name, problem)
	}
	t.Cleanup(func() {
		if t.Failed() {
			b.photograph()
		}
	})
	return b
}

// startBrowser starts the browser of an engine.
func startBrowser(t testing.TB, e engine) *browser {
	t.Helper()
	node := need(t, "apt-get install nodejs npm (18 or later)", "node")
	path := need(t, e.get, e.commands...)
	if _, err := os.Stat(filepath.Join("..", "node_modules", "puppeteer-core")); err != nil {
		missing(t, "puppeteer-core is not installed; (cd deploy/e2e && npm ci)")
	}
	cmd := exec.Command(node, "browser.mjs", e.name, path) // it serves later tests too, and ends with its input
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20), cmd: cmd}
	var version string
	b.do(&version, "version", nil)
	t.Log(version)
	return b
}

// Close ends the browser and waits for it.
func (b *browser) Close() {
	_ = b.in.Close()
	_ = b.cmd.Wait() // if it has failed, a test has said so
}

// ask sends one command and returns its answer.
func (b *browser) ask(value any, command string, options map[string]any) (problem string) {
	request := map[string]any{"do": command}
	maps.Copy(request, options)
	line, err := json.Marshal(request)
	if err != nil {
		return err.Error()
	}
	if _, err := b.in.Write(append(line, '\n')); err != nil {
		return err.Error()
	}
	line, err = b.out.ReadBytes('\n')
	if err != nil {
		return "browser driver has ended: " + err.Error()
	}
	answer := struct {
		Value any
		Error string
	}{Value: value}
	if err := json.Unmarshal(line, &answer); err != nil {
		return err.Error()
	}
	return answer.Error
}

// do is ask for commands that must succeed.
func (b *browser) do(value any, command string, options map[string]any) {
	b.t.Helper()
	if problem := b.ask(value, command, options); problem != "" {
		b.t.Fatal(secrettest.Hide(fmt.Sprintf("%s %v: %s", command, options, problem)))
	}
}

func (b *browser) Open(url string) {
	b.t.Helper()
	b.do(nil, "open", map[string]any{"url": url})
}

func (b *browser) Click(selector string) {
	b.t.Helper()
	b.do(nil, "click", map[string]any{"selector": selector})
}

// Type replaces the text of a field and presses Enter.
func (b *browser) Type(selector, text string) {
	b.t.Helper()
	b.do(nil, "type", map[string]any{"selector": selector, "text": text})
}

// Press presses a key, by the name that JavaScript has for it.
func (b *browser) Press(key string) {
	b.t.Helper()
	b.do(nil, "press", map[string]any{"key": key})
}

// Until waits until a JavaScript expression is true in the page.
func (b *browser) Until(script string) {
	b.t.Helper()
	b.do(nil, "until", map[string]any{"script": script, "seconds": patienceSeconds})
}

// Evaluate puts the value of a JavaScript expression into value.
func (b *browser) Evaluate(value any, script string) {
	b.t.Helper()
	b.do(value, "evaluate", map[string]any{"script": script})
}

// Text returns the text of an element.
func (b *browser) Text(selector string) string {
	b.t.Helper()
	var text string
	b.Evaluate(&text, "document.querySelector("+quote(selector)+").textContent")
	return text
}

// Rows returns every row that the page has shown since it was opened, from one
// on.
func (b *browser) Rows(from int) []row {
	b.t.Helper()
	var rows []row
	b.do(&rows, "rows", map[string]any{"from": from})
	return rows
}

// Problems returns the errors of the page's own code.
func (b *browser) Problems() []string {
	b.t.Helper()
	var problems []string
	b.do(&problems, "problems", nil)
	return problems
}

// Look puts the page into light or dark, on a screen of this size, and waits until
// it looks so.
func (b *browser) Look(theme string, width, height int) {
	b.t.Helper()
	b.do(nil, "size", map[string]any{"width": width, "height": height})
	// Firefox cannot be told what the system prefers; the page can insist.
	if problem := b.ask(nil, "scheme", map[string]any{"scheme": theme}); problem != "" {
		b.Evaluate(nil, "document.documentElement.dataset.theme = "+quote(theme))
	}
	b.Until(`new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`)
	b.do(nil, "still", nil)
}

// photograph keeps a picture of the page, if there still is one.
func (b *browser) photograph() {
	dir, err := os.MkdirTemp("", "ssebridge-e2e-")
	if err != nil {
		b.t.Log(err)
		return
	}
	path := filepath.Join(dir, "page.png")
	if problem := b.ask(nil, "screenshot", map[string]any{"path": path}); problem != "" {
		b.t.Logf("no picture: %s", problem)
		return
	}
	b.t.Logf("the page at the end: %s", path)
}

func quote(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return `""`
	}
	return string(quoted)
}

//go:build unix

package browsers

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// inspection is a bridge process on an embedded broker, and a browser that has its
// inspector open.
type inspection struct {
	*browser

	Broker    jetstream.JetStream
	AdminURL  string // of the admin listener
	PublicURL string // of the listener for clients

	t   testing.TB
	env []string
	cmd *exec.Cmd
	log *strings.Builder // of every life of the bridge
	got chan struct{}    // closed when all of the log is in it
}

// inspect starts a broker with the streams orders and prices, a bridge, and the
// inspector in a browser. settings are SSEBRIDGE_* variables without the prefix.
// The page is opened by Visit.
func inspect(t testing.TB, e engine, settings ...string) *inspection {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	server := natstest.Embedded(t)
	i := &inspection{t: t, browser: openBrowser(t, e), Broker: connect(t, server.URL), log: new(strings.Builder)}
	for _, name := range []string{"ORDERS", "PRICES"} {
		i.MakeStream(name)
	}
	public, private := ownAddress(t), ownAddress(t) // the same again after a restart
	i.PublicURL, i.AdminURL = "http://"+public, "http://"+private
	values := map[string]string{
		"STREAMS": "orders=nats:ORDERS,prices=nats:PRICES", "NATS_URL": server.URL, "AUTH": "none", "LOG_FORMAT": "text",
		"HTTP_LISTEN": public, "ADMIN_LISTEN": private, "RETRY": "200ms", "DRAIN": "200ms", "READY": "sources", "MAX_CONNECTS_PER_SECOND": "0",
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		values[name] = value
	}
	for name, value := range values {
		i.env = append(i.env, "SSEBRIDGE_"+name+"="+value)
	}
	t.Cleanup(func() {
		i.Kill()
		secrettest.Check(t, "what the bridge printed", i.log.String())
		if t.Failed() {
			t.Logf("log of the bridge:\n%s", secrettest.Hide(i.log.String()))
		}
	})
	i.Start()
	return i
}

func connect(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	conn, err := natsgo.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// MakeStream makes a stream, with the subjects that its name begins in lower case.
func (i *inspection) MakeStream(name string) {
	i.t.Helper()
	if _, err := i.Broker.CreateStream(context.Background(), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name) + ".>"}, AllowDirect: true}); err != nil {
		i.t.Fatal(err)
	}
}

// Start starts the bridge and waits until it has read each stream once. That it
// says itself that it listens shows that the addresses are its own.
func (i *inspection) Start() {
	i.t.Helper()
	cmd := exec.Command(filepath.Join(programs, "ssebridge")) // ends with the test, or is killed in it
	cmd.Env, cmd.SysProcAttr = i.env, dieWithTest()
	read, write, err := os.Pipe()
	if err != nil {
		i.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	write.Close()
	listening := make(chan struct{})
	i.cmd, i.got = cmd, make(chan struct{})
	go func(log *strings.Builder, got chan struct{}) {
		defer close(got)
		defer read.Close()
		var once sync.Once
		for scan := bufio.NewScanner(read); scan.Scan(); {
			log.WriteString(scan.Text() + "\n")
			if strings.Contains(scan.Text(), "msg=listening") {
				once.Do(func() { close(listening) })
			}
		}
	}(i.log, i.got)
	select {
	case <-listening:
		i.ready()
	case <-i.got:
		i.t.Fatal("the bridge has ended") // its log follows
	case <-time.After(patienceSeconds * time.Second):
		i.t.Fatal("the bridge does not listen")
	}
}

func (i *inspection) ready() {
	i.t.Helper()
	deadline := time.After(patienceSeconds * time.Second)
	for {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, i.AdminURL+"/readyz", http.NoBody)
		if err != nil {
			i.t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			i.t.Fatalf("the bridge is not ready: %v", err)
		}
	}
}

// Kill ends the bridge as a crash does.
func (i *inspection) Kill() {
	if i.cmd == nil {
		return
	}
	_ = i.cmd.Process.Kill()
	_ = i.cmd.Wait() // it was killed
	<-i.got
	i.cmd = nil
}

// Visit opens the inspector with a query, such as "?subject=orders.>".
func (i *inspection) Visit(query string) {
	i.Open(i.AdminURL + "/inspector/" + query)
}

// VisitLive is Visit, and waits until the page is connected and has been told the
// verdict.
func (i *inspection) VisitLive(query string) {
	i.t.Helper()
	i.Visit(query)
	i.Live()
}

// Live waits until the page is connected and has been told the verdict.
func (i *inspection) Live() {
	i.t.Helper()
	i.Until(`document.body.dataset.state === "live" && document.body.dataset.verdict !== ""`)
}

// Publish publishes records and waits until the broker has them.
func (i *inspection) Publish(subject string, payloads ...string) {
	i.t.Helper()
	for _, payload := range payloads {
		if _, err := i.Broker.Publish(i.t.Context(), subject, []byte(payload)); err != nil {
			i.t.Fatal(err)
		}
	}
}

// Many publishes n small records, n of them in flight at a time as far as the
// client goes.
func (i *inspection) Many(subject string, n int) {
	i.t.Helper()
	for k := range n {
		if _, err := i.Broker.PublishAsync(subject, fmt.Appendf(nil, `{"n":%d}`, k+1), jetstream.WithStallWait(patienceSeconds*time.Second)); err != nil {
			i.t.Fatal(err)
		}
	}
	select {
	case <-i.Broker.PublishAsyncComplete():
	case <-time.After(patienceSeconds * time.Second):
		i.t.Fatal("the broker does not confirm what was published")
	}
}

// toldEvent is an event as the page tells it to programs.
type toldEvent struct {
	Name, ID, Stream, Subject, Partition, Text string
	Offset                                     int
}

// Told returns every event that the page has shown, from one on.
func (i *inspection) Told(from int) []toldEvent {
	i.t.Helper()
	var told []toldEvent
	i.do(&told, "told", map[string]any{"from": from})
	return told
}

// Records returns the events that are records of a stream.
func records(told []toldEvent, stream string) []toldEvent {
	var list []toldEvent
	for _, e := range told {
		if e.Stream == stream && e.Offset >= 0 {
			list = append(list, e)
		}
	}
	return list
}

// UntilRecord waits until the page has shown a record of a stream.
func (i *inspection) UntilRecord(stream string, offset int) {
	i.t.Helper()
	i.Until(fmt.Sprintf(`window.told.some((event) => event.stream === %q && event.offset === %d)`, stream, offset))
}

// wantRun fails the test unless the events are records first to last of a stream,
// each once and in order.
func wantRun(t testing.TB, told []toldEvent, stream string, first, last int) {
	t.Helper()
	list := records(told, stream)
	for k, e := range list {
		if e.Offset != first+k {
			t.Fatalf("record %d of %s comes as number %d, want %d", e.Offset, stream, k, first+k)
		}
	}
	if len(list) != last-first+1 {
		t.Errorf("%d records of %s from %d on, want %d", len(list), stream, first, last-first+1)
	}
}

// UntilKind waits for an entry of the timeline.
func (i *inspection) UntilKind(kind string) {
	i.t.Helper()
	i.Until(fmt.Sprintf(`document.querySelector('#timeline [data-kind="%s"]') !== null`, kind))
}

// Shown waits until a row with that text in its payload is on the screen.
func (i *inspection) Shown(text string) {
	i.t.Helper()
	i.Until(fmt.Sprintf(`[...document.querySelectorAll("#rows .line:not([hidden])")].some((line) => line.lastChild.textContent.includes(%s))`, quote(text)))
}

// Choose clicks the row whose payload has that text.
func (i *inspection) Choose(text string) {
	i.t.Helper()
	i.Shown(text)
	i.Evaluate(nil, fmt.Sprintf(`[...document.querySelectorAll("#rows .line:not([hidden])")].find((line) => line.lastChild.textContent.includes(%s)).click()`, quote(text)))
	i.Until(`!document.querySelector("#detail").hidden`)
}

// screenshots is where the pictures of the inspector go; empty: to the test's own
// directory, where they show no more than that they can be taken.
var screenshots = os.Getenv("SSEBRIDGE_TEST_SCREENSHOTS")

// Photograph takes a picture of the page, called for the test and what.
func (i *inspection) Photograph(what string) {
	i.t.Helper()
	dir := screenshots
	if dir == "" {
		dir = i.t.TempDir()
	}
	name := regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(strings.TrimPrefix(i.t.Name(), "TestInspector"), "-")
	if what != "" {
		name += "-" + what
	}
	i.do(nil, "screenshot", map[string]any{"path": filepath.Join(dir, name+".png")})
}

// Sound fails the test if the page's own code broke.
func (i *inspection) Sound() {
	i.t.Helper()
	if problems := i.Problems(); len(problems) > 0 {
		i.t.Errorf("errors in the page: %q", problems)
	}
}

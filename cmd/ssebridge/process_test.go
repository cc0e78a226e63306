//go:build unix

package main_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// addStream makes a stream that takes everything below its name in lower case.
func addStream(t *testing.T, js jetstream.JetStream, name string) {
	t.Helper()
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name) + ".>"}})
	if err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, js jetstream.JetStream, subject, data string) {
	t.Helper()
	if _, err := js.Publish(t.Context(), subject, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// freeAddress returns a loopback address that nobody listens on yet.
func freeAddress(t *testing.T) *net.TCPAddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr)
}

// A pod and its broker start in any order. A bridge that exits without its
// broker, or answers its clients with an error, breaks pages for good.
func TestServesAsSoonAsTheBrokerIsThere(t *testing.T) {
	addr := freeAddress(t)
	p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL=nats://"+addr.String(), "HEARTBEAT=1s")

	if line := p.waitLine("stream waits", addr.String()); line["stream"] != "orders" {
		t.Errorf("the log does not say what is waited for: %v", line)
	}
	for _, base := range []string{p.public, p.admin} {
		for _, probe := range []string{"/livez", "/readyz", "/startupz"} {
			if status, body := get(t, base+probe); status != http.StatusOK {
				t.Errorf("%s%s: %d %s", base, probe, status, body)
			}
		}
	}
	held := p.open("?start=all")

	srv := natstest.Embedded(t, func(o *server.Options) { o.Port = addr.Port })
	js := srv.JS()
	p.waitLine("stream waits", "ORDERS")
	addStream(t, js, "ORDERS")
	publish(t, js, "orders.eu", "first")
	if e := held.next("message"); e.Data != "first" || e.ID == "" {
		t.Errorf("the held connection got %+v, want the first record", e)
	}
	waits := p.logged("stream waits")
	if len(slices.Compact(slices.Clone(waits))) != len(waits) {
		t.Errorf("the same is told again and again: %q", waits)
	}
}

// READY=sources is for those who want no traffic before there is data. It must
// not take the process out of service again when the broker goes away.
func TestReadyWithItsSources(t *testing.T) {
	srv := natstest.Embedded(t)
	p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL="+srv.URL, "READY=sources")
	p.waitLog("stream waits")
	if status, body := get(t, p.admin+"/readyz"); status != http.StatusServiceUnavailable || body != "waiting\n" {
		t.Errorf("without its stream /readyz says %d %q", status, body)
	}
	if status, _ := get(t, p.admin+"/livez"); status != http.StatusOK {
		t.Errorf("without its stream /livez says %d: a restart would not help", status)
	}
	addStream(t, srv.JS(), "ORDERS")
	p.waitLog("stream is read")
	if status, body := get(t, p.public+"/readyz"); status != http.StatusOK {
		t.Errorf("with its stream /readyz says %d %q", status, body)
	}
	srv.Shutdown()
	p.waitLine("stream waits", "not connected")
	if status, body := get(t, p.public+"/readyz"); status != http.StatusOK {
		t.Errorf("after the broker went away /readyz says %d %q", status, body)
	}
}

// A rolling update must cost nobody an event: every client is told to come back,
// with the id to come back with, at an event boundary.
func TestTermSaysGoodbyeToEveryClient(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	addStream(t, js, "ORDERS")
	publish(t, js, "orders.eu", "first")
	p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL="+srv.URL, "DRAIN=1s", "RETRY=500ms")

	readers := make([]*reader, 5)
	for i := range readers {
		readers[i] = p.open("?start=all")
		readers[i].next("message")
	}
	p.signal(syscall.SIGTERM)
	for _, r := range readers {
		e := r.next("closing")
		if e.Data != `{"reason":"drain"}` || e.ID == "" {
			t.Errorf("goodbye is %+v, want reason drain and an id", e)
		}
		r.wantEnd()
	}
	if err := p.wait(); err != nil {
		t.Errorf("process ended with %v, want exit code 0", err)
	}
	if len(p.logged("stopped")) != 1 {
		t.Error("the process did not reach its end")
	}
}

// Balancers must see it before clients are sent away: not ready, but alive and
// answering.
func TestTermMakesTheProcessUnready(t *testing.T) {
	srv := natstest.Embedded(t)
	addStream(t, srv.JS(), "ORDERS")
	p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL="+srv.URL, "DRAIN=1h")
	for range 2 { // the first is told at once, the second in half an hour
		p.open("").next("connected")
	}
	p.signal(syscall.SIGTERM)
	p.waitLog("draining")
	for _, base := range []string{p.public, p.admin} {
		if status, body := get(t, base+"/readyz"); status != http.StatusServiceUnavailable || body != "draining\n" {
			t.Errorf("while draining /readyz says %d %q", status, body)
		}
		if status, _ := get(t, base+"/livez"); status != http.StatusOK {
			t.Errorf("while draining /livez says %d", status)
		}
	}
	late := p.open("")
	late.next("closing")
	late.wantEnd()

	// A second signal is from somebody who does not want to wait.
	p.signal(syscall.SIGTERM)
	exit, ok := errors.AsType[*exec.ExitError](p.wait())
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("after a second signal the process ended with %v, want killed by the signal", exit)
	}
}

// The promise of the whole thing, once for real: an id from one process is good
// at another, which goes on with the very next event.
func TestAnotherProcessGoesOnWithTheNextEvent(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	addStream(t, js, "ORDERS")
	addStream(t, js, "PRICES")
	env := []string{"STREAMS=orders=nats:ORDERS,prices=nats:PRICES", "NATS_URL=" + srv.URL, "STREAM_PRICES_FORMAT=envelope", "STREAM_ORDERS_SUBJECT=o.{subject.2}", "STREAM_ORDERS_START=1h", "DRAIN=0"}
	first := launch(t, env...)
	publish(t, js, "orders.eu", "1")
	publish(t, js, "orders.us", "not asked for")
	r := first.open("?subject=o.eu&subject=prices.>")
	e := r.next("message")
	if e.Data != "1" {
		t.Fatalf("got %+v", e)
	}
	first.signal(os.Kill)
	_ = first.wait()
	publish(t, js, "orders.eu", "2")
	publish(t, js, "prices.gold", "3")

	second := launch(t, env...)
	c := ssetest.Client{URL: second.public + "/events?subject=o.eu&subject=prices.>", LastID: e.ID}
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r = &reader{s, t, t.Context()}
	if e := r.next("connected"); !strings.Contains(e.Data, `"resume":"exact"`) {
		t.Errorf("verdict: %+v", e)
	}
	got := []string{r.next("message").Data, r.next("message").Data}
	slices.Sort(got) // streams are merged in any order; "2" sorts before "{"
	if got[0] != "2" || !strings.Contains(got[1], `"subject":"prices.gold"`) {
		t.Errorf("got %q, want record 2 and the envelope of record 3, each once", got)
	}
}

// An operator asks before the deployment, not after.
func TestCheckAsksTheBroker(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	addStream(t, js, "ORDERS")
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "WORK", Subjects: []string{"work.>"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	check := func(env ...string) (string, int) { return command(t, environ(env...), "check") }

	out, code := check("STREAMS=orders=nats:ORDERS", "NATS_URL="+srv.URL)
	if code != 0 || !strings.Contains(out, "orders") {
		t.Errorf("a stream that is there: exit code %d\n%s", code, out)
	}
	out, code = check("STREAMS=orders=nats:ORDERS,gone=nats:GONE,work=nats:WORK", "NATS_URL="+srv.URL)
	if code != 1 || !strings.Contains(out, "gone") || !strings.Contains(out, "WorkQueue") {
		t.Errorf("streams that cannot be served: exit code %d\n%s", code, out)
	}
	out, code = check("STREAMS=orders=nats:ORDERS", "NATS_URL=nats://"+freeAddress(t).String())
	if code != 1 || !strings.Contains(out, "not connected to 127.0.0.1") {
		t.Errorf("no broker: exit code %d\n%s", code, out)
	}
	out, code = check("STREAMS=orders=nats:ORDERS")
	if code != 1 || !strings.Contains(out, "SSEBRIDGE_NATS_URL: is required") {
		t.Errorf("no address: exit code %d\n%s", code, out)
	}
}

// A refused permission looks like a broker that does not answer. It takes hours
// to find, so check names the subject to allow.
func TestCheckNamesTheMissingPermission(t *testing.T) {
	srv := natstest.Embedded(t, natstest.Config(t, `
		authorization { users = [
			{user: admin, password: a}
			{user: bridge, password: `+secrettest.New("password")+`, permissions: {publish: {deny: ["$JS.API.CONSUMER.>"]}}}
		] }`))
	addStream(t, srv.JS(natsgo.UserInfo("admin", "a")), "ORDERS")
	out, code := command(t, environ("STREAMS=orders=nats:ORDERS", "NATS_URL="+srv.URL, "NATS_USER=bridge", "NATS_PASSWORD="+secrettest.New("password")), "check")
	if code != 1 || !strings.Contains(out, `allow the account to publish to "$JS.API.CONSUMER.CREATE.ORDERS.`) {
		t.Errorf("check ended with %d and does not name the permission:\n%s", code, out)
	}
}

// Secrets are rotated while the process runs; a restart would cost every client
// its connection.
func TestRotatedSecretIsUsedAtTheNextConnection(t *testing.T) {
	addr := freeAddress(t)
	file := filepath.Join(t.TempDir(), "password")
	broker := func(password string) *natstest.Server {
		srv := natstest.Embedded(t, func(o *server.Options) {
			o.Port, o.Username, o.Password = addr.Port, "bridge", password
		})
		addStream(t, srv.JS(natsgo.UserInfo("bridge", password)), "ORDERS")
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return srv
	}
	first := broker(secrettest.New("one"))
	p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL=nats://"+addr.String(), "NATS_USER=bridge", "NATS_PASSWORD_FILE="+file)
	r := p.open("")
	r.next("connected")
	first.Shutdown()
	p.waitLine("stream waits", "not connected")

	second := broker(secrettest.New("two"))
	r.next("reset") // another server, so another history; the connection has held
	publish(t, second.JS(natsgo.UserInfo("bridge", secrettest.New("two"))), "orders.eu", "over the new connection")
	if e := r.next("message"); e.Data != "over the new connection" {
		t.Errorf("got %+v", e)
	}
}

// When something is stuck, the first question is which stream, and what it
// waits for.
func TestStreamsTellsWhatEachWaitsFor(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	addStream(t, js, "ORDERS")
	publish(t, js, "orders.eu", "1")
	p := launch(t, "STREAMS=orders=nats:ORDERS,gone=nats:GONE", "NATS_URL="+srv.URL)
	p.waitLog("stream is read")
	p.waitLog("stream waits")
	held := p.open("?start=all&stream=orders")
	publish(t, js, "orders.eu", "2")
	held.next("message")
	held.next("message")
	status, body := get(t, p.admin+"/streams")
	var got struct {
		Streams []struct {
			Name, Broker, Upstream, State, LastError, Incarnation string
			Subjects                                              []string
			Partitions                                            []struct{ Position, End, Lag *int64 }
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK || len(got.Streams) != 2 {
		t.Fatalf("status %d, %v: %s", status, err, body)
	}
	orders, gone := got.Streams[0], got.Streams[1]
	if orders.State != "reading" || orders.Broker != "nats" || orders.Upstream != "ORDERS" || orders.Incarnation == "" || !slices.Equal(orders.Subjects, []string{"orders.>"}) ||
		len(orders.Partitions) != 1 || *orders.Partitions[0].Position != 3 || *orders.Partitions[0].End != 3 || *orders.Partitions[0].Lag != 0 {
		t.Errorf("a stream that is read: %s", body)
	}
	if gone.State != "waiting" || !strings.Contains(gone.LastError, "GONE") || gone.Subjects != nil {
		t.Errorf("a stream that is not there: %s", body)
	}
}

// The image asks the process in it by the same binary.
func TestHealthcheckFindsTheProcess(t *testing.T) {
	addr := freeAddress(t)
	p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL=nats://127.0.0.1:1", "HTTP_LISTEN="+addr.String())
	if out, code := command(t, p.cmd.Env, "healthcheck"); code != 0 || out != "alive\n" {
		t.Errorf("healthcheck: %d, %s", code, out)
	}
}

// post sends a request to the admin listener, as curl does.
func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// Where no signal can be sent, POST /drain has to end the process as one does:
// goodbyes with ids, everything in order, exit code 0. A signal that comes as
// well, as Kubernetes sends it behind a preStop hook, must not cut that short.
func TestDrainEndsTheProcessAsTermDoes(t *testing.T) {
	for _, term := range []bool{false, true} {
		srv := natstest.Embedded(t)
		js := srv.JS()
		addStream(t, js, "ORDERS")
		publish(t, js, "orders.eu", "first")
		p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL="+srv.URL, "DRAIN=1s", "RETRY=500ms")
		readers := make([]*reader, 3)
		for i := range readers {
			readers[i] = p.open("?start=all")
			readers[i].next("message")
		}
		var got struct {
			Draining bool
			Clients  int
			Over     string
		}
		status, body := post(t, p.admin+"/drain", "")
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusAccepted || !got.Draining || got.Clients != 3 || got.Over != "1s" {
			t.Errorf("%d %s", status, body)
		}
		if line := p.waitLog("draining"); line["reason"] != "asked by POST /drain" {
			t.Errorf("the log does not say why: %v", line)
		}
		if term {
			p.signal(syscall.SIGTERM)
		}
		for _, r := range readers {
			if e := r.next("closing"); e.Data != `{"reason":"drain"}` || e.ID == "" {
				t.Errorf("goodbye is %+v, want reason drain and an id", e)
			}
			r.wantEnd()
		}
		if err := p.wait(); err != nil {
			t.Errorf("process ended with %v, want exit code 0", err)
		}
		if len(p.logged("stopped")) != 1 || len(p.logged("draining")) != 1 {
			t.Error("the process did not reach its end once")
		}
	}
}

// An operator finds the client that hangs and sends it away; it goes on at the
// very next event. Nothing of the kind is for those who only reach the events.
func TestOperatorsSeeClientsAndSendThemAway(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	addStream(t, js, "ORDERS")
	publish(t, js, "orders.eu", "first")
	p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL="+srv.URL)
	r := p.open("?start=all&subject=orders.*")
	r.next("caught-up")
	var got struct {
		Total   int
		Clients []struct {
			ID, State, Position string
			Streams, Subjects   []string
			Lag                 *int
			Events, Bytes       int
		}
	}
	list := func() string {
		status, body := get(t, p.admin+"/clients?stream=orders")
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK || len(got.Clients) != 1 {
			t.Fatalf("%d %s", status, body)
		}
		return body
	}
	body := list()
	for got.Clients[0].State != "level" { // it is, as soon as it is asked for more
		body = list()
	}
	c := got.Clients[0]
	if got.Total != 1 || !slices.Equal(c.Streams, []string{"orders"}) || !slices.Equal(c.Subjects, []string{"orders.*"}) ||
		c.Lag == nil || *c.Lag != 0 || c.Events < 3 || c.Bytes == 0 || c.Position == "" {
		t.Errorf("got %s", body)
	}
	if status, body := post(t, p.admin+"/clients/disconnect", `{"id":"`+c.ID+`"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	goodbye := r.next("closing")
	if goodbye.Data != `{"reason":"disconnect"}` || goodbye.ID == "" {
		t.Errorf("goodbye is %+v", goodbye)
	}
	r.wantEnd()
	publish(t, js, "orders.eu", "second")
	again := p.open("?subject=orders.*&lastEventId=" + goodbye.ID)
	if e := again.next("message"); e.Data != "second" {
		t.Errorf("it goes on with %+v", e)
	}
	if status, body := get(t, p.admin+"/debug/pprof/goroutine?debug=1"); status != http.StatusOK || !strings.Contains(body, "goroutine profile:") {
		t.Errorf("a profile: %d %.200s", status, body)
	}
	for _, path := range []string{"/clients", "/streams", "/drain", "/debug/pprof/", "/openapi.json"} {
		if status, _ := get(t, p.public+path); status != http.StatusNotFound {
			t.Errorf("the clients' listener answers %s with %d", path, status)
		}
	}
}

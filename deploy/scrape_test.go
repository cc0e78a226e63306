package deploy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// series are the metrics that a bridge exports, by the names that expressions
// call them, and the labels of each: those that Prometheus adds as well.
type series map[string]*seriesLabels

type seriesLabels struct {
	names  map[string]bool
	values map[string][]string // by label
}

// added are the labels that every series has from Prometheus.
var added = []string{"job", "instance"}

func (s series) add(name string, labels []*dto.LabelPair, more ...string) {
	one := s[name]
	if one == nil {
		one = &seriesLabels{map[string]bool{}, map[string][]string{}}
		s[name] = one
	}
	for _, l := range slices.Concat(added, more) {
		one.names[l] = true
	}
	for _, l := range labels {
		one.names[l.GetName()] = true
		one.values[l.GetName()] = append(one.values[l.GetName()], l.GetValue())
	}
}

// exportedSeries are what a bridge exports at which something of everything has
// happened.
func exportedSeries(t *testing.T) series {
	t.Helper()
	path, err := buildBridge()
	if err != nil {
		t.Fatal(err)
	}
	server := natstest.Embedded(t)
	js := server.JS()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	public, admin := freeAddress(t), freeAddress(t)
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env = []string{
		"SSEBRIDGE_STREAMS=s=nats:S", "SSEBRIDGE_NATS_URL=" + server.URL, "SSEBRIDGE_AUTH=none", "SSEBRIDGE_READY=sources",
		"SSEBRIDGE_HTTP_LISTEN=" + public, "SSEBRIDGE_ADMIN_LISTEN=" + admin, "SSEBRIDGE_RETRY=100ms",
	}
	var log strings.Builder
	var mu sync.Mutex
	cmd.Stderr = writer(func(b []byte) { mu.Lock(); defer mu.Unlock(); log.Write(b) })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("log of the bridge:\n%s", log.String())
		}
	})
	until(t, "the bridge to be ready", func() bool { status, _ := fetch(t, "http://"+admin+"/readyz"); return status == http.StatusOK })

	publish := func(data string) {
		if _, err := js.Publish(t.Context(), "s.x", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		publish(fmt.Sprint(n))
	}
	follow := func(id string, until func(ssetest.Event) bool) *ssetest.Client {
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		c := &ssetest.Client{URL: "http://" + public + "/events?start=all", LastID: id}
		if err := c.Follow(ctx, 20*time.Millisecond, func(e ssetest.Event) bool { return !until(e) }); err != nil {
			t.Fatal(err)
		}
		return c
	}
	caughtUp := func(e ssetest.Event) bool { return e.Type == "caught-up" }
	c := follow("", func(e ssetest.Event) bool { return e.Data == "1" })
	stream, err := js.Stream(t.Context(), "S")
	if err == nil {
		err = stream.Purge(t.Context(), jetstream.WithPurgeSequence(4))
	}
	if err != nil {
		t.Fatal(err)
	}
	follow(c.LastID, caughtUp) // a gap
	follow("x", caughtUp)      // a reset
	live := false
	follow("", func(e ssetest.Event) bool {
		if e.Type == "caught-up" && !live {
			live = true
			publish("live")
		}
		return e.Data == "live"
	})
	if status, _ := fetch(t, "http://"+public+"/events?nonsense=1"); status != http.StatusBadRequest {
		t.Errorf("a request that cannot be read: %d, want 400", status)
	}

	status, text := fetch(t, "http://"+admin+"/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil || status != http.StatusOK {
		t.Fatalf("metrics: %d, %v\n%s", status, err, text)
	}
	all := series{}
	all.add("up", nil)
	for name, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetType() == dto.MetricType_HISTOGRAM {
				all.add(name+"_bucket", m.GetLabel(), "le")
				all.add(name+"_sum", m.GetLabel())
				all.add(name+"_count", m.GetLabel())
				continue
			}
			all.add(name, m.GetLabel())
		}
	}
	return all
}

// patience bounds every wait. It is generous, because test machines are busy.
const patience = 60 * time.Second

// until asks again and again until ok, and fails the test when it never is.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// fetch returns the status of an answer and its text; 0 if there is none.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(body)
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// writer is a function as an io.Writer.
type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// promtool runs Prometheus' own judge on a file, in the folder of that.
func promtool(t *testing.T, file string, args ...string) (string, error) {
	t.Helper()
	path := need(t, "promtool", "apt-get install prometheus", "promtool")
	cmd := exec.CommandContext(t.Context(), path, append(args, filepath.Base(file))...)
	cmd.Dir = filepath.Dir(file)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
)

// What people type and read at three in the morning stays as it is unless
// somebody decides otherwise.
func TestCommandsPrint(t *testing.T) {
	id := bridge.ID{
		{Stream: "orders", Position: bridge.Position{Incarnation: 987654321, Places: []bridge.Place{{Offset: 32, Proof: bridge.ProofOf(1767225600123)}}}},
		{Stream: "prices", Position: bridge.Position{Incarnation: 12, Places: []bridge.Place{{Offset: 7, Proof: bridge.ProofOf(3)}, {}, {Offset: 1}}}},
	}.String()
	mapped := []string{"STREAMS=prices=kafka:prices,orders=nats:ORDERS,x=y"} // the rest of it need not be right
	for name, test := range map[string]struct {
		env  []string
		args []string
		code int
	}{
		"help":           {nil, []string{"--help"}, 0},
		"env":            {nil, []string{"env"}, 0},
		"id":             {nil, []string{"id", id}, 0},
		"id-mapped":      {mapped, []string{"id", id}, 0},
		"id-cut":         {nil, []string{"id", id[:len(id)-1]}, exitFailed},
		"id-none":        {nil, []string{"id"}, exitUsage},
		"unknown":        {nil, []string{"sevre"}, exitUsage},
		"serve-words":    {minimal(), []string{"serve", "now"}, exitUsage},
		"serve-nothing":  {nil, nil, exitUsage},
		"check-nothing":  {nil, []string{"check"}, exitFailed},
		"config-nothing": {nil, []string{"config"}, exitUsage},
		"config": {minimal("MEMORY=64MiB", "MAX_CLIENTS=100", "STREAMS=orders=nats:ORDERS\nprices=nats@eu:PRICES\ntrades=kafka:trades.v1,deals=kafka@eu:deals", "NATS_URL=nats://planted-secret@localhost:4222",
			"NATS_EU_URL=tls://nats.eu.example.com:4222,other:4222", "NATS_EU_USER=u", "NATS_EU_PASSWORD=planted-secret", "STREAM_ORDERS_SUBJECT=orders.{header.region}.{subject.2}", "STREAM_PRICES_FILTER=prices.a.>, prices.b",
			"STREAM_PRICES_START=2026-01-31T00:00:00Z", "ON_RESET=all", "STREAM_PRICES_ON_RESET=fail", "KAFKA_BROKERS=kafka-1:9092, kafka-2:9092", "KAFKA_EU_BROKERS=eu:9093", "KAFKA_EU_TLS=true",
			"KAFKA_EU_SASL_MECHANISM=SCRAM-SHA-512", "KAFKA_EU_SASL_USERNAME=u", "KAFKA_EU_SASL_PASSWORD=planted-secret", "STREAM_DEALS_SUBJECT=deals.{header.desk}.{key}", "MAX_AGE=1h", "CORS_ORIGINS=https://app.example.com,http://localhost:*"), []string{"config"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, test.env...)
			out, code := invoke(t, test.args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			golden(t, name, out)
		})
	}
}

// The reference that people read is the one that the binary prints.
func TestReadmeHoldsTheReference(t *testing.T) {
	const path, begin, end = "../../README.md", "<!-- env:begin -->\n", "<!-- env:end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	block, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no block between %q and %q", path, begin, end)
	}
	want, _ := invoke(t, "env")
	switch {
	case block == want:
	case *update:
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s differs from `ssebridge env` (make docs rewrites it)", path)
	}
}

// Reports of bugs begin with the version.
func TestVersionComesFromTheBuild(t *testing.T) {
	b := buildOf(&debug.BuildInfo{
		GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}},
	})
	if b != (build{"v1.2.3", "abc", "go1.26.8", true}) {
		t.Errorf("got %+v", b)
	}
	if b := buildOf(nil); b != (build{"unknown", "unknown", "unknown", false}) {
		t.Errorf("without build information: %+v", b)
	}
	if out, code := invoke(t, "version"); code != 0 || !strings.HasPrefix(out, "ssebridge ") {
		t.Errorf("version prints %q, exit code %d", out, code)
	}
}

// An image without a shell asks itself. It must find its own listener whatever
// address that has, and must not go through a proxy.
func TestHealthcheckAsksTheListener(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().(*net.TCPAddr)
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	t.Setenv("http_proxy", "http://192.0.2.1:1")

	for _, listen := range []string{fmt.Sprintf(":%d", addr.Port), addr.String(), fmt.Sprintf("0.0.0.0:%d", addr.Port)} {
		setenv(t, "HTTP_LISTEN="+listen)
		if out, code := invoke(t, "healthcheck"); code != 0 || out != "alive\n" {
			t.Errorf("%s: exit code %d, %s", listen, code, out)
		}
	}
	status = http.StatusServiceUnavailable
	if out, code := invoke(t, "healthcheck"); code != exitFailed || !strings.Contains(out, "503") {
		t.Errorf("answered 503: exit code %d, %s", code, out)
	}
	srv.Close()
	if out, code := invoke(t, "healthcheck"); code != exitFailed {
		t.Errorf("nobody listens: exit code %d, %s", code, out)
	}
}

// Whatever ends first ends the others, and nothing is left behind.
func TestRunAllStopsAllWhenOneReturns(t *testing.T) {
	failure := errors.New("first")
	stopped := 0
	waits := func(ctx context.Context) error {
		<-ctx.Done()
		stopped++ // by one goroutine: there is one waiting part
		return context.Cause(ctx)
	}
	err := runAll(t.Context(), waits, func(context.Context) error { return failure })
	if !errors.Is(err, failure) || stopped != 1 {
		t.Errorf("got %v, %d stopped, want %v and 1", err, stopped, failure)
	}
}

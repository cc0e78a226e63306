package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain makes this test binary three programs: the tests, a stand-in for
// ssebridge when it is started with its settings, and the demo itself.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("SSEBRIDGE_STREAMS") != "":
		standIn()
	case os.Getenv("DEMO_MAIN") != "":
		main()
	default:
		goleak.VerifyTestMain(m)
	}
}

// standIn is as much of ssebridge as the demo depends on: it answers on its
// listener and ends on SIGTERM. STAND_IN=crash ends at once with an error,
// STAND_IN=deaf ignores SIGTERM, STAND_IN=env prints its environment first.
func standIn() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch os.Getenv("STAND_IN") {
	case "crash":
		os.Exit(3)
	case "deaf":
		ctx = context.WithoutCancel(ctx)
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	}
	fmt.Println("stand-in runs")
	l, err := net.Listen("tcp", os.Getenv("SSEBRIDGE_HTTP_LISTEN"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	context.AfterFunc(ctx, func() {
		fmt.Println("stand-in was asked to end")
		_ = srv.Close()
	})
	_ = srv.Serve(l)
}

// self is the path of this test binary.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// demoArgs make the demo run the stand-in, on ports of its own: other tests may
// run demos at the same time.
func demoArgs(t *testing.T) []string {
	t.Helper()
	return []string{"-bridge", self(t), "-listen", "127.0.0.1:0", "-bridge-listen", "127.0.0.1:0", "-nats-listen", "127.0.0.1:0"}
}

// patience bounds every wait of these tests for something that must happen.
const patience = 2 * time.Minute

// watch is a writer whose readers wait for what is written to it.
type watch struct{ lines chan string }

func newWatch() *watch { return &watch{make(chan string, 1000)} } // more lines than any test prints

func (w *watch) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		w.lines <- strings.TrimSuffix(string(line), "\n")
	}
	return len(p), nil
}

// Next returns the first group of the next line that pattern matches.
func (w *watch) Next(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var seen []string
	timeout := time.After(patience)
	for {
		select {
		case line, open := <-w.lines:
			if !open {
				t.Fatalf("no line matches %q; all lines:\n%s", pattern, strings.Join(seen, "\n"))
			}
			if m := re.FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
			seen = append(seen, line)
		case <-timeout:
			t.Fatalf("no line matches %q within %s; lines:\n%s", pattern, patience, strings.Join(seen, "\n"))
		}
	}
}

// get returns the status and the body of what is at url.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// A newcomer runs one command, opens the address that it prints, and leaves
// nothing behind afterwards.
func TestDemoServesAPageAndLeavesNothingBehind(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := newWatch(), newWatch()
	done := make(chan error, 1)
	go func() { done <- run(ctx, demoArgs(t), stdout, stderr) }()

	pageURL := stdout.Next(t, `^  Open  (http://127\.0\.0\.1:\d+)  `)
	eventsURL := stdout.Next(t, `curl -N '(http://127\.0\.0\.1:\d+/events)\?`)
	status, html := get(t, pageURL+"/")
	if status != http.StatusOK || !strings.Contains(html, `data-events="`+eventsURL+`"`) {
		t.Errorf("page: status %d, want 200 and the address %s in it:\n%s", status, eventsURL, html)
	}
	if entries, err := os.ReadDir(tmp); err != nil || len(entries) != 1 {
		t.Errorf("temporary directory while it runs: %v, %v; want one entry", entries, err)
	}

	cancel()
	if err := <-done; err != nil {
		t.Errorf("run ended with %v, want nil", err)
	}
	if entries, err := os.ReadDir(tmp); err != nil || len(entries) != 0 {
		t.Errorf("temporary directory afterwards: %v, %v; want none", entries, err)
	}
	for _, url := range []string{pageURL, eventsURL} {
		addr := strings.TrimPrefix(strings.TrimSuffix(url, "/events"), "http://")
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("listen at %s afterwards: %v; somebody is still there", addr, err)
			continue
		}
		_ = l.Close()
	}
}

// Two demos at once, or a port that something else uses, must not puzzle a
// newcomer; but an address that was asked for is taken at its word.
func TestListenFallsBackOnlyFromItsOwnChoice(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	addr := taken.Addr().String()

	l, err := listen(t.Context(), "", addr)
	if err != nil {
		t.Fatalf("listen with the default %s taken: %v", addr, err)
	}
	defer func() { _ = l.Close() }()
	if l.Addr().String() == addr {
		t.Errorf("listens at %s, which is taken", addr)
	}
	if l, err := listen(t.Context(), addr, defaultListen); err == nil {
		_ = l.Close()
		t.Errorf("listen at %s, which is taken and was asked for: no error", addr)
	}
}

// Whoever reaches the page reads this machine's counters without a password.
func TestListenRefusesWhatOthersReach(t *testing.T) {
	for _, addr := range []string{":8400", "0.0.0.0:0", "[::]:0", "[::1]:0", "192.0.2.1:0", "example.com:80", "8400"} {
		if l, err := listen(t.Context(), addr, defaultListen); err == nil {
			_ = l.Close()
			t.Errorf("listen at %q: no error", addr)
		} else if !strings.Contains(err.Error(), "loopback") && !strings.Contains(err.Error(), "host:port") {
			t.Errorf("listen at %q: %v; want it to say what is expected", addr, err)
		}
	}
}

// The page's origin is the whole of what the bridge lets in, under both names
// that people type.
func TestOriginsAreThePagesOwn(t *testing.T) {
	got := strings.Join(origins(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8400}), ",")
	if want := "http://127.0.0.1:8400,http://localhost:8400"; got != want {
		t.Errorf("origins %s, want %s", got, want)
	}
}

// A missing binary must say what to do, not only that it is missing.
func TestMissingBridgeIsExplained(t *testing.T) {
	err := run(t.Context(), []string{"-bridge", t.TempDir() + "/ssebridge"}, io.Discard, io.Discard)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "make run") {
		t.Errorf("run without a bridge: %v; want it to name `make run`", err)
	}
}

// A mistyped flag stops the demo rather than showing something else.
func TestUnknownArgumentsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-listen", "127.0.0.1:1"}, {"127.0.0.1:1"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("run with %q: no error", args)
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

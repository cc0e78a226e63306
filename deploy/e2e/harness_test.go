// Package e2e holds the bridge to its promises as whole processes: production
// binaries as they are built, real NATS servers that are killed and rolled
// back, and a client that was written from the standard.
//
//	Go test ── publishes, kills, rolls back ──► nats-server ── JetStream ──► bridge a, bridge b …
//	   │                                            │                             │
//	   │                             what it holds, read record by record         │ event streams, cut and
//	   ▼                                            ▼                             ▼ resumed at another bridge
//	audit ◄──────────────────────────────────── story                          history
//
// The audit compares the two: each record once, in order and unchanged, or
// exactly the gap or reset that tells why not. The test of the hand-over to live
// runs the bridge's parts within the test process, for the race detector.
//
// The benchmarks print figures of the binary, beside those of a program that can
// do nothing but write, and judge none.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/deploy/e2e/collectortest"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
)

// patience bounds every wait of this package. It is generous, because test
// machines are busy; nothing takes so long when all is well.
const patience = 60 * time.Second

// buildDir holds the binary under test; TestMain makes and removes it.
var buildDir string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ssebridge-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	buildDir = dir
	code := m.Run()
	benchFigures.print(os.Stdout)
	kafkatest.StopShared()
	collectortest.StopShared()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// buildBridge builds the production binary as operators get it, without the
// race detector, once per test process.
var buildBridge = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "ssebridge")
	return path, goBuild("-o", path, "../../cmd/ssebridge")
})

func goBuild(args ...string) error {
	out, err := exec.Command("go", append([]string{"build"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the bridge: %w\n%s", err, out)
	}
	return nil
}

// bridgeProcess is one bridge in a process of its own. It keeps its ports over
// restarts.
type bridgeProcess struct {
	URL   string // of the clients' listener, without a path
	Admin string // of the admin listener, without a path

	t     testing.TB
	env   map[string]string
	build func() (string, error) // makes the binary; nil: buildBridge
	under []string               // the command that runs it, as in "nice"; none: it runs by itself
	cmd   *exec.Cmd
	done  chan struct{} // closed when cmd has ended
	log   *logBuffer
}

// startBridge starts a bridge and waits until it has read each of its streams
// once. settings are SSEBRIDGE_* variables without the prefix, as in
// "STREAMS=orders=nats:ORDERS", and OTEL_* variables; the environment has nothing
// else but secrets that do no harm. The process ends with the test; no planted
// secret may be in its log.
func startBridge(t testing.TB, natsURL string, settings ...string) *bridgeProcess {
	t.Helper()
	b := newBridge(t, natsURL, settings...)
	b.Start()
	b.await("/readyz", http.StatusOK)
	return b
}

// newBridge is startBridge without the start.
func newBridge(t testing.TB, natsURL string, settings ...string) *bridgeProcess {
	t.Helper()
	public, admin := freeAddress(t), freeAddress(t)
	b := &bridgeProcess{
		URL: "http://" + public, Admin: "http://" + admin, t: t, log: new(logBuffer),
		env: map[string]string{
			"AUTH": "none", "NATS_URL": natsURL, "HTTP_LISTEN": public, "ADMIN_LISTEN": admin, "ADMIN_TOKEN": secrettest.New("admin"),
			"READY": "sources", "RETRY": "100ms", "DRAIN": "500ms", "MAX_CONNECTS_PER_SECOND": "0", "MEMORY": "64MiB",
		},
	}
	for _, s := range settings {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			t.Fatalf("setting %q: want NAME=value", s)
		}
		b.env[name] = value
	}
	t.Cleanup(func() {
		b.Kill9()
		secrettest.Check(t, "the log of the bridge at "+b.URL, b.log.String())
		if t.Failed() {
			t.Logf("log of the bridge at %s:\n%s", b.URL, secrettest.Hide(b.log.tail(80)))
		}
	})
	return b
}

// Start starts the process, for the first time or again on the same ports, and
// returns without waiting for it to serve.
func (b *bridgeProcess) Start() {
	b.t.Helper()
	build := b.build
	if build == nil {
		build = buildBridge
	}
	path, err := build()
	if err != nil {
		b.t.Fatal(err)
	}
	command := append(slices.Clone(b.under), path, "serve")
	b.cmd = exec.Command(command[0], command[1:]...)
	b.cmd.Env = b.environ()
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	b.cmd.SysProcAttr = dieWithTest()
	if err := b.cmd.Start(); err != nil {
		b.t.Fatalf("start bridge: %v", err)
	}
	b.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(done)
	}(b.cmd, b.done)
}

// environ is the environment of the process.
func (b *bridgeProcess) environ() []string {
	environ := []string{"PATH=" + os.Getenv("PATH")}
	for _, name := range slices.Sorted(maps.Keys(b.env)) {
		variable := name
		if !strings.HasPrefix(name, "OTEL_") {
			variable = "SSEBRIDGE_" + name
		}
		environ = append(environ, variable+"="+b.env[name])
	}
	return environ
}

// Check runs the check command with the same settings. It returns what is
// printed, which must hold no planted secret, and an error if it fails.
func (b *bridgeProcess) Check() (output string, err error) {
	b.t.Helper()
	path, err := buildBridge()
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "check")
	cmd.Env = b.environ()
	out, err := cmd.CombinedOutput()
	secrettest.Check(b.t, "the output of check", string(out))
	return secrettest.Hide(string(out)), err
}

// Kill9 ends the process as kill -9 does and returns when it is gone.
func (b *bridgeProcess) Kill9() {
	if b.cmd == nil || b.cmd.Process == nil {
		return
	}
	_ = b.cmd.Process.Kill()
	<-b.done
	b.cmd = nil
}

// Restart ends the process by kill -9, starts it again, and waits until it
// serves.
func (b *bridgeProcess) Restart() {
	b.t.Helper()
	b.Kill9()
	b.Start()
	b.await("/readyz", http.StatusOK)
}

// Terminate asks the process to end, as Kubernetes does, and returns without
// waiting for it.
func (b *bridgeProcess) Terminate() {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatalf("signal bridge: %v", err)
	}
}

// Wait waits for the process to end by itself and returns its exit code.
func (b *bridgeProcess) Wait() int {
	b.t.Helper()
	select {
	case <-b.done:
	case <-time.After(patience):
		b.t.Fatalf("bridge %s still runs after %s", b.URL, patience)
	}
	return b.cmd.ProcessState.ExitCode()
}

// PID is the process id.
func (b *bridgeProcess) PID() int { return b.cmd.Process.Pid }

// await asks a probe of the admin listener until it answers by a status.
func (b *bridgeProcess) await(path string, status int) {
	b.t.Helper()
	until(b.t, fmt.Sprintf("%s to answer %d", b.Admin+path, status), func() bool {
		select {
		case <-b.done:
			b.t.Fatalf("the bridge ended: %s", b.cmd.ProcessState)
		default:
		}
		got, err := get(b.t.Context(), b.Admin+path, nil)
		return err == nil && got.status == status
	})
}

// events returns the URL of an event stream, with a query as it is written.
func (b *bridgeProcess) events(query string) string {
	if query == "" {
		return b.URL + "/events"
	}
	return b.URL + "/events?" + query
}

// missing skips a test that cannot run here and says how it could, or fails it
// where SSEBRIDGE_TEST_REQUIRE lists what the test is for.
func missing(t testing.TB, what, text string) {
	t.Helper()
	required := strings.FieldsFunc(os.Getenv("SSEBRIDGE_TEST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(required, what) {
		t.Fatalf("%s (SSEBRIDGE_TEST_REQUIRE asks for %s)", text, what)
	}
	t.Skip(text)
}

// probes is the HTTP client of everything but event streams.
var probes = &http.Client{
	Timeout:       10 * time.Second,
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// answer is a response that was read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// code returns the code of an answer that is a problem (RFC 9457), or why it is
// none.
func (a answer) code() string {
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		return fmt.Sprintf("content type %q", ct)
	}
	var p struct {
		Code   string
		Title  string
		Detail string
		Status int
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		return err.Error()
	}
	if p.Status != a.status || p.Title == "" || p.Detail == "" {
		return "incomplete problem " + a.body
	}
	return p.Code
}

// get sends a GET request.
func get(ctx context.Context, url string, header map[string]string) (answer, error) {
	return request(ctx, http.MethodGet, url, header)
}

// request sends a request.
func request(ctx context.Context, method, url string, header map[string]string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := probes.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// until asks again and again until ok, and fails the test when it never is.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freeAddress returns a loopback address that nobody listens on. Its port lies
// below the range from which the system picks those of outgoing connections, so
// that none of them takes it while a process is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(10000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = l.Close()
		return address
	}
	t.Fatal("no free port between 10000 and 20000")
	return ""
}

// logBuffer keeps what a process logs. It is safe for concurrent use.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// tail returns the last lines.
func (l *logBuffer) tail(lines int) string {
	all := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// errStopped is the reason for which parts of a test end with it.
var errStopped = errors.New("the test is done with it")

package collectortest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait. It is generous, because test machines are busy;
// nothing takes so long when all is well.
const patience = 60 * time.Second

// Collector is a running collector. It keeps its ports when it is started again.
type Collector struct {
	GRPC string // host:port that takes OTLP by gRPC
	HTTP string // host:port that takes OTLP by HTTP

	binary, dir string
	cmd         *exec.Cmd
	gone        chan struct{} // closed when the process has ended

	mu      sync.Mutex
	read    int64 // bytes of the file that were taken
	spans   []Span
	metrics []Metric
}

// Start runs a collector for the length of a test.
func Start(t testing.TB) *Collector {
	t.Helper()
	dir := t.TempDir()
	c, err := start(dir)
	if c != nil {
		t.Cleanup(c.Kill9)
	}
	require(t, err)
	return c
}

// shared is the collector that the tests of a process have in common.
var shared struct {
	sync.Mutex
	collector *Collector
	dir       string
	err       error
}

// Shared returns a collector that all tests of the process share: tests tell
// their spans by what the resource says. The first call starts it. Call
// [StopShared] in TestMain.
func Shared(t testing.TB) *Collector {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.collector == nil && shared.err == nil {
		if shared.dir, shared.err = os.MkdirTemp("", "ssebridge-collectortest-"); shared.err == nil { //nolint:usetesting // it outlives the test
			shared.collector, shared.err = start(shared.dir)
		}
	}
	require(t, shared.err)
	return shared.collector
}

// StopShared ends the shared collector, if there is one.
func StopShared() {
	shared.Lock()
	defer shared.Unlock()
	if shared.collector != nil {
		shared.collector.Kill9()
		shared.collector = nil
	}
	_ = os.RemoveAll(shared.dir) // only space
}

// settings is the collector's configuration. It has no telemetry of its own, as
// that would listen on a port that is the same for all.
const settings = `receivers:
  otlp:
    protocols:
      grpc:
        endpoint: %s
      http:
        endpoint: %s
exporters:
  file:
    path: %s
    append: true
    flush_interval: 50ms
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [file]
    metrics:
      receivers: [otlp]
      exporters: [file]
`

// start runs a collector in a folder. Of ports that somebody else took in the
// moment before, it takes others.
func start(dir string) (c *Collector, err error) {
	binary, err := program()
	if err != nil {
		return nil, err
	}
	for range 5 {
		c = &Collector{binary: binary, dir: dir}
		for _, address := range []*string{&c.GRPC, &c.HTTP} {
			if *address, err = freeAddress(); err != nil {
				return nil, err
			}
		}
		text := fmt.Sprintf(settings, c.GRPC, c.HTTP, c.file())
		if err = os.WriteFile(filepath.Join(dir, "settings.yaml"), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write the collector's settings: %w", err)
		}
		if err = c.launch(); err == nil {
			return c, nil
		}
		c.Kill9()
	}
	return nil, err
}

// file is where the collector writes what it gets.
func (c *Collector) file() string { return filepath.Join(c.dir, "received.jsonl") }

// launch starts the process and returns when it writes what its ports get.
func (c *Collector) launch() error {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the collector's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(c.binary, "--config", filepath.Join(c.dir, "settings.yaml")) //nolint:noctx // ended by Kill9, which the test's cleanup calls
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the collector: %w", err)
	}
	gone := make(chan struct{})
	c.cmd, c.gone = cmd, gone
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(gone)
	}()
	return c.ready()
}

// ready waits until a span that was sent to the collector's port is in its file.
// It listens on both ports before it takes from either.
func (c *Collector) ready() error {
	var trace [16]byte
	_, _ = rand.Read(trace[:]) // never fails
	id := hex.EncodeToString(trace[:])
	deadline := time.Now().Add(patience)
	for {
		err := c.send(id)
		if err == nil {
			for time.Now().Before(deadline) {
				if err = c.take(); err != nil {
					return err
				}
				if len(c.Trace(id)) > 0 {
					return nil
				}
				if c.ended() {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		if c.ended() || time.Now().After(deadline) {
			out, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("the collector does not serve: %w\n%s", errors.Join(err, errors.New("no own span in its file")), out[max(0, len(out)-4000):])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ended reports whether the process has ended.
func (c *Collector) ended() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// send sends a span of a trace by OTLP over HTTP.
func (c *Collector) send(trace string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	body := fmt.Sprintf(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":%q,"spanId":%q,"name":"ready","kind":1}]}]}]}`, trace, trace[:16])
	return c.post(ctx, "/v1/traces", body)
}

// post sends OTLP in JSON.
func (c *Collector) post(ctx context.Context, path, body string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.HTTP+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the collector answers %s", resp.Status)
	}
	return nil
}

// Kill9 ends the collector as kill -9 does and returns when it is gone.
func (c *Collector) Kill9() {
	if c.cmd == nil || c.cmd.Process == nil {
		return
	}
	_ = c.cmd.Process.Kill()
	<-c.gone
	c.cmd = nil
}

// Restart starts the collector again on its ports, after it was killed.
func (c *Collector) Restart(t testing.TB) {
	t.Helper()
	c.Kill9()
	if err := c.launch(); err != nil {
		t.Fatal(err)
	}
}

// freeAddress returns a loopback address that nobody listens on. Its port lies
// below the range from which the system picks those of outgoing connections.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+mathrand.IntN(12000))
		l, err := net.Listen("tcp", address) //nolint:noctx // bound and closed at once
		if err != nil {
			continue
		}
		_ = l.Close()
		return address, nil
	}
	return "", errors.New("no free port between 20000 and 32000")
}

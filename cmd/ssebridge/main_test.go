package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// patience bounds what is waited for on a busy machine. Nothing waits for it
// when all is well.
const patience = 60 * time.Second

// buildDir is where the binary is built, by the first test that asks for it.
var buildDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ssebridge-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		buildDir = dir
		return m.Run()
	}())
}

// buildBinary builds the production binary as the Dockerfile does: without the
// race detector and without cgo.
var buildBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "ssebridge")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return path, nil
})

func binary(t *testing.T) string {
	t.Helper()
	path, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// process is a running ssebridge.
type process struct {
	t             *testing.T
	cmd           *exec.Cmd
	public, admin string // base URLs, once it listens

	mu      sync.Mutex
	lines   []map[string]any // of the log
	raw     []string
	changed chan struct{} // closed and replaced at each line
	done    chan struct{} // closed when the process and its log have ended
	err     error         // of the process, once done is closed
}

// environ is an environment that holds nothing but what is needed, secrets that
// do no harm, and env, written NAME=value: SSEBRIDGE_ is put before it, unless it
// begins with OTEL_.
func environ(env ...string) []string {
	all := []string{
		"SSEBRIDGE_AUTH=none", "SSEBRIDGE_HTTP_LISTEN=127.0.0.1:0", "SSEBRIDGE_ADMIN_LISTEN=127.0.0.1:0", "SSEBRIDGE_ADMIN_TOKEN=" + secrettest.New("admin"),
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=" + secrettest.New("otel"),
	}
	for _, entry := range env {
		if !strings.HasPrefix(entry, "OTEL_") {
			entry = "SSEBRIDGE_" + entry
		}
		all = append(all, entry)
	}
	return all
}

// command runs the binary to its end and returns what it printed and its exit
// code. No planted secret may be in it.
func command(t *testing.T, env []string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	secrettest.Check(t, "the output of ssebridge "+strings.Join(args, " "), string(out))
	output = secrettest.Hide(string(out))
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return output, exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return output, 0
}

// launch starts the binary in an environment of env, see [environ]. Whatever it
// prints until the end of the test must hold no planted secret.
func launch(t *testing.T, env ...string) *process {
	t.Helper()
	p := &process{t: t, changed: make(chan struct{}), done: make(chan struct{})}
	p.cmd = exec.Command(binary(t))
	p.cmd.Env = environ(env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = p.cmd.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.follow(stderr)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		log := strings.Join(p.raw, "\n")
		secrettest.Check(t, "the log of the process", log)
		if t.Failed() {
			t.Logf("log of the process:\n%s", secrettest.Hide(log))
		}
	})
	line := p.waitLog("listening")
	p.public, p.admin = "http://"+line["clients"].(string), "http://"+line["admin"].(string)
	return p
}

// follow reads what the process prints until it ends.
func (p *process) follow(printed io.Reader) {
	in := bufio.NewReader(printed)
	for {
		raw, err := in.ReadString('\n')
		if raw != "" {
			raw = strings.TrimSuffix(raw, "\n")
			line, err := parseLine(raw)
			p.mu.Lock()
			if p.raw = append(p.raw, raw); err == nil { // a panic, say, is no line of the log
				p.lines = append(p.lines, line)
			}
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
		}
		if err != nil {
			break
		}
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	close(p.done)
}

// parseLine reads a line of the log, in JSON or as key=value pairs.
func parseLine(raw string) (map[string]any, error) {
	line := map[string]any{}
	if strings.HasPrefix(raw, "{") {
		return line, json.Unmarshal([]byte(raw), &line)
	}
	for rest := raw; rest != ""; {
		name, value, ok := strings.Cut(rest, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \"") {
			return nil, fmt.Errorf("no pair at %q", rest)
		}
		var text string
		if strings.HasPrefix(value, `"`) {
			quoted, err := strconv.QuotedPrefix(value)
			if err != nil {
				return nil, fmt.Errorf("at %q: %w", rest, err)
			}
			if text, err = strconv.Unquote(quoted); err != nil {
				return nil, fmt.Errorf("at %q: %w", rest, err)
			}
			value = value[len(quoted):]
			if value != "" && value[0] != ' ' {
				return nil, fmt.Errorf("no blank at %q", value)
			}
			rest = strings.TrimPrefix(value, " ")
		} else {
			text, rest, _ = strings.Cut(value, " ")
		}
		line[name] = text
	}
	return line, nil
}

// waitLog returns the first line with this message, waiting for it.
func (p *process) waitLog(msg string) map[string]any {
	p.t.Helper()
	return p.waitLine(msg, "")
}

// waitLine returns the first line with this message and an error that says text,
// waiting for it.
func (p *process) waitLine(msg, text string) map[string]any {
	p.t.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		changed := p.changed
		for _, line := range p.lines {
			if line["msg"] == msg && strings.Contains(fmt.Sprint(line["error"]), text) {
				p.mu.Unlock()
				return line
			}
		}
		p.mu.Unlock()
		select {
		case <-changed:
		case <-p.done:
			p.t.Fatalf("process ended (%v) before it logged %q, error %q", p.err, msg, text)
		case <-limit:
			p.t.Fatalf("no line %q, error %q, within %s", msg, text, patience)
		}
	}
}

// logged returns the errors of all lines with this message, "" for those
// without one.
func (p *process) logged(msg string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []string
	for _, line := range p.lines {
		if line["msg"] == msg {
			text, _ := line["error"].(string)
			errs = append(errs, text)
		}
	}
	return errs
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns how the process ended.
func (p *process) wait() error {
	p.t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		p.t.Fatalf("process did not end within %s", patience)
		return nil
	}
}

// get returns the status and the body of a short answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// reader is a client of the standard that fails the test instead of returning errors.
type reader struct {
	*ssetest.Stream
	t   *testing.T
	ctx context.Context
}

// open connects to the events of a process.
func (p *process) open(query string) *reader {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	p.t.Cleanup(cancel)
	s, err := (&ssetest.Client{URL: p.public + "/events" + query}).Open(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(s.Close)
	if s.Status() != http.StatusOK {
		body, _ := s.ReadAll(ctx)
		p.t.Fatalf("GET /events%s: status %d\n%s", query, s.Status(), body)
	}
	return &reader{s, p.t, ctx}
}

// next returns the next event of the given type, passing over others.
func (r *reader) next(eventType string) ssetest.Event {
	r.t.Helper()
	for {
		e, err := r.Next(r.ctx)
		if err != nil {
			r.t.Fatalf("waiting for %q: %v", eventType, err)
		}
		if e.Type == eventType {
			return e
		}
	}
}

// wantEnd checks that the response ends properly and without another event.
func (r *reader) wantEnd() {
	r.t.Helper()
	if e, err := r.Next(r.ctx); !errors.Is(err, io.EOF) {
		r.t.Errorf("after the last event came %+v, %v, want a clean end", e, err)
	}
}

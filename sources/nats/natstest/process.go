package natstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// serverModule is the program that Process runs: the same module, at the same
// version, that the tests embed.
const serverModule = "github.com/nats-io/nats-server/v2"

// ProcessServer is a NATS server in a process of its own. It keeps its port and
// its data directory over restarts.
type ProcessServer struct {
	URL  string // where clients connect, without credentials
	Name string
	Dir  string // the data directory

	t      testing.TB
	config string
	cmd    *exec.Cmd
	log    string
}

// Process starts a server with JetStream as a process of its own. The
// configuration texts are added to what it needs anyway.
func Process(t testing.TB, config ...string) *ProcessServer {
	t.Helper()
	dir := t.TempDir()
	p := &ProcessServer{
		Name: fmt.Sprintf("natstest-%d-%d", os.Getpid(), serverCount.Add(1)),
		Dir:  filepath.Join(dir, "data"),
		t:    t, config: filepath.Join(dir, "server.conf"), log: filepath.Join(dir, "server.log"),
	}
	port := freePort(t)
	p.URL = fmt.Sprintf("nats://127.0.0.1:%d", port)
	text := fmt.Sprintf("listen: 127.0.0.1:%d\nserver_name: %s\njetstream { store_dir: %q }\n", port, p.Name, p.Dir)
	text += strings.Join(config, "\n") + "\n"
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatalf("write server configuration: %v", err)
	}
	t.Cleanup(p.Kill9)
	p.Start()
	return p
}

// Start starts the server again after [ProcessServer.Kill9] or
// [ProcessServer.Stop], on the same port and data, and returns when it answers.
func (p *ProcessServer) Start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatalf("open server log: %v", err)
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(program(p.t), "-c", p.config) //nolint:noctx // it ends by Kill9, which the test's cleanup calls
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start server: %v", err)
	}
	nc := connect(p.t, p.URL, p.Name, natsgo.NoReconnect())
	js(p.t, nc)
	nc.Close()
}

// Kill9 kills the server as kill -9 does and returns when it is gone.
func (p *ProcessServer) Kill9() { p.end(syscall.SIGKILL) }

// Stop ends the server by SIGTERM and returns when it is gone.
func (p *ProcessServer) Stop() { p.end(syscall.SIGTERM) }

// Restart kills the server and starts it on the same port and data.
func (p *ProcessServer) Restart() {
	p.t.Helper()
	p.Kill9()
	p.Start()
}

// Signal sends a signal to the server, such as SIGSTOP.
func (p *ProcessServer) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("signal server: %v", err)
	}
}

func (p *ProcessServer) end(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	_ = p.cmd.Wait() // says how it ended, which is what was asked for
	p.cmd = nil
}

// CopyData copies the data directory and returns the copy, for
// [ProcessServer.RollBack]. What was acknowledged before is in the copy: the
// server writes its files before it acknowledges.
func (p *ProcessServer) CopyData() string {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(p.Dir)); err != nil {
		p.t.Fatalf("copy data: %v", err)
	}
	return dir
}

// RollBack kills the server and puts an older copy of its data in place, as a
// crash of the machine does that loses what was not synced. The server is
// stopped afterwards.
func (p *ProcessServer) RollBack(dir string) {
	p.t.Helper()
	p.Kill9()
	if err := os.RemoveAll(p.Dir); err != nil {
		p.t.Fatalf("remove data: %v", err)
	}
	if err := os.CopyFS(p.Dir, os.DirFS(dir)); err != nil {
		p.t.Fatalf("put data back: %v", err)
	}
}

// Settle is as [Server.Settle].
func (p *ProcessServer) Settle(stream string) {
	p.t.Helper()
	settle(p.t, p.Dir, stream)
}

// Conn connects to the server; the connection ends with the test and outlives
// restarts of the server.
func (p *ProcessServer) Conn(opts ...natsgo.Option) *natsgo.Conn {
	p.t.Helper()
	return connect(p.t, p.URL, p.Name, opts...)
}

// JS is Conn with JetStream's API over it.
func (p *ProcessServer) JS(opts ...natsgo.Option) jetstream.JetStream {
	p.t.Helper()
	return js(p.t, p.Conn(opts...))
}

// program builds the server once per user and version of the module, and
// returns the path of the binary.
func program(t testing.TB) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildOnce is shared by all tests of the process.
var buildOnce = sync.OnceValues(build)

func build() (string, error) {
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", serverModule).Output() //nolint:noctx // a local look-up
	if err != nil {
		return "", fmt.Errorf("look up the version of %s: %w", serverModule, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "ssebridge-natstest")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the test server: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf("nats-server-%s-%s", version[:len(version)-1], runtime.Version()))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Several test processes may build at once: each writes its own file.
	own := fmt.Sprintf("%s.%d", path, os.Getpid())
	if out, err := exec.Command("go", "build", "-o", own, serverModule).CombinedOutput(); err != nil { //nolint:noctx // ends by itself
		return "", fmt.Errorf("build %s: %w\n%s", serverModule, err, out)
	}
	if err := os.Rename(own, path); err != nil {
		return "", fmt.Errorf("put the test server in place: %w", err)
	}
	return path, nil
}

// freePort returns a port that nobody listens on. It lies below the range from
// which the system picks the ports of outgoing connections, so that none of
// those takes it while the server is down.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // bound and closed at once
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
	t.Fatal("no free port between 20000 and 32000")
	return 0
}

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// proxyProgram is a reverse proxy and the file that operators copy for it.
type proxyProgram struct {
	name     string
	file     string    // what is tested, from this folder
	listen   string    // where in the file it listens
	listenAt string    // the same, with %s for an address
	bridges  [2]string // where the file expects the bridges
	timeouts []string  // the directives that bound silence, with their 60 s

	// frame returns a whole configuration around the snippet, both in dir, and the
	// arguments that start the program on it. One process does everything, in the
	// foreground: it ends when it is told to, and leaves nothing behind.
	frame func(dir string) (config string, args []string)
}

var nginx = proxyProgram{
	name: "nginx", file: "../nginx/ssebridge.conf", listen: "listen 80;", listenAt: "listen %s;",
	bridges:  [2]string{"server bridge-1:8480 ", "server bridge-2:8480 "},
	timeouts: []string{"proxy_read_timeout 60s;"},
	frame: func(dir string) (string, []string) {
		// Compression of everything, which the snippet has to hold off.
		config := "daemon off; master_process off; pid " + dir + "/pid; error_log stderr notice;\n" +
			"events {}\nhttp {\naccess_log off; gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any;\n"
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			config += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, dir, kind)
		}
		return config + "include " + dir + "/snippet;\n}\n", []string{"-p", dir, "-e", "stderr", "-c", dir + "/config"}
	},
}

var haproxy = proxyProgram{
	name: "haproxy", file: "../haproxy/haproxy.cfg", listen: "bind :80\n", listenAt: "bind %s\n",
	bridges:  [2]string{" bridge-1:8480\n", " bridge-2:8480\n"},
	timeouts: []string{"timeout client 60s", "timeout server 60s"},
	frame:    func(dir string) (string, []string) { return "", []string{"-db", "-f", dir + "/snippet"} },
}

// eachProxy runs a test for every proxy there is a snippet for.
func eachProxy(t *testing.T, test func(t *testing.T, p proxyProgram)) {
	for _, p := range []proxyProgram{nginx, haproxy} {
		t.Run(p.name, func(t *testing.T) { test(t, p) })
	}
}

// need returns the path of the program. Without it the test is skipped, or fails
// where the environment says that proxies are required.
func (p proxyProgram) need(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath(p.name)
	if err != nil {
		// Debian has it where only root looks.
		path, err = exec.LookPath("/usr/sbin/" + p.name)
	}
	if err != nil {
		missing(t, "proxies", p.name+" is not installed; apt-get install "+p.name)
	}
	return path
}

// snippet returns the file for operators, changed as they would: the addresses,
// and what else edits say as pairs of old and new text. What is to be changed
// must stand there exactly once.
func (p proxyProgram) snippet(t testing.TB, listen string, bridges []*bridgeProcess, edits ...string) string {
	t.Helper()
	b, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	edits = append(edits, p.listen, fmt.Sprintf(p.listenAt, listen))
	for i, place := range p.bridges {
		address := strings.TrimPrefix(bridges[i].URL, "http://")
		edits = append(edits, place, strings.Replace(place, fmt.Sprintf("bridge-%d:8480", i+1), address, 1))
	}
	for i := 0; i < len(edits); i += 2 {
		if n := strings.Count(text, edits[i]); n != 1 {
			t.Fatalf("%s has %q %d times, want once", p.file, edits[i], n)
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	return text
}

// silence returns edits that set every bound of silence.
func (p proxyProgram) silence(d time.Duration) []string {
	var edits []string
	for _, directive := range p.timeouts {
		edits = append(edits, directive, strings.Replace(directive, "60s", fmt.Sprintf("%dms", d.Milliseconds()), 1))
	}
	return edits
}

// startProxy starts a proxy in front of two bridges and waits until it listens.
// It returns its URL. The process ends with the test.
func startProxy(t testing.TB, p proxyProgram, bridges []*bridgeProcess, edits ...string) string {
	t.Helper()
	p.need(t)
	listen := freeAddress(t)
	return p.start(t, listen, p.snippet(t, listen, bridges, edits...))
}

// start starts the program on a snippet that has it listen at an address.
func (p proxyProgram) start(t testing.TB, listen, snippet string) string {
	t.Helper()
	dir := t.TempDir()
	config, args := p.frame(dir)
	for name, text := range map[string]string{"snippet": snippet, "config": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := new(logBuffer)
	cmd := exec.Command(p.need(t), args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, dieWithTest()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.name, log.tail(40))
		}
	})
	until(t, p.name+" to listen at "+listen, func() bool {
		select {
		case <-done:
			t.Fatalf("%s ended: %s\n%s", p.name, cmd.ProcessState, log)
		default:
		}
		conn, err := net.Dial("tcp", listen)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return "http://" + listen
}

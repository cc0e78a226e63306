package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// recordMark is a byte that every record of a benchmark has once, and nothing
// else of a response has. What follows it is in sink/testdata/load.c.
const recordMark = '!'

// benchPayload makes a record.
func benchPayload(n, size int) []byte {
	p := fmt.Appendf(nil, "%c%08d%019d", recordMark, n, time.Now().UnixNano())
	return append(p, strings.Repeat("x", size-len(p))...)
}

// buildTool compiles a program of sink/testdata, once per test process.
func buildTool(t testing.TB, name string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the programs of sink/testdata need Linux: epoll")
	}
	path := filepath.Join(buildDir, name)
	buildingTools.Lock()
	defer buildingTools.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("needs a C compiler: apt-get install gcc libc6-dev")
	}
	out, err := exec.Command("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, "../../sink/testdata/"+name+".c").CombinedOutput()
	if err != nil {
		t.Fatalf("compile %s: %v\n%s", name, err, out)
	}
	return path
}

var buildingTools sync.Mutex

// buildWaiting builds the bridge without its sweeper.
var buildWaiting = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "ssebridge-nosweep")
	return path, goBuild("-tags", "nosweep", "-o", path, "../../cmd/ssebridge")
})

// onCPU returns a command that runs another one on one processor; none where
// there are not two of them.
func onCPU(t testing.TB, cpu int) []string {
	t.Helper()
	if runtime.NumCPU() < 2 {
		return nil
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		t.Skip("needs taskset: apt-get install util-linux")
	}
	return []string{"taskset", "-c", strconv.Itoa(cpu)}
}

// tool is one of those programs running: commands in, lines out.
type tool struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	line chan string // closed when its output ends
}

func startTool(t testing.TB, cpu int, name string, args ...string) *tool {
	t.Helper()
	command := append(append(onCPU(t, cpu), buildTool(t, name)), args...)
	p := &tool{t: t, cmd: exec.Command(command[0], command[1:]...), line: make(chan string)}
	p.cmd.SysProcAttr, p.cmd.Stderr = dieWithTest(), os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // stop waits for it
		defer close(p.line)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.line <- lines.Text()
		}
	}()
	t.Cleanup(p.stop)
	return p
}

// stop ends the program. It may be called again.
func (p *tool) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.in.Close()
	for range p.line { // until it has ended
	}
	_ = p.cmd.Wait() // its end was asked for
	p.cmd = nil
}

func (p *tool) pid() int { return p.cmd.Process.Pid }

func (p *tool) tell(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatalf("%s has ended: %v", p.cmd.Path, err)
	}
}

// toolPatience is more than patience: a storm of clients may take a slow machine
// a minute.
const toolPatience = 5 * patience

// hear returns the next line.
func (p *tool) hear() string {
	p.t.Helper()
	select {
	case line, ok := <-p.line:
		if !ok {
			p.t.Fatalf("%s has ended", p.cmd.Args)
		}
		return line
	case <-time.After(toolPatience):
		p.t.Fatalf("%s says nothing for %s", p.cmd.Args, toolPatience)
		return ""
	}
}

// limitServer is the program of sink/testdata/limit.c.
type limitServer struct {
	*tool
	port int
}

// startLimit starts it with what goes over the wire at the bridge.
func startLimit(t testing.TB, wire wireImage) *limitServer {
	t.Helper()
	dir := t.TempDir()
	head, block := filepath.Join(dir, "head"), filepath.Join(dir, "block")
	for name, text := range map[string][]byte{head: wire.head, block: wire.block} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &limitServer{tool: startTool(t, 0, "limit", head, block)}
	var err error
	if s.port, err = strconv.Atoi(s.hear()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *limitServer) send(count, first int) {
	s.t.Helper()
	s.tell("send %d %d", count, first)
	s.hear()
}

// backlog makes new clients be sent so many records.
func (s *limitServer) backlog(count, first int) {
	s.t.Helper()
	s.tell("backlog %d %d", count, first)
	s.hear()
}

// wireImage is what a bridge sends: everything up to the first record, and that
// record's chunk.
type wireImage struct{ head, block []byte }

// captureWire takes a picture of it. publish adds a record.
func captureWire(t testing.TB, bridge *bridgeProcess, publish func()) wireImage {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(bridge.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var got []byte
	read := func() {
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
	for !bytes.Contains(got, []byte("event: caught-up")) || !bytes.HasSuffix(got, []byte("\n\n\r\n")) {
		read()
	}
	size := len(got)
	publish()
	for len(got) == size || !bytes.HasSuffix(got, []byte("\n\n\r\n")) {
		read()
	}
	if bytes.Count(got[size:], []byte{recordMark}) != 1 {
		t.Fatalf("not one record: %q", got[size:])
	}
	return wireImage{got[:size], got[size:]}
}

// loadGenerator is the program of sink/testdata/load.c.
type loadGenerator struct {
	*tool
	later []loadReport // that came before they were asked for
}

// loadReport is a line that it prints.
type loadReport struct {
	Did   string
	Group int
	MS    float64 // that the command took

	// Of stats.
	Connected             int
	Events, Lost, Doubled int64
	Ended, Refused        int64
	Reconnects, Stalls    int64
	Times                 int     // records that all clients got
	P50, P99, Max         float64 // ms to the last client
	CPU                   float64 // s of the load generator itself
}

func startLoad(t testing.TB, serverURL string) *loadGenerator {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	return &loadGenerator{tool: startTool(t, 1, "load", u.Port())}
}

// await waits until a command of a group is carried out.
func (l *loadGenerator) await(did string, group int) loadReport {
	l.t.Helper()
	for i, r := range l.later {
		if r.Did == did && r.Group == group {
			l.later = append(l.later[:i], l.later[i+1:]...)
			return r
		}
	}
	for {
		var r loadReport
		if err := json.Unmarshal([]byte(l.hear()), &r); err != nil {
			l.t.Fatal(err)
		}
		if r.Did == did && r.Group == group {
			return r
		}
		l.later = append(l.later, r)
	}
}

// open connects clients, and returns when each has been answered.
func (l *loadGenerator) open(group, clients int, path string) {
	l.t.Helper()
	l.tell("open %d %d %s", group, clients, path)
	l.await("open", group)
}

// reach returns when all clients of a group have got a record.
func (l *loadGenerator) reach(group, number int) {
	l.t.Helper()
	l.tell("reach %d %d", group, number)
	l.await("reach", group)
}

// stats returns what a group has got; the times are those since the call before.
func (l *loadGenerator) stats(group int) loadReport {
	l.t.Helper()
	l.tell("stats %d", group)
	return l.await("stats", group)
}

// check makes sure that a group's clients are there and have got each record
// once.
func (l *loadGenerator) check(group, clients int) loadReport {
	l.t.Helper()
	r := l.stats(group)
	if r.Lost+r.Doubled+r.Refused != 0 || r.Connected != clients {
		l.t.Errorf("%d of %d clients connected, %d records lost, %d doubled, %d refused", r.Connected, clients, r.Lost, r.Doubled, r.Refused)
	}
	return r
}

// Benchmarks stand on the load generator's count: it has to see what is lost.
func TestLoadGeneratorCountsExactly(t *testing.T) {
	t.Parallel()
	block := benchPayload(0, 40)
	wire := wireImage{
		head:  []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n: hi\n\r\n"),
		block: fmt.Appendf(nil, "%x\r\ndata: %s\nid: x\n\n\r\n", len("data: \nid: x\n\n")+len(block), block),
	}
	s := startLimit(t, wire)
	l := startLoad(t, fmt.Sprintf("http://localhost:%d", s.port))
	const clients = 100
	l.open(0, clients, "/events")
	s.send(1000, 1) // reads end in the middle of records
	l.reach(0, 1000)
	if r := l.check(0, clients); r.Events != clients*1000 || r.Times != 1000 {
		t.Errorf("%d events, %d that all got, want %d and 1000", r.Events, r.Times, clients*1000)
	}
	s.send(1, 1004)
	s.send(1, 1004)
	s.send(1, 1005)
	l.reach(0, 1005)
	if r := l.stats(0); r.Lost != 3*clients || r.Doubled != clients {
		t.Errorf("%d lost, %d doubled, want %d and %d", r.Lost, r.Doubled, 3*clients, clients)
	}
	s.stop()
	until(t, "the clients to see their end", func() bool { return l.stats(0).Connected == 0 })
}

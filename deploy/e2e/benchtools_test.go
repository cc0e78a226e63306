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

// codings are the content codings that the load generator can undo, with the
// header, the library and the Debian package that it takes.
var codings = map[string]struct{ header, library, debian string }{
	"gzip": {"zlib.h", "z", "zlib1g-dev"},
	"zstd": {"zstd.h", "zstd", "libzstd-dev"},
}

// buildTool compiles a program of sink/testdata, once per test process, for a
// content coding; empty: for none.
func buildTool(t testing.TB, name, coding string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the programs of sink/testdata need Linux: epoll")
	}
	path := filepath.Join(buildDir, name+coding)
	buildingTools.Lock()
	defer buildingTools.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("needs a C compiler: apt-get install gcc libc6-dev")
	}
	args := []string{"-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, "../../sink/testdata/" + name + ".c"}
	if coding != "" {
		if lack := lackOf(coding); lack != "" {
			t.Skip(lack)
		}
		args = append(args, "-D"+strings.ToUpper(coding), "-l"+codings[coding].library)
	}
	out, err := exec.Command("cc", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("compile %s: %v\n%s", name, err, out)
	}
	return path
}

var buildingTools sync.Mutex

// lackOf says what is not installed that the load generator takes to undo a
// coding; empty: nothing.
func lackOf(coding string) string {
	c := codings[coding]
	probe := exec.Command("cc", "-E", "-x", "c", "-")
	probe.Stdin = strings.NewReader("#include <" + c.header + ">\n")
	if probe.Run() == nil {
		return ""
	}
	return fmt.Sprintf("needs %s, to undo %s: apt-get install %s", c.header, coding, c.debian)
}

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

// startTool starts the program at path on a processor.
func startTool(t testing.TB, cpu int, path string, args ...string) *tool {
	t.Helper()
	command := append(append(onCPU(t, cpu), path), args...)
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
	line, ok := p.hearBy(time.Now().Add(toolPatience))
	if !ok {
		p.t.Fatalf("%s says nothing for %s", p.cmd.Args, toolPatience)
	}
	return line
}

// hearBy is hear for so long at most.
func (p *tool) hearBy(deadline time.Time) (line string, ok bool) {
	p.t.Helper()
	select {
	case line, ok := <-p.line:
		if !ok {
			p.t.Fatalf("%s has ended", p.cmd.Args)
		}
		return line, true
	case <-time.After(time.Until(deadline)):
		return "", false
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
	s := &limitServer{tool: startTool(t, 0, buildTool(t, "limit", ""), head, block)}
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
	port  string       // of the server
	later []loadReport // that came before they were asked for
	// told returns what the server says of its clients, by their address; nil: nothing.
	told func() map[string]string
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
	Bytes                 int64   // over the wire, heads included
	Uncoded, Corrupt      int64   // responses without the coding that was asked for; those that cannot be decoded
	Times                 int     // records that all clients got
	P50, P99, Max         float64 // ms to the last client
	CPU                   float64 // s of the load generator itself

	// Of stuck.
	Missing int
	Stuck   []stuckClient
}

// stuckClient is a client that has not got what was waited for.
type stuckClient struct {
	Index   int
	How     string // connected, stalled, not answered, to come back, gone
	Address string
	Last    int     // number of the newest record
	Unread  int     // bytes that wait in its socket
	Silent  float64 // s since it read something; -1: it never did
	Ended   int     // how often the server ended its response
}

func startLoad(t testing.TB, serverURL string) *loadGenerator {
	return startLoadCoded(t, serverURL, "")
}

// startLoadCoded starts one that knows a content coding, for groups that are told
// to ask for it.
func startLoadCoded(t testing.TB, serverURL, coding string) *loadGenerator {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	return &loadGenerator{tool: startTool(t, 1, buildTool(t, "load", coding), u.Port()), port: u.Port()}
}

// await waits until a command of a group is carried out.
func (l *loadGenerator) await(did string, group int) loadReport {
	l.t.Helper()
	r, ok := l.awaitFor(did, group, toolPatience)
	if !ok {
		l.t.Fatalf("%s of group %d is not done after %s", did, group, toolPatience)
	}
	return r
}

// awaitFor is await for so long at most.
func (l *loadGenerator) awaitFor(did string, group int, most time.Duration) (loadReport, bool) {
	l.t.Helper()
	for i, r := range l.later {
		if r.Did == did && r.Group == group {
			l.later = append(l.later[:i], l.later[i+1:]...)
			return r, true
		}
	}
	for deadline := time.Now().Add(most); ; {
		line, ok := l.hearBy(deadline)
		if !ok {
			return loadReport{}, false
		}
		var r loadReport
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			l.t.Fatal(err)
		}
		if r.Did == did && r.Group == group {
			return r, true
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
	l.awaitReach(group)
}

// awaitReach waits until reach is done. Where it is not, it tells of each client
// what keeps it.
func (l *loadGenerator) awaitReach(group int) loadReport {
	l.t.Helper()
	r, ok := l.awaitFor("reach", group, toolPatience)
	if !ok {
		l.t.Fatalf("after %s: %s", toolPatience, l.stuck(group))
	}
	return r
}

// stuck tells which clients of a group miss what reach waits for, and what keeps
// each: bytes that the client has not read, or that the server's kernel has not
// sent, are on their way; without any, the server has to write. It looks twice, so
// that one that is slow can be told from one that has stopped.
func (l *loadGenerator) stuck(group int) string {
	l.t.Helper()
	const most, pause = 20, time.Second
	var text strings.Builder
	before := map[int]int{}
	for look := range 2 {
		l.tell("stuck %d %d", group, most)
		r := l.await("stuck", group)
		unsent, told := unsentBytes(l.port), map[string]string{}
		if l.told != nil {
			told = l.told()
		}
		fmt.Fprintf(&text, "%d clients of group %d have not got the record:\n", r.Missing, group)
		for _, c := range r.Stuck {
			fmt.Fprintf(&text, "  client %d at %s is %s: record %d", c.Index, c.Address, c.How, c.Last)
			if last, ok := before[c.Index]; ok {
				fmt.Fprintf(&text, " (%+d in %s)", c.Last-last, pause)
			}
			fmt.Fprintf(&text, ", has read nothing for %.1f s, %d bytes to read, its response ended %d times; ", c.Silent, c.Unread, c.Ended)
			if n, ok := unsent[c.Address]; ok {
				fmt.Fprintf(&text, "the server's kernel has %d bytes to send", n)
			} else {
				text.WriteString("the server has no such connection")
			}
			if says, ok := told[c.Address]; ok {
				text.WriteString("; the bridge says " + says)
			}
			text.WriteByte('\n')
			before[c.Index] = c.Last
		}
		if look == 0 {
			time.Sleep(pause)
		}
	}
	return text.String()
}

// clientsByAddress returns what the bridge tells of its clients.
func (b *bridgeProcess) clientsByAddress() map[string]string {
	out := map[string]string{}
	for next := "0"; next != ""; {
		a, err := get(b.t.Context(), b.Admin+"/clients?limit=1000&after="+next, map[string]string{"Authorization": "Bearer " + b.env["ADMIN_TOKEN"]})
		var page struct {
			Clients []struct {
				Address, State string
				Lag            *int64
				Events, Bytes  uint64
			}
			Next string
		}
		if err == nil {
			err = json.Unmarshal([]byte(a.body), &page)
		}
		if err != nil {
			b.t.Errorf("list the clients: %v", err)
			return out
		}
		for _, c := range page.Clients {
			lag := "unknown"
			if c.Lag != nil {
				lag = strconv.FormatInt(*c.Lag, 10)
			}
			out[c.Address] = fmt.Sprintf("%s, at most %s records behind, %d events and %d bytes written", c.State, lag, c.Events, c.Bytes)
		}
		next = page.Next
	}
	return out
}

// unsentBytes returns what the kernel still has to send over the connections of a
// local port, or has sent and not been confirmed, by the address of the other side.
func unsentBytes(port string) map[string]int {
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return nil // it is only told
	}
	out := map[string]int{}
	for line := range strings.Lines(string(text)) {
		// 12: 0100007F:1F90 0200007F:D431 01 00000000:00000000 …: address as the bytes
		// of a number, port, state, and what is to be sent and read.
		var local, remote, toSend uint32
		var localPort, remotePort, state uint16
		if n, _ := fmt.Sscanf(strings.TrimSpace(line), "%d: %x:%x %x:%x %x %x:", new(int), &local, &localPort, &remote, &remotePort, &state, &toSend); n < 7 {
			continue
		}
		if strconv.Itoa(int(localPort)) == port && remotePort != 0 {
			ip := net.IPv4(byte(remote), byte(remote>>8), byte(remote>>16), byte(remote>>24))
			out[net.JoinHostPort(ip.String(), strconv.Itoa(int(remotePort)))] = int(toSend)
		}
	}
	return out
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
	if r.Lost+r.Doubled+r.Refused+r.Uncoded+r.Corrupt != 0 || r.Connected != clients {
		l.t.Errorf("%d of %d clients connected, %d records lost, %d doubled, %d clients refused, %d without coding, %d corrupt",
			r.Connected, clients, r.Lost, r.Doubled, r.Refused, r.Uncoded, r.Corrupt)
	}
	return r
}

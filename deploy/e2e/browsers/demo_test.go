//go:build unix

package browsers

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// programs is the directory of both programs; TestMain makes and removes it.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ssebridge-e2e-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	code := m.Run()
	for _, b := range running {
		b.Close()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the programs, once for all tests.
var build = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-o", programs, "./cmd/ssebridge", "./cmd/ssebridge-demo") // outlives the test that asks first
	cmd.Dir = filepath.Join("..", "..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the demo: %w\n%s", err, out)
	}
	return nil
})

// demo is the demo as a newcomer runs it: both binaries as they are built.
type demo struct {
	PageURL, EventsURL, BrokerURL string

	t      *testing.T
	bridge int         // process id of the first one
	lines  chan string // what it prints
}

// startDemo starts the demo, and ends it with the test.
func startDemo(t *testing.T) *demo {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// It ends by a signal, after the test's context.
	cmd := exec.Command(filepath.Join(programs, "ssebridge-demo"),
		"-listen", "127.0.0.1:0", "-nats-listen", "127.0.0.1:0", "-bridge-listen", ownAddress(t))
	cmd.Dir = t.TempDir() // any directory will do
	cmd.SysProcAttr = dieWithTest()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	d := &demo{t: t, lines: make(chan string, 10_000)} // more than it prints in a test
	kept := make(chan string, 1)                       // all of it, once it has ended
	go func() { kept <- d.collect(read) }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("demo: %v, want status 0", err)
		}
		text := <-kept
		secrettest.Check(t, "what the demo and its bridge printed", text)
		if t.Failed() {
			t.Logf("the demo printed:\n%s", secrettest.Hide(text))
		}
		read.Close()
	})
	d.bridge = d.NextBridge()
	d.PageURL = d.Next(`Open  (\S+)  `)
	d.EventsURL = d.Next(`curl -N '(\S+)\?`)
	d.BrokerURL = d.Next(`is at (nats:\S+),`)
	return d
}

// ownAddress returns a free address for the bridge to keep while it is down in
// between. Its port is below those that systems give away by themselves (from
// 32768 on Linux, 49152 on others), or another test would get it meanwhile.
func ownAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000))))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	t.Fatal("no free port among a hundred")
	return ""
}

// collect hands on the lines of r as they come, and returns them all.
func (d *demo) collect(r io.Reader) string {
	defer close(d.lines)
	var all strings.Builder
	for scan := bufio.NewScanner(r); scan.Scan(); {
		all.WriteString(scan.Text() + "\n")
		d.lines <- scan.Text()
	}
	return all.String()
}

// Next returns the first group of the next line that pattern matches.
func (d *demo) Next(pattern string) string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patienceSeconds * time.Second)
	for {
		select {
		case line, open := <-d.lines:
			if !open {
				d.t.Fatalf("the demo has ended without a line that matches %q", pattern)
			}
			if m := re.FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
		case <-timeout:
			d.t.Fatalf("no line of the demo matches %q", pattern)
		}
	}
}

// NextBridge returns the process id of the next bridge that the demo starts.
func (d *demo) NextBridge() int {
	d.t.Helper()
	pid, err := strconv.Atoi(d.Next(`msg="bridge started" pid=(\d+)`))
	if err != nil {
		d.t.Fatal(err)
	}
	return pid
}

// kill ends a process as a crash does: at once, in the middle of whatever it
// writes.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill the bridge: %v", err)
	}
}

// jetStream is the demo's broker, and the stream of prices in it.
func (d *demo) jetStream() (jetstream.JetStream, jetstream.Stream) {
	d.t.Helper()
	conn, err := natsgo.Connect(d.BrokerURL)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		d.t.Fatal(err)
	}
	stream, err := js.Stream(d.t.Context(), "PRICES")
	if err != nil {
		d.t.Fatal(err)
	}
	return js, stream
}

// newRecords waits until a stream holds n records more than now.
func newRecords(t *testing.T, stream jetstream.Stream, n uint64) {
	t.Helper()
	last := func() uint64 {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.LastSeq
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patienceSeconds * time.Second)
	for want := last() + n; last() < want; {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("the publisher stands still at record %d", last())
		}
	}
}

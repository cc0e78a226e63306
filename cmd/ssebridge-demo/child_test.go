//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// startChild runs the stand-in as a child and returns it with its log and its
// output. stop ends it, and fails the test unless Run then returns nil.
func startChild(t *testing.T, mode string) (c *child, log, output *watch, stop func()) {
	t.Helper()
	log, output = newWatch(), newWatch()
	env := []string{"SSEBRIDGE_STREAMS=x", "SSEBRIDGE_HTTP_LISTEN=127.0.0.1:0", "STAND_IN=" + mode}
	c = newChild(self(t), env, output, slog.New(slog.NewTextHandler(log, nil)), func(childState) {})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v, want nil", err)
		}
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return c, log, output, stop
}

const started = `msg="bridge started" pid=(\d+)`

func pid(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gone fails the test if the process still exists.
func gone(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signal to process %d: %v, want that it is gone", pid, err)
	}
}

// A bridge that crashes under the page comes back by itself, every time.
func TestChildIsStartedAgainAfterEachCrash(t *testing.T) {
	_, log, output, stop := startChild(t, "")
	defer stop()
	before := pid(t, log.Next(t, started))
	for range 3 {
		output.Next(t, "stand-in runs")
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		log.Next(t, `bridge ended`)
		after := pid(t, log.Next(t, started))
		if after == before {
			t.Fatalf("process %d before and after the crash", after)
		}
		before = after
	}
}

// A binary that cannot run at all must not be started in a busy loop.
func TestChildWaitsLongerAfterEachCrash(t *testing.T) {
	_, log, _, stop := startChild(t, "crash")
	defer stop()
	for _, want := range []string{"200ms", "400ms", "800ms"} {
		if got := log.Next(t, `bridge ended.*restart_in=(\S+)`); got != want {
			t.Errorf("restart in %s, want %s", got, want)
		}
	}
	if got := backoff(1000); got != maxBackoff {
		t.Errorf("backoff after 1000 crashes %s, want %s", got, maxBackoff)
	}
}

// Whoever kills the bridge to see what happens decides when it comes back.
func TestKilledChildComesBackWhenAsked(t *testing.T) {
	c, log, output, stop := startChild(t, "")
	defer stop()
	first := pid(t, log.Next(t, started))
	output.Next(t, "stand-in runs")
	for range 2 { // the second finds it down
		if err := c.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, first)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := pid(t, log.Next(t, started))
	output.Next(t, "stand-in runs")
	killed, err := c.Restart(t.Context(), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if killed != second {
		t.Errorf("Restart killed process %d, want %d", killed, second)
	}
	gone(t, second)
	if third := pid(t, log.Next(t, started)); third == second || second == first {
		t.Errorf("processes %d, %d and %d, want three", first, second, third)
	}
}

// The page shows the process as it is: the id of the one that runs, and none of
// one that was killed.
func TestChildReportsItsState(t *testing.T) {
	seen := make(chan childState, 100) // more than are reported here
	var last childState
	log := newWatch()
	c := newChild(self(t), []string{"SSEBRIDGE_STREAMS=x", "SSEBRIDGE_HTTP_LISTEN=127.0.0.1:0"}, io.Discard,
		slog.New(slog.NewTextHandler(log, nil)), func(s childState) {
			if s != last {
				seen <- s
			}
			last = s
		})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v, want nil", err)
		}
	}()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	first := pid(t, log.Next(t, started))
	if _, err := c.Restart(ctx, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	second := pid(t, log.Next(t, started))
	if err := c.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	for _, want := range []childState{{"down", 0}, {"running", first}, {"waiting", 0}, {"running", second}, {"down", 0}} {
		if got := <-seen; got != want {
			t.Errorf("state %+v, want %+v", got, want)
		}
	}
}

// A demo that has ended must not leave a bridge on the port, whatever state the
// bridge is in.
func TestChildEndsWithRun(t *testing.T) {
	for _, mode := range []string{"polite", "deaf"} {
		t.Run(mode, func(t *testing.T) {
			_, log, output, stop := startChild(t, mode)
			id := pid(t, log.Next(t, started))
			output.Next(t, "stand-in runs") // before that, SIGTERM would end it in any mode
			stop()
			gone(t, id)
		})
	}
}

// Settings in the newcomer's shell must not change what the demo shows, nor stop
// the bridge, which refuses variables it does not know.
func TestChildSeesOnlyItsOwnEnvironment(t *testing.T) {
	t.Setenv("SSEBRIDGE_FROM_OUTSIDE", "1")
	_, _, output, stop := startChild(t, "env")
	defer stop()
	timeout := time.After(patience)
	for {
		select {
		case line := <-output.lines:
			switch line {
			case "SSEBRIDGE_FROM_OUTSIDE=1":
				t.Fatal("the child sees a variable from outside")
			case "stand-in runs":
				return
			}
		case <-timeout:
			t.Fatal("the child prints nothing")
		}
	}
}

// The reason why nothing starts is the one thing to print.
func TestChildSaysWhyItCannotStart(t *testing.T) {
	c := newChild(filepath.Join(t.TempDir(), "ssebridge"), nil, newWatch(), discard(), func(childState) {})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if err := c.Start(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Start: %v, want %v", err, fs.ErrNotExist)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v, want nil", err)
	}
}

// startDemo starts the demo as a process that leads a group of its own, as a
// shell does, and returns once it has printed its address.
func startDemo(t *testing.T, tmp string) (*exec.Cmd, *watch) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close() })
	demo := exec.CommandContext(t.Context(), self(t), demoArgs(t)...)
	demo.Env = append(os.Environ(), "DEMO_MAIN=1", "TMPDIR="+tmp)
	demo.Stdout, demo.Stderr = write, write
	demo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	lines := newWatch()
	go func() {
		_, _ = io.Copy(lines, read) // ends when the demo and its child have ended
		close(lines.lines)
	}()
	return demo, lines
}

// Ctrl-C reaches every process of the group at once, and make and timeout pass on
// to their child what the whole group has got already. The demo still ends in
// order: status 0, no process, no directory.
func TestCtrlCEndsEverything(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			tmp := t.TempDir()
			demo, lines := startDemo(t, tmp)
			bridge := pid(t, lines.Next(t, started))
			lines.Next(t, `Ctrl-C ends everything`)
			if err := syscall.Kill(-demo.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
			lines.Next(t, "stand-in was asked to end") // so the first has arrived
			if err := syscall.Kill(demo.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
			if err := demo.Wait(); err != nil {
				t.Errorf("demo: %v, want status 0", err)
			}
			gone(t, bridge)
			if entries, err := os.ReadDir(tmp); err != nil || len(entries) != 0 {
				t.Errorf("temporary directory afterwards: %v, %v; want none", entries, err)
			}
		})
	}
}

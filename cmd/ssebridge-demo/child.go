package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// How long a child that crashes waits before it is started again, and how long
// one that is asked to end may take before it is killed.
const (
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 5 * time.Second
	stopGrace    = 2 * time.Second
)

// settled is how long a child must have run for its next crash to count as the
// first.
const settled = 10 * time.Second

// child keeps one program running.
//
//	        Start           ends by itself, Restart
//	down ─────────► running ───────────────────────► waiting
//	  ▲                │ ▲                              │
//	  └───── Kill ─────┘ └───── after a while, Start ───┘
//
// Run owns the process; the other methods ask Run, so they work only while it
// runs, and may be called by any goroutine.
type child struct {
	path   string
	env    []string // all of its environment
	output io.Writer
	log    *slog.Logger
	report func(childState) // called by Run at each change

	requests chan request
}

// childState is what others may know of the program.
type childState struct {
	State string `json:"state"` // down, running or waiting
	PID   int    `json:"pid"`   // 0 unless it runs
}

// request asks Run to do something; the answer arrives on reply.
type request struct {
	do    func(*process) error
	reply chan error
}

// process is what Run knows of the program: cmd and ended are nil unless it
// runs, retry is nil unless it waits.
type process struct {
	cmd      *exec.Cmd
	ended    chan exit
	started  time.Time
	failures int // crashes in a row
	retry    <-chan time.Time
}

// exit is how a process ended; err is nil for status 0.
type exit struct{ err error }

// newChild describes a program to run with exactly this environment. What it
// prints goes to output; report is told each change of its state.
func newChild(path string, env []string, output io.Writer, log *slog.Logger, report func(childState)) *child {
	return &child{path: path, env: env, output: output, log: log, report: report, requests: make(chan request)}
}

// Run keeps the program as the other methods want it until ctx ends; then it
// ends the program, waits for that, and returns nil. The program is down until
// Start.
func (c *child) Run(ctx context.Context) error {
	// Linux takes the thread that starts a process for its parent (see
	// childAttributes), so that thread must last as long as the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p := &process{}
	defer c.stop(p)
	for {
		c.report(p.state())
		select {
		case <-ctx.Done():
			return nil
		case r := <-c.requests:
			err := r.do(p)
			c.report(p.state()) // who asked sees it at once
			r.reply <- err
		case exit := <-p.ended:
			if time.Since(p.started) > settled {
				p.failures = 0
			}
			wait := backoff(p.failures)
			p.failures++
			c.log.Warn("bridge ended", "pid", p.cmd.Process.Pid, "error", exit.err, "restart_in", wait)
			p.cmd, p.ended, p.retry = nil, nil, time.After(wait)
		case <-p.retry:
			if err := c.start(p); err != nil {
				c.log.Error("cannot start the bridge again", "error", err)
				p.failures++
				p.retry = time.After(backoff(p.failures))
			}
		}
	}
}

// Start starts the program; it does nothing if it runs. The error says why the
// program cannot be started, or that Run has ended.
func (c *child) Start(ctx context.Context) error { return c.ask(ctx, c.start) }

// Kill ends the program as a power cut would (SIGKILL on Unix), and leaves it
// down. Killing a program that is down does nothing.
func (c *child) Kill(ctx context.Context) error { return c.ask(ctx, c.kill) }

// Restart kills the program if it runs, and lets it be started again after a
// pause. It returns the id of the killed process, 0 if there was none.
func (c *child) Restart(ctx context.Context, pause time.Duration) (pid int, err error) {
	err = c.ask(ctx, func(p *process) error {
		pid = p.state().PID
		if err := c.kill(p); err != nil {
			return err
		}
		p.retry = time.After(pause)
		return nil
	})
	return pid, err
}

func (p *process) state() childState {
	switch {
	case p.cmd != nil:
		return childState{"running", p.cmd.Process.Pid}
	case p.retry != nil:
		return childState{"waiting", 0}
	}
	return childState{"down", 0}
}

// ask lets Run do something and waits for it.
func (c *child) ask(ctx context.Context, do func(*process) error) error {
	r := request{do: do, reply: make(chan error, 1)} // one answer, which Run must not wait to hand over
	select {
	case c.requests <- r:
		return <-r.reply
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *child) start(p *process) error {
	if p.cmd != nil {
		return nil
	}
	cmd := exec.Command(c.path) //nolint:noctx // Run ends it: by a signal first, so that its clients hear goodbye
	cmd.Env = c.env
	cmd.Stdout, cmd.Stderr = c.output, c.output
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = time.Second // for output that a process of its own might hold open
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the bridge: %w", err)
	}
	ended := make(chan exit, 1) // the one result of Wait, whether or not anybody still asks
	go func() { ended <- exit{cmd.Wait()} }()
	p.cmd, p.ended, p.started, p.retry = cmd, ended, time.Now(), nil
	c.log.Info("bridge started", "pid", cmd.Process.Pid)
	return nil
}

func (c *child) kill(p *process) error {
	p.retry, p.failures = nil, 0
	if p.cmd == nil {
		return nil
	}
	pid := p.cmd.Process.Pid
	// The error says that it has ended already, which is as good.
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.cmd, p.ended = nil, nil
	c.log.Info("bridge killed", "pid", pid)
	return nil
}

// stop ends the program politely, and by force when it does not listen.
func (c *child) stop(p *process) {
	if p.cmd == nil {
		return
	}
	// Where there is no SIGTERM (Windows) this fails, and force is all there is.
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		_ = p.cmd.Process.Kill()
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-p.ended:
	case <-grace.C:
		c.log.Warn("bridge does not end, killing it", "pid", p.cmd.Process.Pid, "after", stopGrace)
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	p.cmd, p.ended = nil, nil
}

// backoff returns how long to wait after so many crashes before this one.
func backoff(failures int) time.Duration {
	wait := firstBackoff
	for range min(failures, 30) {
		wait = min(2*wait, maxBackoff)
	}
	return wait
}

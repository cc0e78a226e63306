//go:build unix

package collectortest

import (
	"syscall"
	"testing"
)

// Pause stops the process where it is: its ports take connections, and nobody
// answers. Continue lets it go on.
func (c *Collector) Pause(t testing.TB)    { c.signal(t, syscall.SIGSTOP) }
func (c *Collector) Continue(t testing.TB) { c.signal(t, syscall.SIGCONT) } //nolint:revive // see Pause

func (c *Collector) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal the collector: %v", err)
	}
}

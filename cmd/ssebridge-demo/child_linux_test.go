package main

import (
	"testing"
	"time"
)

// A demo that was killed cannot end its child any more; a bridge that stays
// would hold the port for the next one.
func TestChildEndsWithAKilledDemo(t *testing.T) {
	demo, lines := startDemo(t, t.TempDir())
	lines.Next(t, `Ctrl-C ends everything`)
	if err := demo.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = demo.Wait() // the error tells of the signal
	timeout := time.After(patience)
	for {
		select {
		case _, open := <-lines.lines:
			if !open { // the last process that could write has ended
				return
			}
		case <-timeout:
			t.Fatal("the child still runs")
		}
	}
}

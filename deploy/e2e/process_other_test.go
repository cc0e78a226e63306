//go:build !linux

package e2e

import (
	"syscall"
	"testing"
)

func dieWithTest() *syscall.SysProcAttr { return nil }

// peers is known on Linux only; elsewhere the listeners of the test that asks
// have to do.
func peers(testing.TB, int) []string { return nil }

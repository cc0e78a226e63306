//go:build unix && !linux

package main

import "syscall"

// childAttributes puts the child in a process group of its own, so that Ctrl-C
// in a terminal reaches the demo alone, which then ends the child in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

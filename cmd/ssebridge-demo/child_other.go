//go:build !unix

package main

import "syscall"

// childAttributes asks for nothing special where there are no process groups.
func childAttributes() *syscall.SysProcAttr { return nil }

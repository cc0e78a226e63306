//go:build !linux

package collectortest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }

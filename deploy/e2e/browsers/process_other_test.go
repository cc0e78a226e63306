//go:build !linux

package browsers

import "syscall"

func dieWithTest() *syscall.SysProcAttr { return nil }

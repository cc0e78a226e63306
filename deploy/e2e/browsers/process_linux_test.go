package browsers

import "syscall"

// dieWithTest makes a child process end with the test process, however that ends.
func dieWithTest() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

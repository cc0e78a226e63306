package e2e

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// dieWithTest makes a child process end with the test process, however that ends.
func dieWithTest() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// peers returns the addresses that a process has connected to, or is trying to.
// Those that have connected to it are left out.
func peers(t testing.TB, pid int) []string {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{} // the inodes of the process's sockets
	for _, fd := range fds {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	type socket struct{ local, remote string }
	var sockets []socket
	var listening []string // local ports, which connections of others come to
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(text)) {
			// sl local remote state queues timer retransmits uid timeout inode
			f := strings.Fields(line)
			if len(f) < 10 || !own[f[9]] {
				continue
			}
			local, remote := hexAddress(t, f[1]), hexAddress(t, f[2])
			if f[3] == "0A" {
				_, port, _ := net.SplitHostPort(local)
				listening = append(listening, port)
				continue
			}
			sockets = append(sockets, socket{local, remote})
		}
	}
	var out []string
	for _, s := range sockets {
		if _, port, _ := net.SplitHostPort(s.local); !slices.Contains(listening, port) {
			out = append(out, s.remote)
		}
	}
	return out
}

// hexAddress reads an address as /proc has it: words in the machine's byte order,
// which is little-endian wherever this runs.
func hexAddress(t testing.TB, text string) string {
	t.Helper()
	host, port, _ := strings.Cut(text, ":")
	ip, err := hex.DecodeString(host)
	if err != nil {
		t.Fatal(err)
	}
	for word := range slices.Chunk(ip, 4) {
		slices.Reverse(word)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(net.IP(ip).String(), strconv.FormatUint(n, 10))
}

//go:build !linux

package sink

import (
	"errors"
	"net"
	"syscall"
	"time"
)

func newEpollLine() (line, error) { return nil, errors.ErrUnsupported }

func socketOf(net.Conn, time.Duration) syscall.RawConn { return nil }

func sendNow(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }

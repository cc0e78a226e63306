package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Socket options that package syscall has no names for, from linux/tcp.h, and
// edge-triggered epoll from linux/eventpoll.h.
const (
	tcpUserTimeout  = 18
	tcpNotSentLowat = 25
	epollET         = 1 << 31
)

// unsentBytes bounds what the kernel keeps of a client that reads slowly. Without
// it that grows to megabytes.
const unsentBytes = 64 << 10

// epollLine watches sockets by an epoll of its own, which Go's runtime waits for
// as for any other file.
type epollLine struct {
	epoll *os.File
	raw   syscall.RawConn // of epoll
	fd    int             // of epoll

	mu    sync.Mutex
	byKey map[uint64]*client // what epoll tells, by a number that is never given twice
	last  uint64

	// What try hands to the function that sends, so that it is made once.
	send  func(fd uintptr)
	p     []byte
	n     int
	errno syscall.Errno
}

func newEpollLine() (line, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or the runtime would not wait for it
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	l := &epollLine{epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd, byKey: map[uint64]*client{}}
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("make an epoll: %w", err), l.epoll.Close())
	}
	l.send = func(fd uintptr) { l.n, l.errno = sendTo(fd, l.p) }
	return l, nil
}

// sendTo sends what a socket has room for. Package syscall has no send with flags
// and no address. By send(2) the kernel finds its way to the socket sooner than by
// write(2): some 5 % of all. It never waits, so the scheduler need not be told of it.
func sendTo(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// try implements [line]. It holds the socket open, as Control does, and not what
// keeps writers apart: a client has one at a time.
func (l *epollLine) try(s seating, p []byte) (int, error) {
	l.p = p
	err := s.socket.Control(l.send)
	l.p = nil
	return sent(l.n, l.errno, err)
}

// sent tells what became of a send: a socket without room is no error.
func sent(n int, errno syscall.Errno, control error) (int, error) {
	switch {
	case control != nil:
		return 0, control
	case errno == syscall.EAGAIN:
		return 0, nil
	case errno != 0:
		return 0, errno
	}
	return n, nil
}

// watch implements [line].
func (l *epollLine) watch(c *client) bool {
	if c.out.socket == nil {
		return false
	}
	l.mu.Lock()
	l.last++
	c.key = l.last
	l.byKey[c.key] = c
	l.mu.Unlock()
	var err error
	control := c.out.socket.Control(func(fd uintptr) {
		err = syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_ADD, int(fd), &syscall.EpollEvent{
			Events: syscall.EPOLLRDHUP | epollET, Fd: int32(c.key), Pad: int32(c.key >> 32),
		})
	})
	if control != nil || err != nil {
		l.forget(c)
		return false
	}
	return true
}

// unwatch implements [line].
func (l *epollLine) unwatch(c *client) {
	l.forget(c)
	_ = c.out.socket.Control(func(fd uintptr) { // a socket that is closed has left its epoll
		_ = syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_DEL, int(fd), nil)
	})
}

func (l *epollLine) forget(c *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byKey, c.key)
}

// run implements [line].
func (l *epollLine) run(ctx context.Context, gone func(*client)) {
	stop := context.AfterFunc(ctx, func() { _ = l.epoll.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		_ = l.epoll.Close()
	}()
	events := make([]syscall.EpollEvent, 256)
	for ctx.Err() == nil {
		n := 0
		err := l.raw.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events, 0) // interrupted is nothing
			return n > 0
		})
		if err != nil {
			return // its deadline has come
		}
		for _, e := range events[:n] {
			l.mu.Lock()
			c := l.byKey[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			l.mu.Unlock()
			if c != nil {
				c.stop(errClientGone)
				gone(c)
			}
		}
	}
}

// socketOf returns the socket of a connection, set up for a stream, or nil if it
// is none that can be swept. A client that has not confirmed a byte for the
// timeout is cut by the kernel, wherever its bytes are.
func socketOf(conn net.Conn, timeout time.Duration) syscall.RawConn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	err = raw.Control(func(fd uintptr) {
		// Kernels that know none of them do without.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(timeout.Milliseconds()))
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, unsentBytes)
	})
	if err != nil {
		return nil
	}
	return raw
}

// sendNow sends as much as a socket takes at once.
func sendNow(socket syscall.RawConn, p []byte) (n int, err error) {
	var errno syscall.Errno
	err = socket.Control(func(fd uintptr) { n, errno = sendTo(fd, p) })
	return sent(n, errno, err)
}

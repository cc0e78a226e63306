package sink

import "net"

// paceConnections is how many connections are taken in before all else has its turn:
// enough to share the questions that they cause, few enough to be served in a
// millisecond or two. With 32, live clients waited for twice as long in a storm, and
// nobody caught up sooner.
const paceConnections = 8

// pacedListener takes in a few connections at a time, and the next ones when all that
// those before set going has come as far as it can without waiting. Thousands of
// clients that come at once then wait in the listener's queue, as far as that has
// room, and not in front of live ones.
type pacedListener struct {
	net.Listener
	rest  func() // returns when all else had its turn
	end   func() // makes rest return at once
	taken int    // since all else had its turn
}

// paced returns ln with that pace.
func paced(ln net.Listener) net.Listener {
	l := newLull()
	return &pacedListener{Listener: ln, rest: l.wait, end: l.close}
}

// Accept is called by one goroutine.
func (l *pacedListener) Accept() (net.Conn, error) {
	if l.taken++; l.taken > paceConnections {
		l.taken = 1
		l.rest()
	}
	return l.Listener.Accept()
}

// Close makes Accept fail.
func (l *pacedListener) Close() error {
	err := l.Listener.Close()
	l.end()
	return err
}

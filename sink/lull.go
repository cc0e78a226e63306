package sink

import (
	"os"
	"runtime"
)

// lull is how work that comes in thousands waits until all else has had its turn: a
// processor has nothing left to run, and looks what has arrived.
//
// Go's scheduler looks at the network then, or every 10 ms. A goroutine that waits
// for a byte in a pipe therefore goes on at that moment, behind those for whom
// something had arrived before.
type lull struct{ from, to *os.File } // nil where there are no pipes

func newLull() *lull {
	from, to, err := os.Pipe()
	if err != nil {
		return &lull{}
	}
	return &lull{from, to}
}

// wait returns when it is there, or the lull is closed. It is for one goroutine at a
// time.
func (l *lull) wait() {
	if l.from == nil {
		runtime.Gosched()
		return
	}
	go func() { _, _ = l.to.Write([]byte{0}) }() // after the read has begun; ends at once, as the pipe is empty or closed
	var one [1]byte
	_, _ = l.from.Read(one[:])
}

// close makes wait return at once, one that has begun, too.
func (l *lull) close() {
	if l.from != nil {
		_ = l.from.Close()
		_ = l.to.Close()
	}
}

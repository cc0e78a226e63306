package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// manyClients make enough garbage when they connect to be worth the work: some
	// 5 KB each.
	manyClients = 1000
	// calmSeconds is for how long hardly anybody has come when a storm is over: fewer
	// than a twentieth of all that it brought.
	calmSeconds = 3
	// giveBackEvery is the least time between two times. That is for storms after
	// storms: a steady stream of clients brings it about once a minute.
	giveBackEvery = 10 * time.Second
)

// giveBack lets release be called when many clients have come and it is calm again,
// until ctx ends. came tells how many have come in all.
//
// What a client costs while it connects is more than twice of what it keeps, and
// without a need the heap would stay as large as the last storm has made it.
func giveBack(ctx context.Context, came func() uint64, release func()) error {
	var (
		second   = time.NewTicker(time.Second)
		recent   [calmSeconds]uint64 // came, a second each
		at       int
		released uint64 // came, when it was released
		last     time.Time
	)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-second.C:
			n, before := came(), recent[at]
			recent[at], at = n, (at+1)%calmSeconds
			storm := n - released
			if storm < manyClients || n-before > storm/20 || !last.IsZero() && now.Sub(last) < giveBackEvery {
				continue
			}
			release()
			released, last = n, now
		}
	}
}

// freeMemory collects garbage and gives what is free to the system. What pools hold
// is only free when it is collected twice.
func freeMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}

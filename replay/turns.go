package replay

import (
	"container/list"
	"context"
	"runtime"
	"sync"
)

// turns lets a bounded number of catch-ups work at a time, so that thousands that
// come at once leave the processors to live clients, too. Those that wait have
// not begun, and cost no goroutine.
//
//	waiting ──► working ──────────────► ended
//	  ▲          │   ▲
//	  │ batch    │   │ goes before those that wait:
//	  │ handed   ▼   │ what it has begun can be ended
//	  └──────── away: for its broker, its client or memory
//
// First come, first served. Who has handed on a batch goes behind all others, so
// that one with a long history does not hold up many with a short one. Who is away
// has no place: however long clients take, they hold up nobody.
type turns struct {
	mu   sync.Mutex
	free int       // places; below 0: so many work beyond them
	back list.List // of *turn: they were away
	rest list.List // of *turn: all others
}

// turn is one catch-up's part in it. What has no lock belongs to the catch-up.
type turn struct {
	all     *turns
	begin   func()        // of one that has not begun, called once
	ready   chan struct{} // capacity 1: it may work
	working bool

	elem *list.Element // while it waits; guarded by all.mu
	in   *list.List
}

func newTurns(places int) *turns { return &turns{free: places} }

// newTurn returns a turn that calls begin, which must return at once, when enter
// has been called and there is a place.
func (ts *turns) newTurn(begin func()) *turn {
	return &turn{all: ts, begin: begin, ready: make(chan struct{}, 1)}
}

// enter waits for the first place, without a goroutine.
func (t *turn) enter() {
	if t.queue(&t.all.rest) {
		t.start()
	}
}

// queue takes a place, or puts t into a queue and returns false.
func (t *turn) queue(in *list.List) bool {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	if t.all.free > 0 {
		t.all.free--
		return true
	}
	t.in, t.elem = in, in.PushBack(t)
	return false
}

// start lets t work.
func (t *turn) start() {
	if begin := t.begin; begin != nil {
		t.begin, t.working = nil, true
		begin()
		return
	}
	t.ready <- struct{}{}
}

// next gives a place to whoever waits for it.
func (ts *turns) next() {
	ts.mu.Lock()
	e := ts.back.Front()
	if e == nil {
		e = ts.rest.Front()
	}
	if e == nil || ts.free < 0 {
		ts.free++
		ts.mu.Unlock()
		return
	}
	t := e.Value.(*turn)
	t.in.Remove(e)
	t.elem = nil
	ts.mu.Unlock()
	t.start()
}

// drop is for any goroutine: it keeps a turn from beginning. It returns false if
// that has begun.
func (t *turn) drop() bool {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	return t.elem != nil && t.begin != nil && t.unqueue()
}

// unqueue takes t out of its queue. It returns false if t is in none. The caller
// holds mu.
func (t *turn) unqueue() bool {
	if t.elem == nil {
		return false
	}
	t.in.Remove(t.elem)
	t.elem = nil
	return true
}

// leave gives the place back, if t has one: before waiting, and at the end.
func (t *turn) leave() {
	if t.working {
		t.working = false
		t.all.next()
	}
}

// claim is resume without waiting, for one that holds something which must not be
// held for long: there may be more at work than there are places.
func (t *turn) claim() {
	t.all.mu.Lock()
	t.all.free--
	t.all.mu.Unlock()
	t.working = true
}

// resume waits for a place again after leave. It returns the cause of ctx when that
// ends first.
func (t *turn) resume(ctx context.Context) error {
	return t.wait(ctx, &t.all.back)
}

// pass lets those work that wait, and then t again.
func (t *turn) pass(ctx context.Context) error {
	t.leave()
	return t.wait(ctx, &t.all.rest)
}

func (t *turn) wait(ctx context.Context, in *list.List) error {
	if !t.queue(in) {
		select {
		case <-t.ready:
		case <-ctx.Done():
			t.all.mu.Lock()
			waits := t.unqueue()
			t.all.mu.Unlock()
			if !waits {
				<-t.ready // it was given a place at the same moment
				t.all.next()
			}
			return context.Cause(ctx)
		}
	}
	t.working = true
	runtime.Gosched() // those that were handed something, and live clients, go first
	return nil
}

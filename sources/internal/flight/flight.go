// Package flight shares the answers to questions that many clients ask at once.
package flight

import (
	"context"
	"sync"
)

// A Flight lets callers that ask the same question at the same time share one
// answer. A caller only ever gets the answer to a question that was put after
// it asked: whoever comes while one is under way shares the next one.
// The zero Flight is ready.
type Flight[T any] struct {
	mu   sync.Mutex
	now  *call[T] // under way
	next *call[T] // is put, by the first caller that wants it, when now has ended
}

type call[T any] struct {
	done  chan struct{} // closed when there is an answer
	value T
	err   error
	void  bool // whoever put the question went away before there was an answer
}

// Do returns the answer of ask: its own, or one that it shares. When ctx ends
// first, it returns its cause; ask is put again by whoever still waits.
func (f *Flight[T]) Do(ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	for {
		c, before, ours := f.enter()
		if !ours {
			select {
			case <-c.done:
			case <-ctx.Done():
				var none T // c is still being filled in
				return none, context.Cause(ctx)
			}
			if c.void {
				continue
			}
			return c.value, c.err
		}
		if before != nil {
			select {
			case <-before.done:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			c.void, c.err = true, context.Cause(ctx)
		} else {
			c.value, c.err = ask(ctx)
			c.void = ctx.Err() != nil
		}
		f.leave(c)
		return c.value, c.err
	}
}

// enter finds the call to wait for. If it is ours, we put its question, when
// the call before it, if any, has ended.
func (f *Flight[T]) enter() (c, before *call[T], ours bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.now == nil:
		f.now = &call[T]{done: make(chan struct{})}
		return f.now, nil, true
	case f.next == nil:
		f.next = &call[T]{done: make(chan struct{})}
		return f.next, f.now, true
	}
	return f.next, nil, false
}

// leave ends a call and lets the next one begin.
func (f *Flight[T]) leave(c *call[T]) {
	f.mu.Lock()
	if f.now == c {
		f.now, f.next = f.next, nil
	} else {
		f.next = nil // given up before it began
	}
	f.mu.Unlock()
	close(c.done)
}

// Flights are flights by key. The zero Flights is ready.
type Flights[K comparable, T any] struct {
	mu    sync.Mutex
	byKey map[K]*keyed[T]
}

type keyed[T any] struct {
	Flight[T]
	callers int
}

// Do is like [Flight.Do] for the question that key stands for.
func (fs *Flights[K, T]) Do(ctx context.Context, key K, ask func(context.Context) (T, error)) (T, error) {
	fs.mu.Lock()
	if fs.byKey == nil {
		fs.byKey = map[K]*keyed[T]{}
	}
	f := fs.byKey[key]
	if f == nil {
		f = &keyed[T]{}
		fs.byKey[key] = f
	}
	f.callers++
	fs.mu.Unlock()
	defer func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		if f.callers--; f.callers == 0 {
			delete(fs.byKey, key)
		}
	}()
	return f.Do(ctx, ask)
}

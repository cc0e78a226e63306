package main

import (
	"context"
	"sync"
)

// runAll runs every part until one returns, tells the others to stop, and waits
// for them all. It returns what the first part returned.
func runAll(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, part := range parts {
		wg.Go(func() {
			err := part(ctx)
			once.Do(func() { first = err })
			cancel(err)
		})
	}
	wg.Wait()
	return first
}

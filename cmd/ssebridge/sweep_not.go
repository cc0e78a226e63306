//go:build nosweep

package main

import "context"

// sweep does nothing, so that every client has a goroutine: what benchmarks
// compare with.
func (s *service) sweep(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

//go:build !nosweep

package main

import "context"

// sweep lets the handler write to clients that are level without a goroutine for
// each.
func (s *service) sweep(ctx context.Context) error { return s.events.Run(ctx) }

package sink

import (
	"context"
	"sync"
)

// stopping is how a client is told to end, by anybody and at any time. Whoever
// serves it in a goroutine has a context for that; one that sits in a shard has
// none, as a context that is waited for keeps some 300 bytes. The zero stopping is
// of a client that goes on.
type stopping struct {
	mu     sync.Mutex
	reason error                   // nil: it goes on
	cancel context.CancelCauseFunc // of the context; nil: there is none
}

// stop ends the client with a reason. The first reason holds.
func (s *stopping) stop(reason error) {
	s.mu.Lock()
	if s.reason == nil {
		s.reason = reason
	}
	reason, cancel := s.reason, s.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel(reason)
	}
}

// stopped returns the reason with which the client was told to end, nil while it
// goes on.
func (s *stopping) stopped() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// begin returns a context that ends when the client is told to, with the reason as
// its cause. It is let go of by rest.
func (s *stopping) begin() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.mu.Lock()
	s.cancel = cancel
	reason := s.reason
	s.mu.Unlock()
	if reason != nil {
		cancel(reason)
	}
	return ctx
}

// rest lets go of the context, which does not end any more. Nobody waits for it.
func (s *stopping) rest() {
	s.mu.Lock()
	s.cancel = nil
	s.mu.Unlock()
}

package sink

import (
	"context"
	"errors"
	"testing"
)

// A client may be told to end before anybody serves it, while somebody does, and
// while it sits: it ends in each case, with the first reason.
func TestClientIsToldToEndWheneverThatComes(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	cause := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
			return nil
		}
	}
	for when, told := range map[string]func(s *stopping, ctx context.Context) context.Context{
		"before it is served": func(s *stopping, _ context.Context) context.Context { s.stop(first); return s.begin() },
		"while it is served":  func(s *stopping, ctx context.Context) context.Context { s.stop(first); return ctx },
		"while it sits":       func(s *stopping, _ context.Context) context.Context { s.rest(); s.stop(first); return s.begin() },
		"after it sat": func(s *stopping, _ context.Context) context.Context {
			s.rest()
			ctx := s.begin()
			s.stop(first)
			return ctx
		},
		"twice while it is served":  func(s *stopping, ctx context.Context) context.Context { s.stop(first); s.stop(second); return ctx },
		"twice before it is served": func(s *stopping, _ context.Context) context.Context { s.stop(first); s.stop(second); return s.begin() },
		"before and while it is, too": func(s *stopping, _ context.Context) context.Context {
			s.stop(first)
			ctx := s.begin()
			s.stop(second)
			return ctx
		},
	} {
		var s stopping
		ctx := s.begin()
		if s.stopped() != nil || cause(ctx) != nil {
			t.Errorf("%s: it has ended at once", when)
		}
		ctx = told(&s, ctx)
		if got := cause(ctx); !errors.Is(got, first) || !errors.Is(s.stopped(), first) {
			t.Errorf("%s: the context's cause is %v and the reason %v, want %v", when, got, s.stopped(), first)
		}
	}
	var s stopping
	ctx := s.begin()
	s.rest()
	if s.stop(first); cause(ctx) != nil {
		t.Error("a context that was let go of is still held")
	}
}

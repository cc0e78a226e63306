package ssetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Follow hands every event to each, until each returns false. Like a browser it
// opens a new connection, with the last event id, whenever one ends, is cut or
// is refused; unlike one it waits only pause between them. It returns an error
// when ctx is done, when the answer is not a 200 event stream (a browser would
// give up), or when the response is malformed.
func (c *Client) Follow(ctx context.Context, pause time.Duration, each func(Event) bool) error {
	for {
		more, err := c.followOne(ctx, each)
		if !more || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// followOne reads one connection to its end; more tells whether to open another.
func (c *Client) followOne(ctx context.Context, each func(Event) bool) (more bool, err error) {
	s, err := c.Open(ctx)
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, errMalformed):
	case err != nil:
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer s.Close()
	if s.Status() != 200 {
		body, _ := s.ReadAll(ctx)
		return false, fmt.Errorf("status %d: %.300s", s.Status(), body)
	}
	for {
		e, err := s.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, ErrCut):
			return true, nil
		case err != nil:
			return false, err
		case !each(e):
			return false, nil
		}
	}
}

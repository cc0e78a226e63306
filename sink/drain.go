package sink

import (
	"context"
	"time"
)

// Drain says goodbye to every client and waits until they have left. From the
// call on [Handler.Draining] is true, and who connects is sent away at once, by
// the same block: closing, reason drain, with a retry.
//
// The goodbyes are spread evenly over the time over, less the longest retry, so
// that clients that come back to a replica of the same name in time find it
// still answering. Those that came first go first. Each leaves at an event
// boundary, with the id to go on from. The retries rise evenly from the shortest
// to the longest, so that the returns are spread evenly as well, over the
// goodbyes' time and the spread of the retries: no other replica is run over,
// even if over leaves no time for goodbyes.
//
// When ctx ends before all have left, Drain cuts the others off, which costs
// them nothing but a reconnect, and returns context.Cause(ctx). Otherwise it
// returns nil. It may be called again: the later call hurries with its own times.
func (h *Handler) Drain(ctx context.Context, over time.Duration) error {
	inside, gone := h.clients.drain()
	sortClients(inside)
	window := max(0, over-time.Duration(float64(h.opt.Retry)*(1+retrySpread)))
	start := time.Now()
	for i, c := range inside {
		at := start.Add(window * time.Duration(i) / time.Duration(len(inside)))
		if !waitUntil(ctx, at, gone) {
			break
		}
		c.close(drained{spread(h.opt.Retry, retrySpread, (float64(i)+0.5)/float64(len(inside)))})
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	for _, c := range inside {
		c.close(errForced)
		c.out.abort()
	}
	<-gone
	return context.Cause(ctx)
}

// drained is closingDrain with the time after which the client is to come back.
type drained struct{ retry time.Duration }

func (d drained) Error() string { return closingDrain.Error() }
func (d drained) Unwrap() error { return closingDrain }

// Draining reports whether Drain has been called.
func (h *Handler) Draining() bool { return h.clients.isDraining() }

// Clients returns how many clients are being served.
func (h *Handler) Clients() int { return h.clients.count() }

// Came returns how many clients were let in since the start.
func (h *Handler) Came() uint64 { return h.clients.came() }

// waitUntil waits for a time. It returns false when ctx or gone came first.
func waitUntil(ctx context.Context, at time.Time, gone <-chan struct{}) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-gone:
	case <-ctx.Done():
	}
	return false
}

package sourcetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// RunOnDemand lets a hub read source on demand, with a short linger, until the test
// ends.
func RunOnDemand(t *testing.T, source bridge.Source) (*bridge.Hub, *bridge.Stream) {
	t.Helper()
	stream := bridge.NewStream("s", source, bridge.StreamOptions{OnDemand: true, Linger: 100 * time.Millisecond})
	hub := bridge.NewHub([]*bridge.Stream{stream}, bridge.HubOptions{})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return hub, stream
}

// Until asks again and again until a condition holds, as a broker has no fake time.
// If it does not within that time, the test ends with what state tells.
func Until(t *testing.T, what string, within time.Duration, state func() any, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s; the stream is %+v", what, within, state())
		}
	}
}

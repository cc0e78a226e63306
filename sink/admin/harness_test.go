package admin

import (
	"context"
	"errors"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
)

// idle is a follower that tells one event and then waits.
type idle struct {
	told  bool
	waits chan<- struct{} // is sent to when the event has been written
}

func (f *idle) Next(ctx context.Context) (bridge.Batch, error) {
	if !f.told {
		f.told = true
		return bridge.Batch{Units: [][]byte{[]byte("event: connected\ndata: {}\n\n")}}, nil
	}
	f.waits <- struct{}{}
	<-ctx.Done()
	return bridge.Batch{}, context.Cause(ctx)
}

func (f *idle) ID() string        { return idleID }
func (f *idle) Close()            {}
func (f *idle) Streams() []string { return []string{"orders"} }
func (f *idle) Status() bridge.FollowerStatus {
	return bridge.FollowerStatus{State: "level", ID: idleID, Lag: 12, LagKnown: true}
}

// idleID is the event id of a position.
var idleID = bridge.ID{{Stream: "orders", Position: bridge.Position{Incarnation: 7, Places: []bridge.Place{{Offset: 5}}}}}.String()

// readStream is a stream that is read.
func readStream(t *testing.T, name string) Stream {
	t.Helper()
	s := bridge.NewStream(name, telling{feigned{nil, []bridge.Change{
		{Kind: bridge.Started, Position: bridge.Position{Incarnation: 71, Places: []bridge.Place{{Offset: 7, Proof: bridge.ProofOf(3)}, {Offset: 4}}}},
		{Kind: bridge.Reading},
	}}, []bridge.PartitionReport{{End: 9, Leader: "1"}}}, bridge.StreamOptions{})
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return Stream{s, "kafka@eu", "orders.v1"}
}

// waitingStream is a stream whose broker does not have it.
func waitingStream(t *testing.T, name string) Stream {
	t.Helper()
	s := bridge.NewStream(name, feigned{nil, []bridge.Change{{Kind: bridge.Waiting, Err: errors.New("no such stream")}}}, bridge.StreamOptions{})
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return Stream{s, "nats", "PRICES"}
}

package natstest

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// Tests of every package stand on this: what was acknowledged survives kill -9,
// and what came after a copy is gone when the copy is put back.
func TestProcessKeepsDataOverKillAndLosesItByRollBack(t *testing.T) {
	p := Process(t)
	j := p.JS()
	if _, err := j.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	publish := func() uint64 {
		t.Helper()
		ack, err := j.Publish(t.Context(), "s", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	publish()
	older := p.CopyData()
	publish()
	p.Restart()
	j = p.JS()
	if got := publish(); got != 3 {
		t.Errorf("after kill -9 the next sequence is %d, want 3", got)
	}
	p.RollBack(older)
	p.Start()
	j = p.JS()
	if got := publish(); got != 2 {
		t.Errorf("after the roll-back the next sequence is %d, want 2", got)
	}
}

// A cluster is of use only if a replicated stream can be made in it at once.
func TestClusterServesReplicatedStreams(t *testing.T) {
	s := Cluster(t, 3)
	_, err := s[0].JS().CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
}

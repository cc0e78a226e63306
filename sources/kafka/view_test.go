package kafka

import (
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// An incarnation is part of event ids that clients keep: another release must
// give a topic the same.
func TestIncarnationNeverChanges(t *testing.T) {
	id := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	if got := incarnationOf("orders", "cluster", id); got != 2928574773 {
		t.Errorf("incarnation by id is %d", got)
	}
	if got := incarnationOf("other", "other", id); got != incarnationOf("orders", "cluster", id) {
		t.Errorf("a renamed cluster changes the incarnation to %d", got)
	}
	if got := incarnationOf("orders", "cluster", [16]byte{}); got != 1100510700 {
		t.Errorf("incarnation by name is %d", got)
	}
}

// Epoch 0 is a proof as any other, and no proof is none.
func TestProofsCarryEpochs(t *testing.T) {
	for _, epoch := range []int32{0, 1, 1<<31 - 1} {
		if p := proofOf(epoch); p == 0 || epochOf(p) != epoch {
			t.Errorf("epoch %d becomes proof %v and epoch %d", epoch, p, epochOf(p))
		}
	}
	if proofOf(noEpoch) != 0 || epochOf(0) != noEpoch || epochOf(bridge.ProofOf(1<<31)) != noEpoch {
		t.Error("no epoch, no proof, and what no Kafka could say must be no epoch")
	}
}

// Brokers learn of a new leader one after the other. To believe one that lags is
// to be refused by the leader.
func TestAnOlderViewDoesNotReplaceALeader(t *testing.T) {
	old := &view{parts: []leadership{{1, 5, 0}, {2, 3, 0}}}
	v := &view{parts: []leadership{{3, 4, 0}, {1, 4, 0}, {1, 0, 0}}}
	got := v.since(old, []*part{{}, {}})
	if got.parts[0] != old.parts[0] || got.parts[1] != v.parts[1] || len(got.parts) != 3 {
		t.Errorf("leaders are %+v", got.parts)
	}
	if got := v.since(old, []*part{{fails: 3}, {}}); got.parts[0] != v.parts[0] {
		t.Errorf("a cluster that was set back is not believed: %+v", got.parts)
	}
	if v.parts[0].epoch != 4 {
		t.Error("the view was changed")
	}
}

// Whatever is wrong with the settings is said at once, and no secret with it.
func TestOptionsAreValidated(t *testing.T) {
	secret := text(secrettest.New("kafka"))
	for name, c := range map[string]struct {
		o    Options
		good bool
	}{
		"least":                 {Options{Brokers: []string{"kafka:9092"}}, true},
		"login":                 {Options{Brokers: []string{"kafka:9092"}, Mechanism: ScramSHA512, Username: "u", Password: secret}, true},
		"tls":                   {Options{Brokers: []string{"kafka:9092"}, TLS: true}, true},
		"no broker":             {Options{}, false},
		"no port":               {Options{Brokers: []string{"kafka"}}, false},
		"isolation":             {Options{Brokers: []string{"kafka:9092"}, Isolation: "serializable"}, false},
		"mechanism":             {Options{Brokers: []string{"kafka:9092"}, Mechanism: "GSSAPI", Username: "u", Password: secret}, false},
		"password alone":        {Options{Brokers: []string{"kafka:9092"}, Password: secret}, false},
		"no password":           {Options{Brokers: []string{"kafka:9092"}, Mechanism: Plain, Username: "u"}, false},
		"certificate alone":     {Options{Brokers: []string{"kafka:9092"}, TLS: true, TLSCert: secret}, false},
		"authority without TLS": {Options{Brokers: []string{"kafka:9092"}, TLSCA: secret}, false},
		"authority no PEM":      {Options{Brokers: []string{"kafka:9092"}, TLS: true, TLSCA: secret}, false},
	} {
		_, err := NewCluster(c.o)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && secrettest.Hide(err.Error()) != err.Error() {
			t.Errorf("%s: the error tells the secret: %s", name, secrettest.Hide(err.Error()))
		}
	}
	c, err := NewCluster(Options{Brokers: []string{"kafka:9092"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []SourceOptions{{}, {Topic: "a b"}, {Topic: ".."}, {Topic: "t", OnReset: "maybe"}, {Topic: "t", Poll: -1}, {Topic: "t", MaxRecordBytes: -1}} {
		if _, err := NewSource(c, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

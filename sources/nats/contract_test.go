package nats

import (
	"context"
	"fmt"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// contract describes a fresh stream S behind url to the contract suite.
func contract(t *testing.T, url string, nc *natsgo.Conn, js jetstream.JetStream, edit ...func(*jetstream.StreamConfig)) sourcetest.Subject {
	t.Helper()
	config := makeStream(t, js, append(edit, func(c *jetstream.StreamConfig) { c.Subjects = []string{"plain", "awkward.>"} })...)
	open := func(t *testing.T) *Source {
		return openSource(t, url, SourceOptions{Stream: "S", Poll: 50 * time.Millisecond})
	}
	source := open(t)
	ends(t, source) // the client library starts a goroutine with the first request
	ask(t, source.live.view)
	return sourcetest.Subject{
		Source: source,
		Publish: func(ctx context.Context, m sourcetest.Message) (bridge.Offset, error) {
			msg := &natsgo.Msg{Subject: m.Subject, Data: m.Data}
			for _, h := range m.Headers {
				if msg.Header == nil {
					msg.Header = natsgo.Header{}
				}
				msg.Header[h.Key] = append(msg.Header[h.Key], string(h.Value))
			}
			if m.Tombstone {
				msg.Header = natsgo.Header{headerKV: {"DEL"}}
			}
			ack, err := js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
			if err != nil {
				return 0, err
			}
			return bridge.Offset(ack.Sequence), nil
		},
		Replica: func(t *testing.T) bridge.Source { return open(t) },
		Delete:  func(t *testing.T, _ int32, o bridge.Offset) { t.Helper(); deleteRecord(t, js, uint64(o)) },
		Trim: func(t *testing.T, _ int32, to bridge.Offset) {
			t.Helper()
			purge(t, js, jetstream.WithPurgeSequence(uint64(to)))
		},
		Remove: func(t *testing.T) { t.Helper(); deleteStream(t, js, "S") },
		Recreate: func(t *testing.T) {
			t.Helper()
			_ = js.DeleteStream(t.Context(), "S") // may be gone already
			if _, err := js.CreateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
		},
		Restore: func(t *testing.T) {
			t.Helper()
			restore := backup(t, nc, "S")
			deleteStream(t, js, "S")
			restore()
		},
		Goroutines: []goleak.Option{goleak.IgnoreCurrent()},
	}
}

// The contract is what the rest of the bridge is built on; here with the server
// inside of the process, where everything is quick.
func TestContractEmbedded(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
		srv := natstest.Embedded(t)
		nc := srv.Conn()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return contract(t, srv.URL, nc, js)
	})
}

// Without direct get, replay takes another way through the broker, and has to
// come to the same.
func TestContractWithoutDirectGet(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
		srv := natstest.Embedded(t)
		nc := srv.Conn()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return contract(t, srv.URL, nc, js, noDirect)
	})
}

// A server that is killed, restarted, unreachable, or that loses the end of its
// log, must cost time only, or be told.
func TestContractProcess(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
		srv := natstest.Process(t)
		nc := srv.Conn()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		s := contract(t, srv.URL, nc, js)
		s.Restart = func(t *testing.T) { t.Helper(); srv.Restart() }
		s.Down = func(t *testing.T) { t.Helper(); srv.Kill9() }
		s.Up = func(t *testing.T) {
			t.Helper()
			srv.Start()
			untilConnected(t, nc)
		}
		s.Keep = func(t *testing.T) func() {
			t.Helper()
			older := srv.CopyData()
			return func() {
				srv.RollBack(older)
				srv.Start()
				untilConnected(t, nc)
			}
		}
		return s
	})
}

// untilConnected waits until a connection of the test itself is up again.
func untilConnected(t testing.TB, nc *natsgo.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for nc.FlushWithContext(ctx) != nil || !nc.IsConnected() {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			t.Fatal(fmt.Errorf("connect again: %w", err))
		}
	}
}

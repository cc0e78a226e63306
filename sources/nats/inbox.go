package nats

import (
	"fmt"
	"sync"

	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/bridge"
)

// inbox receives the answers to one question, or to the pulls of one consumer.
// What comes in is only appended: the library reads nothing else from the
// connection meanwhile. Whoever asks bounds what can come, by a count of records
// and of bytes.
type inbox struct {
	subject string
	arrived chan struct{} // holds a token while there are messages
	sub     *natsgo.Subscription

	mu   sync.Mutex
	msgs []*natsgo.Msg
}

// openInbox subscribes. The caller closes the inbox.
func openInbox(nc *natsgo.Conn) (*inbox, error) {
	in := &inbox{subject: nc.NewInbox(), arrived: make(chan struct{}, 1)}
	sub, err := nc.Subscribe(in.subject, in.put)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1) // bounded by what is asked for
	}
	if err != nil {
		return nil, fmt.Errorf("open an inbox: %w: %w", err, bridge.ErrUnavailable)
	}
	in.sub = sub
	return in, nil
}

func (in *inbox) put(m *natsgo.Msg) {
	in.mu.Lock()
	in.msgs = append(in.msgs, m)
	in.mu.Unlock()
	select {
	case in.arrived <- struct{}{}:
	default:
	}
}

// take returns what has arrived since the last call, in order. spare, an
// earlier result that is done with, is used again.
func (in *inbox) take(spare []*natsgo.Msg) []*natsgo.Msg {
	clear(spare)
	in.mu.Lock()
	defer in.mu.Unlock()
	msgs := in.msgs
	in.msgs = spare[:0]
	return msgs
}

func (in *inbox) close() {
	_ = in.sub.Unsubscribe() // fails only on a closed connection, which forgets it anyway
}

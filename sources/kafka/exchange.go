package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

const (
	// responseLimit is the largest response that is read. Brokers keep to the limits
	// of a request but for the first batch, which comes whole.
	responseLimit = 256 << 20
	// pieceBytes is how much of a response must arrive within pieceTimeout: a large
	// one on a slow line may take longer in all.
	pieceBytes   = 256 << 10
	pieceTimeout = 10 * time.Second
)

// anyBroker lets the transport send a request to whichever broker it likes.
const anyBroker int32 = -1

// exchange is one request with its response, both as bytes. kafka-go's Transport
// carries it: it finds the broker, dials, and authenticates, but does not
// look into it.
type exchange struct {
	api     api
	version int16
	broker  int32
	client  string
	body    []byte
	wait    time.Duration // how long the broker may take before it answers
	buffer  []byte        // for the response; replaced when it is too small
	answer  []byte        // the response behind its header, in buffer
}

var (
	_ protocol.RawExchanger  = (*exchange)(nil)
	_ protocol.BrokerMessage = (*exchange)(nil)
)

// ApiKey implements [protocol.Message].
func (x *exchange) ApiKey() protocol.ApiKey {
	return protocol.ApiKey(x.api.key)
}

// errNoRoute reports a broker that the transport has not heard of yet.
var errNoRoute = errors.New("the broker is not in the cluster's list yet")

// Broker implements [protocol.BrokerMessage].
func (x *exchange) Broker(c protocol.Cluster) (protocol.Broker, error) {
	if x.broker == anyBroker {
		return protocol.Broker{ID: -1}, nil
	}
	b, ok := c.Brokers[x.broker]
	if !ok {
		return protocol.Broker{}, fmt.Errorf("broker %d: %w", x.broker, errNoRoute)
	}
	return b, nil
}

// Required implements [protocol.RawExchanger].
func (x *exchange) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements [protocol.RawExchanger]. A connection has one exchange
// at a time, so the correlation id need only differ from one to the next.
func (x *exchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	flexible := x.version >= x.api.flexible
	id := int32(time.Now().UnixNano() & 0x7fffffff)
	e := encoder{b: make([]byte, 4, 64+len(x.client)+len(x.body))}
	e.int16(x.api.key)
	e.int16(x.version)
	e.int32(id)
	e.string(x.client) // in the classic encoding in both versions of the header
	e.flexible = flexible
	e.tags()
	e.b = append(e.b, x.body...)
	binary.BigEndian.PutUint32(e.b, uint32(len(e.b)-4))
	extend(rw, pieceTimeout)
	_, err := rw.Write(e.b)
	if err != nil {
		return nil, err
	}
	extend(rw, x.wait+pieceTimeout)
	var head [8]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[:])) - 4
	if size < 0 || size > responseLimit {
		return nil, fmt.Errorf("response of %d bytes, want at most %d", size, responseLimit)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != id {
		return nil, fmt.Errorf("response to request %d, want %d", got, id)
	}
	if x.buffer, err = receive(rw, int(size), x.buffer); err != nil {
		return nil, err
	}
	d := decoder{b: x.buffer, flexible: flexible}
	d.tags(nil)
	if d.bad {
		return nil, errShort
	}
	x.answer = d.b
	return x, nil
}

// receive reads size bytes, into buffer if they fit, and takes memory only as
// they arrive.
func receive(r io.Reader, size int, buffer []byte) ([]byte, error) {
	b := buffer[:0]
	if cap(b) < size {
		b = make([]byte, 0, min(size, max(pieceBytes, cap(buffer))))
	}
	for len(b) < size {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(size, 4*cap(b)))
			copy(grown, b)
			b = grown
		}
		n := min(size, cap(b), len(b)+pieceBytes)
		extend(r, pieceTimeout)
		if _, err := io.ReadFull(r, b[len(b):n]); err != nil {
			return nil, err
		}
		b = b[:n]
	}
	return b, nil
}

// extend moves the deadline of a connection, if it is one.
func extend(rw any, d time.Duration) {
	if c, ok := rw.(net.Conn); ok {
		_ = c.SetDeadline(time.Now().Add(d)) // a connection that is closed says so when it is used
	}
}

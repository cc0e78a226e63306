package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// exchangeTimeout bounds a request as a whole, connecting included. A broker
	// that says nothing at all is given up sooner: see pieceTimeout.
	exchangeTimeout = time.Minute
	// layoutTTL bounds the age of kafka-go's list of brokers.
	layoutTTL = 2 * time.Second
	// staleTries is how many connections may turn out to be dead, as after a
	// restart of the broker, before that counts as no answer.
	staleTries = 3
)

// link is one pool of connections to a cluster.
type link struct {
	opt       *Options
	transport *kafkago.Transport
	addr      net.Addr
	dials     atomic.Uint64 // connections made
	breaks    atomic.Uint64 // requests that got no answer

	mu     sync.Mutex
	spoken map[int32]versions // by broker; anyBroker: of whichever answered
}

func newLink(o *Options) *link {
	l := &link{opt: o, addr: kafkago.TCP(o.Brokers...), spoken: map[int32]versions{}}
	l.transport = &kafkago.Transport{
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			l.dials.Add(1)
			return o.dial(ctx, network, address)
		},
		DialTimeout: min(time.Duration(len(o.Brokers)), 3) * dialTimeout,
		IdleTimeout: time.Minute,
		MetadataTTL: layoutTTL,
		// No topics: with nil it would ask for all that the cluster has, all the time.
		MetadataTopics: []string{},
		ClientID:       o.ClientID,
	}
	if o.Mechanism != "" {
		l.transport.SASL = login{o}
	}
	return l
}

// close closes the connections that nobody uses; the others close when they
// have been used.
func (l *link) close() { l.transport.CloseIdleConnections() }

// question is a request to a broker.
type question struct {
	api    api
	broker int32
	body   func(e *encoder, version int16) // appends it
	wait   time.Duration                   // how long the broker may take before it answers
	buffer *[]byte                         // for the answer, replaced if it is too small; nil: a new one
	once   bool                            // do not try again on another connection
}

// ask puts a question and returns a decoder of the answer, which the caller
// owns, and its version. Errors wrap [bridge.ErrUnavailable], or are the
// context's.
func (l *link) ask(ctx context.Context, q question) (answer *decoder, used int16, err error) {
	ctx, span := startSpan(ctx, q)
	defer func() { bridge.EndSpan(span, err) }()
	v, err := l.versions(ctx, q.broker)
	if err != nil {
		return nil, 0, err
	}
	version := v.of(q.api.key)
	e := encoder{flexible: version >= q.api.flexible}
	q.body(&e, version)
	for try := 1; ; try++ {
		x := &exchange{
			api: q.api, version: version, broker: q.broker, client: l.opt.ClientID,
			body: e.b, wait: q.wait,
		}
		if q.buffer != nil { // until there is an answer, whoever is given up may write to it
			x.buffer, *q.buffer = *q.buffer, nil
		}
		err := l.exchange(ctx, x)
		if err == nil {
			if q.buffer != nil {
				*q.buffer = x.buffer
			}
			return &decoder{b: x.answer, flexible: e.flexible}, version, nil
		}
		if q.once || try >= staleTries || !broken(err) {
			return nil, 0, err
		}
	}
}

// exchange carries one exchange.
func (l *link) exchange(ctx context.Context, x *exchange) error {
	bounded, cancel := context.WithTimeout(ctx, x.wait+exchangeTimeout)
	defer cancel()
	_, err := l.transport.RoundTrip(bounded, l.addr, x)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.broke(x.broker)
	return l.unanswered(x, err)
}

// broke notes that a connection gave no answer: behind the next one may be
// another broker.
func (l *link) broke(broker int32) {
	l.breaks.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spoken, broker)
}

// unanswered says what went wrong with a request.
func (l *link) unanswered(x *exchange, err error) error {
	whom := strings.Join(l.opt.Brokers, ", ")
	if x.broker != anyBroker {
		whom = fmt.Sprintf("broker %d", x.broker)
	}
	switch {
	case errors.Is(err, kafkago.SASLAuthenticationFailed), errors.Is(err, kafkago.UnsupportedSASLMechanism), errors.Is(err, kafkago.IllegalSASLState):
		err = fmt.Errorf("login by %s as %q: %w", l.opt.Mechanism, l.opt.Username, err)
	case l.opt.Mechanism == "" && !l.opt.TLS && broken(err) && l.neverAnswered():
		err = fmt.Errorf("%w (the listener may want TLS or a login)", err)
	}
	return fmt.Errorf("%s of %s: %w: %w", x.api.name, whom, err, bridge.ErrUnavailable)
}

// neverAnswered reports whether no broker has ever answered on this link.
func (l *link) neverAnswered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.spoken) == 0
}

// broken reports whether an error is that of a connection that had been closed,
// as one is that was kept over a restart of its broker.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// of returns the version of an API.
func (v versions) of(key int16) int16 {
	switch key {
	case keyFetch:
		return v.fetch
	case keyListOffsets:
		return v.listOffsets
	case keyMetadata:
		return v.metadata
	case keyEpochEnd:
		return v.epochEnd
	}
	return 0
}

// versions returns what a broker speaks, and asks when it is not known.
func (l *link) versions(ctx context.Context, broker int32) (versions, error) {
	l.mu.Lock()
	v, ok := l.spoken[broker]
	l.mu.Unlock()
	if ok {
		return v, nil
	}
	var x *exchange
	for try := 1; ; try++ {
		x = &exchange{api: apiAPIVersions, broker: broker, client: l.opt.ClientID}
		err := l.exchange(ctx, x)
		if err == nil {
			break
		}
		if try >= staleTries || !broken(err) {
			return versions{}, err
		}
	}
	ranges, err := decodeVersions(&decoder{b: x.answer})
	if err == nil {
		v, err = choose(ranges, l.opt.fetchCap)
	}
	if err != nil {
		return versions{}, fmt.Errorf("%w: %w", err, bridge.ErrUnavailable)
	}
	l.mu.Lock()
	l.spoken[broker] = v
	l.mu.Unlock()
	return v, nil
}

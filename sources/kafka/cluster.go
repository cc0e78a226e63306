package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
)

// Secret returns the present text of a secret, so that one that is rotated is
// used by the next connection. It may be called at any time from any goroutine.
// A nil Secret means that there is none, and so does one that returns "".
type Secret func() string

func (s Secret) text() string {
	if s == nil {
		return ""
	}
	return s()
}

// The isolation levels.
const (
	ReadCommitted   = "read_committed"
	ReadUncommitted = "read_uncommitted"
)

// Options say how to reach one Kafka cluster.
type Options struct {
	// Brokers are the addresses to begin with, host:port each; the others are
	// learned from them. At least one.
	Brokers []string
	// ClientID is the name that brokers log and count quotas by; empty means
	// "ssebridge".
	ClientID string
	// Isolation is read_committed (also when empty), or read_uncommitted, which
	// shows the records of aborted and open transactions too.
	Isolation string

	TLS     bool
	TLSCA   Secret // certificates, in PEM, that sign the brokers'; without it the system's
	TLSCert Secret // own certificate in PEM, for brokers that verify clients; needs TLSKey
	TLSKey  Secret // its key in PEM

	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: no login
	Username  string
	Password  Secret

	Logger *slog.Logger // nil: none

	// fetchCap bounds the version of Fetch, so that tests take the ways that older
	// brokers need. 0: no bound.
	fetchCap int16
}

// Validate reports everything that is wrong with the options.
func (o *Options) Validate() error {
	var errs []error
	fail := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if len(o.Brokers) == 0 {
		fail("no broker: want at least one host:port")
	}
	for _, b := range o.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			fail("broker %q: want host:port", b)
		}
	}
	switch o.Isolation {
	case "", ReadCommitted, ReadUncommitted:
	default:
		fail("isolation %q: want %s or %s", o.Isolation, ReadCommitted, ReadUncommitted)
	}
	switch o.Mechanism {
	case "":
		if o.Username != "" || o.Password != nil {
			fail("user name or password without a mechanism: want %s, %s or %s", Plain, ScramSHA256, ScramSHA512)
		}
	case Plain, ScramSHA256, ScramSHA512:
		if o.Username == "" || o.Password == nil {
			fail("mechanism %s: want a user name and a password", o.Mechanism)
		}
	default:
		fail("mechanism %q: want %s, %s or %s", o.Mechanism, Plain, ScramSHA256, ScramSHA512)
	}
	if !o.TLS && (o.TLSCA != nil || o.TLSCert != nil || o.TLSKey != nil) {
		fail("certificates without TLS")
	}
	if (o.TLSCert == nil) != (o.TLSKey == nil) {
		fail("certificate and key: want both or none")
	}
	if o.TLS && len(errs) == 0 { // what cannot be used is found now rather than at the first connection
		if _, err := o.tlsConfig(o.Brokers[0]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// isolation is the level as requests have it.
func (o *Options) isolation() int8 {
	if o.Isolation == ReadUncommitted {
		return 0
	}
	return 1
}

// Cluster is a Kafka cluster as the bridge uses it. All its sources share
//
//	live ──► per leader broker one lane: one connection with one fetch at a time
//	   └───► one connection for the questions that live readers ask
//	cold ──► resumes and replay, so that a cold read never delays a live record
//
// It serves while Run runs. All methods are safe for concurrent use.
type Cluster struct {
	opt        Options
	log        *slog.Logger
	live, cold *link

	mu    sync.Mutex
	lanes map[int32]*lane // by broker
	fresh []*lane         // that Run has to start
	begin chan struct{}   // capacity 1: fresh is not empty
}

// NewCluster validates the options and returns a cluster that is not connected yet.
func NewCluster(o Options) (*Cluster, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("kafka options: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ClientID == "" {
		o.ClientID = "ssebridge"
	}
	c := &Cluster{opt: o, log: o.Logger, lanes: map[int32]*lane{}, begin: make(chan struct{}, 1)}
	c.live, c.cold = newLink(&c.opt), newLink(&c.opt)
	return c, nil
}

// Run reads for all tails of the cluster until ctx ends, and returns
// context.Cause(ctx) when every connection is closed or about to be. A broker
// that cannot be reached is no error: it is dialled until it answers.
func (c *Cluster) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-c.begin:
		}
		c.mu.Lock()
		fresh := c.fresh
		c.fresh = nil
		c.mu.Unlock()
		for _, l := range fresh {
			wg.Go(func() { l.run(ctx) })
		}
	}
	wg.Wait()
	c.live.close()
	c.cold.close()
	return context.Cause(ctx)
}

// lane returns the lane of a broker and has Run start it when it is new.
func (c *Cluster) lane(broker int32) *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[broker]
	if l == nil {
		l = newLane(c, broker)
		c.lanes[broker] = l
		c.fresh = append(c.fresh, l)
		select {
		case c.begin <- struct{}{}:
		default: // Run has not come to it yet
		}
	}
	return l
}

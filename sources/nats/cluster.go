package nats

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// Secret returns the present text of a secret, so that one that is rotated is
// used at the next connect. It may be called at any time from any goroutine. A
// nil Secret means that there is none, and so does one that returns "".
type Secret func() string

func (s Secret) text() string {
	if s == nil {
		return ""
	}
	return s()
}

// Options say how to reach one NATS cluster. At most one way of authentication
// may be given: creds, nkey, user with password, or token.
type Options struct {
	// URLs are the servers to begin with, such as nats://nats:4222; more are
	// learned from them. At least one. They may carry user:password or a token.
	URLs []string
	// Domain is the JetStream domain, whose API answers below $JS.<domain>.API;
	// empty means the account's own, $JS.API.
	Domain string
	// InboxPrefix is where answers are received; empty means _INBOX. An account
	// that may not subscribe to _INBOX.> needs its own.
	InboxPrefix string

	Creds    Secret // text of a .creds file: a JWT and its seed
	Nkey     Secret // seed of an nkey user, S…
	User     string
	Password Secret
	Token    Secret

	TLSCA   Secret // certificates, in PEM, that sign the servers'; without it the system's
	TLSCert Secret // own certificate in PEM, for servers that verify clients; needs TLSKey
	TLSKey  Secret // its key in PEM

	Logger *slog.Logger // nil: none
}

// Validate reports everything that is wrong with the options.
func (o *Options) Validate() error {
	var errs []error
	fail := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if len(o.URLs) == 0 {
		fail("no server URL: want at least one, such as nats://localhost:4222")
	}
	inURL := false
	for i, text := range o.URLs {
		u, err := parseURL(text)
		if err != nil { // the text may hold a password
			fail("server URL %d: %w", i+1, err)
			continue
		}
		inURL = inURL || u.User != nil
	}
	if strings.ContainsAny(o.Domain, ". \t\r\n*>") {
		fail("domain %q: want one word without dots, blanks or wildcards", o.Domain)
	}
	if p := o.InboxPrefix; p != "" && (strings.ContainsAny(p, " \t\r\n*>") || strings.HasPrefix(p, ".") || strings.HasSuffix(p, ".") || strings.Contains(p, "..")) {
		fail("inbox prefix %q: want a subject without wildcards and without a dot at its end", p)
	}
	ways := 0
	for _, set := range []bool{o.Creds != nil, o.Nkey != nil, o.User != "" || o.Password != nil, o.Token != nil, inURL} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		fail("several ways of authentication: want one of creds, nkey, user and password, token, or the URL's own")
	}
	if o.Password != nil && o.User == "" {
		fail("password without user")
	}
	if (o.TLSCert == nil) != (o.TLSKey == nil) {
		fail("certificate and key: want both or none")
	}
	// A secret that cannot be used is found now rather than at the first connect.
	if len(errs) == 0 {
		if _, err := o.dialOptions(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// parseURL reads a server's address as the client library does, which adds
// nats:// where the scheme is missing. Its errors do not show the text.
func parseURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("not a URL: want nats://host:port")
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return nil, fmt.Errorf("scheme %q: want nats, tls, ws or wss", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("no host: want nats://host:port")
	}
	return u, nil
}

// Cluster is a NATS cluster as the bridge uses it: two connections, shared by
// all streams of the cluster.
//
//	live ──► the readers' consumers, and what they ask about themselves
//	cold ──► resumes and replay, so that a cold read never delays a live record
//
// It serves while Run runs. All methods are safe for concurrent use.
type Cluster struct {
	opt        Options
	log        *slog.Logger
	api        string // subject prefix of the JetStream API
	live, cold *link
	token      string // makes consumer names unique among runs of the bridge
	consumers  atomic.Uint64

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever a connection changes
}

// NewCluster validates the options and returns a cluster that is not connected yet.
func NewCluster(o Options) (*Cluster, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("nats options: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var random [3]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("nats options: %w", err)
	}
	c := &Cluster{opt: o, log: o.Logger, api: "$JS.API.", token: hex.EncodeToString(random[:]), changed: make(chan struct{})}
	if o.Domain != "" {
		c.api = "$JS." + o.Domain + ".API."
	}
	c.live, c.cold = newLink(c, "live"), newLink(c, "replay")
	return c, nil
}

// Run connects, stays connected until ctx ends, and returns context.Cause(ctx)
// when both connections are closed. An unreachable server is no error: it is
// dialled until it answers.
func (c *Cluster) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { c.live.run(ctx) })
	wg.Go(func() { c.cold.run(ctx) })
	wg.Wait()
	return context.Cause(ctx)
}

// Connected reports whether the live connection is up, and why it is not.
func (c *Cluster) Connected() error {
	_, err := c.live.conn()
	return err
}

// watch returns a channel that is closed at the next change of a connection.
// Take it before looking at what may change.
func (c *Cluster) watch() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *Cluster) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// consumerName returns a name that no other consumer of this or another bridge has.
func (c *Cluster) consumerName(instance string) string {
	return fmt.Sprintf("ssebridge-%s-%s%d", instance, c.token, c.consumers.Add(1))
}

// servers names the cluster in errors, without secrets.
func (c *Cluster) servers() string {
	names := make([]string, 0, len(c.opt.URLs))
	for _, text := range c.opt.URLs {
		if u, err := parseURL(text); err == nil {
			names = append(names, u.Host)
		}
	}
	return strings.Join(names, ", ")
}

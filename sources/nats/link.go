package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/bridge"
)

// link is one connection to the cluster. The library reconnects by itself; link
// dials anew when it cannot: when it has closed the connection for good, or when
// a rotated nkey seed has another public key.
type link struct {
	cluster *Cluster
	name    string // in logs
	denials denials

	mu    sync.Mutex
	nc    *natsgo.Conn // nil before Run and after it
	dials uint64
	ducks uint64 // lame duck announcements
	err   error  // why the last attempt to connect failed
}

func newLink(c *Cluster, name string) *link { return &link{cluster: c, name: name} }

// errDialling says that there is no connection while nothing is known to have
// failed: the first attempt is under way.
var errDialling = errors.New("still dialling")

// conn returns the connection, or an error that wraps [bridge.ErrUnavailable]
// and says why there is none.
func (l *link) conn() (*natsgo.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nc != nil && l.nc.IsConnected() {
		return l.nc, nil
	}
	why := l.err
	if l.nc != nil && why == nil {
		why = l.nc.LastError() // an attempt that failed before the first success is told nowhere else
	}
	if why == nil || errors.Is(why, natsgo.ErrNoServers) { // the second says that it failed, and not why: that comes with the next attempt
		why = errDialling
	}
	return nil, fmt.Errorf("not connected to %s: %w: %w", l.cluster.servers(), why, bridge.ErrUnavailable)
}

// number names the present connection. It changes with every connect and every
// announcement that the server is about to leave, before anything can be
// answered on the new connection, and never comes back.
func (l *link) number() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.dials<<40 + l.ducks<<24
	if l.nc != nil {
		n += l.nc.Stats().Reconnects
	}
	return n
}

func (l *link) run(ctx context.Context) {
	for ctx.Err() == nil {
		l.session(ctx)
	}
}

// session dials, and returns when the connection is to be dialled anew.
func (l *link) session(ctx context.Context) {
	o := &l.cluster.opt
	key := ""
	if o.Nkey != nil {
		key, _ = o.publicKey() // a seed that cannot be read is told by the dial below
	}
	closed := make(chan struct{})
	opts, err := o.dialOptions()
	if err == nil {
		opts = append(opts,
			natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { l.failed(err) }),
			natsgo.ConnectHandler(func(*natsgo.Conn) { l.up("connected") }),
			natsgo.ReconnectHandler(func(*natsgo.Conn) { l.up("connected again") }),
			natsgo.DisconnectErrHandler(func(_ *natsgo.Conn, err error) { l.down(err) }),
			natsgo.LameDuckModeHandler(func(*natsgo.Conn) { l.duck() }),
			natsgo.ReconnectErrHandler(func(_ *natsgo.Conn, err error) { l.failed(err) }),
			natsgo.ClosedHandler(func(*natsgo.Conn) { close(closed) }),
		)
		var nc *natsgo.Conn
		if nc, err = natsgo.Connect(strings.Join(o.URLs, ","), opts...); err == nil {
			l.mu.Lock()
			l.nc, l.dials = nc, l.dials+1
			l.mu.Unlock()
			l.cluster.notify()
			l.watch(ctx, nc, key, closed)
			nc.Close()
			<-closed // no callback comes after it
			l.mu.Lock()
			l.nc = nil
			l.mu.Unlock()
			l.cluster.notify()
		}
	}
	if err != nil {
		l.failed(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(reconnectWait):
	}
}

// watch returns when the connection is of no more use.
func (l *link) watch(ctx context.Context, nc *natsgo.Conn, key string, closed <-chan struct{}) {
	var rotated <-chan time.Time
	if l.cluster.opt.Nkey != nil {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		rotated = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-closed:
			return
		case <-rotated:
			if now, err := l.cluster.opt.publicKey(); err == nil && now != key && !nc.IsConnected() {
				return
			}
		}
	}
}

func (l *link) up(what string) {
	l.mu.Lock()
	l.err = nil
	nc := l.nc
	l.denials.clear()
	l.mu.Unlock()
	server := ""
	if nc != nil {
		server = nc.ConnectedServerName()
	}
	l.cluster.log.Info("nats connection is up", "connection", l.name, "how", what, "server", server)
	l.cluster.notify()
}

func (l *link) down(err error) {
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	if err != nil { // otherwise it was closed here
		l.cluster.log.Info("nats connection is down", "connection", l.name, "error", err)
	}
	l.cluster.notify()
}

func (l *link) duck() {
	l.mu.Lock()
	l.ducks++
	l.mu.Unlock()
	l.cluster.log.Info("nats server is about to leave", "connection", l.name)
	l.cluster.notify()
}

// failed takes what the library reports outside of any call.
func (l *link) failed(err error) {
	if err == nil {
		return
	}
	if errors.Is(err, natsgo.ErrPermissionViolation) {
		l.denials.add(err)
		return
	}
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	l.cluster.log.Debug("nats connection reports", "connection", l.name, "error", err)
}

package natstest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// readyTimeout bounds how long a server may take to serve. It is generous,
// because test machines are busy; nothing waits for it when all is well.
const readyTimeout = 30 * time.Second

// serverCount makes server names unique within the test process.
var serverCount atomic.Int64

// Server is a NATS server inside the test process.
type Server struct {
	URL  string // where clients connect, without credentials
	Name string
	Dir  string // the data directory

	t   testing.TB
	srv *server.Server
}

// Embedded starts a server with JetStream whose data lives in the test's
// temporary directory. Each edit may change its options before it starts.
func Embedded(t testing.TB, edit ...func(*server.Options)) *Server {
	t.Helper()
	o := options(t)
	for _, f := range edit {
		f(o)
	}
	return start(t, o)
}

// Config returns an edit that overlays the options with a server configuration
// text, for what is clumsy to say in Go, such as permissions.
func Config(t testing.TB, text string) func(*server.Options) {
	t.Helper()
	return func(o *server.Options) {
		if err := o.ProcessConfigString(text); err != nil {
			t.Fatalf("server configuration: %v", err)
		}
	}
}

// Cluster starts n servers that form one cluster with JetStream and returns
// when they have elected a leader.
func Cluster(t testing.TB, n int) []*Server {
	t.Helper()
	routes := make([]*url.URL, n)
	ports := make([]int, n)
	for i := range n {
		ports[i] = freePort(t)
		routes[i] = &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])}
	}
	name := fmt.Sprintf("natstest-%d", serverCount.Add(1))
	servers := make([]*Server, n)
	for i := range n {
		o := options(t)
		o.Cluster = server.ClusterOpts{Name: name, Host: "127.0.0.1", Port: ports[i]}
		o.Routes = routes
		servers[i] = start(t, o)
	}
	until(t, "a cluster leader", func() bool {
		for _, s := range servers {
			if s.srv.JetStreamIsLeader() {
				return s.srv.JetStreamIsCurrent()
			}
		}
		return false
	})
	return servers
}

func options(t testing.TB) *server.Options {
	return &server.Options{
		ServerName: fmt.Sprintf("natstest-%d", serverCount.Add(1)),
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		JetStream:  true,
		StoreDir:   t.TempDir(),
		NoLog:      true,
		NoSigs:     true,
	}
}

func start(t testing.TB, o *server.Options) *Server {
	t.Helper()
	srv, err := server.NewServer(o)
	if err != nil {
		t.Fatalf("make server: %v", err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(readyTimeout) {
		t.Fatalf("server %s is not ready after %s", o.ServerName, readyTimeout)
	}
	return &Server{URL: srv.ClientURL(), Name: o.ServerName, Dir: o.StoreDir, t: t, srv: srv}
}

// Conn connects to the server; the connection ends with the test.
func (s *Server) Conn(opts ...natsgo.Option) *natsgo.Conn {
	s.t.Helper()
	return connect(s.t, s.URL, s.Name, opts...)
}

// JS is Conn with JetStream's API over it.
func (s *Server) JS(opts ...natsgo.Option) jetstream.JetStream {
	s.t.Helper()
	return js(s.t, s.Conn(opts...))
}

// Shutdown stops the server before the test ends, as a SIGTERM would.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// LameDuck tells the clients that the server is about to leave, and makes it
// leave. It returns when the server has ended.
func (s *Server) LameDuck() { s.srv.LameDuckShutdown() }

// Settle returns when the files of a deleted stream are gone. The server removes
// them in the background, and if a stream of the same name is deleted meanwhile,
// its own files stay behind and the next stream of that name begins with the old
// records (nats-server 2.15.2, fileStore.Delete). A test that deletes the same
// name several times calls it in between.
func (s *Server) Settle(stream string) {
	s.t.Helper()
	settle(s.t, s.Dir, stream)
}

func settle(t testing.TB, dir, stream string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams"))
	if err != nil {
		t.Fatalf("look for the streams of %s: %v", dir, err)
	}
	until(t, "the files of stream "+stream+" to go", func() bool {
		for _, f := range files {
			if _, err := os.Stat(filepath.Join(f, "."+stream)); err == nil {
				return false
			}
		}
		return true
	})
}

// Clients counts the connections whose name is name.
func (s *Server) Clients(name string) int {
	z, err := s.srv.Connz(&server.ConnzOptions{Limit: 10000})
	if err != nil {
		s.t.Fatalf("list connections: %v", err)
	}
	n := 0
	for _, c := range z.Conns {
		if c.Name == name {
			n++
		}
	}
	return n
}

// connect dials until the server answers, and makes sure that it is ours.
func connect(t testing.TB, url, name string, opts ...natsgo.Option) *natsgo.Conn {
	t.Helper()
	opts = append([]natsgo.Option{
		natsgo.MaxReconnects(-1),
		natsgo.ReconnectWait(20 * time.Millisecond),
		natsgo.ReconnectJitter(time.Millisecond, time.Millisecond),
		natsgo.ErrorHandler(func(*natsgo.Conn, *natsgo.Subscription, error) {}),
	}, opts...)
	var nc *natsgo.Conn
	var err error
	until(t, "a connection to "+url, func() bool {
		nc, err = natsgo.Connect(url, opts...)
		return err == nil
	})
	t.Cleanup(nc.Close)
	if got := nc.ConnectedServerName(); name != "" && got != name {
		t.Fatalf("%s is server %q, want ours, %q", url, got, name)
	}
	return nc
}

func js(t testing.TB, nc *natsgo.Conn) jetstream.JetStream {
	t.Helper()
	j, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("JetStream: %v", err)
	}
	until(t, "JetStream to answer", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := j.AccountInfo(ctx)
		return err == nil || t.Context().Err() != nil
	})
	return j
}

// until asks again and again until ok, and fails the test when it never is.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(readyTimeout)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", readyTimeout, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

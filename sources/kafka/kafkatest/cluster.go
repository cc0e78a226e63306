package kafkatest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readyTimeout bounds how long brokers may take to serve. It is generous,
// because test machines are busy; nothing waits for it when all is well.
const readyTimeout = 120 * time.Second

// Options say what kind of cluster to run. The zero value is one broker of the
// current version that anybody may use.
type Options struct {
	Nodes   int    // 0 means 1; every node is broker and controller
	Version string // empty: Current
	// Secure adds two listeners, SASL and TLS, with users and certificates as in
	// [Cluster.Secure], and permissions: on those listeners everything is denied
	// that is not granted. The plain listener may do everything.
	Secure bool
	// Settings are added to each broker's configuration, a line each.
	Settings []string
}

// Cluster is a running cluster.
type Cluster struct {
	ID     string  // cluster id; empty for a broker that was there already
	Nodes  []*Node // empty for a broker that was there already
	Secure *Secure // nil without the option

	brokers []string
	dir     string
}

// Brokers returns the addresses of the plain listeners.
func (c *Cluster) Brokers() []string { return c.brokers }

// Start runs a cluster for the length of a test.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "ssebridge-kafkatest-") //nolint:usetesting // brokers may still write to it when the test's own is removed
	if err != nil {
		t.Fatal(err)
	}
	c, err := start(o, dir)
	t.Cleanup(func() {
		if c != nil {
			c.stop()
		}
		_ = os.RemoveAll(dir) // only space
	})
	require(t, err)
	return c
}

// shared is the broker that the tests of a process have in common.
var shared struct {
	sync.Mutex
	cluster *Cluster
	dir     string
	err     error
}

// Shared returns a single broker that all tests of the process share: to be used
// with topics of one's own. The first call starts it. Call [StopShared] in
// TestMain.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		if there := os.Getenv("SSEBRIDGE_TEST_KAFKA"); there != "" {
			shared.cluster = &Cluster{brokers: strings.Split(there, ",")}
		} else if shared.dir, shared.err = os.MkdirTemp("", "ssebridge-kafkatest-"); shared.err == nil { //nolint:usetesting // it outlives the test
			shared.cluster, shared.err = start(Options{}, shared.dir)
		}
	}
	require(t, shared.err)
	return shared.cluster
}

// StopShared ends the shared broker, if there is one.
func StopShared() {
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster != nil {
		shared.cluster.stop()
		shared.cluster = nil
	}
	_ = os.RemoveAll(shared.dir) // only space
}

// start runs a cluster in a folder.
func start(o Options, dir string) (*Cluster, error) {
	if o.Version == "" {
		o.Version = Current
	}
	libs, err := jars(o.Version)
	if err != nil {
		return nil, err
	}
	c := &Cluster{ID: randomID(), dir: dir}
	if o.Secure {
		if c.Secure, err = newSecure(dir); err != nil {
			return nil, err
		}
	}
	if c.Nodes, err = nodes(c, max(o.Nodes, 1), libs); err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		c.brokers = append(c.brokers, n.Address)
		if err := n.configure(o.Settings); err != nil {
			return nil, err
		}
	}
	if err := together(c.Nodes, (*Node).format); err != nil {
		return nil, err
	}
	if err := together(c.Nodes, (*Node).launch); err != nil {
		c.stop()
		return nil, err
	}
	if err := together(c.Nodes, (*Node).ready); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// stop kills all nodes.
func (c *Cluster) stop() {
	for _, n := range c.Nodes {
		n.Kill9()
	}
}

// together does the same to all nodes at once.
func together(nodes []*Node, do func(*Node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// randomID returns a cluster id: 16 random bytes as Kafka writes them.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f           // Kafka refuses ids that begin with a dash
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// nodes lays out the nodes of a cluster on free ports.
func nodes(c *Cluster, n int, libs string) ([]*Node, error) {
	out := make([]*Node, n)
	for i := range out {
		nd := &Node{ID: int32(i + 1), cluster: c, libs: libs, dir: filepath.Join(c.dir, fmt.Sprint(i+1))}
		for _, p := range []*string{&nd.Address, &nd.controller, &nd.sasl, &nd.tls} {
			port, err := freePort()
			if err != nil {
				return nil, err
			}
			*p = fmt.Sprintf("127.0.0.1:%d", port)
		}
		out[i] = nd
	}
	for _, nd := range out {
		for _, other := range out {
			nd.voters = append(nd.voters, fmt.Sprintf("%d@%s", other.ID, other.controller))
		}
	}
	if c.Secure != nil {
		for _, nd := range out {
			c.Secure.SASL = append(c.Secure.SASL, nd.sasl)
			c.Secure.TLS = append(c.Secure.TLS, nd.tls)
		}
	}
	return out, nil
}

// freePort returns a port that nobody listens on. It lies below the range from
// which the system picks the ports of outgoing connections, so that none of
// those takes it while a broker is down.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + mathrand.IntN(12000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // bound and closed at once
		if err != nil {
			continue
		}
		_ = l.Close()
		return port, nil
	}
	return 0, errors.New("no free port between 20000 and 32000")
}

// Client returns a client of the plain listeners. It ends with the test.
func (c *Cluster) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(64 << 20),
		kgo.BrokerMaxWriteBytes(100 << 20),
		kgo.BrokerMaxReadBytes(100 << 20),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}, opts...)...)
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	t.Cleanup(client.Close)
	return client
}

// Admin returns an administrator of the cluster, and makes sure that it is this
// one: tests create and delete.
func (c *Cluster) Admin(t testing.TB) *kadm.Client {
	t.Helper()
	admin := kadm.NewClient(c.Client(t))
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	m, err := admin.BrokerMetadata(ctx)
	if err != nil {
		t.Fatalf("ask for the cluster's id: %v", err)
	}
	if c.ID != "" && m.Cluster != c.ID {
		t.Fatalf("%v is cluster %q, want ours, %q", c.brokers, m.Cluster, c.ID)
	}
	return admin
}

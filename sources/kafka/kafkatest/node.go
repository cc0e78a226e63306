package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Node is one broker and controller, a process of its own. It keeps its ports
// and its data over restarts.
type Node struct {
	ID      int32
	Address string // of the plain listener

	cluster               *Cluster
	controller, sasl, tls string
	voters                []string
	libs, dir             string
	cmd                   *exec.Cmd
	gone                  chan struct{} // closed when the process has ended
}

// data is the folder of the broker's logs.
func (n *Node) data() string { return filepath.Join(n.dir, "data") }

// configure writes the broker's configuration. What is not about addresses makes
// it small, and quick to do what brokers do once in a while.
func (n *Node) configure(settings []string) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of node %d: %w", n.ID, err)
	}
	replicas := min(len(n.voters), 3)
	listeners, protocols := "PLAINTEXT://"+n.Address, "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
	if n.cluster.Secure != nil {
		listeners += ",SASL_PLAINTEXT://" + n.sasl + ",SSL://" + n.tls
		protocols += ",SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL"
		settings = append(n.cluster.Secure.settings(), settings...)
	}
	lines := append([]string{
		"process.roles=broker,controller",
		fmt.Sprintf("node.id=%d", n.ID),
		"controller.quorum.voters=" + strings.Join(n.voters, ","),
		"controller.listener.names=CONTROLLER",
		"listeners=" + listeners + ",CONTROLLER://" + n.controller,
		"advertised.listeners=" + listeners,
		"listener.security.protocol.map=" + protocols,
		"inter.broker.listener.name=PLAINTEXT",
		"log.dirs=" + n.data(),
		"auto.create.topics.enable=false",
		"message.max.bytes=67108864",
		"replica.fetch.max.bytes=67108864",
		"log.index.size.max.bytes=65536", // they are made at full size, and copied
		"num.network.threads=2", "num.io.threads=4", "background.threads=2",
		"num.recovery.threads.per.data.dir=2",
		"log.cleaner.dedupe.buffer.size=2097152", "log.cleaner.backoff.ms=500",
		"log.initial.task.delay.ms=500", "log.retention.check.interval.ms=1000", "log.segment.delete.delay.ms=100",
		fmt.Sprintf("offsets.topic.replication.factor=%d", replicas), "offsets.topic.num.partitions=1",
		fmt.Sprintf("transaction.state.log.replication.factor=%d", replicas), "transaction.state.log.num.partitions=1",
		"transaction.state.log.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
		"broker.session.timeout.ms=6000", "broker.heartbeat.interval.ms=500",
	}, settings...)
	return os.WriteFile(n.config(), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

func (n *Node) config() string { return filepath.Join(n.dir, "server.properties") }

// java returns the command of one of Kafka's programs.
func (n *Node) java(class string, args ...string) *exec.Cmd {
	flags := []string{
		"-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData",
		"-Djava.net.preferIPv4Stack=true", "-cp", filepath.Join(n.libs, "*"), class,
	}
	return exec.Command("java", append(flags, args...)...) //nolint:noctx // it ends by itself, or by Kill9, which the test's cleanup calls
}

func (n *Node) format() error {
	args := []string{"format", "-t", n.cluster.ID, "-c", n.config(), "--ignore-formatted"}
	if n.cluster.Secure != nil {
		args = append(args, n.cluster.Secure.formatArgs()...)
	}
	if out, err := n.java("kafka.tools.StorageTool", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("format node %d: %w\n%s", n.ID, err, out)
	}
	return nil
}

// launch starts the process.
func (n *Node) launch() error {
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of node %d: %w", n.ID, err)
	}
	defer func() { _ = log.Close() }()
	cmd := n.java("kafka.Kafka", n.config())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node %d: %w", n.ID, err)
	}
	gone := make(chan struct{})
	n.cmd, n.gone = cmd, gone
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(gone)
	}()
	return nil
}

// ready waits until the broker answers as a part of this cluster.
func (n *Node) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Address), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }))
	if err != nil {
		return fmt.Errorf("client of node %d: %w", n.ID, err)
	}
	defer client.Close()
	for {
		m, err := kadm.NewClient(client).BrokerMetadata(ctx)
		if err == nil && m.Cluster != n.cluster.ID {
			return fmt.Errorf("%s is another cluster, %q", n.Address, m.Cluster)
		}
		if err == nil && len(m.Brokers) > 0 && len(n.voters) == 1 || err == nil && slices.Contains(m.Brokers.NodeIDs(), n.ID) {
			return nil
		}
		select {
		case <-n.gone:
			out, _ := os.ReadFile(filepath.Join(n.dir, "log"))
			return fmt.Errorf("node %d ended at its start:\n%s", n.ID, out)
		case <-ctx.Done():
			return fmt.Errorf("node %d does not answer: %w", n.ID, errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond): // between two questions
		}
	}
}

// Start starts the node again on its ports and data, and returns when it answers.
func (n *Node) Start(t testing.TB) {
	t.Helper()
	if err := n.launch(); err != nil {
		t.Fatal(err)
	}
	if err := n.ready(); err != nil {
		t.Fatal(err)
	}
}

// Kill9 kills the node as kill -9 does and returns when it is gone.
func (n *Node) Kill9() { n.end(syscall.SIGKILL) }

// Stop ends the node by SIGTERM and returns when it is gone.
func (n *Node) Stop() { n.end(syscall.SIGTERM) }

// Restart kills the node and starts it again.
func (n *Node) Restart(t testing.TB) {
	t.Helper()
	n.Kill9()
	n.Start(t)
}

// Pause stops the process where it is; Continue lets it go on.
func (n *Node) Pause(t testing.TB)    { n.signal(t, syscall.SIGSTOP) }
func (n *Node) Continue(t testing.TB) { n.signal(t, syscall.SIGCONT) } //nolint:revive // see Pause

func (n *Node) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal node %d: %v", n.ID, err)
	}
}

func (n *Node) end(sig syscall.Signal) {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(sig)
	<-n.gone
	n.cmd = nil
}

// CopyData copies the node's data and returns the copy, for RollBack. What was
// acknowledged before is in the copy.
func (n *Node) CopyData(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(n.data())); err != nil {
		t.Fatalf("copy data of node %d: %v", n.ID, err)
	}
	return dir
}

// RollBack kills the node, puts an older copy of its data in place, as a crash
// of the machine does that loses what was not synced, and starts it again.
func (n *Node) RollBack(t testing.TB, dir string) {
	t.Helper()
	n.Kill9()
	if err := os.RemoveAll(n.data()); err != nil {
		t.Fatalf("remove data of node %d: %v", n.ID, err)
	}
	if err := os.CopyFS(n.data(), os.DirFS(dir)); err != nil {
		t.Fatalf("put data of node %d back: %v", n.ID, err)
	}
	n.Start(t)
}

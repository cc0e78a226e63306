package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	// kafkaStart bounds how long Kafka may take to be formatted and to answer, and
	// kafkaStop how long it may take to end before it is killed.
	kafkaStart = 90 * time.Second
	kafkaStop  = 5 * time.Second
	// kafkaPause is between two questions while it does not answer.
	kafkaPause = 50 * time.Millisecond
	// kafkaPartitions is how many partitions each topic has.
	kafkaPartitions = 3
)

// kafkaBroker is a Kafka broker, a process of its own that listens on loopback
// only.
type kafkaBroker struct {
	address string
	id      string // of the cluster
	dir     string
	client  *kafkago.Client
	writers []*kafkago.Writer
	log     *slog.Logger

	cmd  *exec.Cmd
	gone chan struct{} // closed when the process has ended
	end  error         // how, once gone is closed
}

// startKafka starts a broker that keeps its topics in dir. The caller closes it.
func startKafka(ctx context.Context, dir string, log *slog.Logger) (_ *kafkaBroker, err error) {
	jars, err := kafkaJars(ctx, log)
	if err != nil {
		return nil, err
	}
	var addresses [2]string // of clients, and of the controller
	for i := range addresses {
		if addresses[i], err = freeAddress(ctx, "127.0.0.1:0", ""); err != nil {
			return nil, fmt.Errorf("find an address for Kafka: %w", err)
		}
	}
	b := &kafkaBroker{address: addresses[0], id: kafkaClusterID(), dir: dir, log: log, gone: make(chan struct{})}
	b.client = &kafkago.Client{Addr: kafkago.TCP(b.address), Transport: &kafkago.Transport{
		ClientID: "ssebridge-demo", MetadataTTL: time.Second, MetadataTopics: []string{"host", "prices"},
	}}
	properties := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(properties, []byte(kafkaProperties(b.address, addresses[1], dir)), 0o600); err != nil {
		return nil, fmt.Errorf("configure Kafka: %w", err)
	}
	format := kafkaCommand(ctx, jars, "kafka.tools.StorageTool", "format", "-t", b.id, "-c", properties, "--ignore-formatted")
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format Kafka's directory: %w\n%s", err, out)
	}
	// The broker outlives ctx, as what uses it ends first.
	if err := b.launch(kafkaCommand(context.WithoutCancel(ctx), jars, "kafka.Kafka", properties)); err != nil {
		return nil, err
	}
	if err := b.await(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// kafkaProperties is the configuration of one small node that is broker and
// controller. Topics are made by the demo alone.
func kafkaProperties(address, controller, dir string) string {
	return strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + controller,
		"controller.listener.names=CONTROLLER",
		"listeners=PLAINTEXT://" + address + ",CONTROLLER://" + controller,
		"advertised.listeners=PLAINTEXT://" + address,
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs=" + filepath.ToSlash(filepath.Join(dir, "kafka")),
		"auto.create.topics.enable=false",
		"offsets.topic.replication.factor=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"log.cleaner.dedupe.buffer.size=2097152",
		"num.network.threads=2",
		"num.io.threads=2",
		"background.threads=1",
	}, "\n") + "\n"
}

// kafkaClusterID returns 16 random bytes as Kafka writes them. Two clusters with
// one id on a machine look like one to their brokers.
func kafkaClusterID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f           // Kafka takes no id that begins with a dash
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// launch starts the process.
func (b *kafkaBroker) launch(cmd *exec.Cmd) error {
	path := filepath.Join(b.dir, "kafka.log")
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make Kafka's log: %w", err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	started := make(chan error, 1) // the one result of Start
	go func() {
		defer close(b.gone)
		// The thread that starts a process has to last as long, see childAttributes.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = log.Close() }()
		err := cmd.Start()
		started <- err
		if err == nil {
			b.end = cmd.Wait()
			if b.end == nil {
				b.end = errors.New("exit status 0")
			}
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	b.cmd = cmd
	b.log.Info("Kafka started", "pid", cmd.Process.Pid, "address", b.address)
	return nil
}

// await waits until the broker answers, and makes sure that it is this one.
func (b *kafkaBroker) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaStart)
	defer cancel()
	for {
		m, err := b.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{}})
		switch {
		case err == nil && m.ClusterID != b.id:
			return fmt.Errorf("start Kafka: another cluster answers at %s", b.address)
		case err == nil && len(m.Brokers) > 0:
			return nil
		}
		select {
		case <-b.gone:
			return b.ended()
		case <-ctx.Done():
			return fmt.Errorf("start Kafka: no answer: %w", errors.Join(context.Cause(ctx), err))
		case <-time.After(kafkaPause):
		}
	}
}

// ended says how the process ended, with the end of its log.
func (b *kafkaBroker) ended() error {
	text, _ := os.ReadFile(filepath.Join(b.dir, "kafka.log")) // without it the error says less
	return fmt.Errorf("the Kafka process ended by itself (%w); the end of its log: %s", b.end, text[max(0, len(text)-2000):])
}

// Kind implements [broker].
func (b *kafkaBroker) Kind() string { return "Kafka" }

// Address implements [broker].
func (b *kafkaBroker) Address() string { return b.address }

// Settings implements [broker].
func (b *kafkaBroker) Settings() []string {
	return []string{"SSEBRIDGE_STREAMS=host=kafka:host,prices=kafka:prices", "SSEBRIDGE_KAFKA_BROKERS=" + b.address}
}

// Watch implements [broker].
func (b *kafkaBroker) Watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-b.gone:
		return b.ended()
	}
}

// Open implements [broker].
func (b *kafkaBroker) Open(ctx context.Context, name string) (history, error) {
	if err := b.makeTopic(ctx, name); err != nil {
		return nil, err
	}
	w := &kafkago.Writer{
		Addr: b.client.Addr, Topic: name, Transport: b.client.Transport,
		Balancer:     &kafkago.Hash{}, // one key, one partition: a subject keeps its order
		RequiredAcks: kafkago.RequireAll,
		MaxAttempts:  10,
		BatchSize:    1, // every record is waited for anyway
	}
	b.writers = append(b.writers, w)
	return kafkaTopic{b, w, name}, nil
}

// makeTopic makes a topic, or finds it. A broker that has just begun to answer
// may not be ready to make topics, and makes their leaders a moment later.
func (b *kafkaBroker) makeTopic(ctx context.Context, name string) error {
	if err := b.until(ctx, func(ctx context.Context) error { return b.open(ctx, name) }); err != nil {
		return fmt.Errorf("make topic %s: %w", name, err)
	}
	return nil
}

// until does what the broker may not be ready for, again and again until it
// succeeds.
func (b *kafkaBroker) until(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaStart)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-b.gone:
			return b.ended()
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(kafkaPause):
		}
	}
}

// open makes a topic unless it is there, and reports an error until all of its
// partitions have leaders.
func (b *kafkaBroker) open(ctx context.Context, name string) error {
	made, err := b.client.CreateTopics(ctx, &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{{
		Topic: name, NumPartitions: kafkaPartitions, ReplicationFactor: 1,
		ConfigEntries: []kafkago.ConfigEntry{
			{ConfigName: "retention.ms", ConfigValue: strconv.FormatInt(maxAge.Milliseconds(), 10)},
			{ConfigName: "retention.bytes", ConfigValue: strconv.Itoa(maxBytes / kafkaPartitions)},
			{ConfigName: "segment.bytes", ConfigValue: strconv.Itoa(4 << 20)}, // whole segments expire
		},
	}}})
	if err == nil {
		err = made.Errors[name]
	}
	if err != nil && !errors.Is(err, kafkago.TopicAlreadyExists) {
		return err
	}
	led, err := b.leaders(ctx, name)
	if err != nil {
		return err
	}
	if led < kafkaPartitions {
		return fmt.Errorf("%d of %d partitions have leaders", led, kafkaPartitions)
	}
	return nil
}

// leaders returns how many partitions of a topic have leaders. The client asks
// the broker once a second and answers what it knows.
func (b *kafkaBroker) leaders(ctx context.Context, name string) (int, error) {
	m, err := b.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{name}})
	if err != nil {
		return 0, err
	}
	led := 0
	for _, t := range m.Topics {
		if t.Error != nil {
			return 0, t.Error
		}
		for _, p := range t.Partitions {
			if p.Error == nil {
				led++
			}
		}
	}
	return led, nil
}

// Close implements [broker].
func (b *kafkaBroker) Close() {
	for _, w := range b.writers {
		_ = w.Close() // everything was waited for
	}
	if t, ok := b.client.Transport.(*kafkago.Transport); ok {
		t.CloseIdleConnections()
	}
	// Where there is no SIGTERM (Windows) this fails, and force is all there is.
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		_ = b.cmd.Process.Kill()
	}
	grace := time.NewTimer(kafkaStop)
	defer grace.Stop()
	select {
	case <-b.gone:
	case <-grace.C:
		b.log.Warn("Kafka does not end, killing it", "pid", b.cmd.Process.Pid, "after", kafkaStop)
		_ = b.cmd.Process.Kill()
		<-b.gone
	}
}

// kafkaTopic is the history of a topic that was empty when the demo began.
type kafkaTopic struct {
	broker *kafkaBroker
	writer *kafkago.Writer
	name   string
}

// Ends implements [history].
func (kafkaTopic) Ends(context.Context, string) (first, last []byte, err error) {
	return nil, nil, nil
}

// Delete implements [history]. The broker forgets a topic some time after it has
// agreed to delete it; a record that it confirms in between would be gone.
func (t kafkaTopic) Delete(ctx context.Context) error {
	err := t.broker.until(ctx, func(ctx context.Context) error {
		gone, err := t.broker.client.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: []string{t.name}})
		if err == nil {
			err = gone.Errors[t.name]
		}
		if err != nil && !errors.Is(err, kafkago.UnknownTopicOrPartition) {
			return err
		}
		_, err = t.broker.leaders(ctx, t.name)
		if errors.Is(err, kafkago.UnknownTopicOrPartition) {
			return nil
		}
		return errors.Join(errors.New("the broker still knows the topic"), err)
	})
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", t.name, err)
	}
	return nil
}

// Make implements [history].
func (t kafkaTopic) Make(ctx context.Context) error { return t.broker.makeTopic(ctx, t.name) }

// Append implements [history]. The record's key is the subject without the
// topic's name. The writer tries again when a confirmation is lost, which may
// store a record twice: this client has no idempotent producer.
func (t kafkaTopic) Append(ctx context.Context, subject string, _ uint64, data []byte) error {
	key := strings.TrimPrefix(subject, t.name+".")
	return t.writer.WriteMessages(ctx, kafkago.Message{Key: []byte(key), Value: data})
}

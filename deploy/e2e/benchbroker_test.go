package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// benchBroker is a broker as benchmarks need it, with one stream s whose subjects
// begin with s.
type benchBroker interface {
	// settings are those of a bridge that reads the stream.
	settings() []string
	// publish adds a record, soon. It reports to b what goes wrong.
	publish(b *testing.B, subject string, payload []byte)
	// flush returns when the broker has all that was published.
	flush(b *testing.B)
	// reads returns what the broker was asked for that is older than live.
	reads(b *testing.B) *readLog
}

// benchBrokers are those on which a benchmark can run, by their names.
var benchBrokers = []struct {
	name  string
	start func(b *testing.B) benchBroker
}{
	{"JetStream", startJetStream},
	{"Kafka", startKafka},
}

// readLog counts questions for stored records by the place that they ask from:
// who reads a chunk asks from its beginning, so that places are chunks, and more
// questions than places are chunks that were read twice.
type readLog struct {
	mu     sync.Mutex
	places map[string]int
}

func (l *readLog) note(place string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.places == nil {
		l.places = map[string]int{}
	}
	l.places[place]++
}

// take returns the counts since the call before.
func (l *readLog) take() (questions, places int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.places {
		questions += n
	}
	places = len(l.places)
	l.places = nil
	return questions, places
}

// jetStream is a JetStream stream in a nats-server process.
type jetStream struct {
	url string
	nc  *natsgo.Conn
}

func startJetStream(b *testing.B) benchBroker {
	b.Helper()
	server := natstest.Process(b)
	createStream(b, server.JS(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true, Storage: jetstream.MemoryStorage})
	return &jetStream{server.URL, server.Conn()}
}

func (j *jetStream) settings() []string { return []string{"STREAMS=s=nats:S", "NATS_URL=" + j.url} }

func (j *jetStream) publish(b *testing.B, subject string, payload []byte) {
	if err := j.nc.Publish(subject, payload); err != nil {
		b.Error(err)
	}
}

func (j *jetStream) flush(b *testing.B) {
	if err := j.nc.Flush(); err != nil {
		b.Error(err)
	}
}

// reads listens to the questions of all.
func (j *jetStream) reads(b *testing.B) *readLog {
	b.Helper()
	l := new(readLog)
	for _, subject := range []string{"$JS.API.DIRECT.GET.>", "$JS.API.STREAM.MSG.GET.>"} {
		_, err := j.nc.Subscribe(subject, func(m *natsgo.Msg) {
			var q struct{ Seq, Batch uint64 }
			if err := json.Unmarshal(m.Data, &q); err != nil {
				b.Errorf("%s is asked %q: %v", m.Subject, m.Data, err)
			}
			what := "chunk "
			if q.Batch == 0 {
				what = "record "
			}
			l.note(what + strconv.FormatUint(q.Seq, 10))
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	j.flush(b)
	return l
}

// kafkaTopic is a topic of one partition, as the records of a client are numbered
// by one, in a broker process behind a tap.
type kafkaTopic struct {
	cluster *kafkatest.Cluster
	client  *kgo.Client
	topic   string
	tap     *kafkaTap
}

func startKafka(b *testing.B) benchBroker {
	b.Helper()
	k := &kafkaTopic{tap: startKafkaTap(b)}
	k.cluster = kafkatest.Start(b, kafkatest.Options{Settings: []string{"advertised.listeners=PLAINTEXT://" + k.tap.listener.Addr().String()}})
	k.tap.lead(k.cluster.Brokers()[0])
	k.topic = k.cluster.Topic(b, 1, 1)
	k.client = k.cluster.Client(b)
	return k
}

func (k *kafkaTopic) settings() []string {
	return []string{"STREAMS=s=kafka:" + k.topic, "KAFKA_BROKERS=" + strings.Join(k.cluster.Brokers(), ",")}
}

func (k *kafkaTopic) publish(b *testing.B, subject string, payload []byte) {
	key := strings.TrimPrefix(subject, "s.")
	k.client.Produce(b.Context(), &kgo.Record{Topic: k.topic, Key: []byte(key), Value: payload}, func(_ *kgo.Record, err error) {
		if err != nil {
			b.Error(err)
		}
	})
}

func (k *kafkaTopic) flush(b *testing.B) {
	if err := k.client.Flush(b.Context()); err != nil {
		b.Error(err)
	}
}

func (k *kafkaTopic) reads(*testing.B) *readLog { return &k.tap.log }

// kafkaTap passes on what goes to a broker and comes from it, and notes what its
// clients fetch without waiting for it: those are the reads of older records, as
// who reads live waits for what is not there yet.
type kafkaTap struct {
	b        *testing.B
	listener net.Listener
	log      readLog
	known    chan struct{} // closed when broker is
	broker   string
}

func startKafkaTap(b *testing.B) *kafkaTap {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	t := &kafkaTap{b: b, listener: l, known: make(chan struct{})}
	var serving sync.WaitGroup
	b.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { t.serve(conn) })
		}
	})
	return t
}

// lead tells where the broker is. Connections wait for that.
func (t *kafkaTap) lead(broker string) {
	t.broker = broker
	close(t.known)
}

// serve passes on one connection until either side ends it, or the benchmark.
func (t *kafkaTap) serve(client net.Conn) {
	defer client.Close()
	select {
	case <-t.known:
	case <-t.b.Context().Done():
		return
	}
	broker, err := net.Dial("tcp", t.broker)
	if err != nil {
		return // the client tries again
	}
	defer broker.Close()
	defer context.AfterFunc(t.b.Context(), func() {
		_ = client.Close()
		_ = broker.Close()
	})()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_, _ = io.Copy(client, broker) // either end is the end of both
		_ = client.Close()
	}()
	if err := t.requests(client, broker); err != nil {
		t.b.Errorf("a request to Kafka: %v", err)
	}
	_ = broker.Close()
	<-answers
}

// requests passes on requests.
func (t *kafkaTap) requests(client io.Reader, broker io.Writer) error {
	var frame []byte
	for {
		var size [4]byte
		if _, err := io.ReadFull(client, size[:]); err != nil {
			return nil //nolint:nilerr // the client is done
		}
		frame = append(frame[:0], size[:]...)
		frame = append(frame, make([]byte, binary.BigEndian.Uint32(size[:]))...)
		if _, err := io.ReadFull(client, frame[4:]); err != nil {
			return nil //nolint:nilerr // likewise
		}
		if err := t.look(frame[4:]); err != nil {
			return err
		}
		if _, err := broker.Write(frame); err != nil {
			return nil //nolint:nilerr // the broker has gone, which others tell
		}
	}
}

// look notes a request that is a Fetch without a wait.
func (t *kafkaTap) look(request []byte) error {
	const fetch, version = 1, 13 // what the bridge asks this broker by
	if len(request) < 10 || binary.BigEndian.Uint16(request) != fetch {
		return nil
	}
	clientID := int(int16(binary.BigEndian.Uint16(request[8:])))
	at := 10 + max(0, clientID) + 1 // no tagged fields
	// replica_id, max_wait_ms, min_bytes, max_bytes, isolation_level, session_id,
	// session_epoch, one topic, its id, one partition, its number and its leader.
	const wait, topics, partitions, offset = 4, 25, 42, 51
	if binary.BigEndian.Uint16(request[2:]) != version || len(request) < at+offset+8 {
		return errors.New("a Fetch of another form than is understood here")
	}
	request = request[at:]
	if binary.BigEndian.Uint32(request[wait:]) > 0 {
		return nil
	}
	if request[topics] != 2 || request[partitions] != 2 {
		return errors.New("a Fetch of more than one partition")
	}
	t.log.note("chunk " + strconv.FormatUint(binary.BigEndian.Uint64(request[offset:]), 10))
	return nil
}

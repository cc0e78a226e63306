package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// swarm is thousands of clients of one bridge that offer gzip. What they read is
// kept as it came, and decoded when it may be enough: a decoder each would take
// more memory than all the rest.
type swarm struct {
	b       *bridgeProcess
	groups  int // clients of the same filter follow each other's number modulo this
	clients []*swarmer
	reading sync.WaitGroup
	ready   atomic.Int64 // clients that have caught up
	served  atomic.Int64 // clients that have every record of theirs
	records int          // for each filter
}

type swarmer struct {
	conn    net.Conn
	content []byte
	events  history
	err     error
}

// come connects so many clients, and waits until all have caught up.
func (s *swarm) come(t *testing.T, clients int) {
	t.Helper()
	t.Cleanup(func() {
		for _, c := range s.clients {
			if c.conn != nil {
				_ = c.conn.Close()
			}
		}
		s.reading.Wait()
	})
	for i := range clients {
		c := new(swarmer)
		s.clients = append(s.clients, c)
		var err error
		if c.conn, err = net.Dial("tcp", strings.TrimPrefix(s.b.URL, "http://")); err != nil {
			t.Fatal(err)
		}
		s.reading.Go(func() { c.err = s.read(c, i%s.groups) })
		if i%100 == 99 { // as fast as they are let in
			until(t, "clients to connect", func() bool { return s.ready.Load() > int64(i)-500 })
		}
	}
	until(t, "all clients to have caught up", func() bool { return s.ready.Load() == int64(clients) })
}

// read reads what comes until the connection is closed.
func (s *swarm) read(c *swarmer, group int) error {
	if _, err := fmt.Fprintf(c.conn, "GET /events?subject=s.%d HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", group); err != nil {
		return err
	}
	wire := bufio.NewReaderSize(c.conn, 512)
	resp, err := http.ReadResponse(wire, nil) //nolint:bodyclose // the connection is closed
	if err != nil {
		return err
	}
	if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
		return fmt.Errorf("content encoding %q", got)
	}
	caughtUp, served := false, false
	piece := make([]byte, 512)
	for !served {
		n, err := resp.Body.Read(piece)
		if err != nil {
			return err
		}
		c.content = append(c.content, piece[:n]...)
		if c.events, err = decodeBeginning(c.content); err != nil {
			return err
		}
		if !caughtUp && len(c.events.only("caught-up")) == 1 {
			caughtUp = true
			s.ready.Add(1)
		}
		if served = len(c.events.only("message")) == s.records; served {
			s.served.Add(1)
		}
	}
	return nil
}

// decodeBeginning decodes what there is of a response that goes on.
func decodeBeginning(content []byte) (history, error) {
	var text bytes.Buffer
	err := decode("gzip", bytes.NewReader(content), &text)
	if err != nil && !strings.Contains(err.Error(), "EOF") {
		return nil, err
	}
	return new(ssetest.Parser).Feed(text.Bytes()), nil
}

// publish publishes all records, and waits until all clients have theirs.
func (s *swarm) publish(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	for n := range s.records {
		for group := range s.groups {
			if _, err := js.PublishAsync(fmt.Sprintf("s.%d", group), fmt.Appendf(nil, "record %d for group %d", n, group), jetstream.WithStallWait(patience)); err != nil {
				t.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
	}
	until(t, "all clients to have their records", func() bool { return s.served.Load() == int64(len(s.clients)) })
	s.reading.Wait()
	for i, c := range s.clients {
		if c.err != nil {
			t.Fatalf("client %d: %v", i, c.err)
		}
		for n, e := range c.events.only("message") {
			if want := fmt.Sprintf("record %d for group %d", n, i%s.groups); e.Data != want {
				t.Fatalf("client %d: %q, want %q", i, e.Data, want)
			}
		}
	}
}

func startSwarm(t *testing.T, groups, records int) (*swarm, jetstream.JetStream) {
	t.Helper()
	server := natstest.Embedded(t)
	createStream(t, server.JS(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true, Storage: jetstream.MemoryStorage})
	b := startBridge(t, server.URL, "STREAMS=s=nats:S", "COMPRESSION=gzip", "MEMORY=64MiB", "HEARTBEAT=5m", "LOG_LEVEL=warn")
	return &swarm{b: b, groups: groups, records: records}, server.JS()
}

// A page for each order, and a client for each page: none of them shares its
// events with anybody, and a compressor for each would take 10 GB.
func TestThousandsOfFiltersNeedNoCompressors(t *testing.T) {
	const clients = 10_000
	s, js := startSwarm(t, clients, 1)
	s.come(t, clients)
	s.publish(t, js)
	got := s.b.scrape()
	if n, memory := got.value("ssebridge_compressors"), got.value("ssebridge_compression_memory_bytes"); n != 0 || memory != 0 {
		t.Errorf("%v compressors take %v bytes, want none", n, memory)
	}
	resident := got.value("process_resident_memory_bytes")
	if resident > 512<<20 {
		t.Errorf("the process takes %v MiB", resident/(1<<20))
	}
	t.Logf("%d clients, %v filters: %.0f MiB resident", clients, got.value("ssebridge_filters"), resident/(1<<20))
}

// Where each few clients share a filter there is no memory for all of their
// compressors. Some get one, and the others do without.
func TestCompressorsTakeTheirPartOfTheMemoryAndNoMore(t *testing.T) {
	const clients, groups = 2000, 500
	s, js := startSwarm(t, groups, 4)
	s.come(t, clients)
	s.publish(t, js)
	got := s.b.scrape()
	n, memory := got.value("ssebridge_compressors"), got.value("ssebridge_compression_memory_bytes")
	if n < 3 || memory > 64<<20/8 {
		t.Errorf("%v compressors take %v bytes, want some, and at most an eighth of 64 MiB", n, memory)
	}
	if resident := got.value("process_resident_memory_bytes"); resident > 256<<20 {
		t.Errorf("the process takes %v MiB", resident/(1<<20))
	}
	t.Logf("%v compressors take %.1f MiB, the process %.0f MiB", n, memory/(1<<20), got.value("process_resident_memory_bytes")/(1<<20))
}

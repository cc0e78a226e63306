package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// benchMark is a byte that every record of a benchmark has once, and nothing
// else of a response has, so that counting events costs next to nothing.
const benchMark = '!'

// benchPayload makes a record of 100 bytes.
func benchPayload(n int) []byte {
	return fmt.Appendf(nil, `{"n":%8d,"text":"%s"}%c`, n, strings.Repeat("x", 74), benchMark)
}

// crowd is many clients of one URL, each as cheap as it can be: a socket and a
// goroutine that counts.
type crowd struct {
	conns     []net.Conn
	readers   sync.WaitGroup
	connected atomic.Int64 // clients that have got their first bytes
	delivered atomic.Int64 // records, over all clients
}

// newCrowd connects clients to path. done, which may be nil, is told of each
// client that has got enough records.
func newCrowd(b *testing.B, bridge *bridgeProcess, path, id string, clients, enough int, done *sync.WaitGroup) *crowd {
	b.Helper()
	c := &crowd{conns: make([]net.Conn, clients)}
	address := strings.TrimPrefix(bridge.URL, "http://")
	request := "GET " + path + " HTTP/1.1\r\nHost: bridge\r\nAccept: text/event-stream\r\n"
	if id != "" {
		request += "Last-Event-ID: " + id + "\r\n"
	}
	for i := range clients {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		c.conns[i] = conn
		if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
			b.Fatal(err)
		}
		c.readers.Go(func() { c.read(conn, enough, done) })
	}
	b.Cleanup(c.close)
	return c
}

func (c *crowd) read(conn net.Conn, enough int, done *sync.WaitGroup) {
	buf := make([]byte, 4096)
	got, first := 0, true
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if first {
			first = false
			c.connected.Add(1)
		}
		events := bytes.Count(buf[:n], []byte{benchMark})
		if events == 0 {
			continue
		}
		c.delivered.Add(int64(events))
		if got < enough && got+events >= enough && done != nil {
			done.Done()
		}
		got += events
	}
}

// await waits until the crowd has been delivered so many records.
func (c *crowd) await(b *testing.B, records int64) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for c.delivered.Load() < records {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d records delivered after %s", c.delivered.Load(), records, patience)
		}
		time.Sleep(time.Millisecond)
	}
}

// settle waits until every client has got its first bytes.
func (c *crowd) settle(b *testing.B) {
	b.Helper()
	until(b, "all clients to be served", func() bool { return int(c.connected.Load()) == len(c.conns) })
}

func (c *crowd) close() {
	for _, conn := range c.conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
	c.readers.Wait()
}

// processCPU returns the CPU time that a process has used (proc(5), utime and
// stime of /proc/pid/stat, in ticks of 10 ms).
func processCPU(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skipf("figures of processes need Linux: %v", err)
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name in front may hold anything
	fields := strings.Fields(after)
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatalf("read /proc/%d/stat: %v", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// processBytes returns the resident memory of a process.
func processBytes(b *testing.B, pid int) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skipf("figures of processes need Linux: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kB int64
			if _, err := fmt.Sscan(value, &kB); err != nil {
				b.Fatalf("read /proc/%d/status: %v", pid, err)
			}
			return kB << 10
		}
	}
	b.Fatalf("/proc/%d/status has no VmRSS", pid)
	return 0
}

// benchScene is one stream on a server in a process of its own, and one bridge.
func benchScene(b *testing.B) (js jetstream.JetStream, nc *natsgo.Conn, bridge *bridgeProcess) {
	b.Helper()
	server := natstest.Process(b)
	js, nc = server.JS(), server.Conn()
	createStream(b, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true, Storage: jetstream.MemoryStorage})
	return js, nc, startBridge(b, server.URL, "STREAMS=s=nats:S", "MEMORY=256MiB", "LOG_LEVEL=warn")
}

// benchPublish adds records without waiting for each, and returns when all are
// acknowledged.
func benchPublish(b *testing.B, js jetstream.JetStream, first, last int) {
	b.Helper()
	for n := first; n <= last; n++ {
		if _, err := js.PublishAsync("s.x", benchPayload(n)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		b.Fatal("records are not acknowledged")
	}
}

// reportDeliveries prints what a run of deliveries took of the bridge.
func reportDeliveries(b *testing.B, deliveries int64, wall, cpu time.Duration) {
	b.ReportMetric(float64(deliveries)/wall.Seconds(), "deliveries/s")
	b.ReportMetric(float64(cpu.Microseconds())/float64(deliveries), "cpu-us/delivery")
	b.ReportMetric(0, "ns/op") // says nothing here
}

// BenchmarkPacedDelivery is the day-to-day load: 1,000 clients, 20 records a
// second, so that each record is a write of its own for each client.
func BenchmarkPacedDelivery(b *testing.B) {
	const clients, perSecond, records = 1000, 20, 200
	js, _, bridge := benchScene(b)
	c := newCrowd(b, bridge, "/events", "", clients, 0, nil)
	c.settle(b)
	published := 0
	for b.Loop() {
		cpu, start := processCPU(b, bridge.PID()), time.Now()
		pace := time.NewTicker(time.Second / perSecond)
		for range records {
			<-pace.C
			published++
			benchPublish(b, js, published, published)
		}
		pace.Stop()
		c.await(b, int64(published)*clients)
		reportDeliveries(b, records*clients, time.Since(start), processCPU(b, bridge.PID())-cpu)
	}
}

// BenchmarkSaturatedDelivery publishes as fast as 1,000 clients take it. What
// comes together is written together.
func BenchmarkSaturatedDelivery(b *testing.B) {
	const clients, batch, records = 1000, 50, 2000
	js, _, bridge := benchScene(b)
	c := newCrowd(b, bridge, "/events", "", clients, 0, nil)
	c.settle(b)
	published := 0
	for b.Loop() {
		cpu, start := processCPU(b, bridge.PID()), time.Now()
		for range records / batch {
			benchPublish(b, js, published+1, published+batch)
			published += batch
			c.await(b, int64(published-2*batch)*clients)
		}
		c.await(b, int64(published)*clients)
		reportDeliveries(b, records*clients, time.Since(start), processCPU(b, bridge.PID())-cpu)
	}
}

// BenchmarkIdleClients is the memory that clients cost who wait for something
// to happen.
func BenchmarkIdleClients(b *testing.B) {
	const clients = 5000
	js, _, bridge := benchScene(b)
	benchPublish(b, js, 1, 1)
	for b.Loop() {
		bridge.Restart()
		before := processBytes(b, bridge.PID())
		c := newCrowd(b, bridge, "/events", "", clients, 0, nil)
		c.settle(b)
		after := processBytes(b, bridge.PID())
		b.ReportMetric(float64(after-before)/clients/1024, "KiB/client")
		b.ReportMetric(float64(after)/(1<<20), "MiB-total")
		b.ReportMetric(0, "ns/op") // says nothing here
		c.close()
	}
}

// BenchmarkReconnectStorm is a bridge that was killed: 1,000 clients come back
// at once and have missed 100 records each.
func BenchmarkReconnectStorm(b *testing.B) {
	const clients, missed, records = 1000, 100, 1000
	js, nc, bridge := benchScene(b)
	benchPublish(b, js, 1, records)
	var id string
	last := &ssetest.Client{URL: bridge.events("start=all")}
	seen := 0
	err := last.Follow(b.Context(), reconnectPause, func(e ssetest.Event) bool {
		if e.Type == "message" {
			seen++
		}
		id = e.ID
		return seen < records-missed
	})
	if err != nil {
		b.Fatal(err)
	}
	var reads, infos atomic.Int64
	for subject, counter := range map[string]*atomic.Int64{
		"$JS.API.DIRECT.GET.>": &reads, "$JS.API.STREAM.MSG.GET.>": &reads, "$JS.API.STREAM.INFO.>": &infos,
	} {
		if _, err := nc.Subscribe(subject, func(*natsgo.Msg) { counter.Add(1) }); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		bridge.Restart()
		if err := nc.Flush(); err != nil {
			b.Fatal(err)
		}
		readsBefore, infosBefore, cpu, start := reads.Load(), infos.Load(), processCPU(b, bridge.PID()), time.Now()
		var done sync.WaitGroup
		done.Add(clients)
		c := newCrowd(b, bridge, "/events", id, clients, missed, &done)
		done.Wait()
		wall := time.Since(start)
		if err := nc.Flush(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(wall.Milliseconds()), "ms")
		b.ReportMetric(float64((processCPU(b, bridge.PID()) - cpu).Milliseconds()), "cpu-ms")
		b.ReportMetric(float64(reads.Load()-readsBefore), "broker-reads")
		b.ReportMetric(float64(infos.Load()-infosBefore), "stream-infos")
		b.ReportMetric(0, "ns/op") // says nothing here
		c.close()
		if got := c.delivered.Load(); got != clients*missed {
			b.Errorf("%d records were delivered, want %d", got, clients*missed)
		}
	}
}

package e2e

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync/atomic"
	"testing"
)

// Benchmarks stand on the load generator's count: it has to see what is lost.
func TestLoadGeneratorCountsExactly(t *testing.T) {
	t.Parallel()
	block := benchPayload(0, 40)
	wire := wireImage{
		head:  []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n: hi\n\r\n"),
		block: fmt.Appendf(nil, "%x\r\ndata: %s\nid: x\n\n\r\n", len("data: \nid: x\n\n")+len(block), block),
	}
	s := startLimit(t, wire)
	l := startLoad(t, fmt.Sprintf("http://localhost:%d", s.port))
	const clients = 100
	l.open(0, clients, "/events")
	s.send(1000, 1) // reads end in the middle of records
	l.reach(0, 1000)
	if r := l.check(0, clients); r.Events != clients*1000 || r.Times != 1000 {
		t.Errorf("%d events, %d that all got, want %d and 1000", r.Events, r.Times, clients*1000)
	}
	s.send(1, 1004)
	s.send(1, 1004)
	s.send(1, 1005)
	l.reach(0, 1005)
	if r := l.stats(0); r.Lost != 3*clients || r.Doubled != clients {
		t.Errorf("%d lost, %d doubled, want %d and %d", r.Lost, r.Doubled, 3*clients, clients)
	}
	s.stop()
	until(t, "the clients to see their end", func() bool { return l.stats(0).Connected == 0 })
}

// Who debugs a client that is stuck must see what keeps it.
func TestLoadGeneratorTellsWhoIsStuck(t *testing.T) {
	t.Parallel()
	block := benchPayload(0, 40)
	wire := wireImage{
		head:  []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n: hi\n\r\n"),
		block: fmt.Appendf(nil, "%x\r\n%s\r\n", len(block), block),
	}
	s := startLimit(t, wire)
	l := startLoad(t, fmt.Sprintf("http://localhost:%d", s.port))
	l.told = func() map[string]string { return nil }
	l.open(0, 2, "/events")
	s.send(5, 1)
	l.reach(0, 5)
	l.tell("reach 0 6")
	got := l.stuck(0)
	want := regexp.MustCompile(`^2 clients of group 0 have not got the record:
  client 0 at 127\.0\.0\.2:\d+ is connected: record 5, has read nothing for [0-9.]+ s, 0 bytes to read, its response ended 0 times; the server's kernel has 0 bytes to send
  client 1 at 127\.0\.0\.3:\d+ is connected: record 5, has read nothing for [0-9.]+ s, 0 bytes to read, its response ended 0 times; the server's kernel has 0 bytes to send
2 clients of group 0 have not got the record:
  client 0 at .* record 5 \(\+0 in 1s\), `)
	if !want.MatchString(got) {
		t.Errorf("got %s", got)
	}
	s.stop()
	until(t, "the clients to see their end", func() bool { return l.stats(0).Connected == 0 })
	if got := l.stuck(0); !regexp.MustCompile(`(?m)^  client 1 at .* is gone: record 5, .* ended 1 times; the server has no such connection$`).MatchString(got) {
		t.Errorf("got %s", got)
	}
}

// What is compressed has to be counted as exactly, wherever reads and blocks end.
func TestLoadGeneratorCountsWhatIsCompressed(t *testing.T) {
	t.Parallel()
	const clients = 20
	var decodes atomic.Bool
	decodes.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("asked for %q, want gzip", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		record := func(n int) { _, _ = z.Write(append(benchPayload(n, 300), '\n')) }
		_, _ = z.Write([]byte(": hi\n"))
		for n := 1; n <= 1000; n++ {
			record(n)
			if n%7 == 0 {
				_ = z.Flush()
				_ = http.NewResponseController(w).Flush()
			}
		}
		record(1004)
		record(1004)
		_ = z.Close() // the next member begins in the same response
		z.Reset(w)
		record(1005)
		_ = z.Flush()
		if !decodes.Load() {
			_, _ = w.Write([]byte("this is no gzip"))
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	l := startLoadCoded(t, server.URL, "gzip")
	l.tell("coding 0 gzip")
	l.open(0, clients, "/events")
	l.reach(0, 1005)
	r := l.stats(0)
	if r.Events != clients*1003 || r.Lost != 3*clients || r.Doubled != clients || r.Uncoded+r.Corrupt != 0 || r.Connected != clients {
		t.Errorf("got %+v", r)
	}
	if most := int64(clients * 1003 * 150); r.Bytes == 0 || r.Bytes > most {
		t.Errorf("%d bytes over the wire, want some, and at most %d", r.Bytes, most)
	}
	decodes.Store(false)
	l.tell("coding 1 gzip")
	l.open(1, 1, "/events")
	until(t, "the coding to be found corrupt", func() bool { return l.stats(1).Corrupt == 1 })
	l.tell("close 0")
	l.await("close", 0)
}

package sink

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// storm is a stream of numbered records on two subjects, and clients that treat
// their connections badly.
type storm struct {
	rig       *socketRig
	published atomic.Int64
	total     int64

	mu   sync.Mutex
	more chan struct{} // closed and replaced now and then
}

// wait waits until more has been published, n times.
func (s *storm) wait(n int) {
	for range n {
		s.mu.Lock()
		more := s.more
		s.mu.Unlock()
		<-more
	}
}

// publish publishes all records, a few at a time, each time when pace has the ones
// before.
func (s *storm) publish(t *testing.T, random *rand.Rand, pace *ssetest.Stream) {
	t.Helper()
	last := map[string]int{}
	for n := int64(0); n < s.total; {
		for range min(1+random.Int64N(20), s.total-n) {
			subject := []string{"a", "b"}[random.IntN(2)]
			if n == s.total-1 {
				subject = "a" // which all are shown
			}
			last[subject]++
			n++
			data := fmt.Appendf(nil, "%d %s %d %s", n, subject, last[subject], strings.Repeat("lorem ipsum ", random.IntN(150)))
			if _, ok := s.rig.broker.Append(sourcetest.Message{Subject: subject, Data: data}); !ok {
				t.Fatal("append was refused")
			}
		}
		if err := numbers(t.Context(), pace, int(n)); err != nil {
			t.Fatal(err)
		}
		s.published.Store(n)
		s.mu.Lock()
		close(s.more)
		s.more = make(chan struct{})
		if n == s.total {
			close(s.more)
		}
		s.mu.Unlock()
	}
}

// rider is one client over all of its connections.
type rider struct {
	storm   *storm
	random  *rand.Rand
	subject string // empty: both
	accept  string

	lastID string
	at     bridge.Offset
	last   map[string]int
	seen   int64 // number of the newest record

	connections, ends int
}

// ride reads until it has all records, over as many connections as that takes.
func (r *rider) ride(ctx context.Context) error {
	for r.seen < r.storm.total {
		if err := r.connect(ctx); err != nil {
			return fmt.Errorf("%s, %q, connection %d: %w", r.accept, r.subject, r.connections, err)
		}
	}
	return nil
}

// errGivenUp is how a client ends its own connection.
var errGivenUp = errors.New("given up by the client")

// connect reads one connection until it is given up, or ends.
func (r *rider) connect(ctx context.Context) error {
	r.connections++
	dialer := net.Dialer{}
	conn, err := dialer.DialContext(ctx, "tcp", strings.TrimSuffix(strings.TrimPrefix(r.storm.rig.url, "http://"), "/events"))
	if err != nil {
		return err
	}
	tcp := conn.(*net.TCPConn)
	defer func() {
		if r.random.IntN(3) == 0 {
			_ = tcp.SetLinger(0) // ends by RST
		}
		_ = tcp.Close()
	}()
	_ = tcp.SetReadBuffer(32 << 10) // with much less Linux hands on a few KB a second over loopback
	query, id := "", ""
	if r.subject != "" {
		query = "?subject=" + r.subject
	}
	if r.lastID != "" {
		id = "Last-Event-ID: " + r.lastID + "\r\n"
	}
	if _, err := fmt.Fprintf(tcp, "GET /events%s HTTP/1.1\r\nHost: x\r\nAccept-Encoding: %s\r\n%s\r\n", query, r.accept, id); err != nil {
		return err
	}
	limit := 1 + r.random.IntN(20_000)*r.random.IntN(10)
	if r.storm.published.Load() == r.storm.total {
		limit = 1 << 30 // it ends some time
	}
	gaveUp := false
	wire := bufio.NewReaderSize(readerFunc(func(p []byte) (int, error) {
		if r.random.IntN(60) == 0 {
			r.storm.wait(1 + r.random.IntN(40))
		}
		if limit <= 0 {
			gaveUp = true
			return 0, errGivenUp
		}
		n, err := tcp.Read(p[:min(len(p), limit, 1+r.random.IntN(4096))])
		limit -= n
		return n, err
	}), 4096)
	resp, err := http.ReadResponse(wire, nil) //nolint:bodyclose // the connection is closed
	if err == nil {
		err = r.read(resp)
	}
	switch {
	case gaveUp:
		return nil
	case err == nil, errors.Is(err, io.EOF):
		r.ends++
		return nil
	}
	return err
}

// read takes the events of a response.
func (r *rider) read(resp *http.Response) error {
	text := io.Reader(resp.Body)
	switch Coding(resp.Header.Get("Content-Encoding")) {
	case identity:
	case Gzip:
		z, err := gzip.NewReader(text)
		if err != nil {
			return err
		}
		text = z
	case Zstd:
		z, err := zstd.NewReader(text, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
		defer z.Close()
		text = z
	}
	var parser ssetest.Parser
	buf := make([]byte, 4096)
	for {
		n, err := text.Read(buf)
		for _, e := range parser.Feed(buf[:n]) {
			if err := r.take(e); err != nil {
				return err
			}
		}
		if r.seen == r.storm.total {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take judges one event.
func (r *rider) take(e ssetest.Event) error {
	id, err := bridge.ParseID(e.ID)
	if err != nil {
		return fmt.Errorf("event %q: %w", e, err)
	}
	pos, _ := id.Lookup("orders")
	at := pos.Place(0).Offset
	if at < r.at {
		return fmt.Errorf("event %q goes back from %d to %d", e, r.at, at)
	}
	r.at, r.lastID = at, e.ID
	switch e.Type {
	case "connected", "caught-up", "position", "closing":
		return nil
	case "message":
	default:
		return fmt.Errorf("event %q", e)
	}
	var subject string
	var n int
	if _, err := fmt.Sscanf(e.Data, "%d %s %d ", &r.seen, &subject, &n); err != nil {
		return fmt.Errorf("event %q: %w", e, err)
	}
	if last, begun := r.last[subject]; begun && n != last+1 || r.subject != "" && subject != r.subject {
		return fmt.Errorf("record %d of %s follows %d", n, subject, last)
	}
	r.last[subject] = n
	return nil
}

// Clients with hardly a buffer stall, fall out of the ring, are cut anywhere and
// come back, all at once and for as long as records come, with memory for all
// compressors or for one: each reads every record once and in order, in whatever
// coding, and nothing of them stays.
func TestCompressedClientsRideOutAStorm(t *testing.T) {
	for _, taken := range []bool{true, false} {
		for name, memory := range map[string]int64{"room_for_all": 10 << 20, "room_for_one": zstdBytes + gzipBytes} {
			if !taken && name == "room_for_one" {
				continue // nothing in it depends on that
			}
			t.Run(fmt.Sprintf("taken_over=%v/%s", taken, name), func(t *testing.T) {
				if taken && runtime.GOOS != "linux" {
					t.Skip("connections are taken over on Linux only: run the tests there")
				}
				const riders, records = 48, 1500
				random := rand.New(rand.NewPCG(5, uint64(memory)))
				rig := newBrokerRig(t, Options{Heartbeat: 50 * time.Millisecond, Codings: []Coding{Zstd, Gzip}, CompressionBytes: memory}, 32<<10, taken)
				s := &storm{rig: rig, total: records, more: make(chan struct{})}
				pace := rig.open(t, "")
				before := runtime.NumGoroutine()
				all := make([]*rider, riders)
				var wg sync.WaitGroup
				for i := range all {
					r := &rider{
						storm: s, random: rand.New(rand.NewPCG(uint64(i), 9)), last: map[string]int{},
						subject: []string{"", "a", "a", ""}[i/2%4], accept: []string{"gzip", "gzip", "zstd", "zstd", "gzip", "identity"}[i%6],
					}
					all[i] = r
					wg.Go(func() {
						if err := r.ride(t.Context()); err != nil {
							t.Errorf("client %d: %v", i, err)
						}
					})
				}
				most := 0
				watch := make(chan struct{})
				watched := make(chan struct{})
				go func() {
					defer close(watched)
					tick := time.NewTicker(5 * time.Millisecond)
					defer tick.Stop()
					for {
						n, used := rig.handler.squeeze.active()
						if most = max(most, n); used > memory {
							t.Errorf("compressors take %d bytes, want at most %d", used, memory)
						}
						select {
						case <-tick.C:
						case <-watch:
							return
						}
					}
				}()
				s.publish(t, random, pace)
				wg.Wait()
				close(watch)
				<-watched
				connections := 0
				for _, r := range all {
					connections += r.connections
				}
				t.Logf("%d connections of %d clients, %d falls out of the ring, at most %d compressors", connections, riders, rig.replay.Stats().Falls, most)
				if connections < 3*riders || rig.replay.Stats().Falls == 0 || most == 0 {
					t.Error("the test tests nothing")
				}
				rig.until(t, "the clients to be gone", rig.sees(1))
				rig.until(t, "the compressors to be given back", func() bool {
					n, used := rig.handler.squeeze.active()
					rig.handler.squeeze.mu.Lock()
					defer rig.handler.squeeze.mu.Unlock()
					return n == 0 && used == zstdBytes && len(rig.handler.squeeze.byKey) == 0
				})
				rig.until(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before+8 })
			})
		}
	}
}

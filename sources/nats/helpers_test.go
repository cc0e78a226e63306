package nats

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
)

// patience is how long a test waits for what must happen. Nothing measures it.
const patience = 30 * time.Second

// runCluster runs a cluster until the test ends.
func runCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := NewCluster(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

// openSource opens a stream over a cluster of its own and waits for the
// connections.
func openSource(t testing.TB, url string, o SourceOptions) *Source {
	t.Helper()
	s, err := NewSource(runCluster(t, Options{URLs: []string{url}}), o)
	if err != nil {
		t.Fatal(err)
	}
	s.waitConnected(t)
	return s
}

func (s *Source) waitConnected(t testing.TB) {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := s.cluster.watch()
		_, err1 := s.cluster.live.conn()
		_, err2 := s.cluster.cold.conn()
		if err1 == nil && err2 == nil {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("not connected: %v", errors.Join(err1, err2))
		}
	}
}

// makeStream makes a stream called S over s.> that allows direct get, changed by
// edit.
func makeStream(t testing.TB, js jetstream.JetStream, edit ...func(*jetstream.StreamConfig)) jetstream.StreamConfig {
	t.Helper()
	c := jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true}
	for _, f := range edit {
		f(&c)
	}
	if _, err := js.CreateStream(t.Context(), c); err != nil {
		t.Fatalf("create stream %s: %v", c.Name, err)
	}
	return c
}

func noDirect(c *jetstream.StreamConfig) { c.AllowDirect = false }

// publish publishes n records with the payloads prefix0, prefix1 … and returns
// the last sequence.
func publish(t testing.TB, js jetstream.JetStream, subject, prefix string, n int) uint64 {
	t.Helper()
	var last uint64
	for i := range n {
		last = publishMsg(t, js, &natsgo.Msg{Subject: subject, Data: fmt.Appendf(nil, "%s%d", prefix, i)})
	}
	return last
}

func publishMsg(t testing.TB, js jetstream.JetStream, m *natsgo.Msg) uint64 {
	t.Helper()
	ack, err := js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatalf("publish to %s: %v", m.Subject, err)
	}
	return ack.Sequence
}

func getStream(t testing.TB, js jetstream.JetStream, name string) jetstream.Stream {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatalf("stream %s: %v", name, err)
	}
	return s
}

func purge(t testing.TB, js jetstream.JetStream, opts ...jetstream.StreamPurgeOpt) {
	t.Helper()
	if err := getStream(t, js, "S").Purge(t.Context(), opts...); err != nil {
		t.Fatalf("purge: %v", err)
	}
}

func deleteRecord(t testing.TB, js jetstream.JetStream, seqs ...uint64) {
	t.Helper()
	for _, seq := range seqs {
		if err := getStream(t, js, "S").DeleteMsg(t.Context(), seq); err != nil {
			t.Fatalf("delete %d: %v", seq, err)
		}
	}
}

func deleteStream(t testing.TB, js jetstream.JetStream, name string) {
	t.Helper()
	if err := js.DeleteStream(t.Context(), name); err != nil {
		t.Fatalf("delete stream %s: %v", name, err)
	}
}

// ends returns the bounds, asking until the broker answers.
func ends(t testing.TB, s *Source) bridge.Bounds {
	t.Helper()
	return ask(t, s.Bounds)
}

func ask[T any](t testing.TB, question func(context.Context) (T, error)) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		a, err := question(ctx)
		if err == nil {
			return a
		}
		if !errors.Is(err, bridge.ErrUnavailable) || ctx.Err() != nil {
			t.Fatalf("no answer: %v", err)
		}
		_ = sleep(ctx, 10*time.Millisecond)
	}
}

// placeAt returns the position behind the record at seq, with its proof.
func placeAt(t testing.TB, s *Source, seq uint64) bridge.Position {
	t.Helper()
	v := ask(t, s.cold.view)
	m := ask(t, func(ctx context.Context) (*storedMessage, error) { return s.cold.at(ctx, bridge.Offset(seq)) })
	if m == nil {
		t.Fatalf("no record %d", seq)
	}
	return v.position(bridge.Place{Offset: bridge.Offset(seq) + 1, Proof: proofOf(m.Time)})
}

func verdict(t testing.TB, s *Source, pos bridge.Position) bridge.Verdict {
	t.Helper()
	return ask(t, func(ctx context.Context) (bridge.Verdict, error) { return s.Verify(ctx, pos, nil) })
}

// readAll reads [from, limit) in as many chunks as it takes.
func readAll(t testing.TB, s *Source, from, limit bridge.Offset) []bridge.Record {
	t.Helper()
	inc := ends(t, s).First.Incarnation
	var recs []bridge.Record
	for from < limit {
		c := ask(t, func(ctx context.Context) (bridge.Chunk, error) {
			return s.ReadChunk(ctx, bridge.ChunkQuery{From: from, Limit: limit, MaxBytes: 1 << 20, Incarnation: inc})
		})
		if c.End <= from {
			t.Fatalf("chunk of [%d,%d) ends at %d", from, limit, c.End)
		}
		recs = append(recs, c.Records...)
		from = c.End
	}
	return recs
}

func offsets(recs []bridge.Record) []bridge.Offset {
	list := []bridge.Offset{}
	for i := range recs {
		list = append(list, recs[i].Offset)
	}
	return list
}

// listener is a receiver that keeps copies of all it is told.
type listener struct {
	stop func()
	done chan struct{}

	mu      sync.Mutex
	records []bridge.Record
	changes []bridge.Change
	log     []string // everything, in order, for failures
	news    chan struct{}
}

// listen runs Tail until the test ends or stop is called, and waits for it to
// be reading if started is set.
func listen(t testing.TB, s *Source, started bool) *listener {
	t.Helper()
	l := &listener{done: make(chan struct{}), news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = func() { cancel(); <-l.done }
	go func() {
		defer close(l.done)
		_ = s.Tail(ctx, l)
	}()
	t.Cleanup(l.stop)
	if started {
		l.until(t, "Reading", func() bool { return l.count(bridge.Reading) > 0 })
	}
	return l
}

func (l *listener) Records(recs []bridge.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range recs {
		r.Data, r.Key = slices.Clone(r.Data), slices.Clone(r.Key)
		l.records = append(l.records, r)
		l.log = append(l.log, fmt.Sprintf("%d %.20q", r.Offset, r.Data))
	}
	l.tell()
}

func (l *listener) Change(c bridge.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
	l.log = append(l.log, fmt.Sprintf("%+v", c))
	l.tell()
}

func (l *listener) tell() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// until waits for ok, which is called with the lock held.
func (l *listener) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		good := ok()
		log := slices.Clone(l.log)
		l.mu.Unlock()
		if good {
			return
		}
		select {
		case <-l.news:
		case <-deadline:
			t.Fatalf("waited for %s; heard %q", what, log[max(0, len(log)-40):])
		}
	}
}

// count is for until.
func (l *listener) count(k bridge.ChangeKind) int {
	n := 0
	for _, c := range l.changes {
		if c.Kind == k {
			n++
		}
	}
	return n
}

// find returns the changes of one kind.
func (l *listener) find(k bridge.ChangeKind) []bridge.Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []bridge.Change
	for _, c := range l.changes {
		if c.Kind == k {
			found = append(found, c)
		}
	}
	return found
}

func (l *listener) heard() []bridge.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records)
}

// untilRecord waits for the record at seq.
func (l *listener) untilRecord(t testing.TB, seq uint64) {
	t.Helper()
	l.until(t, fmt.Sprintf("record %d", seq), func() bool {
		return len(l.records) > 0 && l.records[len(l.records)-1].Offset >= bridge.Offset(seq)
	})
}

// backup takes a stream's snapshot over the API, and returns what restores it.
func backup(t testing.TB, nc *natsgo.Conn, stream string) (restore func()) {
	t.Helper()
	in, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Unsubscribe() }()
	var taken struct {
		Config map[string]any `json:"config"`
		State  map[string]any `json:"state"`
	}
	apiCall(t, nc, "STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": in.Subject, "no_consumers": true}, &taken)
	var chunks [][]byte
	for {
		m, err := in.NextMsg(patience)
		if err != nil {
			t.Fatalf("snapshot: %v", err)
		}
		if len(m.Data) == 0 {
			break
		}
		chunks = append(chunks, m.Data)
		if m.Reply != "" {
			_ = m.Respond(nil)
		}
	}
	return func() {
		t.Helper()
		var to struct {
			Subject string `json:"deliver_subject"`
		}
		apiCall(t, nc, "STREAM.RESTORE."+stream, map[string]any{"config": taken.Config, "state": taken.State}, &to)
		for _, c := range append(chunks, nil) {
			m, err := nc.Request(to.Subject, c, patience)
			if err != nil {
				t.Fatalf("restore: %v", err)
			}
			_, _ = io.Discard.Write(m.Data)
		}
	}
}

func apiCall(t testing.TB, nc *natsgo.Conn, subject string, question, answer any) {
	t.Helper()
	l := &link{cluster: &Cluster{api: "$JS.API."}, nc: nc}
	if err := l.request(t.Context(), subject, question, answer); err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
}

// rawPublish publishes with a header block as it is, which no library would send.
func rawPublish(t testing.TB, url, subject, header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	if _, err := in.ReadString('\n'); err != nil { // INFO
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "CONNECT {\"headers\":true,\"verbose\":false,\"protocol\":1}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, len(header), len(header)+len(body), header, body); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "-ERR") {
			t.Fatalf("publish raw: %s, %v", line, err)
		}
		if strings.HasPrefix(line, "PONG") {
			return
		}
	}
}

//go:build unix

package browsers

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// wiretap passes connections on to a bridge, and keeps what comes back.
type wiretap struct {
	address string
	target  string

	mu        sync.Mutex
	responses []*bytes.Buffer // whole, in the order of the connections
	conns     []net.Conn
	closed    bool
}

func tap(t *testing.T, target string) *wiretap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{address: l.Addr().String(), target: target}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { w.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.mu.Lock()
		w.closed = true
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.mu.Unlock()
		passing.Wait()
	})
	return w
}

// pass passes one connection on. While the bridge is down it ends at once, as one
// to the bridge itself would.
func (w *wiretap) pass(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer far.Close()
	kept := new(bytes.Buffer)
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.conns = append(w.conns, near, far)
	w.responses = append(w.responses, kept)
	w.mu.Unlock()
	requests := make(chan struct{})
	go func() {
		defer close(requests)
		_, _ = io.Copy(far, near)
		_ = far.Close()
	}()
	_, _ = io.Copy(writerFunc(func(b []byte) (int, error) {
		w.mu.Lock()
		kept.Write(b)
		w.mu.Unlock()
		return near.Write(b)
	}), far)
	_ = near.Close()
	<-requests
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// heads returns the head of each response so far, and the bytes of all.
func (w *wiretap) heads() (heads []string, total int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.responses {
		if head, _, found := strings.Cut(r.String(), "\r\n\r\n"); found {
			heads = append(heads, strings.ToLower(head))
		}
		total += r.Len()
	}
	return heads, total
}

// follower is a page that follows an event stream and keeps all of it.
const follower = `<!doctype html><title>follower</title><script>
window.seen = [];
window.opened = 0;
window.source = new EventSource(location.hash.slice(1));
source.onopen = () => window.opened++;
for (const name of ["connected", "caught-up", "position", "closing", "gap", "reset", "message"])
  source.addEventListener(name, ({ type, data, lastEventId }) => window.seen.push({ Type: type, Data: data, ID: lastEventId }));
</script>`

// A browser that shares a compressor with others sees what a client without any
// coding sees: it comes when they are there already, stays over several histories
// of the compressor, and comes back after a crash to the very next event.
func TestBrowsersDecodeWhatOthersShare(t *testing.T) {
	for _, coding := range []string{"gzip", "zstd"} {
		t.Run(coding, func(t *testing.T) {
			each(t, func(t *testing.T, e engine) { followCoded(t, e, coding) })
		})
	}
}

func followCoded(t *testing.T, e engine, coding string) {
	i := inspect(t, e, "COMPRESSION="+coding, "HEARTBEAT=1s", "CORS_ORIGINS=http://127.0.0.1:*")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, follower)
	}))
	t.Cleanup(page.Close)
	wire := tap(t, strings.TrimPrefix(i.PublicURL, "http://"))
	url := i.PublicURL + "/events?subject=orders.shown"
	crowd := func() {
		for range 4 {
			i.discard(t, url, coding)
		}
	}
	crowd()
	var want []ssetest.Event
	published := 0
	publish := func(n int) {
		for range n {
			published++
			i.Publish("orders.shown", fmt.Sprintf(`{"n":%d,"text":%q}`, published, strings.Repeat("lorem ipsum ", published%60)))
		}
	}
	plain := func(id string, n int) (last string) { // reads so many records without a coding
		client := &ssetest.Client{URL: url, LastID: id}
		if id == "" {
			client.URL += "&start=all"
		}
		s, err := client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for before := len(want); len(want) < before+n; {
			e, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == "message" {
				want = append(want, e)
			}
		}
		return client.LastID
	}
	shown := func() {
		t.Helper()
		i.Until(fmt.Sprintf(`window.seen.some((event) => event.Type === "message" && JSON.parse(event.Data).n === %d)`, published))
	}
	const before = 30
	publish(before)
	i.Open(page.URL + "/#http://" + wire.address + "/events?subject=orders.shown")
	i.Until(`window.seen.some((event) => event.Type === "caught-up")`)
	for range 400 { // one by one, over 64 KB several times
		publish(1)
		if published%50 == 0 {
			shown()
		}
	}
	shown()
	i.Publish("orders.hidden", "0") // of which a position tells
	i.Until(`window.seen.some((event) => event.Type === "position")`)
	publish(5)
	shown()
	heads, coded := wire.heads()
	if len(heads) != 1 {
		t.Fatalf("%d connections, want that there is still the first one", len(heads))
	}
	i.Kill()
	i.Until(`source.readyState === EventSource.CONNECTING`)
	publish(10) // while it is down
	i.Start()
	shown()
	crowd()
	publish(50)
	shown()
	last := plain("", published)
	if last == "" {
		t.Fatal("no event id")
	}

	var seen []ssetest.Event
	i.Evaluate(&seen, "window.seen")
	var records, verdicts []ssetest.Event
	for _, e := range seen {
		switch e.Type {
		case "message":
			records = append(records, e)
		case "connected":
			verdicts = append(verdicts, e)
		case "gap", "reset":
			t.Errorf("got %v, though nothing was lost", e)
		}
	}
	if !slices.Equal(records, want[before:]) {
		t.Errorf("%d records, want %d, the same as without a coding", len(records), len(want)-before)
	}
	if len(verdicts) != 2 || !strings.Contains(verdicts[0].Data, `"resume":"new"`) || !strings.Contains(verdicts[1].Data, `"resume":"exact"`) {
		t.Errorf("verdicts %v, want new and then exact", verdicts)
	}
	heads, _ = wire.heads()
	for _, head := range heads {
		if !strings.Contains(head, "\r\ncontent-encoding: "+coding+"\r\n") {
			t.Errorf("a response is not in %s: %s", coding, head)
		}
	}
	text := 0
	for _, e := range want[before : len(want)-60] {
		text += len(e.Data) + len(e.ID)
	}
	if coded > text/2 || text < 2*64<<10 {
		t.Errorf("%d bytes of text came in %d, want less than half of it", text, coded)
	}
	t.Logf("%d bytes of text came in %d", text, coded)
}

// discard connects a client that offers a coding and reads what comes, until the
// bridge or the test ends. It returns when the client has been let in.
func (i *inspection) discard(t *testing.T, url, coding string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", coding)
	transport := &http.Transport{DisableCompression: true, ResponseHeaderTimeout: patienceSeconds * time.Second}
	resp, err := transport.RoundTrip(r) //nolint:bodyclose // at the end of the test
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Encoding"); got != coding {
		t.Errorf("content encoding %q, want %q", got, coding)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, resp.Body)
	}()
	t.Cleanup(func() {
		_ = resp.Body.Close()
		<-done
	})
}

package sink

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/otel/trace"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// decode undoes a coding, and returns an error unless it ends where the content
// does. gzip is checked by its checksum and length.
func decode(c Coding, content []byte) ([]byte, error) {
	if c == Zstd {
		// Browsers take windows of 8 MB at most (RFC 9659), and allocate them.
		r, err := zstd.NewReader(bytes.NewReader(content), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(rawBytes))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	r, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestClientsGetTheCodingThatTheyAskFor(t *testing.T) {
	both := []Coding{Zstd, Gzip}
	for _, tc := range []struct {
		ours   []Coding
		accept string
		want   Coding
	}{
		{both, "", identity},
		{both, "gzip, deflate, br, zstd", Zstd}, // Chromium, Firefox
		{both, "gzip;q=1.0, zstd;q=0.5", Gzip},
		{both, "gzip, deflate", Gzip},
		{[]Coding{Gzip}, "zstd", identity},
		{[]Coding{Gzip}, "zstd, *", Gzip},
		{both, "*", Zstd},
		{both, "*;q=0", identity},
		{both, "zstd;q=0, *", Gzip},
		{both, "gzip;q=0", identity},
		{both, "X-GZIP", Gzip},
		{both, "GZip ; Q=0.3", Gzip},
		{both, "identity", identity},
		{both, "gzip;q=nonsense", identity},
		{both, "gzip;q=7", identity},
		{both, ",,;q=1,", identity},
		{nil, "gzip", identity},
	} {
		if got := negotiate(tc.ours, []string{tc.accept}); got != tc.want {
			t.Errorf("%v for %q: got %q, want %q", tc.ours, tc.accept, got, tc.want)
		}
	}
	if got := negotiate(both, []string{"br", "gzip"}); got != Gzip {
		t.Errorf("two lines: got %q, want gzip", got)
	}
}

func TestSumsArePutTogether(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		text := make([]byte, random.IntN(5000))
		for i := range text {
			text[i] = byte(random.IntN(256))
		}
		cut := random.IntN(len(text) + 1)
		whole := sum{crc32.ChecksumIEEE(text), int64(len(text))}
		first := sum{}.add(text[:cut])
		second := sum{}.add(text[cut:])
		if got := first.then(second); got != whole {
			t.Fatalf("%d and %d bytes: got %v, want %v", cut, len(text)-cut, got, whole)
		}
		if got := whole.since(first); got != second {
			t.Fatalf("the last %d of %d bytes: got %v, want %v", len(text)-cut, len(text), got, second)
		}
	}
}

// Nothing is sent compressed that is said to one client alone, however large it is.
func TestStoredTextIsReadBack(t *testing.T) {
	for _, c := range []Coding{Gzip, Zstd} {
		b := body{coding: c}
		var content, want []byte
		for _, size := range []int{0, 1, 255, 256, storedBytes - 1, storedBytes, storedBytes + 1, rawBytes, rawBytes + 1, 3*rawBytes + 7, 0} {
			text := bytes.Repeat([]byte{byte(size)}, size)
			p := b.alone([][]byte{text, []byte("\n")})
			content = append(content, joined(&p)...)
			want = append(append(want, text...), '\n')
			if size == 1 && len(joined(&p)) < 5 {
				t.Errorf("%s: %d bytes are no block", c, len(joined(&p)))
			}
		}
		content = b.appendEnd(content)
		if got, err := decode(c, content); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d", c, len(got), err, len(want))
		}
	}
}

// An event must not wait within a decoder for the next one, however it was coded:
// stored, compressed with others' history, or without any.
func TestDecodersHandOnEachEvent(t *testing.T) {
	for _, c := range []Coding{Gzip, Zstd} {
		t.Run(string(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				content, wire := io.Pipe()
				defer wire.Close()
				var text bytes.Buffer
				ended := make(chan error, 1)
				go func() {
					var r io.Reader
					var err error
					if c == Gzip {
						r, err = gzip.NewReader(content)
					} else {
						r, err = zstd.NewReader(content, zstd.WithDecoderConcurrency(1))
					}
					if err == nil {
						_, err = io.Copy(&text, r)
					}
					ended <- err
				}()
				cs := newCompressors([]Coding{c}, 10<<20)
				group, log := new(bridge.Group), orders(8)
				b := &body{coding: c, all: cs}
				var want []byte
				write := func(how string, p payload, units ...[]byte) {
					t.Helper()
					if _, err := wire.Write(joined(&p)); err != nil {
						t.Fatal(err)
					}
					want = append(want, bytes.Join(units, nil)...)
					synctest.Wait()
					if !bytes.Equal(text.Bytes(), want) {
						t.Fatalf("%s: the decoder has handed on %d bytes, want %d", how, text.Len(), len(want))
					}
				}
				next := func(how string, b *body, i int) payload {
					var p payload
					batch := bridge.Batch{Group: group, From: uint64(i), To: uint64(i + 2), Units: log[i : i+2]}
					if _, ok := b.next(&batch, time.Now(), &p); !ok || p.stored != identity {
						t.Fatalf("%s: the events are not compressed", how)
					}
					return p
				}
				write("stored", b.alone(log[:2]), log[:2]...)
				var other *body
				for range minShared {
					other = &body{coding: c, all: cs}
					other.open()
					other.enter(group)
				}
				next("another one", other, 0)
				next("another one", other, 2)
				b.enter(group)
				write("without a history", next("without a history", b, 2), log[2:4]...)
				write("stored again", b.alone([][]byte{[]byte(":\n")}), []byte(":\n"))
				time.Sleep(joinAfter)
				write("with a history", next("with a history", b, 4), log[4:6]...)
				write("with a history again", next("with a history", b, 6), log[6:]...)
				if _, err := wire.Write(b.appendEnd(nil)); err != nil || wire.Close() != nil {
					t.Fatal(err)
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func joined(p *payload) (all []byte) {
	var part, room []byte
	for i := range p.parts() {
		part, room = p.part(i, room)
		all = append(all, part...)
	}
	return all
}

// member is a client in a simulation: what it was sent, and what it should read.
type member struct {
	group   int
	place   uint64
	out     response
	content []byte
	want    []byte
	shared  int // bytes of want that were not compressed for it alone
	sent    int // the newest event id that it was told, as its follower knows it
}

func (m *member) told(p *payload, text []byte) {
	all := joined(p)
	m.content = append(m.content, all...)
	m.want = append(m.want, text...)
	if p.stored == identity {
		m.shared += len(text)
	}
}

// Clients come and go, are at different places of their groups, are told things
// alone, are given more or less at once, and there is memory for one compressor now
// and then: each one reads exactly its own text. Its ids never go back, and the last
// one is the one that it is thought to have.
func TestSharedHistoriesAreReadBackByAll(t *testing.T) {
	var shared, all, ended int
	for seed := range uint64(16) {
		random := rand.New(rand.NewPCG(seed, 7))
		now := time.Unix(1000, 0)
		cs := newCompressors([]Coding{Gzip, Zstd}, zstdBytes+[]int64{0, gzipBytes, gzipBytes + zstdBytes, 10 * gzipBytes}[seed%4])
		groups := []*bridge.Group{new(bridge.Group), new(bridge.Group)}
		logs := make([][][]byte, len(groups))
		ids := make([][]int, len(groups)) // of the events
		head := 0                         // the event id behind all that there is, whomever it is for
		var members []*member
		come := func() {
			m := &member{group: random.IntN(len(groups))}
			m.out.body = &body{coding: []Coding{Gzip, Zstd}[random.IntN(2)], all: cs, control: random.IntN(8) > 0}
			m.place = uint64(len(logs[m.group]))
			connected := fmt.Appendf(nil, "event: connected\ndata: {}\nid: %d\n\n", head)
			p := m.out.body.alone([][]byte{connected})
			m.told(&p, connected)
			m.sent = head
			m.out.enter(groups[m.group])
			members = append(members, m)
		}
		leave := func(i int) {
			m := members[i]
			members = append(members[:i], members[i+1:]...)
			got, err := decode(m.out.body.coding, m.out.body.appendEnd(m.content))
			last := 0
			for _, id := range idLines.FindAllSubmatch(got, -1) {
				n, _ := strconv.Atoi(string(id[1]))
				if n < last {
					t.Fatalf("seed %d: %s: id %d comes after %d", seed, m.out.body.coding, n, last)
				}
				last = n
			}
			if last != m.sent {
				t.Fatalf("seed %d: %s: the last id is %d, and the bridge takes it for %d", seed, m.out.body.coding, last, m.sent)
			}
			if got = signsOfLife.ReplaceAll(got, nil); err != nil || !bytes.Equal(got, m.want) {
				t.Fatalf("seed %d: %s: read %d bytes, want %d, %v", seed, m.out.body.coding, len(got), len(m.want), err)
			}
			m.out.body.exit()
			shared, all, ended = shared+m.shared, all+len(m.want), ended+1
		}
		for range 12 {
			come()
		}
		for step := range 200 {
			now = now.Add(time.Duration(random.IntN(1000)) * time.Millisecond)
			head += random.IntN(2) // others are shown something
			switch random.IntN(30) {
			case 0:
				come()
			case 1:
				if len(members) > 3 {
					leave(random.IntN(len(members)))
				}
			case 2: // it is told something of its own, or falls and comes back further on
				m := members[random.IntN(len(members))]
				m.place = max(m.place, uint64(len(logs[m.group])-min(len(logs[m.group]), random.IntN(10))))
				if m.place > 0 {
					m.sent = max(m.sent, ids[m.group][m.place-1])
				}
				text := fmt.Appendf(nil, "event: gap\ndata: %d\nid: %d\n\n", step, m.sent)
				p := m.out.body.alone([][]byte{text})
				m.told(&p, text)
			default:
				g := random.IntN(len(groups))
				for range 1 + random.IntN(4)*random.IntN(4) {
					size := random.IntN(300)
					if random.IntN(2000) == 0 {
						size = random.IntN(2 * largestShared)
					}
					logs[g] = append(logs[g], fmt.Appendf(nil, "data: {\"type\":\"order.created\",\"amount\":%d,\"note\":\"%s\"}\nid: %d\n\n",
						random.IntN(1000), strings.Repeat("x", size), head+1))
					head++
					ids[g] = append(ids[g], head)
				}
			}
			for _, i := range random.Perm(len(members)) {
				m, log := members[i], logs[members[i].group]
				if random.IntN(20) == 0 {
					continue // not swept yet
				}
				batch := bridge.Batch{Group: groups[m.group], From: m.place, To: uint64(len(log))}
				if random.IntN(30) == 0 && batch.To > batch.From {
					batch.To -= uint64(random.IntN(int(batch.To - batch.From)))
				}
				alive := batch.From == batch.To
				if alive && random.IntN(4) > 0 {
					continue
				}
				batch.Units = log[batch.From:batch.To]
				if !alive {
					m.sent = ids[m.group][batch.To-1]
				} else {
					if m.out.body.control && m.sent != head {
						batch.ID, m.sent = fmt.Sprint(head), head
					}
					batch.Units = [][]byte{lifeText(batch.ID)}
				}
				p, id := m.out.payload(&batch, now)
				if id != batch.ID && id != "" {
					m.sent, _ = strconv.Atoi(id)
				}
				text := bytes.Join(batch.Units, nil)
				if alive {
					text = nil
				}
				m.told(&p, text)
				m.place = batch.To
			}
			if _, used := cs.active(); used > cs.limit {
				t.Fatalf("seed %d: compressors take %d bytes, want at most %d", seed, used, cs.limit)
			}
		}
		for len(members) > 0 {
			leave(0)
		}
		if n, used := cs.active(); n != 0 || used != zstdBytes || len(cs.byKey) != 0 {
			t.Fatalf("seed %d: %d compressors, %d bytes, %d groups are left", seed, n, used, len(cs.byKey))
		}
	}
	t.Logf("%d clients read %d bytes, %d of them compressed for many", ended, all, shared)
	if shared < all/10 {
		t.Error("hardly anything was shared")
	}
}

// signsOfLife are heartbeats and positions. A client may get those of others, too.
var signsOfLife = regexp.MustCompile(`(?m)^:\n|^event: position\ndata: {}\nid: \d+\n\n`)

var idLines = regexp.MustCompile(`(?m)^id: (\d+)$`)

// lifeText is a heartbeat, or a position.
func lifeText(id string) []byte {
	if id == "" {
		return []byte(":\n")
	}
	return []byte("event: position\ndata: {}\nid: " + id + "\n\n")
}

// orders are events as they are in practice.
func orders(n int) [][]byte {
	random := rand.New(rand.NewPCG(3, 4))
	list := make([][]byte, n)
	for i := range list {
		list[i] = fmt.Appendf(nil, "data: {\"id\":\"%016x\",\"type\":\"order.%s\",\"at\":\"2026-11-21T04:%02d:%02dZ\",\"amount\":%d,\"city\":\"%s\"}\nid: 1~orders.k3x9z1.%x.7c0q\n\n",
			random.Uint64(), []string{"created", "packed", "shipped"}[random.IntN(3)], random.IntN(60), random.IntN(60), random.IntN(10000),
			[]string{"berlin", "paris", "london"}[random.IntN(3)], 5000000+i)
	}
	return list
}

// All clients of a group come within a few percent of what a compressor for each
// would save, and those are made once.
func TestSharingCostsHardlyAnyBytes(t *testing.T) {
	const clients, events = 50, 2000
	log := orders(events)
	for _, c := range []Coding{Gzip, Zstd} {
		cs := newCompressors([]Coding{c}, 10<<20)
		group := new(bridge.Group)
		bodies := make([]*body, clients)
		for i := range bodies {
			bodies[i] = &body{coding: c, all: cs}
			bodies[i].open()
			bodies[i].enter(group)
		}
		own := newHistory(c) // a private one, which never begins anew
		var each, private int
		for i := range log {
			batch := bridge.Batch{Group: group, From: uint64(i), To: uint64(i + 1), Units: log[i : i+1]}
			private += len(own.compress(batch.Units, i == 0))
			var first *byte
			for n, b := range bodies {
				var p payload
				if _, ok := b.next(&batch, time.Unix(1000, 0), &p); !ok {
					t.Fatalf("%s: event %d is not shared", c, i)
				}
				block := p.blocks[len(p.blocks)-1]
				if n == 0 {
					first = &block[0]
					each += len(block)
				} else if first != &block[0] {
					t.Fatalf("%s: event %d was compressed twice", c, i)
				}
			}
		}
		t.Logf("%s: %d bytes plain, %d shared, %d by a compressor for each: %.3f of that", c, sizeOf(log), each, private, float64(each)/float64(private))
		if float64(each) > 1.05*float64(private) {
			t.Errorf("%s: sharing costs more than 5 %%: %d bytes, and %d by a compressor for each", c, each, private)
		}
	}
}

// Whoever comes later joins when the history begins anew, in a quiet group soon.
func TestClientsJoinAHistoryLater(t *testing.T) {
	cs := newCompressors([]Coding{Gzip}, 10<<20)
	group, log := new(bridge.Group), orders(1000)
	come := func() *body {
		b := &body{coding: Gzip, all: cs}
		b.open()
		b.enter(group)
		return b
	}
	var bodies []*body
	for range minShared {
		bodies = append(bodies, come())
	}
	now := time.Unix(1000, 0)
	tell := func(i int) {
		for _, b := range bodies {
			var p payload
			batch := bridge.Batch{Group: group, From: uint64(i), To: uint64(i + 1), Units: log[i : i+1]}
			if _, ok := b.next(&batch, now, &p); !ok {
				b.alone(batch.Units)
			}
		}
	}
	tell(0)
	bodies = append(bodies, come())
	late := bodies[minShared]
	tell(1)
	if late.share.joined || !bodies[0].share.joined {
		t.Errorf("joined in the middle of a history: %v; stayed in it: %v", late.share.joined, bodies[0].share.joined)
	}
	now = now.Add(joinAfter)
	tell(2)
	if !late.share.joined {
		t.Error("has not joined after a while")
	}
	bodies = append(bodies, come())
	later, i := bodies[minShared+1], 3
	for ; !later.share.joined && i < len(log); i++ {
		tell(i)
	}
	if text := sizeOf(log[3:i]); text < historyBytes*9/10 || text > historyBytes*11/10 {
		t.Errorf("joined after %d bytes of text, want about %d", text, historyBytes)
	}
}

// Memory goes to large groups, and stays within its budget, as it is measured.
func TestCompressionStaysWithinItsBudget(t *testing.T) {
	const limit = 24 << 20
	log := orders(40)
	for _, c := range []Coding{Gzip, Zstd} {
		cs := newCompressors([]Coding{c}, limit)
		now := time.Unix(1000, 0)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var bodies []*body
		var groups []*bridge.Group
		come := func(group *bridge.Group) {
			b := &body{coding: c, all: cs}
			b.open()
			b.enter(group)
			bodies, groups = append(bodies, b), append(groups, group)
		}
		tell := func(from, to int) {
			for i := range bodies {
				var p payload
				batch := bridge.Batch{Group: groups[i], From: uint64(from), To: uint64(to), Units: log[from:to]}
				if _, ok := bodies[i].next(&batch, now, &p); !ok {
					bodies[i].alone(batch.Units)
				}
			}
		}
		for range 10000 { // a filter each
			come(new(bridge.Group))
		}
		tell(0, 1)
		if n, _ := cs.active(); n != 0 {
			t.Errorf("%s: %d groups of one client have a compressor", c, n)
		}
		for range 1000 {
			group := new(bridge.Group)
			for range minShared {
				come(group)
			}
		}
		tell(1, 2)
		n, used := cs.active()
		if n < 10 || used > limit {
			t.Errorf("%s: %d compressors take %d bytes, want at most %d", c, n, used, limit)
		}
		large := new(bridge.Group)
		for range 10 * minShared {
			come(large)
		}
		now = now.Add(time.Hour)
		for i := 2; i < len(log); i += 2 {
			tell(i, i+2)
		}
		last := bodies[len(bodies)-1]
		if !last.share.joined {
			t.Errorf("%s: a large group has no compressor, as small ones have them all", c)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := 400 * int64(len(bodies)) // themselves
		if took := int64(after.HeapAlloc) - int64(before.HeapAlloc); took > limit+each {
			t.Errorf("%s: compression takes %d bytes, want at most %d, and %d for %d clients", c, took, limit, each, len(bodies))
		} else {
			t.Logf("%s: %d compressors, %d MiB with %d clients", c, n, took>>20, len(bodies))
		}
		runtime.KeepAlive(bodies)
	}
}

// reader is a client that asks for a coding, and undoes it.
type reader struct {
	header http.Header
	wire   *atomic.Int64 // bytes of content
	text   io.Reader
	parser ssetest.Parser
	events []ssetest.Event
}

func (r *socketRig) openCoded(t *testing.T, accept string) *reader {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", accept)
	transport := &http.Transport{DisableCompression: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
	})
	rd := &reader{header: resp.Header, wire: new(atomic.Int64)}
	counted := readerFunc(func(p []byte) (int, error) {
		n, err := resp.Body.Read(p)
		rd.wire.Add(int64(n))
		return n, err
	})
	switch Coding(resp.Header.Get("Content-Encoding")) {
	case Gzip:
		rd.text = &lazy{open: func() (io.Reader, error) { return gzip.NewReader(counted) }}
	case Zstd:
		z, err := zstd.NewReader(counted, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(z.Close)
		rd.text = z
	default:
		rd.text = counted
	}
	return rd
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// lazy opens a reader when it is first read, as gzip's wants to see the head.
type lazy struct {
	open func() (io.Reader, error)
	r    io.Reader
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.r == nil {
		var err error
		if l.r, err = l.open(); err != nil {
			return 0, err
		}
	}
	return l.r.Read(p)
}

// next returns the next event, io.EOF at the proper end of a coding.
func (rd *reader) next() (ssetest.Event, error) {
	var buf [4096]byte
	for len(rd.events) == 0 {
		n, err := rd.text.Read(buf[:])
		rd.events = append(rd.events, rd.parser.Feed(buf[:n])...)
		if err != nil && len(rd.events) == 0 {
			return ssetest.Event{}, err
		}
	}
	e := rd.events[0]
	rd.events = rd.events[1:]
	return e, nil
}

// Over real sockets, with clients that come at any time, some of whom read nothing
// for a while, and a clean end: every decoder finds all of it, and its checksum
// right. In the end most of what was sent is compressed.
func TestCompressedClientsGetEverything(t *testing.T) {
	const before, records = 30, 3000
	for _, taken := range []bool{true, false} {
		t.Run(fmt.Sprintf("taken_over=%v", taken), func(t *testing.T) {
			if taken && runtime.GOOS != "linux" {
				t.Skip("connections are taken over on Linux only: run the tests there")
			}
			r := newBrokerRig(t, Options{Heartbeat: 50 * time.Millisecond, Retry: 10 * time.Millisecond, Codings: []Coding{Zstd, Gzip}, CompressionBytes: 10 << 20}, 256<<10, taken)
			accepts := []string{"gzip", "zstd", "identity", "gzip, deflate, br, zstd"}
			var readers []*reader
			var wg sync.WaitGroup
			var plain, packed atomic.Int64
			resume := make(chan struct{})
			come := func(i int) {
				rd := r.openCoded(t, accepts[i%len(accepts)])
				readers = append(readers, rd)
				wg.Go(func() {
					if i%10 == 3 {
						<-resume
					}
					if err := numbersOf(rd.next, records); err != nil {
						t.Errorf("client %d: %v", i, err)
					}
					if i >= before || i%10 == 3 {
						return
					}
					if rd.header.Get("Content-Encoding") == "" {
						plain.Store(rd.wire.Load())
					} else {
						packed.CompareAndSwap(0, rd.wire.Load())
						packed.Store(min(packed.Load(), rd.wire.Load()))
					}
				})
			}
			for i := range before {
				come(i)
			}
			for n := range records {
				r.publish(t, n+1, strings.Repeat("lorem ipsum ", 20))
				if n%100 == 50 {
					come(before + n/100)
				}
				if n == records-100 {
					close(resume)
				}
			}
			done := make(chan struct{})
			go func() {
				wg.Wait()
				close(done)
			}()
			more := time.NewTicker(10 * time.Millisecond)
			defer more.Stop()
			for n := records; ; n++ { // who came last may begin behind all records so far
				select {
				case <-more.C:
					r.publish(t, n+1, "")
					continue
				case <-done:
				}
				break
			}
			t.Logf("a client that was there from the beginning: %d bytes plain, %d compressed", plain.Load(), packed.Load())
			if packed.Load() == 0 || packed.Load() >= plain.Load() {
				t.Errorf("%d bytes plain, %d compressed", plain.Load(), packed.Load())
			}
			drained := make(chan error, 1)
			go func() { drained <- r.handler.Drain(context.WithoutCancel(t.Context()), 0) }()
			for i, rd := range readers {
				var last ssetest.Event
				for {
					e, err := rd.next()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatalf("client %d, after %q: %v", i, last, err)
					}
					last = e
				}
				if last.Type != "closing" {
					t.Errorf("client %d: the last event is %q, want closing", i, last)
				}
			}
			if err := <-drained; err != nil {
				t.Error(err)
			}
			r.until(t, "the compressors to be given back", func() bool { n, _ := r.handler.squeeze.active(); return n == 0 })
		})
	}
}

// A heartbeat is part of the history: what comes after it in a quiet group is as
// short as what came before.
func TestSignsOfLifeKeepTheHistory(t *testing.T) {
	r := newSocketRig(t, Options{Heartbeat: 100 * time.Millisecond, Codings: []Coding{Gzip}, CompressionBytes: 10 << 20}, 1<<20)
	var readers []*reader
	for range 2 * minShared {
		readers = append(readers, r.openCoded(t, "gzip"))
	}
	text := strings.Repeat("0123456789abcdef", 20)
	tell := func(n int) {
		r.publish(t, n, text)
		for _, rd := range readers {
			for {
				e, err := rd.next()
				if err != nil {
					t.Fatal(err)
				}
				if e.Type == "message" && strings.HasPrefix(e.Data, fmt.Sprint(n, " ")) {
					break
				}
			}
		}
	}
	r.until(t, "all to share a compressor", func() bool {
		r.handler.squeeze.mu.Lock()
		defer r.handler.squeeze.mu.Unlock()
		for _, z := range r.handler.squeeze.byKey {
			return z.clients.Load() == 2*minShared
		}
		return false
	})
	tell(1)
	before := readers[0].wire.Load()
	for readers[0].parser.Comments() < 3 { // the text grows as heartbeats come
		if _, err := r.broker.Append(sourcetest.Message{Subject: "a", Data: []byte("0 " + text)}); !err {
			t.Fatal("append was refused")
		}
		for n := readers[0].parser.Comments(); readers[0].parser.Comments() == n; {
			var buf [1024]byte
			k, err := readers[0].text.Read(buf[:])
			if err != nil {
				t.Fatal(err)
			}
			readers[0].events = append(readers[0].events, readers[0].parser.Feed(buf[:k])...)
		}
	}
	tell(2)
	if took := readers[0].wire.Load() - before; took > int64(2*len(text)) {
		t.Errorf("4 events and 3 heartbeats took %d bytes, though each event says the same %d", took, len(text))
	}
}

// A compressor that has lost its memory and got it back knows nothing of what it
// said before.
func TestHistoryIsNotContinuedByAnotherCompressor(t *testing.T) {
	log := orders(6)
	for _, c := range []Coding{Gzip, Zstd} {
		cs := newCompressors([]Coding{c}, 10<<20)
		group := new(bridge.Group)
		content := make([][]byte, minShared)
		bodies := make([]*body, minShared)
		for i := range bodies {
			bodies[i] = &body{coding: c, all: cs}
			content[i] = []byte(bodies[i].open())
			bodies[i].enter(group)
		}
		for i := range log {
			batch := bridge.Batch{Group: group, From: uint64(i), To: uint64(i + 1), Units: log[i : i+1]}
			for n, b := range bodies {
				var p payload
				if _, ok := b.next(&batch, time.Unix(1000, 0), &p); !ok {
					t.Fatalf("%s: event %d is not shared", c, i)
				}
				content[n] = append(content[n], joined(&p)...)
			}
			if i == 2 {
				z := bodies[0].share.z
				cs.mu.Lock()
				cs.revoke(z)
				cs.mu.Unlock()
				cs.grant(z)
			}
		}
		for n, b := range bodies {
			got, err := decode(c, b.appendEnd(content[n]))
			if want := bytes.Join(log, nil); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: client %d read %d bytes, %v, want %d", c, n, len(got), err, len(want))
			}
		}
	}
}

// listener is a follower that has one batch, and keeps what it is told.
type listener struct {
	fakeSharer
	batch bridge.Batch
	told  []string
}

func (f *listener) Told(id string) { f.told = append(f.told, id) }

func (f *listener) Next(ctx context.Context) (bridge.Batch, error) {
	b := f.batch
	if f.batch = (bridge.Batch{}); b.Group == nil {
		return b, errClientGone
	}
	return b, nil
}

// A position that a client was given with others is its position, however it is
// written to: it is what it is told to come back with.
func TestClientsKnowThePositionsOfOthers(t *testing.T) {
	h := NewHandler(Options{Codings: []Coding{Gzip}, CompressionBytes: 10 << 20})
	group, log := new(bridge.Group), orders(3)
	for name, tc := range map[string]struct {
		others []bridge.Batch
		batch  bridge.Batch
		want   []string
	}{
		"a position instead of a heartbeat":        {[]bridge.Batch{{From: 1, To: 1, ID: "7"}}, bridge.Batch{From: 1, To: 1}, []string{"7"}},
		"a position behind an event":               {[]bridge.Batch{{From: 1, To: 2}, {From: 2, To: 2, ID: "7"}}, bridge.Batch{From: 1, To: 2}, []string{"7"}},
		"a position before the last event":         {[]bridge.Batch{{From: 1, To: 1, ID: "7"}, {From: 1, To: 2}}, bridge.Batch{From: 1, To: 2}, nil},
		"a position that others only had to hear":  {[]bridge.Batch{{From: 1, To: 1}}, bridge.Batch{From: 1, To: 1, ID: "7"}, nil},
		"the older one of two":                     {[]bridge.Batch{{From: 1, To: 1, ID: "6"}}, bridge.Batch{From: 1, To: 1, ID: "7"}, []string{"6"}},
		"a position, and a heartbeat of another's": {[]bridge.Batch{{From: 1, To: 1, ID: "6"}, {From: 1, To: 1}}, bridge.Batch{From: 1, To: 1}, []string{"6"}},
	} {
		t.Run(name, func(t *testing.T) {
			batch := func(b bridge.Batch) bridge.Batch {
				b.Group = group
				if b.Units = log[b.From:b.To]; b.From == b.To {
					b.Units = [][]byte{lifeText(b.ID)}
				}
				return b
			}
			outs := make([]*response, minShared)
			for i := range outs {
				w := httptest.NewRecorder()
				outs[i] = &response{
					w: w, control: http.NewResponseController(w), timeout: time.Minute, metrics: h.metrics,
					request: trace.SpanFromContext(t.Context()), body: &body{coding: Gzip, control: true, all: h.squeeze},
				}
				outs[i].enter(group)
				if err := outs[i].say([][]byte{[]byte("event: connected\n\n")}); err != nil {
					t.Fatal(err)
				}
			}
			tell := func(o *response, b bridge.Batch) {
				if _, err := o.deliver(b); err != nil {
					t.Fatal(err)
				}
			}
			for _, o := range outs { // all are in the history
				tell(o, batch(bridge.Batch{From: 0, To: 1}))
			}
			for _, b := range tc.others {
				tell(outs[0], batch(b))
			}
			f := &listener{batch: batch(tc.batch)}
			if err := follow(t.Context(), f, outs[1], nil); !errors.Is(err, errClientGone) {
				t.Fatal(err)
			}
			if !slices.Equal(f.told, tc.want) || !outs[1].body.share.joined {
				t.Errorf("was told of %q, want %q; still in the history: %v", f.told, tc.want, outs[1].body.share.joined)
			}
			for _, o := range outs {
				o.body.exit()
			}
		})
	}
}

// Operators see what compressing takes of the memory that they gave.
func TestCompressorsAreCounted(t *testing.T) {
	o, reader := metered()
	o.Codings, o.CompressionBytes = []Coding{Gzip}, 10<<20
	h := NewHandler(o)
	group, log := new(bridge.Group), orders(1)
	var bodies []*body
	for range minShared {
		b := &body{coding: Gzip, all: h.squeeze}
		b.open()
		b.enter(group)
		bodies = append(bodies, b)
	}
	expectValues(t, reader, map[string]int64{"ssebridge.compressors": 0, "ssebridge.compression.memory": 0})
	if _, ok := bodies[0].next(&bridge.Batch{Group: group, From: 0, To: 1, Units: log}, time.Unix(1000, 0), new(payload)); !ok {
		t.Fatal("the event is not shared")
	}
	expectValues(t, reader, map[string]int64{"ssebridge.compressors": 1, "ssebridge.compression.memory": gzipBytes})
	for _, b := range bodies {
		b.exit()
	}
	expectValues(t, reader, map[string]int64{"ssebridge.compressors": 0, "ssebridge.compression.memory": 0})
}

// A client whose socket takes nothing stays in the history, and keeps nobody out of
// the next one.
func TestOneThatIsHeldUpKeepsNobodyOut(t *testing.T) {
	cs := newCompressors([]Coding{Gzip}, 10<<20)
	group := new(bridge.Group)
	log := orders(40)
	log[3] = bytes.Repeat([]byte("x"), largestShared+1) // is told to each alone
	var bodies []*body
	content := make([][]byte, 2*minShared)
	for i := range content {
		b := &body{coding: Gzip, all: cs}
		content[i] = []byte(b.open())
		b.enter(group)
		bodies = append(bodies, b)
	}
	now := time.Unix(1000, 0)
	tell := func(n, from, to int) {
		var p payload
		batch := bridge.Batch{Group: group, From: uint64(from), To: uint64(to), Units: log[from:to]}
		if _, ok := bodies[n].next(&batch, now, &p); !ok {
			p = bodies[n].alone(batch.Units)
		}
		content[n] = append(content[n], joined(&p)...)
	}
	for i := range log {
		now = now.Add(time.Second)
		for n := range bodies {
			if n > 0 || i < 3 { // the first one is held up
				tell(n, i, i+1)
			}
		}
	}
	for n, b := range bodies[1:] {
		if !b.share.joined {
			t.Errorf("client %d has not joined again", n+1)
		}
	}
	tell(0, 3, len(log))
	for n, b := range bodies {
		got, err := decode(Gzip, b.appendEnd(content[n]))
		if want := bytes.Join(log, nil); err != nil || !bytes.Equal(got, want) {
			t.Errorf("client %d read %d bytes, %v, want %d", n, len(got), err, len(want))
		}
	}
}

// What is stored for one client alone is copied piece by piece, however large it is.
func TestLargeTextIsStoredInPieces(t *testing.T) {
	for _, c := range []Coding{Gzip, Zstd} {
		b := &body{coding: c, all: newCompressors([]Coding{c}, 10<<20)}
		text := bytes.Repeat([]byte("0123456789"), 100_000)
		p := b.alone([][]byte{[]byte("a"), text, []byte("b")})
		rest := chunks{p: &p}
		for !rest.ended() {
			rest.pass(len(rest.fill(make([]byte, 0, pieceBytes))))
			if held := cap(rest.room) + cap(rest.more); held > 4*pieceBytes {
				t.Fatalf("%s: %d bytes are held for one client", c, held)
			}
		}
		got, err := decode(c, b.appendEnd(joined(&p)))
		if want := "a" + string(text) + "b"; err != nil || string(got) != want {
			t.Errorf("%s: read %d bytes, %v, want %d", c, len(got), err, len(want))
		}
	}
}

// Clients that are not in the history come by in any order of places, from several
// shards at once: what was compressed for one place is still there for the next who
// comes to it, and little is kept.
func TestBlocksWithoutHistoryAreSharedByPlaces(t *testing.T) {
	for _, coding := range []Coding{Gzip, Zstd} {
		t.Run(string(coding), func(t *testing.T) {
			all := newCompressors([]Coding{coding}, 64<<20)
			z := &compressor{key: compressorKey{coding: coding}, all: all}
			units := [][]byte{bytes.Repeat([]byte("data: abc\n\n"), 100), bytes.Repeat([]byte("data: def\n\n"), 100)}
			batch := func(from, to uint64) *bridge.Batch {
				return &bridge.Batch{From: from, To: to, Units: units[:to-from]}
			}
			made := map[uint64]*byte{}
			for range 3 {
				for from := range uint64(keptLone) {
					k, shorter := z.withoutHistory(batch(from, from+1+from%2))
					if !shorter || made[from] != nil && made[from] != &k.coded[0] {
						t.Fatalf("place %d: compressed again, or not shorter (%t)", from, shorter)
					}
					made[from] = &k.coded[0]
				}
			}
			random := rand.New(rand.NewPCG(1, 2))
			for from := range uint64(10 * keptLone) {
				b := batch(from, from+1)
				noise := make([]byte, keptBytes/4)
				if from == 5*keptLone { // alone larger than all that is kept
					noise = make([]byte, largestShared)
				}
				for i := range noise {
					noise[i] = byte(random.Uint32())
				}
				b.Units = [][]byte{noise}
				z.withoutHistory(b)
				if most := max(keptBytes, len(z.lone[len(z.lone)-1].coded)); z.loneBytes > most {
					t.Fatalf("%d bytes are kept, want %d at most", z.loneBytes, most)
				}
			}
			kept := 0
			for _, k := range z.lone {
				kept += len(k.coded)
			}
			if len(z.lone) > keptLone || kept != z.loneBytes {
				t.Errorf("%d blocks of %d bytes are kept, %d are counted", len(z.lone), kept, z.loneBytes)
			}
		})
	}
}

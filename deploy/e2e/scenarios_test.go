package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// scene is the JetStream stream S on a server of its own, followed as s by two
// bridges. Live clients are at a, and those that come back are at b.
type scene struct {
	t      *testing.T
	server *natstest.ProcessServer
	js     jetstream.JetStream
	a, b   *bridgeProcess
}

// newScene sets the scene; the stream has the subjects s.> unless c says more.
func newScene(t *testing.T, c jetstream.StreamConfig, settings ...string) *scene {
	t.Helper()
	s := &scene{t: t, server: natstest.Process(t)}
	s.js = s.server.JS()
	s.create(c)
	settings = append([]string{"STREAMS=s=nats:S"}, settings...)
	s.a, s.b = startBridge(t, s.server.URL, settings...), startBridge(t, s.server.URL, settings...)
	return s
}

func (s *scene) create(c jetstream.StreamConfig) {
	s.t.Helper()
	c.Name = "S"
	if c.Mirror == nil && len(c.Subjects) == 0 {
		c.Subjects = []string{"s.>"}
	}
	createStream(s.t, s.js, c)
}

// publish adds records with payloads from prefix1 to prefixN.
func (s *scene) publish(prefix string, first, last int) {
	s.t.Helper()
	publish(s.t, s.js, "s.x", prefix, first, last)
}

// live connects a client that has seen nothing, and waits until it is live.
func (s *scene) live(query string) *reader {
	s.t.Helper()
	r := read(s.t, "", s.a.events(query))
	r.awaitType("caught-up", 1)
	return r
}

// leaveAt reads from the beginning until the record with this payload, and
// returns its id, as a client keeps it that leaves at that moment.
func (s *scene) leaveAt(data string) (id string) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), patience)
	defer stop()
	c := &ssetest.Client{URL: s.a.events("start=all")}
	err := c.Follow(ctx, reconnectPause, func(e ssetest.Event) bool { return e.Data != data })
	if err != nil {
		s.t.Fatalf("read until %s: %v", data, err)
	}
	return c.LastID
}

// check closes the clients and audits what they were told. losses are the gaps
// and resets that each must have got.
func (s *scene) check(lives story, losses []string, clients map[string]*reader) {
	s.t.Helper()
	for who, r := range clients {
		h := r.close()
		mustAudit(s.t, who, h, bridge.Filter{}, map[string]story{"s": lives})
		if got := h.losses(); !slices.Equal(got, losses) {
			s.t.Errorf("%s: losses %q, want %q", who, got, losses)
		}
	}
}

// noLosses is what most clients are told.
var noLosses = []string{}

// Deleting a stream and making it again is how people empty it. The numbers
// begin anew, so a place of the old one means nothing in the new, whether it
// lies beyond its end or in the middle.
func TestRecreatedStreamIsToldAndReadFromItsBeginning(t *testing.T) {
	for name, records := range map[string]int{"fewer records": 3, "more records": 25} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
			s.publish("old", 1, 10)
			id := s.leaveAt("old10")
			live := s.live("")
			s.publish("old", 11, 12)
			live.awaitData("old12")
			before := readLife(t, s.js, "S")

			deleteStream(t, s.js, "S")
			s.create(jetstream.StreamConfig{AllowDirect: true})
			s.publish("new", 1, records)
			last := readLife(t, s.js, "S").records[records-1].data
			live.awaitData(last)
			back := read(t, id, s.b.events(""))
			back.awaitData(last)
			s.publish("more", 1, 2)
			lives := story{before, readLife(t, s.js, "S")}
			live.awaitData("more2")
			back.awaitData("more2")
			s.check(lives, []string{"reset recreated 13-null next 1"}, map[string]*reader{"live client": live})
			s.check(lives, []string{"reset recreated 11-null next 1"}, map[string]*reader{"resuming client": back})
			if got := back.close().verdicts(); !slices.Equal(got, []string{"reset"}) {
				t.Errorf("verdicts %q, want reset", got)
			}
		})
	}
}

// rollBack takes the scene's server back to ten records, after both a live
// client and one that left have read twenty.
func rollBack(t *testing.T) (s *scene, live *reader, id string, before life, regrow func(last int)) {
	t.Helper()
	s = newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("old", 1, 10)
	older := s.server.CopyData()
	s.publish("old", 11, 20)
	id = s.leaveAt("old20")
	live = s.live("")
	s.publish("old", 21, 21)
	live.awaitData("old21")
	before = readLife(t, s.js, "S")

	// The bridges stand still meanwhile, so that it is the test that decides what
	// they find.
	s.signal(syscall.SIGSTOP)
	s.server.RollBack(older)
	s.server.Start()
	regrow = func(last int) {
		t.Helper()
		s.js = s.server.JS()
		s.publish("new", 11, last)
		s.signal(syscall.SIGCONT)
	}
	return s, live, id, before, regrow
}

func (s *scene) signal(sig syscall.Signal) {
	s.t.Helper()
	for _, b := range []*bridgeProcess{s.a, s.b} {
		if err := b.cmd.Process.Signal(sig); err != nil {
			s.t.Fatal(err)
		}
	}
}

// A machine that crashes loses what was not synced: the log then ends below the
// place, and what is written next gets numbers that clients have seen.
func TestRolledBackLogIsToldAndReadFromItsEnd(t *testing.T) {
	t.Parallel()
	s, live, id, before, regrow := rollBack(t)
	regrow(10) // nothing new
	live.awaitType("reset", 1)
	back := read(t, id, s.b.events(""))
	back.awaitType("reset", 1)
	s.publish("new", 11, 13)
	live.awaitData("new13")
	back.awaitData("new13")
	lives := story{before, readLife(t, s.js, "S")}
	s.check(lives, []string{"reset rolled-back 11-21 next 11"}, map[string]*reader{"live client": live})
	s.check(lives, []string{"reset rolled-back 11-20 next 11"}, map[string]*reader{"resuming client": back})
}

// The worst of it: by the time anybody looks, the log has grown past the place
// again, with other records under the same numbers. Only the proof in the id
// tells.
func TestRegrownLogIsToldAndReadFromWhereItDiffers(t *testing.T) {
	t.Parallel()
	s, live, id, before, regrow := rollBack(t)
	regrow(40)
	back := read(t, id, s.b.events(""))
	live.awaitData("new40")
	back.awaitData("new40")
	lives := story{before, readLife(t, s.js, "S")}
	s.check(lives, []string{"reset rolled-back 21-21 next 11"}, map[string]*reader{"live client": live})
	s.check(lives, []string{"reset rolled-back 20-20 next 11"}, map[string]*reader{"resuming client": back})
}

// Each application has its own idea of what to do when its place is gone.
func TestClientChoosesWhereAResetGoesOn(t *testing.T) {
	t.Parallel()
	s, live, id, before, regrow := rollBack(t)
	regrow(40)
	live.awaitData("new40")
	after := readLife(t, s.js, "S")
	for policy, next := range map[string]string{"since": "11", "all": "1", "new": "41"} {
		r := read(t, id, s.b.events("on-reset="+policy))
		r.awaitType("caught-up", 1)
		if policy != "new" {
			r.awaitData("new40") // caught up with this replica, whose reader may be on its way there
		}
		s.check(story{before, after}, []string{"reset rolled-back 20-20 next " + next}, map[string]*reader{policy: r})
	}
	got, err := get(t.Context(), s.b.events("on-reset=fail"), map[string]string{"Last-Event-ID": id})
	if err != nil || got.status != 410 || got.code() != "reset" {
		t.Errorf("on-reset=fail: got %+v, %v, want 410 with code reset", got, err)
	}
}

// A client that asked to fail must not go on silently by another rule only
// because it was connected when it happened: it gets the reset, and the end.
func TestLiveClientThatAskedToFailIsToldAndEnded(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("old", 1, 3)
	c := &ssetest.Client{URL: s.a.events("start=all&on-reset=fail")}
	stream, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	var h history
	for {
		e, err := stream.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v, want a clean end after the reset; read:\n%s", err, h)
		}
		h = append(h, e)
		if e.Type == "caught-up" {
			deleteStream(t, s.js, "S")
			s.create(jetstream.StreamConfig{})
			s.publish("new", 1, 3)
		}
	}
	if got := h[len(h)-1]; got.Type != "reset" {
		t.Errorf("the last event is %v, want the reset; read:\n%s", got, h)
	}
}

// Purging removes what clients have not read yet; those that have lost nothing
// must not be told otherwise.
func TestPurgeIsAGapForThoseWhoMissedRecords(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("", 1, 10)
	id := s.leaveAt("5")
	live := s.live("start=all")
	before := readLife(t, s.js, "S")
	stream, err := s.js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := read(t, id, s.b.events(""))
	back.awaitType("gap", 1)
	s.publish("", 11, 13)
	live.awaitData("13")
	back.awaitData("13")
	all := readLife(t, s.js, "S").join(before)
	s.check(story{all}, noLosses, map[string]*reader{"live client": live})
	s.check(story{all}, []string{"gap retention 6-10 next 11"}, map[string]*reader{"resuming client": back})
}

// Records that an operator deletes one by one are not a loss, wherever they
// are: in the middle, right before a place, or at the end.
func TestDeletedRecordsLeaveHolesAndNoGaps(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("", 1, 12)
	id := s.leaveAt("4")
	live := s.live("")
	stream, err := s.js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{4, 6, 7, 12} {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	back := read(t, id, s.b.events(""))
	back.awaitType("caught-up", 1)
	s.publish("", 13, 14)
	live.awaitData("14")
	back.awaitData("14")
	lives := story{readLife(t, s.js, "S")}
	s.check(lives, noLosses, map[string]*reader{"live client": live, "resuming client": back})
	if got := back.close().data(); !slices.Equal(got, []string{"5", "8", "9", "10", "11", "13", "14"}) {
		t.Errorf("the resuming client got %q", got)
	}
}

// Retention goes on while clients are away. What it took is named exactly.
func TestLimitsThatPassAPlaceAreAGap(t *testing.T) {
	t.Run("count", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, jetstream.StreamConfig{AllowDirect: true, MaxMsgs: 10})
		s.publish("", 1, 10)
		id := s.leaveAt("5")
		live := s.live("start=all")
		before := readLife(t, s.js, "S")
		for n := 11; n <= 30; n += 5 { // not faster than the live reader reads
			s.publish("", n, n+4)
			before = readLife(t, s.js, "S").join(before)
			live.awaitData(before.records[len(before.records)-1].data)
		}
		back := read(t, id, s.b.events(""))
		back.awaitData("30")
		s.check(story{before}, noLosses, map[string]*reader{"live client": live})
		s.check(story{before}, []string{"gap retention 6-20 next 21"}, map[string]*reader{"resuming client": back})
	})
	t.Run("count, with values replaced", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, jetstream.StreamConfig{AllowDirect: true, MaxMsgs: 10, MaxMsgsPerSubject: 100})
		s.publish("", 1, 10)
		id := s.leaveAt("5")
		s.publish("", 11, 30)
		back := read(t, id, s.b.events(""))
		back.awaitData("30")
		s.check(story{readLife(t, s.js, "S")}, []string{"gap limits 6-20 next 21"}, map[string]*reader{"resuming client": back})
	})
	t.Run("age", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, jetstream.StreamConfig{AllowDirect: true, MaxAge: 2 * time.Second})
		live := s.live("")
		s.publish("", 1, 5)
		id := s.leaveAt("3")
		live.awaitData("5")
		until(t, "the records to expire", func() bool {
			stream, err := s.js.Stream(t.Context(), "S")
			return err == nil && stream.CachedInfo().State.FirstSeq == 6
		})
		back := read(t, id, s.b.events(""))
		back.awaitType("gap", 1)
		s.publish("", 6, 8)
		live.awaitData("8")
		back.awaitData("8")
		all := life{first: 6} // by hand: the last ones may have expired, too
		for n := range uint64(8) {
			all.records = append(all.records, held{n + 1, "s.x", fmt.Sprint(n + 1)})
		}
		s.check(story{all}, noLosses, map[string]*reader{"live client": live})
		s.check(story{all}, []string{"gap retention 4-5 next 6"}, map[string]*reader{"resuming client": back})
	})
}

// Headers are the publisher's business: whatever they say, a record is a
// record, also to readers that speak the broker's own protocol underneath.
func TestHeadersDoNotTurnRecordsIntoSomethingElse(t *testing.T) {
	for name, direct := range map[string]bool{"allow_direct": true, "no allow_direct": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, jetstream.StreamConfig{AllowDirect: direct})
			var want []string
			send := func(data string, header natsgo.Header) {
				t.Helper()
				if _, err := s.js.PublishMsg(t.Context(), &natsgo.Msg{Subject: "s.x", Data: []byte(data), Header: header}); err != nil {
					t.Fatal(err)
				}
				want = append(want, data)
			}
			send("first", nil)
			id := s.leaveAt("first")
			live := s.live("start=all")
			for _, status := range []string{"100", "200", "404", "408", "409", "503"} {
				send("", natsgo.Header{"Status": {status}})
				send("body "+status, natsgo.Header{"Status": {status}, "Description": {"No Messages"}})
			}
			send("sequence", natsgo.Header{"Nats-Sequence": {"999"}, "Nats-Stream": {"OTHER"}, "Nats-Num-Pending": {"0"}, "Nats-Last-Sequence": {"7"}})
			send("stamp", natsgo.Header{"Nats-Time-Stamp": {"2001-01-01T00:00:00Z"}, "Nats-Subject": {"other"}})
			send("last", nil)
			live.awaitData("last")
			back := read(t, id, s.b.events(""))
			back.awaitData("last")
			for n, r := range map[string]*reader{"live": live, "back": back} {
				h := r.close()
				all := want
				if n == "back" {
					all = want[1:]
				}
				if got := h.data(); !slices.Equal(got, all) {
					t.Errorf("%s client got %q, want %q", n, got, all)
				}
				if losses := h.losses(); len(losses) > 0 {
					t.Errorf("%s client: losses %q", n, losses)
				}
				for i, e := range h.only("message") {
					if got, want := eventOffset(e), len(want)-len(all)+i+2; got != want {
						t.Errorf("%s client: record %q has the place %d, want %d", n, e.Data, got, want)
					}
				}
			}
		})
	}
}

// Replay by consumers is another way of reading the same records.
func TestStreamWithoutDirectGetIsReadWhole(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: false})
	s.publish("", 1, 700) // more than one chunk
	id := s.leaveAt("7")
	live := s.live("start=all")
	back := read(t, id, s.b.events(""))
	back.awaitData("700")
	s.publish("", 701, 703)
	live.awaitData("703")
	back.awaitData("703")
	s.check(story{readLife(t, s.js, "S")}, noLosses, map[string]*reader{"live client": live, "resuming client": back})
}

// A mirror has the records of its origin under the same numbers, and answers
// in its name.
func TestMirrorIsFollowed(t *testing.T) {
	t.Parallel()
	server := natstest.Process(t)
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"s.>"}, AllowDirect: true})
	createStream(t, js, jetstream.StreamConfig{Name: "S", Mirror: &jetstream.StreamSource{Name: "ORIGIN"}, MirrorDirect: true, AllowDirect: true})
	s := &scene{t: t, server: server, js: js, a: startBridge(t, server.URL, "STREAMS=s=nats:S"), b: startBridge(t, server.URL, "STREAMS=s=nats:S")}
	live := s.live("subject=s.x")
	s.publish("", 1, 20)
	live.awaitData("20")
	id := s.leaveAt("7")
	back := read(t, id, s.b.events(""))
	back.awaitData("20")
	s.publish("", 21, 22)
	live.awaitData("22")
	back.awaitData("22")
	s.check(story{readLife(t, s.js, "S")}, noLosses, map[string]*reader{"live client": live, "resuming client": back})
}

// In a bucket every change of the oldest key moves the beginning of the log.
// Nothing is lost by that: the newer value is there.
func TestBucketsHaveNoFalseGaps(t *testing.T) {
	t.Parallel()
	server := natstest.Process(t)
	js := server.JS()
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "B"})
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) {
		t.Helper()
		if _, err := bucket.PutString(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "a1")
	put("b", "b1")
	put("c", "c1")
	s := &scene{t: t, server: server, js: js, a: startBridge(t, server.URL, "STREAMS=s=nats:KV_B"), b: startBridge(t, server.URL, "STREAMS=s=nats:KV_B")}
	id := s.leaveAt("c1")
	live := s.live("")
	for range 30 {
		put("a", "passing")
		put("b", "passing")
		put("c", "passing")
	}
	put("a", "a2")
	put("b", "b2")
	if err := bucket.Delete(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	back := read(t, id, s.b.events(""))
	for who, r := range map[string]*reader{"live client": live, "resuming client": back} {
		r.awaitType("delete", 1)
		put("d", "end of "+who)
		r.awaitData("end of " + who)
		h := r.close()
		if losses := h.losses(); len(losses) > 0 {
			t.Errorf("%s: losses %q, want none", who, losses)
		}
		got := h.data()
		if i := slices.Index(got, "a2"); i < 0 || i+1 >= len(got) || got[i+1] != "b2" {
			t.Errorf("%s got %q, want a2, b2 near the end", who, got)
		}
		if e := h.only("delete")[0]; !strings.Contains(e.Data, `"subject":"$KV.B.c"`) {
			t.Errorf("%s: delete %s, want the subject $KV.B.c", who, e.Data)
		}
	}
}

// Brokers crash. Clients stay connected, and go on when it is back.
func TestBrokerCrashDisconnectsNobody(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("", 1, 10)
	id := s.leaveAt("4")
	live := s.live("start=all")
	s.server.Kill9()
	held := read(t, id, s.b.events("")) // comes back while the broker is away
	until(t, "a response without a broker", func() bool { return held.connections() == 1 })
	s.server.Start()
	s.js = s.server.JS()
	s.publish("", 11, 20)
	live.awaitData("20")
	held.awaitData("20")
	for who, r := range map[string]*reader{"live": live, "resuming": held} {
		if n := r.connections(); n != 1 {
			t.Errorf("the %s client connected %d times, want once", who, n)
		}
	}
	s.check(story{readLife(t, s.js, "S")}, noLosses, map[string]*reader{"live client": live, "resuming client": held})
}

// Bridges crash, too. They have nothing to lose.
func TestBridgeCrashLosesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("", 1, 10)
	same := read(t, "", s.a.events("start=all"))                           // waits for its bridge
	other := read(t, "", s.a.events("start=all"), s.b.events("start=all")) // and this one goes to the other
	same.awaitData("10")
	other.awaitData("10")
	for n := 11; n <= 41; n += 10 {
		s.a.Kill9()
		s.publish("", n, n+9)
		s.a.Start()
		s.a.await("/readyz", 200)
	}
	same.awaitData("50")
	other.awaitData("50")
	if n := same.connections(); n < 2 {
		t.Errorf("%d connections, want several", n)
	}
	s.check(story{readLife(t, s.js, "S")}, noLosses, map[string]*reader{"client": same, "client of both": other})
}

// A rollout must look to clients like a short pause: each is told why, when to
// come back and where it was, and the response ends as responses should.
func TestTerminationSaysGoodbyeToEveryClient(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true}, "DRAIN=2s")
	s.publish("", 1, 5)
	const clients = 20
	type end struct {
		h     history
		err   error
		retry bool
	}
	ends := make(chan end, clients)
	ready := make(chan struct{}, clients)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	for range clients {
		go func() {
			var e end
			defer func() { ends <- e }()
			c := &ssetest.Client{URL: s.a.events("start=all")}
			stream, err := c.Open(ctx)
			if err != nil {
				e.err = err
				return
			}
			defer stream.Close()
			for {
				ev, err := stream.Next(ctx)
				if err != nil {
					e.err, e.retry = err, c.Retry > 0
					return
				}
				e.h = append(e.h, ev)
				if ev.Type == "caught-up" {
					ready <- struct{}{}
				}
			}
		}()
	}
	for range clients {
		select {
		case <-ready:
		case <-ctx.Done():
			t.Fatal("clients are not live")
		}
	}
	s.a.Terminate()
	lives := story{readLife(t, s.js, "S")}
	for n := range clients {
		e := <-ends
		if n == 0 {
			s.checkSentAway(ctx, e.h.lastID())
		}
		if !errors.Is(e.err, io.EOF) || !e.retry {
			t.Errorf("ended by %v, retry %v, want a clean end and a retry", e.err, e.retry)
		}
		if last := e.h[len(e.h)-1]; last.Type != "closing" || last.Data != `{"reason":"drain"}` {
			t.Errorf("the last event is %v, want closing drain", last)
		}
		mustAudit(t, "client", e.h, bridge.Filter{}, map[string]story{"s": lives})
	}
	if code := s.a.Wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// checkSentAway connects to the first bridge while it drains.
func (s *scene) checkSentAway(ctx context.Context, id string) {
	s.t.Helper()
	c := &ssetest.Client{URL: s.a.events(""), LastID: id}
	stream, err := c.Open(ctx)
	if err != nil {
		s.t.Errorf("a late client: %v, want an answer", err)
		return
	}
	defer stream.Close()
	e, err := stream.Next(ctx)
	if err != nil || stream.Status() != 200 || e.Type != "closing" || e.ID != id {
		s.t.Errorf("a late client got %d, %v, %v, want closing with its own id %s", stream.Status(), e, err, id)
	}
	if _, err := stream.Next(ctx); !errors.Is(err, io.EOF) {
		s.t.Errorf("a late client: %v, want a clean end", err)
	}
}

// Pods start in any order. The bridge waits for its broker and serves as soon
// as it can; whoever connects early is held, not refused.
func TestAbsentBrokerAndStreamAreWaitedFor(t *testing.T) {
	t.Parallel()
	server := natstest.Process(t)
	server.Stop()
	b := newBridge(t, server.URL, "STREAMS=s=nats:S", "READY=listening")
	b.Start()
	b.await("/readyz", 200)
	early := read(t, "", b.events("stream=s&start=all"))
	until(t, "a response without a broker", func() bool { return early.connections() == 1 })
	server.Start()
	js := server.JS()
	middle := read(t, "", b.URL+"/events/s?start=all") // the broker is there, the stream is not
	until(t, "a response without the stream", func() bool { return middle.connections() == 1 })
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	publish(t, js, "s.x", "", 1, 5)
	lives := story{readLife(t, js, "S")}
	for who, r := range map[string]*reader{"client before the broker": early, "client before the stream": middle} {
		r.awaitData("5")
		if n := r.connections(); n != 1 {
			t.Errorf("the %s connected %d times, want once", who, n)
		}
		mustAudit(t, who, r.close(), bridge.Filter{}, map[string]story{"s": lives})
	}
}

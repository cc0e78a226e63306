package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// minimal are the permissions that the documentation tells operators to give.
var minimal = []string{
	"$JS.API.STREAM.INFO.S",
	"$JS.API.STREAM.MSG.GET.S",
	"$JS.API.CONSUMER.CREATE.S.*",
	"$JS.API.CONSUMER.MSG.NEXT.S.*",
	"$JS.API.CONSUMER.DELETE.S.*",
	"$JS.API.DIRECT.GET.S",
}

// restricted starts a server where user bridge may publish only to allow, and
// receive only below _INBOX_br; user admin may do everything.
func restricted(t *testing.T, allow []string) (*natstest.Server, jetstream.JetStream, *Source) {
	t.Helper()
	srv := natstest.Embedded(t, natstest.Config(t, fmt.Sprintf(`
authorization { users: [
  { user: admin, password: a }
  { user: bridge, password: b, permissions: { publish: [ "%s" ], subscribe: [ "_INBOX_br.>" ] } }
] }`, strings.Join(allow, `", "`))))
	js := srv.JS(natsgo.UserInfo("admin", "a"))
	makeStream(t, js)
	publish(t, js, "s.a", "r", 20)
	c := runCluster(t, Options{URLs: []string{srv.URL}, User: "bridge", Password: text("b"), InboxPrefix: "_INBOX_br"})
	s, err := NewSource(c, quick())
	if err != nil {
		t.Fatal(err)
	}
	s.waitConnected(t)
	return srv, js, s
}

// The documented permissions have to suffice for everything.
func TestMinimalPermissionsSuffice(t *testing.T) {
	_, js, s := restricted(t, minimal)
	if _, err := s.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	l := listen(t, s, true)
	l.untilRecord(t, publish(t, js, "s.a", "live", 1))
	if got := readAll(t, s, 1, 22); len(got) != 21 {
		t.Errorf("read %v, want 1 to 21", offsets(got))
	}
	judged(t, "resume", s, placeAt(t, s, 10), wanted{})
	if _, err := s.PositionAt(t.Context(), time.Now()); err != nil {
		t.Error(err)
	}
	if stats := s.Stats(); stats.Consumers != 2 { // of the reader and of the check
		t.Errorf("%d consumers were made, want 2: replay has its permission", stats.Consumers)
	}
	l.stop()
	if names := consumers(t, js, "S"); len(names) > 0 {
		t.Errorf("consumers %q are left behind", names)
	}
}

// A missing permission shows as silence. Whoever has to grant it must be told
// which, by the check and by what the stream waits for, and not after seconds.
func TestDeniedRequestsNameThePermission(t *testing.T) {
	for i, denied := range minimal {
		t.Run(denied, func(t *testing.T) {
			_, js, s := restricted(t, slices.Delete(slices.Clone(minimal), i, i+1))
			prefix := strings.TrimSuffix(denied, "*")
			report, err := s.Check(t.Context())
			if denied == "$JS.API.DIRECT.GET.S" { // optional
				if err != nil || !strings.Contains(strings.Join(report.Warnings, " "), prefix) {
					t.Errorf("check: %v, warnings %q; want a warning that names %s", err, report.Warnings, denied)
				}
				if got := readAll(t, s, 1, 21); len(got) != 20 {
					t.Errorf("read %v without direct get, want 1 to 20", offsets(got))
				}
				return
			}
			pe, ok := errors.AsType[*PermissionError](err)
			if !ok || !strings.HasPrefix(pe.Subject, prefix) || pe.Operation != "publish" || !errors.Is(err, bridge.ErrUnavailable) {
				t.Errorf("check: %v; want a PermissionError about %s", err, denied)
			}
			if denied == "$JS.API.CONSUMER.DELETE.S.*" {
				return // reading works without, and consumers go by themselves
			}
			l := listen(t, s, false)
			l.until(t, "Waiting for the permission", func() bool {
				return slices.ContainsFunc(l.changes, func(c bridge.Change) bool {
					return c.Kind == bridge.Waiting && strings.Contains(c.Err.Error(), prefix) && strings.Contains(c.Err.Error(), "permission")
				})
			})
			_ = js
		})
	}
}

// Answers that may not be received are as silent as questions that may not be asked.
func TestDeniedInboxNamesThePermission(t *testing.T) {
	srv, _, _ := restricted(t, minimal)
	c := runCluster(t, Options{URLs: []string{srv.URL}, User: "bridge", Password: text("b")})
	s, err := NewSource(c, quick())
	if err != nil {
		t.Fatal(err)
	}
	s.waitConnected(t)
	for range 2 { // the server tells it only once
		_, err = s.Bounds(t.Context())
		pe, ok := errors.AsType[*PermissionError](err)
		if !ok || pe.Operation != "subscribe" || !strings.HasPrefix(pe.Subject, "_INBOX.") {
			t.Errorf("bounds: %v; want a PermissionError about subscribing to _INBOX", err)
		}
	}
}

// Secrets are rotated while the bridge runs. The next connect must use the new
// one, however long the old one has been refused.
func TestRotatedSecretsAreUsedAtTheNextConnect(t *testing.T) {
	newUser := func() (seed, public string) {
		kp, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		s, _ := kp.Seed()
		public, _ = kp.PublicKey()
		return string(s), public
	}
	wrongSeed, _ := newUser()
	rightSeed, public := newUser()
	for _, c := range []struct {
		name, config, wrong, right string
		options                    func(Secret) Options
	}{
		{"password", `authorization { user: u, password: right }`, "wrong", "right", func(s Secret) Options { return Options{User: "u", Password: s} }},
		{"token", `authorization { token: right }`, "wrong", "right", func(s Secret) Options { return Options{Token: s} }},
		{"nkey", fmt.Sprintf(`authorization { users: [ { nkey: %s } ] }`, public), wrongSeed, rightSeed, func(s Secret) Options { return Options{Nkey: s} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := natstest.Embedded(t, natstest.Config(t, c.config))
			var secret atomic.Pointer[string]
			secret.Store(&c.wrong)
			o := c.options(func() string { return *secret.Load() })
			o.URLs = []string{srv.URL}
			s, err := NewSource(runCluster(t, o), quick())
			if err != nil {
				t.Fatal(err)
			}
			l := listen(t, s, false)
			l.until(t, "Waiting for the right secret", func() bool {
				return slices.ContainsFunc(l.changes, func(c bridge.Change) bool {
					return c.Kind == bridge.Waiting && strings.Contains(strings.ToLower(c.Err.Error()), "authorization")
				})
			})
			secret.Store(&c.right)
			s.waitConnected(t)
			for _, change := range l.find(bridge.Waiting) {
				if strings.Contains(change.Err.Error(), c.wrong) {
					t.Errorf("the error tells the secret: %v", change.Err)
				}
			}
		})
	}
}

// A JetStream domain answers elsewhere, and is part of a stream's identity.
func TestDomain(t *testing.T) {
	srv := natstest.Process(t, `jetstream { domain: hub }`)
	nc := srv.Conn()
	js, err := jetstream.NewWithDomain(nc, "hub")
	if err != nil {
		t.Fatal(err)
	}
	makeStream(t, js)
	publish(t, js, "s.a", "r", 5)
	s, err := NewSource(runCluster(t, Options{URLs: []string{srv.URL}, Domain: "hub"}), quick())
	if err != nil {
		t.Fatal(err)
	}
	s.waitConnected(t)
	l := listen(t, s, true)
	l.untilRecord(t, publish(t, js, "s.a", "live", 1))
	if got := readAll(t, s, 1, 7); len(got) != 6 {
		t.Errorf("read %v, want 1 to 6", offsets(got))
	}
	elsewhere, err := NewSource(runCluster(t, Options{URLs: []string{srv.URL}, Domain: "spoke"}), quick())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.waitConnected(t)
	if _, err := elsewhere.Bounds(t.Context()); !errors.Is(err, bridge.ErrUnavailable) || !strings.Contains(err.Error(), "domain") {
		t.Errorf("bounds in a domain that is not there: %v; want ErrUnavailable with a hint", err)
	}
}

// The check command says what it found, and refuses what cannot be served.
func TestCheckReports(t *testing.T) {
	srv := natstest.Embedded(t)
	js := srv.JS()
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgs = 100; c.AllowDirect = false })
	publish(t, js, "s.a", "r", 5)
	s := openSource(t, srv.URL, SourceOptions{Stream: "S", Filter: []string{"s.a"}})
	r, err := s.Check(t.Context())
	if err != nil || r.Stream != "S" || r.Retention != "limits" || r.First != 1 || r.Last != 5 || r.Records != 5 || r.MaxMessages != 100 || r.AllowDirect || r.GapReason != bridge.Retention || len(r.Warnings) != 2 {
		t.Errorf("report %+v, %v", r, err)
	}
	if names := consumers(t, js, "S"); len(names) > 0 {
		t.Errorf("consumers %q are left behind", names)
	}
	missing := openSource(t, srv.URL, SourceOptions{Stream: "NONE"})
	if _, err := missing.Check(t.Context()); !errors.Is(err, bridge.ErrMissing) {
		t.Errorf("a stream that is missing: %v, want ErrMissing", err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "W", Subjects: []string{"w"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	work := openSource(t, srv.URL, SourceOptions{Stream: "W"})
	if r, err := work.Check(t.Context()); !errors.Is(err, bridge.ErrRefused) || r.Retention != "workqueue" {
		t.Errorf("a WorkQueue: %+v, %v, want ErrRefused", r, err)
	}
	nowhere, err := NewCluster(Options{URLs: []string{"nats://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	away, err := NewSource(nowhere, SourceOptions{Stream: "S"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := away.Check(t.Context()); !errors.Is(err, bridge.ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("no server: %v, want ErrUnavailable", err)
	}
}

// In a cluster the leader moves, and replicas lag. Readers must neither lose nor
// double anything, nor believe a replica that has not heard yet.
func TestLeaderMovesInACluster(t *testing.T) {
	servers := natstest.Cluster(t, 3)
	js := servers[0].JS()
	nc := servers[0].Conn()
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.Replicas = 3 })
	s := openSource(t, servers[1].URL, quick())
	l := listen(t, s, true)
	var last uint64
	for round := range 3 {
		last = publish(t, js, "s.a", fmt.Sprint("round ", round, " "), 50)
		// Read at once what was just acknowledged: another replica may not have it.
		if got := readAll(t, s, bridge.Offset(last-9), bridge.Offset(last+1)); len(got) != 10 {
			t.Errorf("read %v right after the acknowledgement, want the last 10", offsets(got))
		}
		epoch := verdict(t, s, placeAt(t, s, last)).Epoch(0)
		reign := func() string {
			info := ask(t, func(ctx context.Context) (*streamInfo, error) { return s.cold.link.streamInfo(ctx, "S") })
			return fmt.Sprint(info.Cluster)
		}
		before := reign()
		var done struct{}
		apiCall(t, nc, "STREAM.LEADER.STEPDOWN.S", nil, &done)
		for reign() == before {
			if err := sleep(t.Context(), 10*time.Millisecond); err != nil {
				t.Fatalf("no new leader: %v", err)
			}
		}
		if now := verdict(t, s, placeAt(t, s, last)).Epoch(0); now == epoch {
			t.Errorf("the epoch is %d in both reigns", now)
		}
	}
	last = publish(t, js, "s.a", "end", 1)
	l.untilRecord(t, last)
	l.until(t, "Doubted", func() bool { return l.count(bridge.Doubted) > 0 })
	got := offsets(l.heard())
	if len(got) != int(last) || got[0] != 1 || !slices.IsSorted(got) {
		t.Errorf("read %d records, want 1 to %d once each: %v", len(got), last, got)
	}
	if fs := l.find(bridge.Found); len(fs) > 0 {
		t.Errorf("found %+v, want nothing", fs)
	}
}

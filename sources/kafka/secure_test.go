package kafka

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// text makes a Secret that never changes.
func text(s string) Secret { return func() string { return s } }

// grant lets a user do something with a topic.
func grant(t testing.TB, k *kafkatest.Cluster, user, topic string, operations ...kadm.ACLOperation) {
	t.Helper()
	acl := kadm.NewACLs().Allow("User:" + user).AllowHosts().Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).Operations(operations...)
	got, err := k.Admin(t).CreateACLs(t.Context(), acl)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// waitsFor waits until a Tail says that it waits for something.
func (f *follower) waitsFor(t testing.TB, what string, is func(err error) bool) {
	t.Helper()
	f.until(t, "Waiting for "+what, func() bool {
		return slices.ContainsFunc(f.changes, func(c bridge.Change) bool { return c.Kind == bridge.Waiting && is(c.Err) })
	})
}

// Brokers that want to know who comes are the ordinary case. What is wrong with
// a login, a certificate or a permission must be said so that it can be mended,
// and mended without a restart.
func TestSecureBroker(t *testing.T) {
	k := kafkatest.Start(t, kafkatest.Options{Secure: true})
	sec := k.Secure
	client := k.Client(t)
	open, closed := k.Topic(t, 1, 1), k.Topic(t, 1, 1)
	put(t, client, open, sourcetest.Message{Data: []byte("old")})
	for _, user := range []string{kafkatest.User, "CN=client"} {
		grant(t, k, user, open, kadm.OpRead, kadm.OpDescribe)
	}
	serves := func(t *testing.T, o Options) {
		t.Helper()
		s := openSource(t, o, SourceOptions{Topic: open})
		live := follow(t, s)
		o1 := put(t, client, open, sourcetest.Message{Data: []byte("new")})
		live.reaches(t, o1+1)
		if recs := replay(t, s, 0, 1<<20); len(recs) != int(o1)+1 {
			t.Errorf("%d records, want %d", len(recs), o1+1)
		}
	}
	login := func(mechanism string, password Secret) Options {
		return Options{Brokers: sec.SASL, Mechanism: mechanism, Username: kafkatest.User, Password: password}
	}
	for _, mechanism := range []string{Plain, ScramSHA256, ScramSHA512} {
		t.Run(mechanism, func(t *testing.T) { serves(t, login(mechanism, text(kafkatest.Password))) })
		t.Run(mechanism+" with a password that is mended", func(t *testing.T) {
			var password atomic.Value
			password.Store("wrong")
			s := openSource(t, login(mechanism, func() string { return password.Load().(string) }), SourceOptions{Topic: open})
			live := attach(t, s)
			live.waitsFor(t, "a login", func(err error) bool {
				return errors.Is(err, bridge.ErrUnavailable) && strings.Contains(err.Error(), "login by "+mechanism) &&
					strings.Contains(err.Error(), kafkatest.User) && !strings.Contains(err.Error(), "wrong")
			})
			password.Store(kafkatest.Password)
			live.until(t, "Started", func() bool { return live.started })
		})
	}
	mutual := Options{Brokers: sec.TLS, TLS: true, TLSCA: text(sec.CA), TLSCert: text(sec.Cert), TLSKey: text(sec.Key)}
	t.Run("TLS", func(t *testing.T) { serves(t, mutual) })
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"TLS of an unknown authority":      {Options{Brokers: sec.TLS, TLS: true, TLSCert: mutual.TLSCert, TLSKey: mutual.TLSKey}, "certificate"},
		"TLS without a client certificate": {Options{Brokers: sec.TLS, TLS: true, TLSCA: mutual.TLSCA}, "certificate"},
		"TLS by a foreign client":          {Options{Brokers: sec.TLS, TLS: true, TLSCA: mutual.TLSCA, TLSCert: text(sec.ForeignCert), TLSKey: text(sec.ForeignKey)}, "certificate"},
		"no TLS where it is wanted":        {Options{Brokers: sec.TLS}, "TLS"},
		"TLS where there is none":          {Options{Brokers: k.Brokers(), TLS: true, TLSCA: mutual.TLSCA}, "does not speak TLS"},
		"no login where it is wanted":      {Options{Brokers: sec.SASL}, "login"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openSource(t, c.o, SourceOptions{Topic: open})
			_, err := s.Bounds(t.Context())
			if !errors.Is(err, bridge.ErrUnavailable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want it to say %q", err, c.want)
			}
		})
	}
	t.Run("a topic that is denied beside one that serves", func(t *testing.T) {
		o := login(Plain, text(kafkatest.Password))
		c := runCluster(t, o)
		var sources []*Source
		for _, topic := range []string{open, closed} {
			s, err := NewSource(c, SourceOptions{Topic: topic})
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, s)
		}
		denied := attach(t, sources[1])
		says := func(operation string) func(error) bool {
			return func(err error) bool {
				e, ok := errors.AsType[*CodeError](err)
				return ok && e.Denied() && e.Topic == closed && e.Operation == operation && strings.Contains(err.Error(), closed)
			}
		}
		denied.waitsFor(t, "the permission to describe", says("Metadata"))
		if _, err := sources[1].Check(t.Context()); !says("Metadata")(err) {
			t.Errorf("check says %v", err)
		}
		grant(t, k, kafkatest.User, closed, kadm.OpDescribe)
		denied.waitsFor(t, "the permission to read", says("Fetch"))
		live := follow(t, sources[0])
		o1 := put(t, client, open, sourcetest.Message{Data: []byte("beside")})
		live.reaches(t, o1+1)
		grant(t, k, kafkatest.User, closed, kadm.OpRead)
		denied.until(t, "Reading", func() bool {
			return slices.ContainsFunc(denied.changes, func(c bridge.Change) bool { return c.Kind == bridge.Reading })
		})
		o2 := put(t, client, closed, sourcetest.Message{Data: []byte("granted")})
		denied.reaches(t, o2+1)
		if r, err := sources[0].Check(t.Context()); err != nil || len(r.Warnings) != 1 {
			t.Errorf("check of the topic whose limits may not be read: %+v, %v; want one warning", r, err)
		}
	})
}

// An address where nobody listens is an answer that comes at once, and names it.
func TestNobodyListens(t *testing.T) {
	s := openSource(t, Options{Brokers: []string{"127.0.0.1:1"}}, SourceOptions{Topic: "x"})
	_, err := s.Bounds(context.WithoutCancel(t.Context()))
	if !errors.Is(err, bridge.ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("the error is %v", err)
	}
}

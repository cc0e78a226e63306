package nats

import (
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

func text(s string) Secret { return func() string { return s } }

// The client library panics on some settings and ignores others: whoever
// configures the bridge must be told, and told everything at once.
func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := account.Seed()
	url := []string{"nats://127.0.0.1:4222"}
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"no URL", Options{}, "no server URL"},
		{"a scheme of another broker", Options{URLs: []string{"kafka://x:1"}}, "scheme"},
		{"no host", Options{URLs: []string{"nats://:4222"}}, "no host"},
		{"control characters", Options{URLs: []string{"nats://ho\x7fst:4222"}}, "not a URL"},
		{"dots in the domain", Options{URLs: url, Domain: "a.b"}, "domain"},
		{"wildcard in the inbox", Options{URLs: url, InboxPrefix: "_IN.>"}, "inbox prefix"},
		{"dot at the inbox's end", Options{URLs: url, InboxPrefix: "_IN."}, "inbox prefix"},
		{"two ways to log in", Options{URLs: url, User: "u", Token: text("t")}, "several ways"},
		{"URL and token", Options{URLs: []string{"nats://u:p@127.0.0.1"}, Token: text("t")}, "several ways"},
		{"password alone", Options{URLs: url, Password: text("p")}, "without user"},
		{"certificate without key", Options{URLs: url, TLSCert: text("x")}, "certificate and key"},
		{"creds that are none", Options{URLs: url, Creds: text(secrettest.New("nats"))}, "creds"},
		{"nkey that is none", Options{URLs: url, Nkey: text(secrettest.New("nats"))}, "nkey"},
		{"nkey of an account", Options{URLs: url, Nkey: text(string(seed))}, "user"},
		{"CA that is none", Options{URLs: url, TLSCA: text(secrettest.New("nats"))}, "certificate authority"},
		{"key that is none", Options{URLs: url, TLSCert: text(secrettest.New("nats")), TLSKey: text(secrettest.New("nats"))}, "certificate"},
	} {
		_, err := NewCluster(c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error about %q", c.name, err, c.want)
		} else if secrettest.Hide(err.Error()) != err.Error() || strings.Contains(err.Error(), string(seed)) {
			t.Errorf("%s: the error tells the secret: %s", c.name, secrettest.Hide(err.Error()))
		}
	}
	_, err = NewCluster(Options{Domain: "a.b", InboxPrefix: ".."})
	for _, want := range []string{"no server URL", "domain", "inbox prefix"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of three problems %q is not told: %v", want, err)
		}
	}
}

func TestSourceOptionsThatCannotWorkAreRefused(t *testing.T) {
	c, err := NewCluster(Options{URLs: []string{"127.0.0.1:4222"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []SourceOptions{
		{},
		{Stream: "a.b"},
		{Stream: "a b"},
		{Stream: "a>"},
		{Stream: "S", Filter: []string{"a..b"}},
		{Stream: "S", Instance: "pod.1"},
		{Stream: "S", OnReset: "maybe"},
		{Stream: "S", Poll: -1},
	} {
		if _, err := NewSource(c, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if _, err := NewSource(c, SourceOptions{Stream: "S", Filter: []string{"a.*", "b.>"}, Instance: "pod-1", OnReset: "all"}); err != nil {
		t.Error(err)
	}
}

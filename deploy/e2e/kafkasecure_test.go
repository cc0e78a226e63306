package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
)

// grant lets users read a topic.
func grant(t *testing.T, admin *kadm.Client, topic string, users ...string) {
	t.Helper()
	got, err := admin.CreateACLs(t.Context(), kadm.NewACLs().Allow(users...).AllowHosts().Topics(topic).
		ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead, kadm.OpDescribe))
	for _, r := range got {
		if err == nil {
			err = r.Err
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Permissions come late, and passwords are changed while processes run. What is
// missing must be said by its name, must not hold up what is allowed, and must
// be mended without a restart, which would cost every client its connection. No
// password comes out meanwhile, whether it fits or not: see newBridge.
func TestKafkaPermissionsAndSecretsAreMendedWithoutARestart(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, kafkatest.Options{Secure: true})
	admin, client := cluster.Admin(t), cluster.Client(t)
	open, closed := cluster.Topic(t, 2, 1), cluster.Topic(t, 1, 1)
	grant(t, admin, open, "User:"+kafkatest.User, "User:CN=client")
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sec := cluster.Secure
	b := newBridge(t, "", "STREAMS=open=kafka:"+open+",closed=kafka:"+closed+",certified=kafka@mutual:"+open,
		"KAFKA_BROKERS="+strings.Join(sec.SASL, ","), "KAFKA_SASL_MECHANISM=SCRAM-SHA-512", "KAFKA_SASL_USERNAME="+kafkatest.User,
		"KAFKA_SASL_PASSWORD_FILE="+file("password", secrettest.New("wrong")+"\n"),
		"KAFKA_MUTUAL_BROKERS="+strings.Join(sec.TLS, ","), "KAFKA_MUTUAL_TLS=true",
		"KAFKA_MUTUAL_TLS_CA_FILE="+file("ca.pem", sec.CA), "KAFKA_MUTUAL_TLS_CERT_FILE="+file("cert.pem", sec.Cert), "KAFKA_MUTUAL_TLS_KEY="+sec.Key,
		"READY=listening", "LOG_LEVEL=debug")
	delete(b.env, "NATS_URL")
	b.Start()
	b.await("/readyz", 200)
	awaitStream := func(name, state, text string) {
		t.Helper()
		until(t, "stream "+name+" to be "+state+" with "+text, func() bool {
			a, err := get(t.Context(), b.Admin+"/streams", nil)
			var got struct {
				Streams []struct{ Name, State, LastError string }
			}
			if err != nil || json.Unmarshal([]byte(a.body), &got) != nil {
				return false
			}
			for _, s := range got.Streams {
				if s.Name == name {
					return s.State == state && strings.Contains(s.LastError, text)
				}
			}
			return false
		})
	}
	awaitStream("certified", "reading", "")
	awaitStream("open", "waiting", "login by SCRAM-SHA-512")

	file("password", kafkatest.Password+"\n")
	awaitStream("open", "reading", "")
	awaitStream("closed", "waiting", closed)
	reader := read(t, "", b.events("stream=open&stream=certified"))
	reader.awaitType("caught-up", 1)
	produce(t, client, numbered(open, 1, "both", 1, 1)...)
	reader.await("the record on both streams", func(h history) bool { return len(h.only("message")) == 2 })

	out, err := b.Check()
	if err == nil || !strings.Contains(out, "closed=kafka:"+closed+": failed") || !strings.Contains(out, "TOPIC_AUTHORIZATION_FAILED") ||
		!strings.Contains(out, "1 of 3 streams cannot be served") {
		t.Errorf("check: %v\n%s", err, out)
	}

	grant(t, admin, closed, "User:"+kafkatest.User)
	awaitStream("closed", "reading", closed)
	late := read(t, "", b.events("stream=closed"))
	late.awaitType("caught-up", 1)
	produce(t, client, numbered(closed, 0, "granted", 1, 1)...)
	late.awaitData("granted1")
	if n := reader.connections(); n != 1 {
		t.Errorf("the client connected %d times, want once", n)
	}
}

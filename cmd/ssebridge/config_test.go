package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// wantProblems reads a configuration and checks that exactly these problems are
// told; each of want is a part of one of them, in order.
func wantProblems(t *testing.T, want ...string) {
	t.Helper()
	_, problems := readConfig()
	if len(problems) != len(want) {
		t.Fatalf("got %d problems, want %d:\n%q", len(problems), len(want), problems)
	}
	for i, p := range problems {
		if !strings.Contains(string(p), want[i]) {
			t.Errorf("problem %d is %q, want it to say %q", i, p, want[i])
		}
	}
}

// An operator starts with three variables; everything else has a default that works.
func TestThreeVariablesAreEnough(t *testing.T) {
	setenv(t, minimal()...)
	c, problems := readConfig()
	if len(problems) != 0 {
		t.Fatalf("problems: %q", problems)
	}
	if c.Process.Heartbeat != 15*time.Second || c.Process.HTTPListen != ":8480" || c.Streams[0].OnReset != "since" {
		t.Errorf("defaults do not hold: %+v", c)
	}
}

// Mending a configuration one restart at a time is what makes people give up.
func TestEveryProblemIsToldAtOnce(t *testing.T) {
	setenv(t, "STREAMS=orders=nats:ORDERS, prices=nats-kv:PRICES\nx=y, trades=kafka:trades, bad=kafka:a/b", "AUTH=jwt", "HEARTBEAT=2h", "RETRY=soon", "DRAIN=",
		"MEMORY=1MiB", "MAX_CLIENTS=-1", "MAX_EVENT_BYTES=8 apples", "HTTP_LISTEN=8480", "HTTP_PATH=events/", "ON_RESET=maybe",
		"CORS_ORIGINS=*, https://ok.example, https://example.com/, http://localhost:*", "LOG_LEVEL=loud", "READY=never",
		"NATS_TOKEN=planted-secret", "NATS_USER=u", "NATS_TLS_CERT=pem", "NATS_DOMAIN=a.b", "NATS_INBOX_PREFIX=_INBOX.>",
		"STREAM_ORDERS_SUBJECT=orders.{nope}", "STREAM_ORDERS_EVENT=connected", "STREAM_ORDERS_FILTER=a.>,a.b", "STREAM_ORDERS_START=yesterday",
		"STREAM_ORDERS_FORMAT=xml", "KAFKA_BROKERS=kafka-1, kafka-2:9092", "KAFKA_TLS=maybe", "KAFKA_SASL_MECHANISM=GSSAPI", "KAFKA_ISOLATION=serializable", "STREAM_TRADES_FILTER=a", "STREAM_TRADES_SUBJECT=t.{subject.2}", "STREAM_ORDERS_ON_RESET=ask", "HEARTBEATS=15s", "STREAM_ORDRES_EVENT=x", "FLUX_CAPACITOR=1")
	out, code := invoke(t, "config")
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	golden(t, "problems", out)
}

// A list with one bad item must not make the variables of the others unknown.
func TestOneBadStreamAccusesNoOther(t *testing.T) {
	setenv(t, "STREAMS=orders=nats:ORDERS,prices=nats-core:prices", "NATS_URL=nats://h", "AUTH=none", "STREAM_ORDERS_EVENT=x", "STREAM_PRICES_FORMAT=envelope")
	wantProblems(t, "broker nats-core is not available in this version")
}

// envconfig skips the default of a variable that is set but empty, as compose
// files and charts like to set them: 0 s of heartbeat must not come of it.
func TestEmptyVariableIsNotItsDefault(t *testing.T) {
	setenv(t, minimal("HEARTBEAT=", "CORS_ORIGINS=", "NATS_CREDS=", "STREAM_ORDERS_SUBJECT=", "MEMORY=")...)
	wantProblems(t, "SSEBRIDGE_HEARTBEAT: is set but empty, which does not mean the default")
}

// Nothing is served by accident: who may read must be said.
func TestAuthMustBeSaid(t *testing.T) {
	setenv(t, "STREAMS=orders=nats:ORDERS", "NATS_URL=nats://h")
	wantProblems(t, "SSEBRIDGE_AUTH: is required: want none")
	for _, later := range []string{"jwt", "url"} {
		setenv(t, minimal("AUTH="+later)...)
		wantProblems(t, "is not available in this version")
	}
}

// A typo in a name would otherwise change nothing, silently.
func TestUnknownVariableNamesTheNearest(t *testing.T) {
	for name, near := range map[string]string{
		"HEARTBEATS":             "did you mean SSEBRIDGE_HEARTBEAT?",
		"HTTP_LISTN":             "did you mean SSEBRIDGE_HTTP_LISTEN?",
		"NATS_CREDS_FIEL":        "did you mean SSEBRIDGE_NATS_CREDS_FILE?",
		"STREAM_ORDRES_ON_RESET": "did you mean SSEBRIDGE_STREAM_ORDERS_ON_RESET?",
		"QUANTUM":                "unknown variable (ssebridge env lists all)",
	} {
		setenv(t, minimal(name+"=1")...)
		wantProblems(t, near)
	}
}

// Kubernetes sets variables for every Service of the namespace. One that is
// called ssebridge must not stop the start.
func TestKubernetesServiceVariablesAreIgnored(t *testing.T) {
	shapes := []string{
		"PORT=tcp://10.0.0.1:80", "PORT_80_TCP=tcp://10.0.0.1:80", "PORT_80_TCP_ADDR=10.0.0.1", "SERVICE_HOST=10.0.0.1", "SERVICE_PORT=80", "SERVICE_PORT_HTTP=80",
		"ADMIN_SERVICE_HOST=10.0.0.2", "ADMIN_SERVICE_PORT=81", "ADMIN_SERVICE_PORT_METRICS=81", "ADMIN_PORT=tcp://10.0.0.2:81", "ADMIN_PORT_81_TCP=tcp://10.0.0.2:81",
		"ADMIN_PORT_81_TCP_PROTO=tcp", "NATS_PORT_53_UDP_PORT=53",
	}
	setenv(t, minimal(shapes...)...)
	wantProblems(t)

	c, _ := readConfig()
	for _, s := range c.settings() {
		for _, name := range s.names() {
			if kubernetesShape.MatchString(name) {
				t.Errorf("%s has the shape of a variable that Kubernetes sets: a typo in it would not be found", name)
			}
		}
	}
}

// Two streams whose variables meet would quietly share their settings.
func TestNamesWhoseVariablesMeetAreRefused(t *testing.T) {
	for streams, want := range map[string]string{
		"a-b=nats:A,a_b=nats:B":                `stream "a-b" and "a_b"`,
		"orders=nats:A,orders_filter=nats:B":   `stream "orders" and "orders_filter"`,
		"orders-on-reset=nats:B,orders=nats:A": `stream "orders-on-reset" and "orders"`,
		"orders=nats:A,orders-read=nats:B":     `stream "orders" and "orders-read"`, // an option to come
	} {
		setenv(t, minimal("STREAMS="+streams)...)
		wantProblems(t, want)
	}
	setenv(t, minimal("STREAMS=orders=nats:A,orders-eu=nats:B,orders-event-log=nats:C")...)
	wantProblems(t)
}

// SSEBRIDGE_NATS_TLS_CA is the default cluster's CA, whatever clusters there are.
func TestClusterNamedLikeAnOptionIsRefused(t *testing.T) {
	for _, cluster := range []string{"tls", "creds", "inbox", "url", "nkey", "password-file"} {
		setenv(t, "STREAMS=a=nats@"+cluster+":A", "AUTH=none", "NATS_"+variable(cluster)+"_URL=nats://h")
		wantProblems(t, `begins the name of the option SSEBRIDGE_NATS_`)
	}
	for _, cluster := range []string{"tls", "sasl", "client", "brokers", "isolation", "sasl-password"} {
		setenv(t, "STREAMS=a=kafka@"+cluster+":a", "AUTH=none", "KAFKA_"+variable(cluster)+"_BROKERS=h:1")
		wantProblems(t, `begins the name of the option SSEBRIDGE_KAFKA_`)
	}
}

// A second cluster has a connection of its own and shares nothing with the first.
func TestClusterReadsItsOwnVariables(t *testing.T) {
	setenv(t, minimal("STREAMS=a=nats:A,b=nats@eu-1:B,c=nats@eu-1:C", "NATS_EU_1_URL=tls://eu:4222, tls://eu-2:4222", "NATS_EU_1_DOMAIN=leaf")...)
	c, problems := readConfig()
	if len(problems) != 0 {
		t.Fatalf("problems: %q", problems)
	}
	if len(c.NATS) != 2 || c.NATS[1].Domain != "leaf" || c.NATS[0].Domain != "" || !slices.Equal(c.NATS[1].URL, []string{"tls://eu:4222", "tls://eu-2:4222"}) {
		t.Errorf("clusters: %+v", c.NATS)
	}
}

// Brokers of different kinds may have clusters of one name.
func TestClustersOfDifferentBrokersAreApart(t *testing.T) {
	setenv(t, "AUTH=none", "STREAMS=a=kafka@eu:a,b=nats@eu:B,c=kafka:c,d=kafka@eu:d", "KAFKA_EU_BROKERS=eu-1:9092, eu-2:9092", "KAFKA_BROKERS=h:9092",
		"KAFKA_EU_ISOLATION=read_uncommitted", "NATS_EU_URL=nats://h")
	c, problems := readConfig()
	if len(problems) != 0 {
		t.Fatalf("problems: %q", problems)
	}
	if len(c.NATS) != 1 || len(c.Kafka) != 2 || !slices.Equal(c.Kafka[0].Brokers, []string{"eu-1:9092", "eu-2:9092"}) ||
		c.Kafka[0].Isolation != "read_uncommitted" || c.Kafka[1].Isolation != "read_committed" || c.Kafka[1].ClientID != "ssebridge" {
		t.Errorf("clusters: %+v %+v", c.NATS, c.Kafka)
	}
}

// A topic has keys and no subjects; clients choose by what its template makes.
func TestKafkaStreamsHaveTheKeyAsSubject(t *testing.T) {
	setenv(t, "AUTH=none", "STREAMS=a=kafka:a.v1,b=kafka:b", "KAFKA_BROKERS=h:9092", "STREAM_B_SUBJECT=b.{header.region}.{partition}")
	c, problems := readConfig()
	if len(problems) != 0 {
		t.Fatalf("problems: %q", problems)
	}
	for i, want := range []string{"{stream}.{key}", "b.{header.region}.{partition}"} {
		if got := c.Streams[i].Subject.String(); got != want {
			t.Errorf("subject of %s: %s, want %s", c.Streams[i].Mapping.Name, got, want)
		}
	}
	for _, template := range []string{"SUBJECT={subject}", "SUBJECT=x.{subject.2}", "EVENT={subject}"} {
		setenv(t, "AUTH=none", "STREAMS=a=kafka:a", "KAFKA_BROKERS=h:9092", "STREAM_A_"+template)
		wantProblems(t, "records of Kafka have no subject")
	}
	setenv(t, "AUTH=none", "STREAMS=a=kafka:a", "KAFKA_BROKERS=h:9092", "STREAM_A_FILTER=a.>")
	wantProblems(t, "SSEBRIDGE_STREAM_A_FILTER: is for NATS streams only")
}

// What cannot work together is told at the start, not as a broker's refusal.
func TestKafkaSettingsThatDoNotFitAreRefused(t *testing.T) {
	for want, env := range map[string][]string{
		"SSEBRIDGE_KAFKA_TLS: want true where there are certificates":              {"KAFKA_TLS_CA=pem"},
		"SSEBRIDGE_KAFKA_TLS_CERT and SSEBRIDGE_KAFKA_TLS_KEY: want both":          {"KAFKA_TLS=true", "KAFKA_TLS_KEY=planted-secret"},
		"SSEBRIDGE_KAFKA_*: client certificate and key":                            {"KAFKA_TLS=true", "KAFKA_TLS_KEY=planted-secret", "KAFKA_TLS_CERT=pem"},
		"SSEBRIDGE_KAFKA_SASL_MECHANISM: want PLAIN":                               {"KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=planted-secret"},
		"SSEBRIDGE_KAFKA_SASL_USERNAME and SSEBRIDGE_KAFKA_SASL_PASSWORD: want":    {"KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_SASL_PASSWORD=planted-secret"},
		`SSEBRIDGE_KAFKA_SASL_MECHANISM="plain": want PLAIN, SCRAM-SHA-256 or`:     {"KAFKA_SASL_MECHANISM=plain", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=planted-secret"},
		`SSEBRIDGE_KAFKA_BROKERS: "kafka://h:9092": want host:port`:                {"KAFKA_BROKERS=kafka://h:9092"},
		`SSEBRIDGE_KAFKA_TLS="yes": want true or false`:                            {"KAFKA_TLS=yes"},
		"SSEBRIDGE_KAFKA_TLS: is set but empty, which does not mean the default":   {"KAFKA_TLS="},
		"SSEBRIDGE_KAFKA_SASL_PASWORD: unknown variable, did you mean SSEBRIDGE_K": {"KAFKA_SASL_PASWORD=x"},
	} {
		setenv(t, append([]string{"AUTH=none", "STREAMS=a=kafka:a", "KAFKA_BROKERS=h:9092"}, env...)...)
		wantProblems(t, want)
		invoke(t, "config") // shows no secret
	}
}

// Event ids travel in a header; a configuration under which they would not fit
// must fail at the start and not at the first client.
func TestStreamsWhoseIDsMightNotFitAreRefused(t *testing.T) {
	var id bridge.ID
	streams := func(n int) string {
		var items []string
		id = nil
		for i := range n {
			name := fmt.Sprintf("stream-with-quite-a-long-name-%02d", i)
			items = append(items, name+"=nats:S")
			id = append(id, bridge.IDPart{Stream: name, Position: bridge.Position{
				Incarnation: 1<<32 - 1,
				Places:      []bridge.Place{{Offset: 1<<63 - 1, Proof: bridge.ProofOf(1 << 62)}},
			}})
		}
		return strings.Join(items, ",")
	}
	setenv(t, minimal("STREAMS="+streams(40), "MAX_ID_BYTES=2726")...)
	wantProblems(t)
	if got := len(id.String()); got != 2726 {
		t.Errorf("longest id has %d bytes, computed 2726", got)
	}
	setenv(t, minimal("STREAMS="+streams(40), "MAX_ID_BYTES=2725")...)
	wantProblems(t, "may take 2726 bytes")
}

// Secrets must not reach a log, an error or a listing by any of the ways in
// which Go prints values.
func TestSecretIsNeverPrinted(t *testing.T) {
	const text = secrettest.Marker
	s := struct{ Token Secret }{Secret{text: text}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%t"} {
		fmt.Fprintf(&out, verb+verb+verb, s, s.Token, &s.Token)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "a", s.Token, "b", s)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "a", s.Token, "b", s)
	if err := json.NewEncoder(&out).Encode(s); err != nil {
		t.Fatal(err)
	}
	secrettest.Check(t, "what was printed", out.String())
	if strings.Contains(out.String(), fmt.Sprintf("%x", text)) {
		t.Error("the secret is shown in hexadecimal")
	}
}

// The same for whole configurations, valid and not.
func TestSecretsOfAConfigurationAreNeverPrinted(t *testing.T) {
	const text = secrettest.Marker
	for _, env := range [][]string{
		{"NATS_PASSWORD=" + text, "NATS_USER=u"},
		{"NATS_TOKEN=" + text},
		{"NATS_URL=nats://u:" + text + "@h:4222,nats://" + text + "@h2"},
		{"NATS_URL=nats://u:" + text + "@h:42 22"},
		{"NATS_URL=http://u:" + text + "@h"},
		{"NATS_CREDS=" + text, "NATS_NKEY=" + text, "NATS_TLS_KEY=" + text},
		{"NATS_PASWORD=" + text},
	} {
		setenv(t, minimal(env...)...)
		invoke(t, "config") // looks for them
	}
}

// A rotated secret is used at the next connection, without a restart.
func TestSecretFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	setenv(t, minimal("NATS_USER=u", "NATS_PASSWORD_FILE="+path)...)
	c, problems := readConfig()
	if len(problems) != 0 {
		t.Fatalf("problems: %q", problems)
	}
	for _, want := range []string{"first", "second"} {
		write(want + "\n")
		if got, err := c.NATS[0].Password.Read(); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

// A secret that cannot be read is found at the start, by its name.
func TestSecretFileProblems(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	setenv(t, minimal("NATS_TOKEN_FILE=/no/such/file")...)
	wantProblems(t, "SSEBRIDGE_NATS_TOKEN_FILE: open /no/such/file")
	setenv(t, minimal("NATS_TOKEN_FILE="+empty)...)
	wantProblems(t, "is empty")
	setenv(t, minimal("NATS_TOKEN=x", "NATS_TOKEN_FILE="+empty)...)
	wantProblems(t, "SSEBRIDGE_NATS_TOKEN and SSEBRIDGE_NATS_TOKEN_FILE: want one of them")
}

// A token that no client can send would lock everybody out.
func TestAdminTokenMustBeSendable(t *testing.T) {
	setenv(t, minimal("ADMIN_TOKEN=planted-secret with blanks")...)
	wantProblems(t, "SSEBRIDGE_ADMIN_TOKEN: want letters")
	invoke(t, "config") // does not show it
	setenv(t, minimal("ADMIN_TOKEN=abc.DEF_123~+/-==")...)
	wantProblems(t)
}

// Two things at one path: the one that was asked for would hide the other.
func TestThePublicInspectorHasItsPath(t *testing.T) {
	for _, path := range []string{"/inspector", "/inspector/events"} {
		setenv(t, minimal("INSPECTOR=public", "HTTP_PATH="+path)...)
		wantProblems(t, `SSEBRIDGE_HTTP_PATH="`+path+`": is where SSEBRIDGE_INSPECTOR=public serves the inspector: want another`)
		setenv(t, minimal("HTTP_PATH="+path)...) // the admin listener has events at a path of its own
		wantProblems(t)
	}
	setenv(t, minimal("INSPECTOR=public", "HTTP_PATH=/inspectors")...)
	wantProblems(t)
	setenv(t, minimal("INSPECTOR=everywhere")...)
	wantProblems(t, `SSEBRIDGE_INSPECTOR="everywhere": want admin, public or off`)
}

// Every setting says what it does: the reference is made of it.
func TestEverySettingIsDescribed(t *testing.T) {
	for _, spec := range []any{&ProcessConfig{}, &NATSConfig{}, &KafkaConfig{}, &StreamConfig{}} {
		for _, s := range settingsOf("X", spec) {
			if s.tag.Get("desc") == "" {
				t.Errorf("%s has no description", s.name)
			}
			if s.tag.Get("envconfig") != "" {
				t.Errorf("%s names its variable: envconfig would also read it without the prefix", s.name)
			}
		}
	}
}

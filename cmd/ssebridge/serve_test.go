package main

import (
	"log/slog"
	"math"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/sink"
)

// A setting that is read, checked, documented, and then not handed on is worse
// than none.
func TestSettingsReachTheHandler(t *testing.T) {
	setenv(t, minimal("HTTP_PATH=/live/feed", "HEARTBEAT=7s", "RETRY=2s", "WRITE_TIMEOUT=11s", "MAX_AGE=1h", "MAX_CLIENTS=5", "MAX_CONNECTS_PER_SECOND=6",
		"MAX_PATTERNS=3", "MEMORY=256MiB", "COMPRESSION=gzip", "CORS_ORIGINS=https://app.example.com", "STREAM_ORDERS_FORMAT=envelope")...)
	otelEnv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_METRICS_EXPORTER=none")
	c, problems := readConfig()
	if len(problems) > 0 {
		t.Fatalf("problems: %q", problems)
	}
	log := slog.New(slog.DiscardHandler)
	tel, err := newTelemetry(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	defer tel.shutdown(t.Context(), log)
	s, err := newService(c, tel, log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.replay.Close()
	o := s.sinkOptions()
	// A field that is added to the options and not set here is noticed too.
	v := reflect.ValueOf(o)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("sink.Options.%s is not set", v.Type().Field(i).Name)
		}
	}
	if !o.Origins.Allows("https://app.example.com") || o.Origins.Allows("https://example.com") {
		t.Error("the origins are not those of the configuration")
	}
	o.Open, o.Logger, o.Tracer, o.Meter, o.Origins = nil, nil, nil, nil, sink.Origins{}
	want := sink.Options{
		Path: "/live/feed", Streams: []string{"orders"}, StreamFormats: map[string]string{"orders": "envelope"}, Heartbeat: 7 * time.Second,
		Retry: 2 * time.Second, WriteTimeout: 11 * time.Second, MaxAge: time.Hour, MaxClients: 5, MaxConnectsPerSecond: 6, MaxPatterns: 3,
		Codings: []sink.Coding{sink.Gzip}, CompressionBytes: 32 << 20,
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got  %+v\nwant %+v", o, want)
	}
}

// The same for what a cluster is reached by: a password that stays behind looks
// like a broker that refuses.
func TestKafkaSettingsReachTheCluster(t *testing.T) {
	setenv(t, "AUTH=none", "STREAMS=a=kafka@eu:a", "KAFKA_EU_BROKERS=h:9092", "KAFKA_EU_TLS=true", "KAFKA_EU_TLS_CA=ca", "KAFKA_EU_TLS_CERT=cert", "KAFKA_EU_TLS_KEY=key",
		"KAFKA_EU_SASL_MECHANISM=PLAIN", "KAFKA_EU_SASL_USERNAME=user", "KAFKA_EU_SASL_PASSWORD=password", "KAFKA_EU_CLIENT_ID=me", "KAFKA_EU_ISOLATION=read_uncommitted")
	c, _ := readConfig() // its certificates are none
	o := c.Kafka[0].options(slog.New(slog.DiscardHandler))
	v := reflect.ValueOf(o)
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && v.Field(i).IsZero() {
			t.Errorf("kafka.Options.%s is not set", f.Name)
		}
	}
	got := []string{o.TLSCA(), o.TLSCert(), o.TLSKey(), o.Password(), o.Username, o.Mechanism, o.ClientID, o.Isolation}
	if want := []string{"ca", "cert", "key", "password", "user", "PLAIN", "me", "read_uncommitted"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if o := (&KafkaConfig{}).options(slog.New(slog.DiscardHandler)); o.Password != nil || o.TLSCA != nil {
		t.Error("a secret that is not set is one")
	}
}

// The listener for operators is as open as its address: on one that others can
// reach, a token decides.
func TestSettingsReachTheAdminListener(t *testing.T) {
	setenv(t, minimal("STREAMS=orders=nats:ORDERS,prices=nats@eu:PRICES", "NATS_EU_URL=nats://h", "ADMIN_TOKEN=planted-secret")...)
	c, problems := readConfig()
	if len(problems) > 0 {
		t.Fatalf("problems: %q", problems)
	}
	s, err := newService(c, noTelemetry, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.replay.Close()
	for addr, loopback := range map[string]bool{"127.0.0.1": true, "::1": true, "0.0.0.0": false, "::": false, "10.0.0.1": false} {
		if o := s.adminOptions(&net.TCPAddr{IP: net.ParseIP(addr)}); o.Loopback != loopback {
			t.Errorf("%s: loopback %v, want %v", addr, o.Loopback, loopback)
		}
	}
	o := s.adminOptions(&net.TCPAddr{})
	if o.Token == nil || o.Token() != "planted-secret" {
		t.Error("the token is not that of the configuration")
	}
	if len(o.Streams) != 2 || o.Streams[1].Name() != "prices" || o.Streams[1].Broker != "nats@eu" || o.Streams[1].Upstream != "PRICES" {
		t.Errorf("streams: %+v", o.Streams)
	}
}

// The inspector is where it was asked for, and reads what clients read.
func TestSettingsReachTheInspector(t *testing.T) {
	for value, want := range map[string]bool{"admin": true, "public": true, "off": false} {
		setenv(t, minimal("INSPECTOR="+value, "HTTP_PATH=/live")...)
		c, problems := readConfig()
		if len(problems) > 0 {
			t.Fatalf("problems: %q", problems)
		}
		s, err := newService(c, noTelemetry, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		o := s.adminOptions(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if o.Inspector != want || o.Events != s.events || o.EventsPath != "/live" || o.Version == "" {
			t.Errorf("%s: inspector %v, events at %q, version %q", value, o.Inspector, o.EventsPath, o.Version)
		}
		s.replay.Close()
	}
}

// 0 means no limit to people, and the default to some parts.
func TestZeroIsNoLimit(t *testing.T) {
	if orUnlimited(0) != math.MaxInt || orUnlimited(3) != 3 {
		t.Errorf("got %d and %d", orUnlimited(0), orUnlimited(3))
	}
}

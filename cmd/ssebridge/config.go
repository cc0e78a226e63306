package main

import (
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/admin"
)

// Config is everything that the environment says.
type Config struct {
	Process ProcessConfig
	Streams []StreamConfig // in the order of SSEBRIDGE_STREAMS
	NATS    []NATSConfig   // the clusters that a stream names, in the same order
	Kafka   []KafkaConfig  // likewise
}

// ProcessConfig holds the settings of the process: SSEBRIDGE_*.
type ProcessConfig struct {
	Streams Mappings `split_words:"true" required:"true" desc:"what to follow, as name=nats:STREAM or name=kafka:topic, and name=nats@cluster:STREAM or name=kafka@cluster:topic for other clusters than the default ones; name is the public one, STREAM the JetStream stream's"`
	Auth    string   `split_words:"true" required:"true" choices:"none" later:"jwt|url" desc:"who may read; none lets everybody who reaches the listener read everything"`

	HTTPListen  Address `split_words:"true" default:":8480" desc:"address that clients connect to; port 0 takes a free one, which the log tells"`
	HTTPPath    Path    `split_words:"true" default:"/events" desc:"path of the events; path/{stream} is short for one stream"`
	AdminListen Address `split_words:"true" default:"127.0.0.1:8481" desc:"address of the admin listener: probes, and for operators /streams, /clients, /drain and profiles, which /openapi.json describes"`
	AdminToken  Secret  `split_words:"true" desc:"bearer token for everything but probes and metrics on the admin listener; not set: that is answered only on a loopback address, to requests with a loopback Host"`
	Inspector   string  `split_words:"true" default:"admin" choices:"admin|public|off" desc:"where the inspector is served, a page to look at streams with, at /inspector/: admin (the admin listener only), public (the clients' listener too, to everybody who reaches it), or off"`
	Ready       string  `split_words:"true" default:"listening" choices:"listening|sources" desc:"when /readyz says so: listening, or sources for when each stream that is read always has been read once"`

	Heartbeat    time.Duration `split_words:"true" default:"15s" min:"1s" max:"5m" desc:"longest silence on a connection; a comment line breaks it"`
	Retry        time.Duration `split_words:"true" default:"3s" min:"100ms" max:"5m" desc:"how long clients wait before they reconnect (the retry field), jittered"`
	WriteTimeout time.Duration `split_words:"true" default:"30s" min:"1s" max:"10m" desc:"a connection that takes no byte for so long is closed"`
	Drain        time.Duration `split_words:"true" default:"20s" min:"100ms" max:"1h" zero:"at once" desc:"time over which clients are told to go at the end; keep it below Kubernetes' terminationGracePeriodSeconds"`
	MaxAge       time.Duration `split_words:"true" default:"0" min:"1s" zero:"no limit" desc:"age at which a connection is ended cleanly and resumes elsewhere, jittered"`

	Memory        Size `split_words:"true" min:"32MiB" zero:"derived" desc:"memory for what is kept for clients: live events, older records, filters, compressors, and what clients in catch-up are being given; derived: half of GOMEMLIMIT or of the cgroup's limit, 256MiB without either. Without GOMEMLIMIT the heap's limit (GOMEMLIMIT) becomes four fifths of the cgroup's"`
	MaxEventBytes Size `split_words:"true" default:"8MiB" min:"1KiB" max:"64MiB" desc:"larger records are told as a gap with reason oversized"`
	MaxIDBytes    Size `split_words:"true" default:"4096" min:"128" max:"4096" desc:"longest event id that clients may be given, in bytes: more streams than fit are refused at the start, more partitions than fit when a client asks for them (400 id-too-long)"`

	MaxClients           int `split_words:"true" default:"0" min:"1" zero:"derived from the limit on open files" desc:"connections at once; more are told to come back"`
	MaxConnectsPerSecond int `split_words:"true" default:"1000" min:"1" zero:"no limit" desc:"new connections a second; more are told to come back"`
	MaxPatterns          int `split_words:"true" default:"32" min:"1" zero:"no limit" desc:"subject parameters of a request"`
	MaxFeeds             int `split_words:"true" default:"64" min:"1" zero:"no limit" desc:"combinations of streams and formats that are kept at once"`
	MaxFilters           int `split_words:"true" default:"20000" min:"1" zero:"no limit" desc:"distinct filters that are kept at once"`

	Compression Compression `split_words:"true" default:"off" desc:"content codings that clients are offered in Accept-Encoding: off, gzip, zstd, or both as gzip,zstd, where zstd goes first. Clients with the same filter, from four on, share one compressor within SSEBRIDGE_MEMORY; others get the coding without a gain. Requests with an Authorization header get none"`

	OnReset     string  `split_words:"true" default:"since" choices:"since|all|new|fail" desc:"where to go on when a position cannot be honoured: after the last record known to be read, at the oldest, at the newest, or not at all (410)"`
	CORSOrigins Origins `split_words:"true" desc:"origins of pages that may read, as https://app.example.com; the only wildcard is a port, as in http://localhost:*"`

	TraceDeliveries int `split_words:"true" default:"16" min:"1" zero:"none" desc:"how many deliveries of one record get a span, if its producer was sampled and spans are exported (OTEL_EXPORTER_OTLP_ENDPOINT and the other OTEL_* variables); the others are counted"`

	LogLevel  string `split_words:"true" default:"info" choices:"debug|info|warn|error" desc:"least severe level that is logged; info tells changes of state, not traffic"`
	LogFormat string `split_words:"true" default:"json" choices:"json|text" desc:"form of the log on standard error"`
}

// NATSConfig holds the settings of one NATS cluster: SSEBRIDGE_NATS_* for the
// default one, SSEBRIDGE_NATS_EU_* for nats@eu.
type NATSConfig struct {
	Cluster string `ignored:"true"` // "" for the default one

	URL         Servers `split_words:"true" required:"true" desc:"servers of the cluster; user and password, or a token, may be part of a URL"`
	Creds       Secret  `split_words:"true" desc:"credentials as nsc writes them (user JWT and nkey seed)"`
	Nkey        Secret  `split_words:"true" desc:"nkey seed of the user"`
	User        string  `split_words:"true" desc:"user name"`
	Password    Secret  `split_words:"true" desc:"password of the user"`
	Token       Secret  `split_words:"true" desc:"authorization token"`
	TLSCa       Secret  `split_words:"true" desc:"certificates of the authorities that sign the servers', PEM; not set: the system's"`
	TLSCert     Secret  `split_words:"true" desc:"client certificate, PEM"`
	TLSKey      Secret  `split_words:"true" desc:"key of the client certificate, PEM"`
	Domain      string  `split_words:"true" desc:"JetStream domain; not set: that of the server connected to"`
	InboxPrefix string  `split_words:"true" desc:"subject prefix of answers, where permissions ask for one (custom inbox prefix); not set: _INBOX"`
}

// KafkaConfig holds the settings of one Kafka cluster: SSEBRIDGE_KAFKA_* for the
// default one, SSEBRIDGE_KAFKA_EU_* for kafka@eu.
type KafkaConfig struct {
	Cluster string `ignored:"true"` // "" for the default one

	Brokers       Brokers `split_words:"true" required:"true" desc:"addresses to begin with, host:port each; the other brokers are learned from them (bootstrap.servers)"`
	TLS           bool    `split_words:"true" default:"false" desc:"connect by TLS (security.protocol SSL or SASL_SSL); true or false"`
	TLSCa         Secret  `split_words:"true" desc:"certificates of the authorities that sign the brokers', PEM; not set: the system's"`
	TLSCert       Secret  `split_words:"true" desc:"client certificate, PEM"`
	TLSKey        Secret  `split_words:"true" desc:"key of the client certificate, PEM"`
	SASLMechanism string  `split_words:"true" choices:"PLAIN|SCRAM-SHA-256|SCRAM-SHA-512" desc:"how to log in (sasl.mechanism); not set: not at all"`
	SASLUsername  string  `split_words:"true" desc:"user name of the login"`
	SASLPassword  Secret  `split_words:"true" desc:"password of the login"`
	ClientID      string  `split_words:"true" default:"ssebridge" desc:"name that brokers log and count quotas by (client.id)"`
	Isolation     string  `split_words:"true" default:"read_committed" choices:"read_committed|read_uncommitted" desc:"what is shown of transactions (isolation.level): only what was committed, and nothing behind an open one; or everything at once, aborted records too"`
}

// StreamConfig holds the settings of one stream: SSEBRIDGE_STREAM_<NAME>_*.
type StreamConfig struct {
	Mapping Mapping `ignored:"true"`

	Subject SubjectTemplate `split_words:"true" desc:"template of the public subject; not set: {subject}, the record's own, for NATS, and {stream}.{key} for Kafka; {subject.2} (NATS), {key}, {topic}, {partition} (Kafka), {header.NAME}, {json.path} and {stream} are one token each"`
	Filter  Patterns        `split_words:"true" desc:"NATS only: upstream subjects to read (the consumer's filter_subjects); records outside are not seen at all, and losses between them are not told; not set: all"`
	Event   NameTemplate    `split_words:"true" desc:"template of the event name; not set: none, so that pages get plain messages"`
	Format  string          `split_words:"true" default:"data" choices:"data|envelope|base64" desc:"form of events for clients that ask for none: the payload, a JSON object around it, or the payload in base64"`
	Start   StartSetting    `split_words:"true" default:"new" desc:"where clients without an event id begin: new, all, a time as in RFC 3339, or a duration back from now"`
	OnReset string          `split_words:"true" choices:"since|all|new|fail" desc:"as SSEBRIDGE_ON_RESET, for this stream; not set: the same"`
	Read    string          `split_words:"true" default:"always" choices:"always|on-demand" desc:"when the broker is read: always, or on-demand for only while somebody follows the stream or waits for it, and a minute longer; on-demand, the first to come after that waits until reading has begun"`
}

// readOnDemand is the value of SSEBRIDGE_STREAM_<NAME>_READ that changes something.
const readOnDemand = "on-demand"

// Values of SSEBRIDGE_INSPECTOR that change something; the third is admin.
const (
	inspectorPublic = "public"
	inspectorOff    = "off"
)

// variable returns a name as it appears in variables.
func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

func (c StreamConfig) prefix() string { return prefix + "_STREAM_" + variable(c.Mapping.Name) }

func (c NATSConfig) prefix() string {
	if c.Cluster == "" {
		return prefix + "_NATS"
	}
	return prefix + "_NATS_" + variable(c.Cluster)
}

func (c KafkaConfig) prefix() string {
	if c.Cluster == "" {
		return prefix + "_KAFKA"
	}
	return prefix + "_KAFKA_" + variable(c.Cluster)
}

// readConfig reads the environment and returns all problems it finds.
func readConfig() (*Config, []problem) {
	c := new(Config)
	problems := readSettings(prefix, &c.Process)
	named := !slices.ContainsFunc(problems, func(p problem) bool { return strings.HasPrefix(string(p), prefix+"_STREAMS:") })
	c.name()
	problems = append(problems, c.clashes()...)
	for i := range c.NATS {
		problems = append(problems, readSettings(c.NATS[i].prefix(), &c.NATS[i])...)
		problems = append(problems, c.NATS[i].validate()...)
	}
	for i := range c.Kafka {
		k := &c.Kafka[i]
		found := append(readSettings(k.prefix(), k), k.validate()...)
		if len(found) == 0 { // the source knows more: whether keys and certificates can be read
			o := k.options(slog.New(slog.DiscardHandler))
			found = problemsOf(k.prefix()+"_*", o.Validate())
		}
		problems = append(problems, found...)
	}
	for i := range c.Streams {
		problems = append(problems, readSettings(c.Streams[i].prefix(), &c.Streams[i])...)
		problems = append(problems, c.Streams[i].validate()...)
		c.Streams[i].fill(&c.Process)
	}
	problems = append(problems, c.Process.validate()...)
	return c, append(problems, c.unknown(named)...)
}

// name enters the streams and clusters that SSEBRIDGE_STREAMS names.
func (c *Config) name() {
	known := map[string]bool{}
	for _, m := range c.Process.Streams {
		c.Streams = append(c.Streams, StreamConfig{Mapping: m})
		if known[m.broker()] {
			continue
		}
		known[m.broker()] = true
		switch m.Broker {
		case brokerNATS:
			c.NATS = append(c.NATS, NATSConfig{Cluster: m.Cluster})
		case brokerKafka:
			c.Kafka = append(c.Kafka, KafkaConfig{Cluster: m.Cluster})
		}
	}
}

// settings lists every setting, in the order in which they are shown.
func (c *Config) settings() []setting {
	list := settingsOf(prefix, &c.Process)
	for i := range c.NATS {
		list = append(list, settingsOf(c.NATS[i].prefix(), &c.NATS[i])...)
	}
	for i := range c.Kafka {
		list = append(list, settingsOf(c.Kafka[i].prefix(), &c.Kafka[i])...)
	}
	for i := range c.Streams {
		list = append(list, settingsOf(c.Streams[i].prefix(), &c.Streams[i])...)
	}
	return list
}

// idPartBytes is the longest part of an event id for a stream of one partition,
// besides the name: "~", ".", incarnation (32 bits in base36), ".", offset (63
// bits), "=", proof (at most 2^62). How many partitions a Kafka topic has is not
// known here; ids that get too long by them are refused to clients.
const idPartBytes = 1 + 1 + 7 + 1 + 13 + 1 + 12

// bearerShape is what clients can send as a bearer token (RFC 6750, section 2.1).
var bearerShape = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// idFrameBytes is what an event id has besides its parts: version, ".", check.
const idFrameBytes = 1 + 1 + 4

func (c *ProcessConfig) validate() []problem {
	var problems []problem
	longest := idFrameBytes
	for _, m := range c.Streams {
		longest += len(m.Name) + idPartBytes
	}
	if longest > int(c.MaxIDBytes) && c.MaxIDBytes > 0 {
		problems = append(problems, problemf(
			"SSEBRIDGE_MAX_ID_BYTES=%d: an event id over all %d streams may take %d bytes: want fewer streams, shorter names or a larger limit",
			c.MaxIDBytes, len(c.Streams), longest))
	}
	if c.HTTPListen == c.AdminListen && c.HTTPListen != "" && !strings.HasSuffix(string(c.HTTPListen), ":0") {
		problems = append(problems, problemf("SSEBRIDGE_ADMIN_LISTEN=%q: is SSEBRIDGE_HTTP_LISTEN too: want another address", c.AdminListen))
	}
	if token, err := c.AdminToken.Read(); err == nil && token != "" && !bearerShape.MatchString(token) {
		problems = append(problems, problemf("SSEBRIDGE_ADMIN_TOKEN: want letters, digits and - . _ ~ + /, with = only at the end, as bearer tokens are"))
	}
	if c.Inspector == inspectorPublic && admin.InspectorClaims(string(c.HTTPPath)) {
		problems = append(problems, problemf("SSEBRIDGE_HTTP_PATH=%q: is where SSEBRIDGE_INSPECTOR=public serves the inspector: want another", c.HTTPPath))
	}
	switch c.HTTPPath {
	case "/livez", "/readyz", "/startupz":
		problems = append(problems, problemf("SSEBRIDGE_HTTP_PATH=%q: is the path of a probe: want another", c.HTTPPath))
	}
	return problems
}

func (c *NATSConfig) validate() []problem {
	var problems []problem
	p := c.prefix()
	if text := c.URL.check(); text != "" {
		problems = append(problems, problemf("%s_URL: %s", p, text))
	}
	var ways []string
	for _, way := range []struct {
		name string
		set  bool
	}{
		{"CREDS", c.Creds.IsSet()},
		{"NKEY", c.Nkey.IsSet()},
		{"PASSWORD", c.Password.IsSet()},
		{"TOKEN", c.Token.IsSet()},
	} {
		if way.set {
			ways = append(ways, p+"_"+way.name)
		}
	}
	if len(ways) > 1 {
		problems = append(problems, problemf("%s: want one way to authenticate", strings.Join(ways, " and ")))
	}
	if (c.User != "") != c.Password.IsSet() {
		problems = append(problems, problemf("%s_USER and %s_PASSWORD: want both or neither", p, p))
	}
	if c.TLSCert.IsSet() != c.TLSKey.IsSet() {
		problems = append(problems, problemf("%s_TLS_CERT and %s_TLS_KEY: want both or neither", p, p))
	}
	if strings.ContainsAny(c.Domain, " \t.*>") {
		problems = append(problems, problemf("%s_DOMAIN=%q: want one token, without blanks and . * >", p, c.Domain))
	}
	if c.InboxPrefix != "" {
		if pt, err := bridge.ParsePattern(c.InboxPrefix); err != nil || strings.ContainsAny(string(pt), "*>") {
			problems = append(problems, problemf("%s_INBOX_PREFIX=%q: want a subject such as _INBOX_ssebridge, without wildcards", p, c.InboxPrefix))
		}
	}
	if len(problems) > 0 {
		return problems
	}
	// The source knows more: whether creds, keys and certificates can be read.
	o := c.options(slog.New(slog.DiscardHandler))
	if len(c.URL) > 0 {
		problems = append(problems, problemsOf(p+"_*", o.Validate())...)
	}
	return problems
}

func (c *KafkaConfig) validate() []problem {
	var problems []problem
	p := c.prefix()
	if c.TLSCert.IsSet() != c.TLSKey.IsSet() {
		problems = append(problems, problemf("%s_TLS_CERT and %s_TLS_KEY: want both or neither", p, p))
	}
	if !c.TLS && (c.TLSCa.IsSet() || c.TLSCert.IsSet() || c.TLSKey.IsSet()) {
		problems = append(problems, problemf("%s_TLS: want true where there are certificates", p))
	}
	login := c.SASLUsername != "" || c.SASLPassword.IsSet()
	switch {
	case login && c.SASLMechanism == "":
		problems = append(problems, problemf("%s_SASL_MECHANISM: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 where there is a user name or a password", p))
	case c.SASLMechanism != "" && (c.SASLUsername == "" || !c.SASLPassword.IsSet()):
		problems = append(problems, problemf("%s_SASL_USERNAME and %s_SASL_PASSWORD: want both with a mechanism", p, p))
	}
	return problems
}

// fill sets what a stream has of the process or of its kind of broker, unless it
// has its own.
func (c *StreamConfig) fill(p *ProcessConfig) {
	if c.OnReset == "" {
		c.OnReset = p.OnReset
	}
	if c.Mapping.Broker == brokerKafka && c.Subject.Template == nil {
		if err := c.Subject.Decode("{stream}.{key}"); err != nil {
			panic(err) // it is constant
		}
	}
}

func (c *StreamConfig) validate() []problem {
	if c.Mapping.Broker == brokerKafka {
		return c.validateKafka()
	}
	// Two overlapping filters of one consumer are refused by the broker (error
	// 10138, "subject filters cannot overlap").
	var problems []problem
	for i, a := range c.Filter {
		for _, b := range c.Filter[:i] {
			if bridge.Pattern(a).Overlaps(bridge.Pattern(b)) {
				problems = append(problems, problemf("%s_FILTER: %q and %q overlap: want patterns that no subject matches twice", c.prefix(), b, a))
			}
		}
	}
	return problems
}

func (c *StreamConfig) validateKafka() []problem {
	var problems []problem
	if len(c.Filter) > 0 {
		problems = append(problems, problemf("%s_FILTER: is for NATS streams only: a Kafka topic is read whole, and clients choose by subject", c.prefix()))
	}
	for _, t := range []struct{ name, text string }{{"SUBJECT", c.Subject.String()}, {"EVENT", c.Event.String()}} {
		if strings.Contains(t.text, "{subject") {
			problems = append(problems, problemf("%s_%s=%q: records of Kafka have no subject: want {key}, {topic}, {partition}, {header.NAME} or {json.PATH}", c.prefix(), t.name, t.text))
		}
	}
	return problems
}

package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink"
)

// splitList splits a list at commas and new lines, trims its items and leaves
// out the empty ones.
func splitList(text string) []string {
	var items []string
	for item := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// Size is a number of bytes.
type Size int64

// sizeUnits are the units a size may have, largest first within each family.
var sizeUnits = [...]struct {
	suffix string
	bytes  int64
}{
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

func parseSize(text string) (Size, error) {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q: want a size such as 64MiB, 8MB or a number of bytes", text)
	}
	return Size(n * unit), nil
}

// Decode reads plain bytes or a number with a unit, such as 64MiB or 8MB.
func (s *Size) Decode(text string) (err error) {
	*s, err = parseSize(text)
	return err
}

// Want says what a size looks like.
func (s *Size) Want() string { return "a size such as 64MiB" }

// String writes the size in the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits[:3] {
		if n := int64(s); n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Address is where a listener listens: host:port, with an empty host for all
// interfaces and port 0 for any free one.
type Address string

// Decode reads host:port.
func (a *Address) Decode(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q: want %s", text, a.Want())
	}
	*a = Address(text)
	return nil
}

// Want says what an address looks like.
func (a *Address) Want() string { return "an address such as :8480 or 127.0.0.1:8481" }

// Path is the path of a URL, without a slash at its end.
type Path string

// pathShape leaves out what would need escaping, and what a request router
// would take for a wildcard.
var pathShape = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// Decode reads a path such as /events.
func (p *Path) Decode(text string) error {
	if !pathShape.MatchString(text) {
		return fmt.Errorf("%q: want %s", text, p.Want())
	}
	*p = Path(text)
	return nil
}

// Want says what a path looks like.
func (p *Path) Want() string {
	return "a path such as /events: letters, digits and - . _ ~ between slashes, none at the end"
}

// The kinds of brokers.
const (
	brokerNATS  = "nats"
	brokerKafka = "kafka"
)

// Mapping maps a stream's configured name to what it follows.
type Mapping struct {
	Name     string // of the stream
	Broker   string // brokerNATS or brokerKafka
	Cluster  string // "" for the default one
	Upstream string // the broker's own name of it
}

func (m Mapping) String() string { return m.Name + "=" + m.broker() + ":" + m.Upstream }

// broker returns the kind of the broker, with the cluster unless it is the
// default one.
func (m Mapping) broker() string {
	if m.Cluster == "" {
		return m.Broker
	}
	return m.Broker + "@" + m.Cluster
}

// Mappings is the list of streams.
type Mappings []Mapping

// maxNameBytes bounds the name of a stream or cluster. Names are part of every
// event id, which has to fit into a header.
const maxNameBytes = 64

var (
	nameShape   = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)
	streamShape = regexp.MustCompile(`^[^\s.*>/\\]{1,255}$`)    // what nats-server accepts as a stream name
	topicShape  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`) // what Kafka accepts (org.apache.kafka.common.internals.Topic)
)

// Decode reads items such as orders=kafka:orders.v1 or prices=nats@eu:PRICES.
func (m *Mappings) Decode(text string) error {
	var errs []error
	taken := map[string]bool{}
	for _, item := range splitList(text) {
		one, err := parseMapping(item)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%q: %w", item, err))
		case taken[one.Name]:
			errs = append(errs, fmt.Errorf("%q: there is a stream called %s already", item, one.Name))
		default:
			taken[one.Name] = true
			*m = append(*m, one)
		}
	}
	if len(*m) == 0 && errs == nil {
		errs = append(errs, errors.New("want "+m.Want()))
	}
	return errors.Join(errs...)
}

// Want says what the list looks like.
func (m *Mappings) Want() string { return "a list such as orders=kafka:orders.v1,prices=nats:PRICES" }

func (m Mappings) String() string {
	items := make([]string, len(m))
	for i := range m {
		items[i] = m[i].String()
	}
	return strings.Join(items, ",")
}

func parseMapping(item string) (Mapping, error) {
	name, rest, ok := strings.Cut(item, "=")
	broker, upstream, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return Mapping{}, errors.New("want name=nats:STREAM or name=kafka:topic")
	}
	broker, cluster, named := strings.Cut(strings.TrimSpace(broker), "@")
	m := Mapping{strings.TrimSpace(name), broker, cluster, strings.TrimSpace(upstream)}
	switch broker {
	case brokerNATS, brokerKafka:
	case "nats-kv", "nats-core":
		return Mapping{}, fmt.Errorf("broker %s is not available in this version: want nats or kafka", broker)
	default:
		return Mapping{}, fmt.Errorf("unknown broker %q: want nats or kafka", broker)
	}
	switch {
	case !validName(m.Name):
		return Mapping{}, fmt.Errorf("stream name %q: want %s", m.Name, wantName)
	case named && !validName(cluster):
		return Mapping{}, fmt.Errorf("cluster name %q: want %s", cluster, wantName)
	case broker == brokerKafka && (!topicShape.MatchString(m.Upstream) || m.Upstream == "." || m.Upstream == ".."):
		return Mapping{}, fmt.Errorf("topic %q: want its name, at most 249 letters, digits, dots, - and _", m.Upstream)
	case broker == brokerNATS && !streamShape.MatchString(m.Upstream):
		return Mapping{}, fmt.Errorf("JetStream stream %q: want its name, without blanks and . * > / \\", m.Upstream)
	}
	return m, nil
}

const wantName = "a lower-case letter, then letters, digits, - and _, at most 64 in all"

func validName(name string) bool { return len(name) <= maxNameBytes && nameShape.MatchString(name) }

// Patterns is a list of subject patterns.
type Patterns []string

// Decode reads patterns such as orders.eu.>, orders.us.*.
func (p *Patterns) Decode(text string) error {
	var errs []error
	*p = splitList(text)
	for _, item := range *p {
		if _, err := bridge.ParsePattern(item); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (p Patterns) String() string { return strings.Join(p, ",") }

// SubjectTemplate makes the public subject of a record; nil: the stream's own.
type SubjectTemplate struct{ *bridge.Template }

// Decode reads a template such as orders.{header.region}.{subject.2}.
func (t *SubjectTemplate) Decode(text string) (err error) {
	t.Template, err = bridge.ParseSubjectTemplate(text)
	return err
}

func (t SubjectTemplate) String() string { return templateText(t.Template) }

// NameTemplate makes the event name of a record; nil: none.
type NameTemplate struct{ *bridge.Template }

// Decode reads a template such as {header.type}.
func (t *NameTemplate) Decode(text string) (err error) {
	t.Template, err = bridge.ParseNameTemplate(text)
	return err
}

func (t NameTemplate) String() string { return templateText(t.Template) }

func templateText(t *bridge.Template) string {
	if t == nil {
		return ""
	}
	return t.String()
}

// StartSetting is where clients of a stream begin that bring no event id.
type StartSetting struct {
	bridge.Start
	Back time.Duration // if positive, instead of Start: so long before they connect
}

// Decode reads new, all, a time as in RFC 3339, or a duration.
func (s *StartSetting) Decode(text string) error {
	*s = StartSetting{}
	switch text {
	case "new":
		return nil
	case "all":
		s.Kind = bridge.StartAll
		return nil
	}
	if back, err := time.ParseDuration(text); err == nil && back > 0 {
		s.Back = back
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%q: want %s", text, s.Want())
	}
	s.Start = bridge.Start{Kind: bridge.StartAt, At: at}
	return nil
}

// Want says which starts there are.
func (s *StartSetting) Want() string {
	return "new, all, a time such as 2026-01-31T00:00:00Z, or a duration back from now such as 15m"
}

func (s StartSetting) String() string {
	switch {
	case s.Back > 0:
		return formatDuration(s.Back)
	case s.Kind == bridge.StartAll:
		return "all"
	case s.Kind == bridge.StartAt:
		return s.At.Format(time.RFC3339)
	}
	return "new"
}

// Brokers is a list of addresses, host:port each.
type Brokers []string

// Decode reads addresses such as kafka-1:9092,kafka-2:9092.
func (b *Brokers) Decode(text string) error {
	var errs []error
	for _, item := range splitList(text) {
		host, port, err := net.SplitHostPort(item)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		at := strings.LastIndexByte(item, '@')
		switch {
		case at >= 0: // a password may stand before it
			errs = append(errs, fmt.Errorf("address before %q: want host:port, such as kafka-1:9092, and a login in KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD", item[at:]))
			continue
		case err != nil || host == "":
			errs = append(errs, fmt.Errorf("%q: want host:port, such as kafka-1:9092", item))
			continue
		}
		*b = append(*b, item)
	}
	if len(*b) == 0 && errs == nil {
		errs = append(errs, errors.New("want "+b.Want()))
	}
	return errors.Join(errs...)
}

// Want says what the list looks like.
func (b *Brokers) Want() string { return "a list of addresses such as kafka-1:9092,kafka-2:9092" }

func (b Brokers) String() string { return strings.Join(b, ",") }

// Servers is a list of URLs that may carry credentials. Like [Secret] it is
// decoded without errors and shown without what is secret.
type Servers []string

// serverSchemes are the schemes that nats.go dials.
var serverSchemes = map[string]bool{"nats": true, "tls": true, "ws": true, "wss": true}

// Decode takes the list as it is; check tells what is wrong with it.
func (s *Servers) Decode(text string) error {
	*s = splitList(text)
	return nil
}

// Want says what the list looks like.
func (s *Servers) Want() string {
	return "a list of URLs such as nats://nats-1:4222,nats://nats-2:4222"
}

// parseServer reads one address. Like nats.go it takes nats:// for granted.
func parseServer(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	return url.Parse(text)
}

// check returns what is wrong with the list, without quoting it.
func (s Servers) check() string {
	for i, text := range s {
		if u, err := parseServer(text); err != nil || !serverSchemes[u.Scheme] || u.Hostname() == "" {
			return fmt.Sprintf("item %d: want a URL with nats://, tls://, ws:// or wss:// and a host", i+1)
		}
	}
	return ""
}

func (s Servers) String() string {
	items := make([]string, len(s))
	for i, text := range s {
		u, err := parseServer(text)
		if err != nil {
			items[i] = redacted
			continue
		}
		if u.User != nil { // user:password, or a token alone
			u.User = url.User("redacted")
		}
		items[i] = u.String()
	}
	return strings.Join(items, ",")
}

// formatDuration writes a duration without the zero units at its end: 5m, not 5m0s.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Origins are the web origins whose pages may read responses.
type Origins struct {
	sink.Origins
	texts []string
}

// Decode reads origins such as https://app.example.com or http://localhost:*.
func (o *Origins) Decode(text string) (err error) {
	o.texts = splitList(text)
	o.Origins, err = sink.ParseOrigins(o.texts)
	return err
}

func (o Origins) String() string { return strings.Join(o.texts, ",") }

// Compression are the content codings that are offered, none for off.
type Compression []sink.Coding

// Decode reads off, or codings such as gzip, zstd.
func (c *Compression) Decode(text string) error {
	*c = nil
	items := splitList(text)
	if len(items) == 1 && items[0] == "off" {
		return nil
	}
	for _, coding := range []sink.Coding{sink.Zstd, sink.Gzip} { // what a client likes as much as the other
		if slices.Contains(items, string(coding)) {
			*c = append(*c, coding)
		}
	}
	if len(items) == 0 || len(items) != len(*c) {
		return fmt.Errorf("%.40q: want off, gzip, zstd, or gzip,zstd", text)
	}
	return nil
}

func (c Compression) String() string {
	if len(c) == 0 {
		return "off"
	}
	names := make([]string, len(c))
	for i, coding := range c {
		names[i] = string(coding)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

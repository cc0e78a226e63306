package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/kafka"
	"github.com/ssebridge/ssebridge/sources/nats"
)

// upstream is what the configured streams are read from.
type upstream struct {
	clusters []runner
	streams  []*bridge.Stream // in the order of the configuration
}

// runner is a cluster, whose connections last as long as Run.
type runner interface {
	Run(ctx context.Context) error
}

// openUpstream makes the clusters and streams of c. Nothing is connected yet.
// Spans go to tracer, if it is not nil.
func openUpstream(c *Config, tracer trace.Tracer, log *slog.Logger) (*upstream, error) {
	u := new(upstream)
	byName := map[string]*nats.Cluster{}
	for i := range c.NATS {
		n := &c.NATS[i]
		cluster, err := nats.NewCluster(n.options(log))
		if err != nil {
			return nil, fmt.Errorf("%s_*: %w", n.prefix(), err)
		}
		u.clusters = append(u.clusters, cluster)
		byName[n.Cluster] = cluster
	}
	kafkaByName := map[string]*kafka.Cluster{}
	for i := range c.Kafka {
		k := &c.Kafka[i]
		cluster, err := kafka.NewCluster(k.options(log))
		if err != nil {
			return nil, fmt.Errorf("%s_*: %w", k.prefix(), err)
		}
		u.clusters = append(u.clusters, cluster)
		kafkaByName[k.Cluster] = cluster
	}
	for _, s := range c.Streams {
		name, cluster := s.Mapping.Name, s.Mapping.Cluster
		var source bridge.Source
		var err error
		switch s.Mapping.Broker {
		case brokerNATS:
			source, err = nats.NewSource(byName[cluster], nats.SourceOptions{
				Stream:   s.Mapping.Upstream,
				Filter:   s.Filter,
				Instance: instance(),
				OnReset:  bridge.OnReset(s.OnReset),
				Logger:   log.With("stream", name),
			})
		case brokerKafka:
			source, err = kafka.NewSource(kafkaByName[cluster], kafka.SourceOptions{
				Topic:          s.Mapping.Upstream,
				MaxRecordBytes: int(c.Process.MaxEventBytes),
				OnReset:        bridge.OnReset(s.OnReset),
				Logger:         log.With("stream", name),
			})
		}
		if err != nil {
			return nil, fmt.Errorf("open stream %q: %w", name, err)
		}
		u.streams = append(u.streams, bridge.NewStream(name, source, bridge.StreamOptions{
			Subject:       s.Subject.Template,
			Event:         s.Event.Template,
			OnReset:       bridge.OnReset(s.OnReset),
			Start:         s.Start.Start,
			StartBack:     s.Start.Back,
			MaxEventBytes: int(c.Process.MaxEventBytes),
			OnDemand:      s.Read == readOnDemand,
			Trace: bridge.TraceOptions{
				Tracer: tracer, System: s.Mapping.Broker, Server: c.server(s.Mapping), Deliveries: c.Process.TraceDeliveries,
			},
			Logger: log,
		}))
	}
	return u, nil
}

// server is the host of the first server of a stream's cluster, for spans.
func (c *Config) server(m Mapping) string {
	address := ""
	switch m.Broker {
	case brokerNATS:
		i := slices.IndexFunc(c.NATS, func(n NATSConfig) bool { return n.Cluster == m.Cluster })
		if u, err := url.Parse(c.NATS[i].URL[0]); err == nil && u.Host != "" {
			return u.Hostname()
		}
		address = c.NATS[i].URL[0]
	case brokerKafka:
		i := slices.IndexFunc(c.Kafka, func(k KafkaConfig) bool { return k.Cluster == m.Cluster })
		address = c.Kafka[i].Brokers[0]
	}
	address = address[strings.LastIndexByte(address, '@')+1:] // no user and password
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// run connects the clusters, reads by them, and returns when all of it has
// ended. The connections outlive the reading, whose last words go over them.
func (u *upstream) run(ctx context.Context, read func(context.Context) error) error {
	connected, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	for _, c := range u.clusters {
		wg.Go(func() { _ = c.Run(connected) }) // returns only when told to
	}
	err := read(ctx)
	disconnect()
	wg.Wait()
	return err
}

// options returns what the source needs of the configuration of a cluster.
func (c *NATSConfig) options(log *slog.Logger) nats.Options {
	if c.Cluster != "" {
		log = log.With("cluster", c.Cluster)
	}
	return nats.Options{
		URLs:        c.URL,
		Domain:      c.Domain,
		InboxPrefix: c.InboxPrefix,
		Creds:       c.Creds.provider(c.prefix()+"_CREDS", log),
		Nkey:        c.Nkey.provider(c.prefix()+"_NKEY", log),
		User:        c.User,
		Password:    c.Password.provider(c.prefix()+"_PASSWORD", log),
		Token:       c.Token.provider(c.prefix()+"_TOKEN", log),
		TLSCA:       c.TLSCa.provider(c.prefix()+"_TLS_CA", log),
		TLSCert:     c.TLSCert.provider(c.prefix()+"_TLS_CERT", log),
		TLSKey:      c.TLSKey.provider(c.prefix()+"_TLS_KEY", log),
		Logger:      log,
	}
}

// options returns what the source needs of the configuration of a cluster.
func (c *KafkaConfig) options(log *slog.Logger) kafka.Options {
	if c.Cluster != "" {
		log = log.With("cluster", c.Cluster)
	}
	return kafka.Options{
		Brokers:   c.Brokers,
		ClientID:  c.ClientID,
		Isolation: c.Isolation,
		TLS:       c.TLS,
		TLSCA:     c.TLSCa.provider(c.prefix()+"_TLS_CA", log),
		TLSCert:   c.TLSCert.provider(c.prefix()+"_TLS_CERT", log),
		TLSKey:    c.TLSKey.provider(c.prefix()+"_TLS_KEY", log),
		Mechanism: c.SASLMechanism,
		Username:  c.SASLUsername,
		Password:  c.SASLPassword.provider(c.prefix()+"_SASL_PASSWORD", log),
		Logger:    log,
	}
}

// provider returns a function that reads the secret anew at each call, or nil if
// it is not set. A file that cannot be read any more counts as empty, and the
// server then says what it misses. The function may be called by any goroutine.
func (s Secret) provider(name string, log *slog.Logger) func() string {
	if !s.IsSet() {
		return nil
	}
	var unreadable atomic.Bool
	return func() string {
		text, err := s.Read()
		switch was := unreadable.Swap(err != nil); { // it is asked for again and again while a login fails
		case err != nil && !was:
			log.Warn("secret cannot be read", "variable", name+fileSuffix, "error", err)
		case err == nil && was:
			log.Info("secret can be read again", "variable", name+fileSuffix)
		}
		return text
	}
}

// instance names this process in the names of its consumers, so that an operator
// who finds one on the broker knows whose it is: the host name, which in
// Kubernetes is the Pod's.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, host)
	return name[:min(len(name), maxNameBytes)]
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/replay"
	"github.com/ssebridge/ssebridge/sink"
	"github.com/ssebridge/ssebridge/sink/admin"
)

// lateClients is how much longer than SSEBRIDGE_DRAIN clients may take that do
// not take their goodbye, before they are cut off.
const lateClients = 2 * time.Second

// serve follows the streams and serves them until ctx ends.
func serve(ctx context.Context, _ []string, _, stderr io.Writer) error {
	c, problems := readConfig()
	if err := problemsError(problems); err != nil {
		return err
	}
	log := newLogger(&c.Process, stderr)
	t, err := newTelemetry(ctx, log)
	if err != nil {
		return &usageError{err.Error()}
	}
	defer t.shutdown(ctx, log)
	s, err := newService(c, t, log)
	if err != nil {
		return err
	}

	log.Info("resources", "memory", s.memory.String(), "heap_limit", Size(limitHeap(os.DirFS("/"), debug.SetMemoryLimit)).String(),
		"clients", c.Process.maxClients(openFiles()), "cpus", runtime.GOMAXPROCS(0))

	public, err := listen(ctx, "SSEBRIDGE_HTTP_LISTEN", c.Process.HTTPListen)
	if err != nil {
		return err
	}
	private, err := listen(ctx, "SSEBRIDGE_ADMIN_LISTEN", c.Process.AdminListen)
	if err != nil {
		_ = public.Close()
		return err
	}
	return s.run(ctx, public, private)
}

func listen(ctx context.Context, name string, a Address) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", string(a))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// service is the parts of a serving process.
type service struct {
	config    *Config
	upstream  *upstream
	hub       *bridge.Hub
	replay    *replay.Replay
	memory    Size // the effective SSEBRIDGE_MEMORY
	events    *sink.Handler
	probes    http.Handler
	telemetry *telemetry
	log       *slog.Logger
}

// newService builds the parts. It starts and connects nothing.
func newService(c *Config, t *telemetry, log *slog.Logger) (*service, error) {
	u, err := openUpstream(c, t.tracer, log)
	if err != nil {
		return nil, err
	}
	p := &c.Process
	memory := p.memory(os.DirFS("/"))
	parts := memory.shares(len(p.Compression) > 0)
	hub := bridge.NewHub(u.streams, bridge.HubOptions{
		RingBytes:   parts.rings,
		FilterBytes: parts.filters,
		MaxFeeds:    orUnlimited(p.MaxFeeds),
		MaxFilters:  orUnlimited(p.MaxFilters),
		MaxIDBytes:  int(p.MaxIDBytes),
		Logger:      log,
	})
	s := &service{
		config: c, upstream: u, hub: hub, telemetry: t, log: log, memory: memory,
		replay: replay.New(hub, replay.Options{CacheBytes: parts.cache, BatchBytes: parts.batches, Meter: t.meter, Logger: log}),
	}
	if _, err := hub.Observe(t.meter); err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	s.events = sink.NewHandler(s.sinkOptions())
	probes := sink.ProbeOptions{Draining: s.events.Draining}
	if p.Ready == "sources" {
		probes.Ready = s.started
	}
	s.probes = sink.NewProbes(probes)
	return s, nil
}

func (s *service) sinkOptions() sink.Options {
	p := &s.config.Process
	names, formats := make([]string, 0, len(s.config.Streams)), map[string]string{}
	for _, stream := range s.config.Streams {
		names = append(names, stream.Mapping.Name)
		formats[stream.Mapping.Name] = stream.Format
	}
	return sink.Options{
		Open: func(ctx context.Context, sub *bridge.Subscription) (sink.Follower, error) {
			return s.replay.Open(ctx, sub), nil
		},
		Path:                 string(p.HTTPPath),
		Streams:              names,
		StreamFormats:        formats,
		Origins:              p.CORSOrigins.Origins,
		Heartbeat:            p.Heartbeat,
		Retry:                p.Retry,
		WriteTimeout:         p.WriteTimeout,
		MaxAge:               p.MaxAge,
		MaxClients:           p.maxClients(openFiles()),
		MaxConnectsPerSecond: p.MaxConnectsPerSecond,
		MaxPatterns:          p.MaxPatterns,
		Codings:              p.Compression,
		CompressionBytes:     s.memory.shares(true).compressors,
		Tracer:               s.telemetry.tracer,
		Meter:                s.telemetry.meter,
		Logger:               s.log,
	}
}

// Clients are listed with how far they are.
var _ sink.Reporter = (*replay.Follower)(nil)

// adminOptions returns what the admin listener at addr serves, but for the drain.
func (s *service) adminOptions(addr net.Addr) admin.Options {
	tcp, ok := addr.(*net.TCPAddr)
	o := admin.Options{
		Probes:   s.probes,
		Metrics:  s.telemetry.metrics,
		Clients:  s.events,
		Loopback: ok && tcp.IP.IsLoopback(),
		Token:    s.config.Process.AdminToken.provider("SSEBRIDGE_ADMIN_TOKEN", s.log),

		Inspector: s.config.Process.Inspector != inspectorOff,
		Events:    s.events, EventsPath: string(s.config.Process.HTTPPath),
		Version: currentBuild().version,
	}
	for i, stream := range s.config.Streams {
		o.Streams = append(o.Streams, admin.Stream{
			Stream: s.upstream.streams[i], Broker: stream.Mapping.broker(), Upstream: stream.Mapping.Upstream,
		})
	}
	return o
}

// orUnlimited turns a setting whose 0 means no limit into one for parts whose 0
// means their default.
func orUnlimited(n int) int {
	if n == 0 {
		return math.MaxInt
	}
	return n
}

// started reports whether the broker has told the end of every stream's log that
// is read always.
func (s *service) started() bool {
	return !slices.ContainsFunc(s.hub.Streams(), func(st *bridge.Stream) bool {
		_, started := st.Live()
		return !started && !st.OnDemand()
	})
}

// errDrainAsked is why run ends when an operator asks for it over HTTP.
var errDrainAsked = errors.New("asked by POST /drain")

// run serves until ctx ends or an operator asks for the end, then ends the parts
// in this order:
//
//  1. /readyz says draining, so that balancers look elsewhere
//  2. every client is told to come back later, spread over the drain time
//  3. the sources stop reading and the listeners close
//  4. all goroutines have ended
//
// The parts therefore do not see ctx: they run until the draining has ended.
func (s *service) run(ctx context.Context, public, private net.Listener) error {
	ctx, drain := context.WithCancelCause(ctx)
	defer drain(nil)
	b := currentBuild()
	s.log.Info("listening", "clients", public.Addr().String(), "admin", private.Addr().String(),
		"streams", s.config.Process.Streams.String(), "version", b.version, "revision", b.revision)
	defer s.log.Info("stopped")
	defer s.replay.Close()
	o := sink.ServerOptions{WriteTimeout: s.config.Process.WriteTimeout, Logger: s.log}
	options := s.adminOptions(private.Addr())
	options.Drain = func() (int, time.Duration) {
		inside := s.events.Clients()
		drain(errDrainAsked)
		return inside, s.config.Process.Drain
	}
	var events http.Handler = s.events
	if s.config.Process.Inspector == inspectorPublic {
		events = admin.WithInspector(options, events)
	}
	clients := sink.NewServer(gzipEach(sink.WithProbes(s.probes, events)), o)
	operators := sink.NewServer(admin.NewHandler(options), o)
	return runAll(context.WithoutCancel(ctx),
		func(work context.Context) error { return s.upstream.run(work, s.hub.Run) },
		func(work context.Context) error { return clients.Run(work, public) },
		s.sweep,
		func(work context.Context) error { return giveBack(work, s.events.Came, freeMemory) },
		func(work context.Context) error { return operators.Run(work, private) },
		func(work context.Context) error {
			select {
			case <-ctx.Done():
			case <-work.Done(): // a listener failed
				return context.Cause(work)
			}
			clients.Retire()
			return s.drain(work, context.Cause(ctx))
		},
	)
}

// drain says goodbye to all clients.
func (s *service) drain(ctx context.Context, why error) error {
	over := s.config.Process.Drain
	s.log.Info("draining", "reason", why.Error(), "clients", s.events.Clients(), "over", over.String())
	ctx, cancel := context.WithTimeout(ctx, over+lateClients)
	defer cancel()
	if err := s.events.Drain(ctx, over); err != nil {
		s.log.Warn("clients were cut off that did not take their goodbye", "error", err)
	}
	return nil
}

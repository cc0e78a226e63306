// Ssebridge-demo shows ssebridge at work on one machine, with nothing to
// install: it runs an embedded NATS server, publishes live data into it,
// follows that with the real ssebridge binary as its child process, and serves
// a page that shows what arrives.
//
//	this process ──────────────────────────┐         child process
//	publisher ─► NATS server (JetStream) ──┼───────► ssebridge ───┐
//	    │        streams HOST and PRICES   │            ▲         │ text/event-stream
//	    │ truth                            │   kill -9, │ start   │
//	page server ◄──────────────────────────┼────────────┴─────────┘
//	    │                                  │
//	    └──────────────────────────────────┼───────► browser
//
// The page is made to break things: it kills the bridge, cuts its own connection,
// has a stream deleted and made again, and holds what arrives against what the
// publisher states. Its events come through the page server, which can cut the
// connection of one tab; other programs go to the bridge itself.
//
// With -kafka the broker is a real Kafka instead, another child process, with
// the topics host and prices. That needs Java, and Maven once to fetch Kafka.
//
// It listens on loopback only and needs no network. See -help for its flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// repeatGrace is how long further signals count as repeats of the first: make and
// timeout pass on to the demo what its whole process group has got already. One
// that comes later ends the process at once.
const repeatGrace = time.Second

func main() {
	// A closed terminal (SIGHUP) must not leave the child behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { time.AfterFunc(repeatGrace, stop) })
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // asked to end while it was still starting
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ssebridge-demo:", err)
		os.Exit(1)
	}
}

// settings are the command line.
type settings struct {
	listen       string // empty: defaultListen or a free port
	bridgeListen string // empty: defaultBridgeListen or a free port
	natsListen   string // empty: defaultNATSListen or a free port
	data         string // empty: a directory that is removed at the end
	bridge       string // empty: the ssebridge beside this executable
	kafka        bool
}

func parseFlags(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("ssebridge-demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // Parse would print what it returns
	flags.StringVar(&s.listen, "listen", "", "loopback `address` of the page (default "+defaultListen+", or a free port if that is taken)")
	flags.StringVar(&s.bridgeListen, "bridge-listen", "", "loopback `address` of the bridge (default "+defaultBridgeListen+", or a free port if that is taken)")
	flags.StringVar(&s.natsListen, "nats-listen", "", "loopback `address` of the NATS server (default "+defaultNATSListen+", or a free port if that is taken)")
	flags.StringVar(&s.data, "data", "", "`directory` that keeps the streams from run to run (default: a temporary one)")
	flags.StringVar(&s.bridge, "bridge", "", "`path` of the ssebridge binary (default: beside this one)")
	flags.BoolVar(&s.kafka, "kafka", false, "run Kafka instead of a NATS server; needs Java 17 and Maven")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(stderr)
			_, _ = fmt.Fprintln(stderr, "ssebridge-demo shows ssebridge at work, with a broker and live data of its own. Flags:")
			flags.PrintDefaults()
		}
		return s, fmt.Errorf("read flags: %w", err)
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("read flags: %q is not a flag, and there are no other arguments", flags.Arg(0))
	}
	if s.kafka && (s.data != "" || s.natsListen != "") {
		return s, errors.New("read flags: -data and -nats-listen are for the NATS server, not for -kafka")
	}
	return s, nil
}

// run runs the demo until ctx ends or a part of it fails. When it returns, the
// child, the server and the temporary directory are gone.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	binary, err := findBridge(s.bridge)
	if err != nil {
		return err
	}

	dir := s.data
	if dir == "" {
		if dir, err = os.MkdirTemp("", "ssebridge-demo-"); err != nil {
			return fmt.Errorf("make a directory for the streams: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	b, err := startBroker(ctx, s, dir, log)
	if err != nil {
		return err
	}
	defer b.Close()
	host, err := b.Open(ctx, "host")
	if err != nil {
		return err
	}
	prices, err := b.Open(ctx, "prices")
	if err != nil {
		return err
	}

	pageListener, err := listen(ctx, s.listen, defaultListen)
	if err != nil {
		return fmt.Errorf("listen for the page: %w", err)
	}
	defer func() { _ = pageListener.Close() }() // closed already once it was served
	bridgeAddr, err := freeAddress(ctx, s.bridgeListen, defaultBridgeListen)
	if err != nil {
		return fmt.Errorf("find an address for the bridge: %w", err)
	}
	adminAddr, err := freeAddress(ctx, "", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find an address for the bridge's admin listener: %w", err)
	}
	events := &url.URL{Scheme: "http", Host: bridgeAddr, Path: "/events"}
	inspector := "http://" + adminAddr + "/inspector/"
	truth := newTruth()
	bridge := newChild(binary, bridgeEnv(b, bridgeAddr, adminAddr, origins(pageListener.Addr())), stderr, log, truth.Bridge)
	hosts, quotes := newSeries("host", host, truth, log), newSeries("prices", prices, truth, log)
	tabs := newTabs(events)
	handler, err := page(site{
		Events: events.String(), Inspector: inspector, Broker: b.Kind(),
		tabs: tabs, truth: truth,
		deeds: deeds{bridge: bridge, tabs: tabs, streams: map[string]stream{"host": hosts, "prices": quotes}, log: log}.Handler(),
	})
	if err != nil {
		return err
	}

	return runAll(ctx,
		func(ctx context.Context) error { return publishHost(ctx, hosts) },
		func(ctx context.Context) error {
			random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			return publishPrices(ctx, quotes, newMarket(random))
		},
		func(ctx context.Context) error { return servePage(ctx, pageListener, handler) },
		bridge.Run,
		b.Watch,
		func(ctx context.Context) error {
			if err := bridge.Start(ctx); err != nil {
				return err
			}
			if err := waitFor(ctx, bridgeAddr); err != nil {
				return err
			}
			if err := welcome(stdout, pageListener.Addr(), inspector, events, b.Address(), dir); err != nil {
				return fmt.Errorf("print the address: %w", err)
			}
			<-ctx.Done()
			return nil
		})
}

// welcome says where to look.
func welcome(w io.Writer, pageAddr net.Addr, inspector string, events *url.URL, broker, dir string) error {
	_, err := fmt.Fprintf(w, `
  Open  http://%[1]s  and try to break it.
  The bridge's inspector: %[2]s

  Follow the streams without a browser:
    curl -N '%[3]s?subject=prices.>'
  Go on exactly where that stopped, with the last id it printed:
    curl -N -H 'Last-Event-ID: <id>' '%[3]s?subject=prices.>'

  The broker with the streams host and prices is at %[4]s, its data in %[5]s.
  Ctrl-C ends everything.

`, pageAddr, inspector, events, broker, dir)
	return err
}

// runAll runs every part until ctx ends or one of them returns, tells the others
// to stop, and waits for them all. It returns what the first part returned.
func runAll(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, part := range parts {
		wg.Go(func() {
			err := part(ctx)
			once.Do(func() { first = err })
			cancel()
		})
	}
	wg.Wait()
	return first
}

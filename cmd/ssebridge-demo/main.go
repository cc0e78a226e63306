// Ssebridge-demo shows ssebridge at work on one machine, with nothing to
// install: it runs an embedded NATS server, publishes live data into it,
// follows that with the real ssebridge binary as its child process, and serves
// a page that shows what arrives.
//
//	this process ──────────────────────────┐        child process
//	publisher ─► NATS server (JetStream) ──┼──────► ssebridge ──┐
//	             streams HOST and PRICES   │                    │ text/event-stream
//	page server ───────────────────────────┼──► browser ◄───────┘
//	                                       ┘
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
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	// A closed terminal (SIGHUP) must not leave the child behind. A second signal
	// finds no handler and ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "ssebridge-demo:", err)
		os.Exit(1)
	}
}

// Where things listen unless a flag says otherwise; if one of these is taken, a
// free port is used instead.
const (
	defaultListen       = "127.0.0.1:8400"
	defaultBridgeListen = "127.0.0.1:8480"
)

// bridgeStart bounds how long the bridge may take to answer for the first time.
const bridgeStart = 15 * time.Second

// settings are the command line.
type settings struct {
	listen       string // empty: defaultListen or a free port
	bridgeListen string // empty: defaultBridgeListen or a free port
	data         string // empty: a directory that is removed at the end
	bridge       string // empty: the ssebridge beside this executable
}

func parseFlags(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("ssebridge-demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.listen, "listen", "", "loopback `address` of the page (default "+defaultListen+", or a free port if that is taken)")
	flags.StringVar(&s.bridgeListen, "bridge-listen", "", "loopback `address` of the bridge (default "+defaultBridgeListen+", or a free port if that is taken)")
	flags.StringVar(&s.data, "data", "", "`directory` that keeps the streams from run to run (default: a temporary one)")
	flags.StringVar(&s.bridge, "bridge", "", "`path` of the ssebridge binary (default: beside this one)")
	if err := flags.Parse(args); err != nil {
		return s, fmt.Errorf("read flags: %w", err)
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("read flags: %q is not a flag, and there are no other arguments", flags.Arg(0))
	}
	return s, nil
}

// run runs the demo until ctx ends or a part of it fails. When it returns, the
// child, the server and the temporary directory are gone.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parseFlags(args, stderr)
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
	b, err := startBroker(dir, log)
	if err != nil {
		return err
	}
	defer b.Close()
	host, err := b.Stream(ctx, "HOST", "host")
	if err != nil {
		return err
	}
	prices, err := b.Stream(ctx, "PRICES", "prices")
	if err != nil {
		return err
	}

	pageListener, err := listen(ctx, s.listen, defaultListen)
	if err != nil {
		return fmt.Errorf("listen for the page: %w", err)
	}
	defer pageListener.Close()
	bridgeAddr, err := freeAddress(ctx, s.bridgeListen, defaultBridgeListen)
	if err != nil {
		return fmt.Errorf("find an address for the bridge: %w", err)
	}
	adminAddr, err := freeAddress(ctx, "", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find an address for the bridge's admin listener: %w", err)
	}
	events := &url.URL{Scheme: "http", Host: bridgeAddr, Path: "/events"}
	handler, err := page(events)
	if err != nil {
		return err
	}
	bridge := newChild(binary, bridgeEnv(b.URL(), bridgeAddr, adminAddr, origins(pageListener.Addr())), stderr, log)

	return runAll(ctx,
		func(ctx context.Context) error { return publishHost(ctx, newSeries(b.js, host, log)) },
		func(ctx context.Context) error {
			random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			return publishPrices(ctx, newSeries(b.js, prices, log), newMarket(random))
		},
		func(ctx context.Context) error { return servePage(ctx, pageListener, handler) },
		bridge.Run,
		func(ctx context.Context) error {
			if err := bridge.Start(ctx); err != nil {
				return err
			}
			if err := waitFor(ctx, bridgeAddr); err != nil {
				return err
			}
			welcome(stdout, pageListener.Addr(), events, b.URL(), dir)
			<-ctx.Done()
			return nil
		})
}

// welcome says where to look.
func welcome(w io.Writer, pageAddr net.Addr, events *url.URL, broker, dir string) {
	fmt.Fprintf(w, `
  Open  http://%s  to watch the streams live.

  Follow them without a browser:
    curl -N '%s?subject=prices.>'
  Go on exactly where that stopped, with the last id it printed:
    curl -N -H 'Last-Event-ID: <id>' '%[2]s?subject=prices.>'

  The streams HOST and PRICES are at %s, kept in %s.
  Ctrl-C ends everything.

`, pageAddr, events, broker, dir)
}

// findBridge returns the path of the ssebridge binary: the one that is asked
// for, or the one in this executable's own directory.
func findBridge(path string) (string, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find ssebridge: %w", err)
		}
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		path = filepath.Join(filepath.Dir(self), "ssebridge")
		if runtime.GOOS == "windows" {
			path += ".exe"
		}
	}
	// Absolute, so that a bare name is a file here and not a search in PATH.
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find ssebridge: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find ssebridge: %w (`make run` builds both programs; or name the binary with -bridge)", err)
	}
	return path, nil
}

// bridgeEnv is all of the bridge's environment: nothing that is set around the
// demo can change what it shows.
func bridgeEnv(nats, listen, admin string, origins []string) []string {
	return []string{
		"SSEBRIDGE_STREAMS=host=nats:HOST,prices=nats:PRICES",
		"SSEBRIDGE_NATS_URL=" + nats,
		"SSEBRIDGE_AUTH=none",
		"SSEBRIDGE_CORS_ORIGINS=" + strings.Join(origins, ","),
		"SSEBRIDGE_HTTP_LISTEN=" + listen,
		"SSEBRIDGE_ADMIN_LISTEN=" + admin,
		"SSEBRIDGE_RETRY=1s",
		"SSEBRIDGE_DRAIN=1s",
		"SSEBRIDGE_LOG_FORMAT=text",
	}
}

// origins are the names under which a browser of this machine knows the page.
func origins(addr net.Addr) []string {
	origins := []string{"http://" + addr.String()}
	if host, port, err := net.SplitHostPort(addr.String()); err == nil && host != "localhost" {
		origins = append(origins, "http://"+net.JoinHostPort("localhost", port))
	}
	return origins
}

// listen listens at addr, or, if that is empty, at fallback or a free port of
// its host. Only loopback will do: whoever reaches the demo may read this
// machine's counters.
func listen(ctx context.Context, addr, fallback string) (net.Listener, error) {
	chosen := addr
	if chosen == "" {
		chosen = fallback
	}
	host, _, err := net.SplitHostPort(chosen)
	if err != nil {
		return nil, fmt.Errorf("%q: want host:port", chosen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%q: the demo has no access control, so it only listens on loopback, such as %s", chosen, fallback)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", chosen)
	if err != nil && addr == "" {
		return lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	return l, err
}

// freeAddress returns an address that nobody listens at, chosen as [listen]
// does. Another process could take it until the bridge does; then the bridge
// says so.
func freeAddress(ctx context.Context, addr, fallback string) (string, error) {
	l, err := listen(ctx, addr, fallback)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// servePage serves the page until ctx ends.
func servePage(ctx context.Context, l net.Listener, handler http.Handler) error {
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
	}
	closed := make(chan error, 1) // the one result of Close
	stop := context.AfterFunc(ctx, func() { closed <- srv.Close() })
	err := srv.Serve(l)
	if !stop() {
		return <-closed
	}
	return fmt.Errorf("serve the page: %w", err)
}

// waitFor waits until the bridge answers at addr.
func waitFor(ctx context.Context, addr string) error {
	within, cancel := context.WithTimeout(ctx, bridgeStart)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if alive(within, addr) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-within.Done():
			return fmt.Errorf("start the bridge: no answer from http://%s/livez within %s", addr, bridgeStart)
		case <-tick.C:
		}
	}
}

func alive(ctx context.Context, addr string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/livez", http.NoBody)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body) // so that the connection is used again
	return res.StatusCode == http.StatusOK
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

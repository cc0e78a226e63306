package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
)

// serve follows the streams and serves them until ctx ends.
func serve(ctx context.Context, _ []string, _, stderr io.Writer) error {
	c, problems := readConfig()
	if err := problemsError(problems); err != nil {
		return err
	}
	log := newLogger(&c.Process, stderr)

	public, err := listen(ctx, "SSEBRIDGE_HTTP_LISTEN", c.Process.HTTPListen)
	if err != nil {
		return err
	}
	admin, err := listen(ctx, "SSEBRIDGE_ADMIN_LISTEN", c.Process.AdminListen)
	if err != nil {
		_ = public.Close()
		return err
	}
	return serveOn(ctx, c, public, admin, log)
}

func listen(ctx context.Context, name string, a Address) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", string(a))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// serveOn runs the parts until ctx ends, then ends them in this order:
//
//  1. /readyz says draining, so that balancers look elsewhere
//  2. clients are told to come back later, spread over the drain time
//  3. the sources stop reading, the listeners close, all goroutines end
//
// The parts therefore do not see ctx: they run until the draining has ended.
func serveOn(ctx context.Context, c *Config, public, admin net.Listener, log *slog.Logger) error {
	p := &probes{}
	mux := http.NewServeMux()
	p.register(mux)
	b := currentBuild()
	log.Info("listening", "clients", public.Addr().String(), "admin", admin.Addr().String(), "streams", c.Process.Streams.String(), "version", b.version)
	defer log.Info("stopped")
	return runAll(context.WithoutCancel(ctx),
		func(work context.Context) error { return serveHTTP(work, newServer(mux), public) },
		func(work context.Context) error { return serveHTTP(work, newServer(mux), admin) },
		func(work context.Context) error {
			select {
			case <-work.Done(): // another part failed
				return context.Cause(work)
			case <-ctx.Done():
			}
			p.drain()
			log.Info("draining", "over", c.Process.Drain)
			return nil
		},
	)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// runAll runs every part until one returns, tells the others to stop, and waits
// for them all. It returns what the first part returned.
func runAll(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, part := range parts {
		wg.Go(func() {
			err := part(ctx)
			once.Do(func() { first = err })
			cancel(err)
		})
	}
	wg.Wait()
	return first
}

// Limits of the HTTP servers. Responses have no time limit; how long one write
// may take is the sink's business.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
	// closeTimeout is how long connections that are still answered may take at
	// the end. Streams have been drained by then; these are probes and errors.
	closeTimeout = 2 * time.Second
)

// newServer returns a server for h. The context of its requests is detached from
// the signal that ends the process: streams end by draining.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
}

// serveHTTP answers requests on l until ctx ends, then closes the listener and
// every connection. It returns when all requests have ended.
func serveHTTP(ctx context.Context, srv *http.Server, l net.Listener) error {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if srv.Shutdown(limit) != nil {
			_ = srv.Close()
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return context.Cause(ctx)
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds of what a connection may cost before and between requests.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 75 * time.Second
	maxHeaderBytes    = 32 << 10 // room for an event id and dozens of subjects
	maxStreams        = 250      // requests at a time on one HTTP/2 connection
	pingAfter         = 30 * time.Second
	pingTimeout       = 15 * time.Second
	endTimeout        = 5 * time.Second
)

// ServerOptions configure a [Server].
type ServerOptions struct {
	WriteTimeout time.Duration // as in [Options], default [DefaultWriteTimeout]
	Logger       *slog.Logger  // nil: none
}

// Server is an HTTP server for responses that may last for days: HTTP/1.1 and
// HTTP/2 without TLS on the same port, with bounds for everything but the length
// of a response.
type Server struct {
	http http.Server
}

// NewServer returns a server that answers by h. It listens to nothing until Run.
func NewServer(h http.Handler, o ServerOptions) *Server {
	if o.WriteTimeout == 0 {
		o.WriteTimeout = DefaultWriteTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          serverLog(o.Logger),
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      pingAfter,
			PingTimeout:          pingTimeout,
			WriteByteTimeout:     o.WriteTimeout,
		},
	}}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// Run serves the connections of ln until ctx ends. Then it closes ln, ends the
// contexts of all requests, and returns context.Cause(ctx) when every connection
// is closed. It returns another error when ln fails. Run is called once.
//
// Clients should have been seen off before ([Handler.Drain]).
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	var served error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		served = s.http.Serve(paced(ln))
	}()
	select {
	case <-ended:
		return errors.Join(fmt.Errorf("serve http on %s: %w", ln.Addr(), served), s.http.Close())
	case <-ctx.Done():
	}
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer stop()
	if err := s.http.Shutdown(grace); err != nil {
		_ = s.http.Close()
	}
	<-ended
	return context.Cause(ctx)
}

// Retire makes every response the last one of its connection, so that clients
// that come back open another, which a balancer may send elsewhere. Call it
// before a drain.
func (s *Server) Retire() { s.http.SetKeepAlivesEnabled(false) }

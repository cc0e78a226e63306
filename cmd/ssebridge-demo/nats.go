package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// brokerStart bounds how long the embedded server may take to be ready.
const brokerStart = 20 * time.Second

// maxAge and maxBytes are the limits of both streams: enough for a page that was
// closed over lunch, and small on disk.
const (
	maxAge   = time.Hour
	maxBytes = 64 << 20
)

// natsBroker is a NATS server with JetStream inside this process. Clients reach
// it on loopback only.
type natsBroker struct {
	server *server.Server
	conn   *natsgo.Conn
	js     jetstream.JetStream
}

// startNATS starts a server that keeps its streams in dir and listens at addr,
// whose port may be 0 for a free one. The caller closes it.
func startNATS(dir, addr string, log *slog.Logger) (*natsBroker, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("set up NATS server: %w", err)
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return nil, fmt.Errorf("set up NATS server: %q: want a port number", addr)
	}
	if port == 0 {
		port = server.RANDOM_PORT // 0 would mean 4222
	}
	srv, err := server.NewServer(&server.Options{
		ServerName:         "ssebridge-demo",
		Host:               host,
		Port:               port,
		JetStream:          true,
		StoreDir:           dir,
		JetStreamMaxMemory: 16 << 20,
		JetStreamMaxStore:  4 * maxBytes,
		NoSigs:             true, // signals are ours
	})
	if err != nil {
		return nil, fmt.Errorf("set up NATS server: %w", err)
	}
	srv.SetLoggerV2(serverLog{log.With("part", "nats-server")}, false, false, false)
	srv.Start()
	b := &natsBroker{server: srv}
	if !srv.ReadyForConnections(brokerStart) {
		b.Close()
		return nil, fmt.Errorf("start NATS server in %s: not ready within %s", dir, brokerStart)
	}
	if b.conn, err = natsgo.Connect("", natsgo.InProcessServer(srv), natsgo.Name("ssebridge-demo publisher")); err != nil {
		b.Close()
		return nil, fmt.Errorf("connect to embedded NATS server: %w", err)
	}
	if b.js, err = jetstream.New(b.conn); err != nil {
		b.Close()
		return nil, fmt.Errorf("use JetStream of embedded NATS server: %w", err)
	}
	return b, nil
}

// URL is where other processes of this machine reach the server.
func (b *natsBroker) URL() string { return b.server.ClientURL() }

// Kind implements [broker].
func (b *natsBroker) Kind() string { return "JetStream" }

// Address implements [broker].
func (b *natsBroker) Address() string { return b.URL() }

// Settings implements [broker].
func (b *natsBroker) Settings() []string {
	return []string{"SSEBRIDGE_STREAMS=host=nats:HOST,prices=nats:PRICES", "SSEBRIDGE_NATS_URL=" + b.URL()}
}

// Open implements [broker].
func (b *natsBroker) Open(ctx context.Context, name string) (history, error) {
	if _, err := b.Stream(ctx, name); err != nil {
		return nil, err
	}
	return natsStream{b, name}, nil
}

// Watch implements [broker]. The server ends only by Close.
func (b *natsBroker) Watch(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Stream makes the stream of the subjects below name, or finds the one that an
// earlier run has left in the same directory.
func (b *natsBroker) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        streamOf(name),
		Subjects:    []string{name + ".>"},
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      maxAge,
		MaxBytes:    maxBytes,
		AllowDirect: true, // lets the bridge read history without a consumer
	})
	if err != nil {
		return nil, fmt.Errorf("make stream %s: %w", name, err)
	}
	return stream, nil
}

// streamOf is the name that JetStream has for a stream.
func streamOf(name string) string { return strings.ToUpper(name) }

// natsStream is the history of a JetStream stream.
type natsStream struct {
	broker *natsBroker
	name   string
}

// Append implements [history]. A record that was stored while its confirmation
// got lost is not stored again, because its id repeats.
func (s natsStream) Append(ctx context.Context, subject string, number uint64, data []byte) error {
	_, err := s.broker.js.Publish(ctx, subject, data, jetstream.WithMsgID(subject+"/"+strconv.FormatUint(number, 10)))
	return err
}

// Ends implements [history].
func (s natsStream) Ends(ctx context.Context, subject string) (first, last []byte, err error) {
	stream, err := s.broker.js.Stream(ctx, streamOf(s.name))
	if err != nil {
		return nil, nil, fmt.Errorf("read the ends of %s: %w", subject, err)
	}
	newest, err := stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read last record of %s: %w", subject, err)
	}
	oldest, err := stream.GetMsg(ctx, 0, jetstream.WithGetMsgSubject(subject))
	if err != nil {
		return nil, nil, fmt.Errorf("read first record of %s: %w", subject, err)
	}
	return oldest.Data, newest.Data, nil
}

// Delete implements [history].
func (s natsStream) Delete(ctx context.Context) error {
	err := s.broker.js.DeleteStream(ctx, streamOf(s.name))
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream %s: %w", s.name, err)
	}
	return nil
}

// makePause is between two attempts to make a stream.
const makePause = 50 * time.Millisecond

// Make implements [history]. The server removes the files of a deleted stream
// after it has said that the stream is gone, and cannot make it until then.
func (s natsStream) Make(ctx context.Context) error {
	for {
		_, err := s.broker.Stream(ctx, s.name)
		if api, ok := errors.AsType[*jetstream.APIError](err); !ok || api.ErrorCode != jetstream.ErrorCode(server.JSStreamCreateErrF) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(makePause):
		}
	}
}

// Close ends the connection and the server, and waits until it is gone.
func (b *natsBroker) Close() {
	if b.conn != nil {
		b.conn.Close()
	}
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// serverLog passes on what the server warns of. Its notices are a page of text
// at every start, which would hide the one line that matters here.
type serverLog struct{ log *slog.Logger }

var _ server.Logger = serverLog{}

func (l serverLog) Noticef(string, ...any) {}
func (l serverLog) Debugf(string, ...any)  {}
func (l serverLog) Tracef(string, ...any)  {}

func (l serverLog) Warnf(format string, v ...any) {
	l.log.Warn("NATS server warns", "text", fmt.Sprintf(format, v...))
}

func (l serverLog) Errorf(format string, v ...any) {
	l.log.Error("NATS server reports an error", "text", fmt.Sprintf(format, v...))
}

func (l serverLog) Fatalf(format string, v ...any) {
	l.log.Error("NATS server cannot go on", "text", fmt.Sprintf(format, v...))
}

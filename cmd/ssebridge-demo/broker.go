package main

import (
	"context"
	"fmt"
	"log/slog"
)

// broker is a running broker that keeps the streams host and prices.
type broker interface {
	// Open makes a stream, whose subjects begin with its name, or finds it.
	Open(ctx context.Context, name string) (history, error)
	// Kind names what keeps the streams, for people.
	Kind() string
	// Address is where other processes of this machine reach the broker.
	Address() string
	// Settings are the variables by which a bridge follows the streams.
	Settings() []string
	// Watch returns nil when ctx ends, or why the broker ended before.
	Watch(ctx context.Context) error
	// Close ends the broker and returns when it is gone.
	Close()
}

var (
	_ broker = (*natsBroker)(nil)
	_ broker = (*kafkaBroker)(nil)
)

// startBroker starts the broker that the command line asks for, with its data
// in dir.
func startBroker(ctx context.Context, s settings, dir string, log *slog.Logger) (broker, error) {
	if s.kafka {
		return startKafka(ctx, dir, log)
	}
	addr, err := freeAddress(ctx, s.natsListen, defaultNATSListen)
	if err != nil {
		return nil, fmt.Errorf("find an address for the NATS server: %w", err)
	}
	return startNATS(dir, addr, log)
}

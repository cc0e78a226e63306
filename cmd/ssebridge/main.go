package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitFailed = 1 // the command was tried and did not succeed
	exitUsage  = 2 // the configuration or the command line is wrong
)

func main() {
	// The first signal ends ctx, and with it the process in good order. From then
	// on signals have their default effect again, so a second one kills at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintf(os.Stderr, "ssebridge: %v\n", err)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if usage, ok := errors.AsType[*usageError](err); ok && usage != nil {
		return exitUsage
	}
	return exitFailed
}

// usageError says that the process was called or configured wrongly, so that
// trying again cannot help.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// command is what `ssebridge name` does.
type command struct {
	name, args, about string
	run               func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

// commands lists what the binary can do; the first is done when none is named.
func commands() []command {
	return []command{
		{"serve", "", "follow the streams and serve them; done when no command is named", serve},
		{"config", "", "print the effective settings, secrets redacted", printConfig},
		{"check", "", "connect, and verify that the streams exist and may be read", check},
		{"id", "<event-id>", "tell what an event id says", printID},
		{"env", "", "print the reference of all variables, as Markdown", printReference},
		{"healthcheck", "", "ask the process of the same settings whether it is alive", healthcheck},
		{"version", "", "print the version", printVersion},
		{"help", "", "print this", printHelp},
	}
}

// run does what args say, the words behind the name of the program. Settings
// come from the environment. Logs go to stderr, everything else to stdout.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	all := commands()
	name, rest := all[0].name, []string(nil)
	if len(args) > 0 {
		name, rest = args[0], args[1:]
	}
	switch name {
	case "-h", "-help", "--help":
		name = "help"
	case "-v", "-version", "--version":
		name = "version"
	}
	for _, c := range all {
		if c.name != name {
			continue
		}
		want := 0
		if c.args != "" {
			want = 1
		}
		if len(rest) != want {
			return &usageError{fmt.Sprintf("usage: ssebridge %s %s(settings come from the environment; see ssebridge env)", c.name, withBlank(c.args))}
		}
		return c.run(ctx, rest, stdout, stderr)
	}
	return &usageError{fmt.Sprintf("unknown command %q (ssebridge help lists all)", name)}
}

func withBlank(word string) string {
	if word == "" {
		return ""
	}
	return word + " "
}

func printHelp(_ context.Context, _ []string, stdout, _ io.Writer) error {
	p := printer{w: stdout}
	p.printf("ssebridge serves NATS JetStream streams and Kafka topics as resumable Server-Sent Events.\n\n")
	for _, c := range commands() {
		p.printf("  ssebridge %-24s %s\n", c.name+" "+c.args, c.about)
	}
	p.printf(`
Settings come from the environment, at least
  SSEBRIDGE_STREAMS=orders=nats:ORDERS SSEBRIDGE_NATS_URL=nats://localhost:4222 SSEBRIDGE_AUTH=none
or
  SSEBRIDGE_STREAMS=orders=kafka:orders.v1 SSEBRIDGE_KAFKA_BROKERS=localhost:9092 SSEBRIDGE_AUTH=none

Exit codes: 0 done, 1 failed, 2 wrong configuration or command line.
`)
	return p.err
}

// printer writes text and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

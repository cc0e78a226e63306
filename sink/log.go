package sink

import (
	"bytes"
	"log"
	"log/slog"
	"regexp"
	"time"
)

// logConnected tells that a client came. Nothing of its query is told: that may
// hold a token.
func (h *Handler) logConnected(c *client) {
	h.log.Debug("client connected", "client", c.number, "address", c.who.address, "path", c.who.agent.Value().path, "protocol", c.who.agent.Value().protocol)
}

// logLeft tells that a client left, and what it got.
func (h *Handler) logLeft(c *client, reason string, err error) {
	h.log.Debug("client left", "client", c.number, "address", c.who.address, "path", c.who.agent.Value().path, "reason", reason,
		"error", err, "duration", time.Since(c.out.since).String(), "events", c.out.events.Load(), "bytes", c.out.bytes.Load())
}

// queries are the query strings in a text, with what begins them.
var queries = regexp.MustCompile(`\?[^\s"'<>]+`)

// serverLog turns what net/http reports into lines of l: a constant message with
// the report as a fact. A report may quote a request, so query strings are masked.
func serverLog(l *slog.Logger) *log.Logger { return log.New(serverReports{l}, "", 0) }

type serverReports struct{ log *slog.Logger }

// Write takes one report.
func (s serverReports) Write(b []byte) (int, error) {
	report, stack, panicked := bytes.Cut(bytes.TrimSpace(b), []byte("\ngoroutine "))
	text := string(queries.ReplaceAll(report, []byte("?[masked]")))
	if panicked {
		s.log.Error("http handler panicked", "error", text, "stack", "goroutine "+string(stack))
	} else {
		s.log.Warn("http server reports", "error", text)
	}
	return len(b), nil
}

package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// logLines are the lines of a log, without their times.
func logLines(t *testing.T, log *bytes.Buffer) (lines []map[string]any) {
	t.Helper()
	for text := range strings.Lines(log.String()) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		delete(line, "time")
		lines = append(lines, line)
	}
	return lines
}

func debugLog() (*bytes.Buffer, *slog.Logger) {
	var log bytes.Buffer
	return &log, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Who debugs one client needs its whole life in the log: when it came, why it
// left and what it had got, without what only the client should know.
func TestLifeOfAClientIsLoggedWithoutItsQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logger := debugLog()
		b := start(t, Options{Logger: logger})
		s, f := b.open(b.client("/events/orders?subject=orders." + secrettest.New("subject")))
		time.Sleep(time.Second)
		f.steps <- step{blocks: "data: a\nid: 2\n\n", id: "2"}
		b.next(s, ssetest.Event{Type: "message", Data: "a", ID: "2"})
		b.handler.Disconnect(1)
		if err := readClosing(t.Context(), s, "disconnect", "2"); err != nil {
			t.Error(err)
		}
		<-f.closed
		synctest.Wait()
		got := logLines(t, log)
		want := []map[string]any{
			{"level": "DEBUG", "msg": "client connected", "client": 1.0, "address": "pipe", "path": "/events/orders", "protocol": "HTTP/1.1"},
			{
				"level": "DEBUG", "msg": "client left", "client": 1.0, "address": "pipe", "path": "/events/orders", "reason": "disconnect", "error": "closing disconnect",
				"duration": "1s", "events": 2.0, "bytes": 112.0,
			},
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		secrettest.Check(t, "the log", log.String())
	})
}

// The reasons are the words that operators count by.
func TestReasonsWhyClientsLeave(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{bridge.ErrNoStream, "refused"},
		{bridge.ErrTooManyFeeds, "overload"},
		{&bridge.ResetError{Stream: "orders"}, "reset"},
		{errors.New("a bug"), "error"},
		{closingDisconnect, "disconnect"},
	} {
		synctest.Test(t, func(t *testing.T) {
			log, logger := debugLog()
			b := start(t, Options{Logger: logger})
			_, f := b.open(b.client("/events"))
			go func() { f.steps <- step{err: test.err} }()
			<-f.closed
			b.stop()
			<-b.ended
			lines := logLines(t, log)
			if got := lines[len(lines)-1]; got["reason"] != test.want {
				t.Errorf("%v: got %v, want %s", test.err, got, test.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		log, logger := debugLog()
		b := start(t, Options{Logger: logger, MaxClients: 2})
		gone, f := b.open(b.client("/events"))
		gone.Close()
		<-f.closed
		_, g := b.open(b.client("/events"))
		g.steps <- step{blocks: "data: nobody reads this\n\n"}
		<-g.closed // by the write timeout
		synctest.Wait()
		var got []any
		for _, line := range logLines(t, log) {
			if line["msg"] == "client left" {
				got = append(got, line["reason"])
			}
		}
		if want := "[client slow]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	})
}

// What net/http has to say comes in the same form as everything else, and a
// panic, whose value may quote the request, gives no query away.
func TestServerReportsAreLinesOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logger := debugLog()
		l := newPipeListener()
		s := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/panic" {
				panic(fmt.Sprintf("no way to answer %q", r.URL.String()))
			}
			w.WriteHeader(http.StatusOK)
			w.WriteHeader(http.StatusOK) // reported
		}), ServerOptions{Logger: logger})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.Run(t.Context(), l)
		}()
		t.Cleanup(func() { <-ended })
		for _, path := range []string{"/panic", "/twice"} {
			c := &ssetest.Client{URL: "http://bridge.test" + path + "?token=" + secrettest.New("token") + "&x=" + secrettest.Marker, Dial: l.dial}
			if s, err := c.Open(t.Context()); err == nil {
				s.Close()
			}
			synctest.Wait()
		}
		lines := logLines(t, log)
		if len(lines) != 2 {
			t.Fatalf("%d lines: %v", len(lines), lines)
		}
		for i, want := range []map[string]string{
			{"level": "ERROR", "msg": "http handler panicked", "error": `http: panic serving pipe: no way to answer "/panic?[masked]"`, "stack": "goroutine "},
			{"level": "WARN", "msg": "http server reports", "error": "http: superfluous response.WriteHeader call"},
		} {
			for name, text := range want {
				if got, _ := lines[i][name].(string); !strings.HasPrefix(got, text) {
					t.Errorf("%s is %q, want it to begin with %q", name, got, text)
				}
			}
		}
		secrettest.Check(t, "the log", log.String())
	})
}

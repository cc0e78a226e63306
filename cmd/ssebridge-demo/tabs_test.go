package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// event is what the bridge of these tests sends.
const event = "data: 0123456789\nid: 1~a.b\n\n"

// shortTimeout stands for the page server's own timeout.
const shortTimeout = 100 * time.Millisecond

// tabServer serves the events of a bridge, as the demo does.
func tabServer(t *testing.T, bridge string) (*tabs, string) {
	t.Helper()
	events, err := url.Parse(bridge + "/events")
	if err != nil {
		t.Fatal(err)
	}
	tabs := newTabs(events)
	mux := http.NewServeMux()
	mux.Handle("GET /tabs/{tab}/events", tabs)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = pageServer(mux)
	srv.Config.WriteTimeout = shortTimeout
	srv.Start()
	t.Cleanup(srv.Close)
	return tabs, srv.Listener.Addr().String()
}

// talkative is a bridge that sends an event for each value on more, and notes
// what it was asked.
func talkative(t *testing.T, more <-chan struct{}) (url string, asked chan string) {
	t.Helper()
	asked = make(chan string, 10) // more requests than a test makes
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String() + " " + r.Header.Get("Last-Event-ID") + " " + r.Host
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for {
			if _, err := io.WriteString(w, event); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

// openTab asks for a tab's events on a connection of its own, and returns that
// once the first event is there.
func openTab(t *testing.T, addr, tab string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET /tabs/%s/events?subject=a HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1~z\r\n\r\n", tab); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	readEvent(t, r)
	return conn, r
}

// readEvent reads up to the end of an event.
func readEvent(t *testing.T, r *bufio.Reader) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%v before the end of an event", err)
		}
		if strings.HasPrefix(line, "id: 1~a.b") {
			return
		}
	}
}

// What the button claims: the connection is reset inside an event, and nobody
// else's is.
func TestCutBreaksAnEventInTwoForThisTabOnly(t *testing.T) {
	more := make(chan struct{})
	bridge, asked := talkative(t, more)
	tabs, addr := tabServer(t, bridge)
	_, mine := openTab(t, addr, "mine")
	if got, want := <-asked, "/events?subject=a 1~z "+strings.TrimPrefix(bridge, "http://"); got != want {
		t.Errorf("the bridge was asked for %q, want %q", got, want)
	}
	_, other := openTab(t, addr, "other")

	type answer struct {
		cut cut
		err error
	}
	done := make(chan answer, 1)
	go func() {
		c, err := tabs.Cut(t.Context(), "mine")
		done <- answer{c, err}
	}()
	rest := make(chan error, 1)
	var text []byte
	go func() {
		var err error
		text, err = io.ReadAll(mine)
		rest <- err
	}()
	// Events come until the connection is gone: the cut may be asked for late.
	var ended error
	sent := 0
	for waiting := true; waiting; {
		select {
		case more <- struct{}{}:
			sent++
		case ended = <-rest:
			waiting = false
		}
	}
	if !errors.Is(ended, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v, want %v", ended, syscall.ECONNRESET)
	}
	a := <-done
	if a.err != nil || a.cut.Connections != 1 {
		t.Fatalf("Cut: %+v, %v; want one connection", a.cut, a.err)
	}
	if a.cut.Of > 0 && (a.cut.Sent == 0 || a.cut.Sent >= a.cut.Of || strings.HasSuffix(strings.TrimSuffix(string(text), "\r\n"), "\n\n")) {
		t.Errorf("cut after %d of %d bytes, the last of them %q; want the middle of an event", a.cut.Sent, a.cut.Of, text)
	}
	if a.cut.Of == 0 {
		t.Error("cut between two events, though more came")
	}
	go func() {
		for {
			select {
			case more <- struct{}{}:
			case <-t.Context().Done():
				return
			}
		}
	}()
	for range sent + 1 { // at least one of them came after the cut
		readEvent(t, other)
	}
}

// A bridge that has nothing to say must not delay the cut for ever.
func TestCutDoesNotWaitForAnEvent(t *testing.T) {
	bridge, _ := talkative(t, nil)
	tabs, addr := tabServer(t, bridge)
	_, mine := openTab(t, addr, "mine")
	done, err := tabs.Cut(t.Context(), "mine")
	if err != nil || done != (cut{Connections: 1}) {
		t.Errorf("Cut: %+v, %v; want one connection, cut between events", done, err)
	}
	if _, err := io.ReadAll(mine); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v, want %v", err, syscall.ECONNRESET)
	}
	if _, err := tabs.Cut(t.Context(), "mine"); !errors.Is(err, errNoConnection) {
		t.Errorf("Cut again: %v, want %v", err, errNoConnection)
	}
	if len(tabs.open) != 0 {
		t.Errorf("%d tabs are remembered, want none", len(tabs.open))
	}
}

// The timeout of the page server is for pages; a stream that it ended would look
// like a bridge that fails every ten seconds.
func TestTabsOutliveTheTimeoutOfPages(t *testing.T) {
	more := make(chan struct{})
	bridge, _ := talkative(t, more)
	_, addr := tabServer(t, bridge)
	_, mine := openTab(t, addr, "mine")
	for range 3 {
		<-time.After(2 * shortTimeout)
		select {
		case more <- struct{}{}:
		case <-time.After(patience):
			t.Fatal("the bridge's connection has ended")
		}
		readEvent(t, mine)
	}
}

// Any status but 200 ends a browser's EventSource for good; a connection that
// breaks off without an answer does not.
func TestTabsBreakOffWhileTheBridgeIsDown(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bridge := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, addr := tabServer(t, bridge)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/tabs/mine/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err == nil {
		_ = res.Body.Close()
		t.Fatalf("status %d, want no answer at all", res.StatusCode)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want the end of the connection", err)
	}
}

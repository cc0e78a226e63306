package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// noted notes what a bridge and a stream are asked to do, in order.
type noted struct {
	done []string
	fail error
}

func (n *noted) Start(context.Context) error { n.done = append(n.done, "start"); return n.fail }
func (n *noted) Kill(context.Context) error  { n.done = append(n.done, "kill"); return n.fail }

func (n *noted) Restart(_ context.Context, pause time.Duration) (int, error) {
	n.done = append(n.done, "restart after "+pause.String())
	return 42, n.fail
}

func (n *noted) Recreate(context.Context) error { n.done = append(n.done, "recreate"); return n.fail }

// press presses a button as a browser does for a page of that origin.
func press(n *noted, deed, body, origin string) *httptest.ResponseRecorder {
	handler := deeds{
		bridge: n, tabs: newTabs(&url.URL{Scheme: "http", Host: "127.0.0.1:1"}),
		streams: map[string]stream{"prices": n}, log: discard(),
	}.Handler()
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8400/do/"+deed, strings.NewReader(body))
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// Each button does what stands on it, and says so.
func TestButtonsDoWhatTheySay(t *testing.T) {
	const own = "http://127.0.0.1:8400"
	for _, test := range []struct {
		deed, body string
		status     int
		answer     string
		done       []string
	}{
		{"kill", "", http.StatusOK, `{"pid":42}`, []string{"restart after 1s"}},
		{"stop", "{}", http.StatusOK, "{}", []string{"kill"}},
		{"start", "", http.StatusOK, "{}", []string{"start"}},
		{"recreate", `{"stream":"prices"}`, http.StatusOK, "{}", []string{"recreate"}},
		{"recreate", `{"stream":"orders"}`, http.StatusBadRequest, `"orders"`, nil},
		{"recreate", `{"stream":7}`, http.StatusBadRequest, "JSON", nil},
		{"recreate", "", http.StatusBadRequest, "not understood", nil},
		{"cut", `{"tab":"nobody"}`, http.StatusConflict, "no connection", nil},
		{"cut", `{"tab":"` + strings.Repeat("x", deedBytes) + `"}`, http.StatusBadRequest, "small", nil},
		{"explode", "", http.StatusNotFound, "", nil},
	} {
		n := &noted{}
		w := press(n, test.deed, test.body, own)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.answer) || !slices.Equal(n.done, test.done) {
			t.Errorf("%s %.40s: status %d, %q, done %q; want %d, %q, %q",
				test.deed, test.body, w.Code, w.Body, n.done, test.status, test.answer, test.done)
		}
	}
	n := &noted{fail: errors.New("the broker is away")}
	if w := press(n, "recreate", `{"stream":"prices"}`, own); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the broker is away") {
		t.Errorf("a deed that fails: status %d, %q; want 503 and why", w.Code, w.Body)
	}
}

// A page of another site that is open in the same browser must not kill
// processes here.
func TestOtherSitesPressNoButtons(t *testing.T) {
	for _, origin := range []string{"http://evil.example", "http://127.0.0.1:9999", "null"} {
		for _, deed := range []string{"kill", "stop", "start", "cut", "recreate"} {
			n := &noted{}
			if w := press(n, deed, `{"stream":"prices"}`, origin); w.Code != http.StatusForbidden || len(n.done) > 0 {
				t.Errorf("%s from %s: status %d, done %q; want 403 and nothing", deed, origin, w.Code, n.done)
			}
		}
	}
	if w := press(&noted{}, "kill", "", ""); w.Code != http.StatusOK { // no browser, such as curl
		t.Errorf("kill from no page: status %d, want 200", w.Code)
	}
}

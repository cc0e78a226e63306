package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// echo stands for the handler of events: it says which path it was asked for.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "events at "+r.URL.Path+" "+r.URL.RawQuery)
})

func inspecting() Options {
	return Options{Inspector: true, Loopback: true, Events: echo, EventsPath: "/live/events", Version: "v1.2.3"}
}

// Who types the address of the listener wants to see something.
func TestRootLeadsToTheInspector(t *testing.T) {
	w := ask(t, inspecting(), http.MethodGet, "/", "localhost", "")
	if w.Code != http.StatusFound || w.Header().Get("Location") != "/inspector/" {
		t.Errorf("got %d to %q, want 302 to /inspector/", w.Code, w.Header().Get("Location"))
	}
}

// Whatever a record holds, the page runs no code but its own, and loads nothing
// from elsewhere.
func TestInspectorFilesAreSentAsWhatTheyAre(t *testing.T) {
	files, err := fs.ReadDir(Static(), ".")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	names := []string{""}
	for _, f := range files {
		names = append(names, f.Name())
	}
	for _, name := range names {
		w := ask(t, inspecting(), http.MethodGet, "/inspector/"+name, "localhost", "")
		want := types[path.Ext(name)]
		if name == "" {
			want = types[".html"]
		}
		h := w.Header()
		if w.Code != http.StatusOK || want == "" || h.Get("Content-Type") != want || w.Body.Len() == 0 {
			t.Errorf("%q: %d, %q, want 200, %q", name, w.Code, h.Get("Content-Type"), want)
		}
		for header, value := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer",
		} {
			if h.Get(header) != value {
				t.Errorf("%q: %s is %q, want %q", name, header, h.Get(header), value)
			}
		}
	}
	for _, name := range []string{"nothing", "../admin.go", "static/app.js", "app.js/"} {
		if w := ask(t, inspecting(), http.MethodGet, "/inspector/"+name, "localhost", ""); w.Code == http.StatusOK {
			t.Errorf("%q is served", name)
		}
	}
}

// The policy forbids what would need it to be weaker, so none of it may be there.
func TestInspectorHasNothingInlineAndNothingFromElsewhere(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son[a-z]+=|javascript:|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|(?:src|href|url|import|from)\s*[=(]?\s*["']?https?://`)
	files, err := fs.ReadDir(Static(), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := fs.ReadFile(Static(), f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if found := forbidden.Find(text); found != nil {
			t.Errorf("%s has %q", f.Name(), found)
		}
	}
}

// A new build is seen at once, and the same one is not sent again.
func TestInspectorFilesAreSentOnce(t *testing.T) {
	etag := ask(t, inspecting(), http.MethodGet, "/inspector/app.js", "localhost", "").Header().Get("ETag")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/inspector/app.js", nil)
	r.Header.Set("If-None-Match", etag)
	w := httptest.NewRecorder()
	o := inspecting()
	o.Probes = sink.NewProbes(sink.ProbeOptions{})
	NewHandler(o).ServeHTTP(w, r)
	if etag == "" || w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("ETag %q: got %d with %d bytes, want 304 with none", etag, w.Code, w.Body.Len())
	}
}

// The page has to come before the token can be asked for, and it is no secret.
// Where no token could open anything, not even the page is there. What it reads is
// one: records are the operator's as much as the state of streams.
func TestInspectorIsAsOpenAsTheListener(t *testing.T) {
	for name, test := range map[string]struct {
		loopback    bool
		token, host string
		page, data  int
	}{
		"loopback":                   {true, "", "localhost:8481", 200, 200},
		"rebound":                    {true, "", "evil.example", 403, 403},
		"loopback, token":            {true, "s3cret", "localhost:8481", 200, 200},
		"behind a proxy, token":      {true, "s3cret", "admin.example", 200, 401},
		"beyond":                     {false, "", "10.0.0.1:8481", 403, 403},
		"beyond, loopback host":      {false, "", "localhost", 403, 403},
		"beyond, token":              {false, "s3cret", "10.0.0.1:8481", 200, 401},
		"beyond, token, other names": {false, "s3cret", "localhost", 200, 401},
	} {
		o := inspecting()
		o.Loopback = test.loopback
		if test.token != "" {
			o.Token = token(test.token)
		}
		for path, want := range map[string]int{"/inspector/": test.page, "/inspector/app.js": test.page, "/inspector/config.json": test.data, "/events": test.data, "/events/orders": test.data} {
			if w := ask(t, o, http.MethodGet, path, test.host, ""); w.Code != want {
				t.Errorf("%s: %s: got %d, want %d", name, path, w.Code, want)
			}
		}
	}
}

// The page reads the same events as clients do, whatever path they have there.
func TestEventsAreServedBesideTheInspector(t *testing.T) {
	for path, want := range map[string]string{
		"/events?subject=a.%3E": "events at /live/events subject=a.%3E",
		"/events/orders":        "events at /live/events/orders ",
	} {
		if w := ask(t, inspecting(), http.MethodGet, path, "localhost", ""); w.Body.String() != want {
			t.Errorf("%s: got %q, want %q", path, w.Body, want)
		}
	}
}

// Off means off: nothing of it is there.
func TestInspectorCanBeOff(t *testing.T) {
	o := inspecting()
	o.Inspector = false
	for _, path := range []string{"/", "/inspector/", "/inspector/app.js", "/inspector/config.json", "/events"} {
		if w := ask(t, o, http.MethodGet, path, "localhost", ""); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, w.Code)
		}
	}
}

// What is chosen from has to be what is there.
func TestConfigTellsWhatThereIsToFollow(t *testing.T) {
	broker := sourcetest.NewBroker(sourcetest.BrokerOptions{Kind: sourcetest.KafkaLike, Partitions: 1})
	orders := bridge.NewStream("orders", recorded{feigned{broker.Source(sourcetest.SourceOptions{}), []bridge.Change{
		{Kind: bridge.Spaced, Subjects: []string{"orders.*"}},
	}}, []string{"orders.4711", "orders.4712", "orders.4711"}}, bridge.StreamOptions{})
	waiting := bridge.NewStream("prices", feigned{}, bridge.StreamOptions{})
	if err := orders.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := inspecting()
	o.Streams = []Stream{{orders, "kafka@eu", "orders.v1"}, {waiting, "nats", "PRICES"}}
	const streams = `"streams":[{"name":"orders","broker":"kafka","subjects":["orders.*"],"recent":["orders.4711","orders.4712"]},` +
		`{"name":"prices","broker":"nats","subjects":null,"recent":[]}]}`
	w := ask(t, o, http.MethodGet, "/inspector/config.json", "localhost", "")
	if want := `{"admin":true,"session":false,"version":"v1.2.3","events":"/events",` + streams; compact(t, w.Body.Bytes()) != want {
		t.Errorf("got  %s\nwant %s", w.Body, want)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://app.example/inspector/config.json", nil)
	w = httptest.NewRecorder()
	WithInspector(o, echo).ServeHTTP(w, r)
	if want := `{"admin":false,"session":false,"version":"v1.2.3","events":"/live/events",` + streams; compact(t, w.Body.Bytes()) != want {
		t.Errorf("public: got  %s\nwant %s", w.Body, want)
	}
}

// compact is JSON without blanks.
func compact(t *testing.T, text []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// recorded is a source whose live reader reports changes, then records.
type recorded struct {
	feigned
	subjects []string
}

func (r recorded) Tail(ctx context.Context, out bridge.Receiver) error {
	if err := r.feigned.Tail(ctx, out); err != nil {
		return err
	}
	for i, subject := range r.subjects {
		out.Records([]bridge.Record{{Origin: subject, Offset: bridge.Offset(i)}})
	}
	return nil
}

// A session can be ended only if there is one.
func TestConfigTellsOfTheSession(t *testing.T) {
	secret := "s3cret"
	h := NewHandler(beyond(&secret))
	w := post(t, h, http.MethodGet, "/inspector/config.json", "", with(login(t, h, secret)))
	var got struct{ Session, Admin bool }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || !got.Session || !got.Admin {
		t.Errorf("got %s, %v, want session and admin", w.Body, err)
	}
}

// In public the page is there for everybody, and nothing else of the operator's.
func TestPublicInspectorOpensNothingElse(t *testing.T) {
	o := inspecting()
	o.Loopback = false
	h := WithInspector(o, echo)
	for path, want := range map[string]string{
		"/live/events": "events at ", "/": "events at ", "/streams": "events at ", "/inspectors": "events at ",
		"/inspector/": "<!doctype html>", "/inspector/app.js": "//", "/inspector/login": `{"title":"Nothing is here"`, "/inspector/nothing": `{"title":"Nothing is here"`,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://app.example"+path, nil))
		if !strings.HasPrefix(w.Body.String(), want) {
			t.Errorf("%s: got %d %.60q, want %q…", path, w.Code, w.Body, want)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://app.example/inspector/login", strings.NewReader(`{"token":"x"}`)))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("login in public: %d, want 405", w.Code)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://app.example/inspector", nil))
	if w.Header().Get("Location") != "/inspector/" {
		t.Errorf("/inspector: %d to %q, want a redirect to /inspector/", w.Code, w.Header().Get("Location"))
	}
	for path, want := range map[string]bool{"/inspector": true, "/inspector/x": true, "/inspectors": false, "/x/inspector": false, "/events": false} {
		if InspectorClaims(path) != want {
			t.Errorf("InspectorClaims(%q) is %v", path, !want)
		}
	}
}

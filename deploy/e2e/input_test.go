package e2e

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// An id that a machine keeps and nobody can mend is answered in the stream,
// because an error would end a browser's EventSource for good. One that a
// program wrote into a URL is an error that its author can see.
func TestUnreadableIDs(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("", 1, 4)
	id := s.leaveAt("2")
	bystander := s.live("start=all")

	ids := []string{
		"0", "17", "1~", "1~s", "2~" + strings.TrimPrefix(id, "1~"), id + id, id + "x", "x" + id, strings.ToUpper(id),
		"null", "undefined", "[object Object]", `{"orders":5}`, "../../etc/passwd", "\xff\xfe", "ünreadable", strings.Repeat("a", 5000),
	}
	for n := 1; n < len(id); n++ {
		ids = append(ids, id[:n]) // some clients keep what they had when they were cut
	}
	for _, bad := range ids {
		r := read(t, bad, s.b.events("start=all"))
		r.awaitType("caught-up", 1)
		h := r.close()
		if got := h.verdicts(); !slices.Equal(got, []string{"reset"}) {
			t.Errorf("id %.60q: verdicts %q, want reset", bad, got)
		}
		if got := h.losses(); len(got) != 1 || !strings.HasPrefix(got[0], "reset unreadable-id ") {
			t.Errorf("id %.60q: losses %q, want one reset unreadable-id", bad, got)
		}
		if got := h.data(); !slices.Equal(got, []string{"1", "2", "3", "4"}) {
			t.Errorf("id %.60q: records %q, want what start=all says", bad, got)
		}
		if h[0].ID != "" || h[1].ID == "" {
			t.Errorf("id %.60q: ids %q of connected and %q of reset, want none and one", bad, h[0].ID, h[1].ID)
		}
		for _, name := range []string{"lastEventId", "last_event_id"} {
			got, err := get(t.Context(), s.b.events(name+"="+url.QueryEscape(bad)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != 400 || got.code() != "unreadable-id" {
				t.Errorf("id %.60q by %s: %d %s, want 400 unreadable-id", bad, name, got.status, got.code())
			}
		}
	}
	// An empty header is no header: the query counts.
	got, err := get(t.Context(), s.b.events("lastEventId=x"), map[string]string{"Last-Event-ID": ""})
	if err != nil || got.status != 400 {
		t.Errorf("empty header and a bad query: %d, %v, want 400", got.status, err)
	}
	s.checkUndisturbed(bystander)
}

// checkUndisturbed makes sure that a live client at the first bridge has noticed
// nothing and still gets what comes.
func (s *scene) checkUndisturbed(bystander *reader) {
	s.t.Helper()
	publish(s.t, s.js, "s.x", "still here ", 1, 1)
	bystander.awaitData("still here 1")
	if n := bystander.connections(); n != 1 {
		s.t.Errorf("the bystander connected %d times, want once", n)
	}
	s.check(story{readLife(s.t, s.js, "S")}, noLosses, map[string]*reader{"bystander": bystander})
}

// Mistakes are answered by a status, a stable code and advice, before anything
// else happens, and nobody else notices.
func TestBadRequestsGetClearAnswers(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true}, "MAX_PATTERNS=3")
	s.publish("", 1, 3)
	bystander := s.live("start=all")
	at := func(path string) string { return s.a.URL + path }
	for _, tt := range []struct {
		name, method, url string
		header            map[string]string
		status            int
		code              string
	}{
		{"empty pattern", "GET", at("/events?subject="), nil, 400, "bad-subject"},
		{"empty token", "GET", at("/events?subject=a..b"), nil, 400, "bad-subject"},
		{"rest in the middle", "GET", at("/events?subject=a.%3E.b"), nil, 400, "bad-subject"},
		{"blank in a pattern", "GET", at("/events?subject=a%20b"), nil, 400, "bad-subject"},
		{"control in a pattern", "GET", at("/events?subject=a%0Ab"), nil, 400, "bad-subject"},
		{"wildcard in a token", "GET", at("/events?subject=a.b*"), nil, 400, "bad-subject"},
		{"one of several patterns", "GET", at("/events?subject=a&subject=.b"), nil, 400, "bad-subject"},
		{"very long pattern", "GET", at("/events?subject=" + strings.Repeat("a", 20000)), nil, 400, "bad-subject"},
		{"too many patterns", "GET", at("/events?subject=a&subject=b&subject=c&subject=d"), nil, 400, "too-many-subjects"},
		{"unknown stream", "GET", at("/events?stream=nothing"), nil, 404, "unknown-stream"},
		{"unknown stream by path", "GET", at("/events/nothing"), nil, 404, "unknown-stream"},
		{"no stream has the subjects", "GET", at("/events?subject=elsewhere.%3E"), nil, 404, "no-stream"},
		{"unknown parameter", "GET", at("/events?subjects=a"), nil, 400, "unknown-parameter"},
		{"unknown parameter in another case", "GET", at("/events?Subject=a"), nil, 400, "unknown-parameter"},
		{"doubled parameter", "GET", at("/events?start=all&start=new"), nil, 400, "duplicate-parameter"},
		{"two spellings of the id", "GET", at("/events?lastEventId=a&last_event_id=b"), nil, 400, "duplicate-parameter"},
		{"bad start", "GET", at("/events?start=yesterday"), nil, 400, "bad-parameter"},
		{"start in the future by duration", "GET", at("/events?start=-5m"), nil, 400, "bad-parameter"},
		{"empty start", "GET", at("/events?start="), nil, 400, "bad-parameter"},
		{"bad format", "GET", at("/events?format=xml"), nil, 400, "bad-parameter"},
		{"bad on-reset", "GET", at("/events?on-reset=maybe"), nil, 400, "bad-parameter"},
		{"bad names", "GET", at("/events?names=no"), nil, 400, "bad-parameter"},
		{"bad control", "GET", at("/events?control=0"), nil, 400, "bad-parameter"},
		{"broken escape", "GET", at("/events?subject=%zz"), nil, 400, "bad-query"},
		{"semicolon", "GET", at("/events?subject=a;start=all"), nil, 400, "bad-query"},
		{"another path", "GET", at("/"), nil, 404, "not-found"},
		{"below a stream", "GET", at("/events/s/more"), nil, 404, "not-found"},
		{"slash at the end", "GET", at("/events/"), nil, 404, "not-found"},
		{"POST", "POST", at("/events"), nil, 405, "method-not-allowed"},
		{"PUT", "PUT", at("/events/s"), nil, 405, "method-not-allowed"},
		{"DELETE", "DELETE", at("/events"), nil, 405, "method-not-allowed"},
		{"TRACE", "TRACE", at("/events"), nil, 405, "method-not-allowed"},
		{"made-up method", "BREW", at("/events"), nil, 405, "method-not-allowed"},
		{"Accept JSON", "GET", at("/events"), map[string]string{"Accept": "application/json"}, 406, "not-acceptable"},
		{"Accept without", "GET", at("/events"), map[string]string{"Accept": "text/*, text/event-stream;q=0"}, 406, "not-acceptable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := request(t.Context(), tt.method, tt.url, tt.header)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != tt.status || got.code() != tt.code {
				t.Errorf("got %d %s, want %d %s; body %s", got.status, got.code(), tt.status, tt.code, got.body)
			}
			if allow := got.header.Get("Allow"); (tt.status == 405) != (allow == "GET, HEAD, OPTIONS") {
				t.Errorf("Allow %q", allow)
			}
			if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != "" {
				t.Errorf("Access-Control-Allow-Origin %q without an origin", allowed)
			}
			if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v, want nosniff and no-store", got.header)
			}
		})
	}
	s.checkUndisturbed(bystander)
}

// What HTTP itself refuses must not disturb anybody either.
func TestOversizedAndBrokenRequestsHarmNobody(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true})
	s.publish("", 1, 3)
	bystander := s.live("start=all")
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	for name, c := range map[string]*ssetest.Client{
		"header of 100 kB":    {Header: map[string]string{"X-Large": strings.Repeat("a", 100_000)}},
		"id of 100 kB":        {LastID: strings.Repeat("a", 100_000)},
		"bad header":          {Header: map[string]string{"X Bad": "a"}},
		"two lines in one":    {Header: map[string]string{"X-Inject": "a\r\n b\r\nContent-Length: -1"}},
		"no host":             {Header: map[string]string{"Host": ""}},
		"unknown expectation": {Header: map[string]string{"Expect": "tea"}},
	} {
		c.URL = s.a.events("")
		stream, err := c.Open(ctx)
		if err != nil {
			t.Errorf("%s: %v, want an answer", name, err)
			continue
		}
		if got := stream.Status(); got < 400 || got > 499 {
			t.Errorf("%s: status %d, want one of a client's mistake", name, got)
		}
		stream.Close()
	}
	// A method that only asks gets the head and no stream.
	got, err := request(ctx, http.MethodHead, s.a.events("start=all"), nil)
	if err != nil || got.status != 200 || got.body != "" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("HEAD: %+v, %v", got, err)
	}
	// A client of HTTP/1.0 cannot read chunks.
	stream, err := (&ssetest.Client{URL: s.a.events("start=all"), HTTP10: true}).Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if e, err := stream.Next(ctx); err != nil || e.Type != "connected" || stream.Chunked() {
		t.Errorf("HTTP/1.0: %v, %v, chunked %v", e, err, stream.Chunked())
	}
	s.checkUndisturbed(bystander)
}

// Pages of other origins read if they were allowed to, and only then.
func TestOriginsThatWereAllowedMayRead(t *testing.T) {
	t.Parallel()
	s := newScene(t, jetstream.StreamConfig{AllowDirect: true}, "CORS_ORIGINS=https://app.example,http://localhost:*")
	for origin, allowed := range map[string]bool{
		"https://app.example":        true,
		"http://localhost":           true,
		"http://localhost:5173":      true,
		"http://app.example":         false,
		"https://app.example:8443":   false,
		"https://app.example.evil":   false,
		"https://evil-app.example":   false,
		"http://localhost.evil:5173": false,
		"http://localhost:":          false,
		"null":                       false,
	} {
		want := ""
		if allowed {
			want = origin
		}
		// The preflight of a fetch with a Last-Event-ID.
		preflight, err := request(t.Context(), http.MethodOptions, s.a.events("start=all"), map[string]string{
			"Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id",
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := preflight.header.Get("Access-Control-Allow-Origin"); got != want || preflight.status != 204 {
			t.Errorf("preflight from %s: %d, allowed %q, want 204, %q", origin, preflight.status, got, want)
		}
		if got := preflight.header.Get("Access-Control-Allow-Headers"); strings.Contains(got, "last-event-id") != allowed {
			t.Errorf("preflight from %s: headers %q", origin, got)
		}
		if vary := preflight.header.Get("Vary"); !strings.Contains(vary, "Origin") {
			t.Errorf("preflight from %s: Vary %q, want Origin in it", origin, vary)
		}
		// The stream itself, and an error, which the page should be able to read too.
		stream, err := (&ssetest.Client{URL: s.a.events("start=all"), Header: map[string]string{"Origin": origin}}).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.Header("Access-Control-Allow-Origin"); got != want || stream.Header("Access-Control-Allow-Credentials") != "" {
			t.Errorf("stream for %s: allowed %q, credentials %q, want %q and none", origin, got, stream.Header("Access-Control-Allow-Credentials"), want)
		}
		stream.Close()
		refusal, err := get(t.Context(), s.a.events("start=never"), map[string]string{"Origin": origin})
		if err != nil {
			t.Fatal(err)
		}
		if got := refusal.header.Get("Access-Control-Allow-Origin"); got != want || refusal.status != 400 {
			t.Errorf("error for %s: %d, allowed %q, want 400, %q", origin, refusal.status, got, want)
		}
	}
}

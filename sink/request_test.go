package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// ask sends a request straight to a handler whose followers end at once, and
// returns the response and the subscription that was opened, if any.
func ask(t *testing.T, o Options, r *http.Request) (*httptest.ResponseRecorder, *bridge.Subscription) {
	t.Helper()
	var opened *bridge.Subscription
	o.Streams = []string{"orders", "prices"}
	o.Open = func(_ context.Context, sub *bridge.Subscription) (Follower, error) {
		opened = sub
		f := &script{steps: make(chan step, 1), closed: make(chan struct{})}
		f.steps <- step{blocks: "event: connected\ndata: {}\n\n", err: bridge.ErrNoStream}
		return f, nil
	}
	h := NewHandler(o)
	h.random = func() float64 { return 0.5 }
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w, opened
}

func get(t *testing.T, target string, header ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// What a client asks for must arrive as it was meant, and what it leaves out
// must leave the choice to the streams.
func TestRequestsBecomeSubscriptions(t *testing.T) {
	id, err := bridge.ParseID(validID)
	if err != nil {
		t.Fatal(err)
	}
	other := bridge.ID{{Stream: "prices", Position: bridge.Position{Incarnation: 1, Places: []bridge.Place{{Offset: 1}}}}}.String()
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	at := func(when time.Time) *bridge.Start { return &bridge.Start{Kind: bridge.StartAt, At: when} }
	tests := []struct {
		name   string
		target string
		header []string
		change func(*bridge.Subscription) // of the subscription of a request without anything
	}{
		{"nothing", "/events", nil, func(*bridge.Subscription) {}},
		{"stream in the path", "/events/orders", nil, func(s *bridge.Subscription) { s.Names = []string{"orders"} }},
		{"streams", "/events/prices?stream=orders&stream=prices", nil, func(s *bridge.Subscription) { s.Names = []string{"orders", "prices"} }},
		{"subjects", "/events?subject=orders.eu.%3E&subject=prices.*", nil, func(s *bridge.Subscription) { s.Filter = bridge.NewFilter("orders.eu.>", "prices.*") }},
		{"id in the header", "/events", []string{"Last-Event-ID", validID}, func(s *bridge.Subscription) { s.From = id }},
		{"empty header is none", "/events", []string{"Last-Event-ID", ""}, func(*bridge.Subscription) {}},
		{"empty header leaves the query", "/events?lastEventId=" + validID, []string{"Last-Event-ID", ""}, func(s *bridge.Subscription) { s.From = id }},
		{"lastEventId", "/events?lastEventId=" + validID, nil, func(s *bridge.Subscription) { s.From = id }},
		{"last-event-id", "/events?last-event-id=" + validID, nil, func(s *bridge.Subscription) { s.From = id }},
		{"lastEventID", "/events?lastEventID=" + validID, nil, func(s *bridge.Subscription) { s.From = id }},
		{"last_event_id", "/events?last_event_id=" + validID, nil, func(s *bridge.Subscription) { s.From = id }},
		{"empty in the query is none", "/events?lastEventId=", nil, func(*bridge.Subscription) {}},
		{"the header wins", "/events?lastEventId=" + other, []string{"Last-Event-ID", validID}, func(s *bridge.Subscription) { s.From = id }},
		{"the header wins over an unreadable query", "/events?lastEventId=x", []string{"Last-Event-ID", validID}, func(s *bridge.Subscription) { s.From = id }},
		{"unreadable header", "/events", []string{"Last-Event-ID", validID[:len(validID)-1]}, func(s *bridge.Subscription) { s.Unreadable = true }},
		{"unreadable header, readable query", "/events?lastEventId=" + validID, []string{"Last-Event-ID", "x"}, func(s *bridge.Subscription) { s.Unreadable = true }},
		{"two headers", "/events", []string{"Last-Event-ID", validID, "Last-Event-ID", other}, func(s *bridge.Subscription) { s.Unreadable = true }},
		{"new", "/events?start=new", nil, func(s *bridge.Subscription) { s.Start = &bridge.Start{Kind: bridge.StartNew} }},
		{"all", "/events?start=all", nil, func(s *bridge.Subscription) { s.Start = &bridge.Start{Kind: bridge.StartAll} }},
		{"a time", "/events?start=2026-01-31T12:00:00Z", nil, func(s *bridge.Subscription) { s.Start = at(noon) }},
		{"a time with a zone, plus not encoded", "/events?start=2026-01-31T14:00:00.5+02:00", nil, func(s *bridge.Subscription) { s.Start = at(noon.Add(time.Second / 2)) }},
		{"data is what streams have anyway", "/events?format=data", nil, func(*bridge.Subscription) {}},
		{"envelope", "/events?format=envelope", nil, func(s *bridge.Subscription) { s.Form.Format = FormatEnvelope }},
		{"base64", "/events?format=base64&names=off", nil, func(s *bridge.Subscription) { s.Form.Format, s.Form.NoNames = FormatBase64, true }},
		{"names on, control on", "/events?names=on&control=on", nil, func(*bridge.Subscription) {}},
		{"control off", "/events?control=off", nil, func(s *bridge.Subscription) { s.Control = false }},
		{"on-reset", "/events?on-reset=fail", nil, func(s *bridge.Subscription) { s.OnReset = bridge.ResetFail }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, got := ask(t, Options{}, get(t, tt.target, tt.header...))
			if got == nil {
				t.Fatalf("nothing was opened: %d %s", w.Code, w.Body)
			}
			if got.Form.Encoder == nil {
				t.Fatal("no encoder")
			}
			got.Form.Encoder = nil
			if got.Start != nil && got.Start.Kind == bridge.StartAt {
				got.Start.At = got.Start.At.UTC()
			}
			want := bridge.Subscription{Control: true, Heartbeat: DefaultHeartbeat, Retry: DefaultRetry}
			tt.change(&want)
			if len(got.Names) == 0 {
				got.Names = nil
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

// A duration counts from the moment of the request.
func TestStartReadsADurationBack(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	s, err := parseStart("15m", now)
	if err != nil || s.Kind != bridge.StartAt || !s.At.Equal(now.Add(-15*time.Minute)) {
		t.Errorf("got %+v, %v", s, err)
	}
}

// Clients of one form must share a feed, so they must get the same encoder; a
// format that a stream would have anyway is the same form only then.
func TestEqualFormsHaveEqualEncoders(t *testing.T) {
	h := NewHandler(Options{StreamFormats: map[string]string{"orders": FormatEnvelope}})
	read := func(query string) bridge.Form {
		sub, err := h.subscription(get(t, "/events?"+query), "")
		if err != nil {
			t.Fatal(err)
		}
		return sub.Form
	}
	if read("names=off") != read("names=off&subject=a") {
		t.Error("equal forms differ")
	}
	if read("format=data") == read("") {
		t.Error("a stream in envelopes counts as data")
	}
}

// Whoever wrote the request must learn what to change, by a code that stays.
func TestBadRequestsAreProblems(t *testing.T) {
	tests := []struct {
		name, target string
		status       int
		code         string
		parameter    string
		detail       string // part of it
	}{
		{"unknown parameter", "/events?subjects=a", 400, "unknown-parameter", "subjects", `"subjects"`},
		{"parameter of later", "/events?snapshot=true", 400, "unknown-parameter", "snapshot", `"snapshot"`},
		{"doubled", "/events?start=all&start=new", 400, "duplicate-parameter", "start", "2 times"},
		{"doubled id", "/events?lastEventId=a&last-event-id=b", 400, "duplicate-parameter", "lastEventId", "same parameter"},
		{"bad escape", "/events?subject=%zz", 400, "bad-query", "", "percent"},
		{"semicolon", "/events?a;b", 400, "bad-query", "", "percent"},
		{"bad subject", "/events?subject=orders..eu", 400, "bad-subject", "subject", `"orders..eu"`},
		{"empty subject", "/events?subject=", 400, "bad-subject", "subject", "token"},
		{"too many subjects", "/events?subject=a&subject=b&subject=c", 400, "too-many-subjects", "subject", "at most 2"},
		{"unknown stream", "/events?stream=nosuch", 404, "unknown-stream", "stream", `"nosuch"`},
		{"unknown stream in the path", "/events/nosuch", 404, "unknown-stream", "stream", `"nosuch"`},
		{"list of streams", "/events?stream=orders,prices", 404, "unknown-stream", "stream", `"orders,prices"`},
		{"unreadable id", "/events?last_event_id=x", 400, "unreadable-id", "last_event_id", "unreadable event id"},
		{"start", "/events?start=yesterday", 400, "bad-parameter", "start", "15m"},
		{"start in the future", "/events?start=-15m", 400, "bad-parameter", "start", "15m"},
		{"format", "/events?format=xml", 400, "bad-parameter", "format", "want data, envelope or base64"},
		{"cloudevents", "/events?format=cloudevents", 400, "bad-parameter", "format", `"cloudevents" is not available`},
		{"on-reset", "/events?on-reset=maybe", 400, "bad-parameter", "on-reset", "want since, all, new or fail"},
		{"names", "/events?names=no", 400, "bad-parameter", "names", "want on or off"},
		{"control", "/events?control=", 400, "bad-parameter", "control", "want on or off"},
		{"path", "/other", 404, "not-found", "", "path"},
		{"path with a slash", "/events/", 404, "not-found", "", "path"},
		{"path below a stream", "/events/orders/1", 404, "not-found", "", "path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, opened := ask(t, Options{MaxPatterns: 2}, get(t, tt.target))
			var p problem.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatalf("%s: %v", w.Body, err)
			}
			if opened != nil || w.Code != tt.status || p.Status != tt.status || p.Code != tt.code || p.Parameter != tt.parameter || !strings.Contains(p.Detail, tt.detail) {
				t.Errorf("got %d %+v, want %d %s about %q with %q", w.Code, p, tt.status, tt.code, tt.parameter, tt.detail)
			}
			if p.Title == "" || p.Advice == "" || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("incomplete: %+v, %v", p, w.Header())
			}
		})
	}
}

// A problem quotes what was wrong, and a stranger may have written it: it must
// stay short, be valid JSON, and be no markup to whatever looks at it.
func TestProblemsQuoteRequestsSafely(t *testing.T) {
	evil := "<img src=x onerror=alert(1)>\r\n\x00\xff\u2028" + strings.Repeat("y", 20000)
	for _, target := range []string{"/events?stream=", "/events?subject=", "/events?lastEventId=", "/events?start=", "/events?format="} {
		w, _ := ask(t, Options{}, get(t, target+url.QueryEscape(evil)))
		body := w.Body.String()
		if w.Code < 400 || len(body) > 2000 || !json.Valid([]byte(body)) || strings.ContainsAny(body[:len(body)-1], "<>\r\n\x00\u2028") {
			t.Errorf("%s: %d %d bytes: %.300q", target, w.Code, len(body), body)
		}
	}
	if p := newProblem(codeBadParameter, evil, evil); len(p.Detail) > problem.MaxDetailBytes+len("…") || len(p.Parameter) > 100 {
		t.Errorf("%d bytes of detail, %d of a name", len(p.Detail), len(p.Parameter))
	}
	w, _ := ask(t, Options{}, get(t, "/events?"+url.QueryEscape(evil)+"=1"))
	if body := w.Body.String(); len(body) > 2000 || strings.ContainsAny(body[:len(body)-1], "<>\r\n\x00") {
		t.Errorf("parameter name: %.300q", body)
	}
}

// Who mistypes a subject has to see which one, and in which streams it was
// looked for.
func TestNoStreamNamesWhatWasLookedFor(t *testing.T) {
	for target, want := range map[string]string{
		"/events?subject=orders.>&subject=orders.x&subject=b.*": `no stream has subjects that match "b.*" or "orders.>"`,
		"/events/orders?subject=x&stream=prices":                `none of the streams orders, prices has subjects that match "x"`,
		"/events":                                               `no stream has subjects that match`,
	} {
		var p problem.Problem
		w := httptest.NewRecorder()
		h := NewHandler(Options{Streams: []string{"orders", "prices"}, Open: func(context.Context, *bridge.Subscription) (Follower, error) {
			return nil, bridge.ErrNoStream
		}})
		h.ServeHTTP(w, get(t, target))
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code != codeNoStream || p.Detail != want {
			t.Errorf("%s: %s, want detail %s", target, w.Body, want)
		}
	}
	long := bridge.Subscription{}
	for i := range 100 {
		long.Names = append(long.Names, fmt.Sprint(i))
	}
	long.Filter = bridge.NewFilter(bridge.Pattern(strings.Repeat("x", 1000)), "<\u2028")
	if p := newProblem(codeNoStream, "", noStreamDetail(&long)); len(p.Detail) > problem.MaxDetailBytes+len("…") {
		t.Errorf("%d bytes of detail", len(p.Detail))
	}
}

// Codes are a contract, so the package comment must list each with its status.
func TestPackageCommentListsEveryCode(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for code, k := range kinds {
		if line := fmt.Sprintf("//\t%d %s ", k.Status, code); k.Status != 200 && !strings.Contains(string(text), line) {
			t.Errorf("doc.go does not list %d %s", k.Status, code)
		}
		if k.Title == "" || k.Advice == "" {
			t.Errorf("%s has no title or advice", code)
		}
	}
}

// An Accept that names other types only is a mistake of the caller's, but curl
// and fetch say */* or nothing.
func TestAcceptNegotiation(t *testing.T) {
	for header, want := range map[string]bool{
		"":                              true,
		"text/event-stream":             true,
		"Text/Event-Stream":             true,
		"text/event-stream; charset=x":  true,
		"*/*":                           true,
		"text/*":                        true,
		"application/json, */*;q=0.1":   true,
		"application/json":              false,
		"text/html,application/xml":     false,
		"text/event-stream;q=0, */*":    false,
		"text/*;q=0, */*":               false,
		"text/event-stream, */*;q=0":    true,
		"text/*, text/*;q=0":            true,
		"*/*;q=0":                       false,
		"nonsense":                      false,
		"application/json;q=x,text/*;q": true,
	} {
		if got := acceptsEventStream([]string{header}); got != want {
			t.Errorf("Accept %q: got %v, want %v", header, got, want)
		}
	}
	if !acceptsEventStream(nil) || !acceptsEventStream([]string{"application/json", "text/event-stream"}) {
		t.Error("no header, or two lines, are not read right")
	}
	w, opened := ask(t, Options{}, get(t, "/events", "Accept", "application/json"))
	if w.Code != 406 || opened != nil || !strings.Contains(w.Body.String(), `"not-acceptable"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

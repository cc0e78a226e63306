package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink"
)

// described is everything that the document describes.
func described(t *testing.T) (operations []string) {
	t.Helper()
	var doc struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			operations = append(operations, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(operations)
	return operations
}

func newValidator(t *testing.T) validator.Validator {
	t.Helper()
	doc, err := libopenapi.NewDocument(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(v.Release)
	return v
}

// Generators of clients stop at a document that is none.
func TestOpenAPIDocumentIsValid(t *testing.T) {
	if ok, errs := newValidator(t).ValidateDocument(); !ok {
		for _, err := range errs {
			t.Errorf("%s: %s", err.Message, err.Reason)
			for _, s := range err.SchemaValidationErrors {
				t.Errorf("  %s: %s", s.FieldPath, s.Reason)
			}
		}
	}
}

// A document that forgets a path, or invents one, is worse than none.
func TestOpenAPIDescribesWhatIsServed(t *testing.T) {
	served := []string{"GET /livez", "GET /readyz", "GET /startupz"}
	for _, r := range routes(everything(t)) {
		served = append(served, r.method+" "+r.path)
		if r.path == "/debug/pprof/" {
			served = append(served, "GET /debug/pprof/{profile}")
		}
	}
	slices.Sort(served)
	if got := described(t); !slices.Equal(got, served) {
		t.Errorf("described\n%s\nserved\n%s", strings.Join(got, "\n"), strings.Join(served, "\n"))
	}
}

// The codes that programs act on are listed in one place too few if the document
// lacks one.
func TestOpenAPIListsEveryCode(t *testing.T) {
	var doc struct {
		Components struct {
			Schemas struct {
				Problem struct {
					Properties struct{ Code struct{ Enum []string } }
				}
			}
		}
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	got := doc.Components.Schemas.Problem.Properties.Code.Enum
	if len(got) != len(kinds) {
		t.Errorf("%d codes are described, want %d", len(got), len(kinds))
	}
	for _, code := range got {
		if _, ok := kinds[code]; !ok {
			t.Errorf("code %q is described and not used", code)
		}
	}
}

// Programs are generated from the document: what it says of answers has to be
// true of real ones, good and bad.
func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	v := newValidator(t)
	o, connect := served(t)
	first := connect("?subject=orders.>&subject=prices.*&format=envelope")
	connect("")
	server := httptest.NewServer(NewHandler(o))
	defer server.Close()
	for _, q := range []struct {
		method, target, body string
		want                 int
	}{
		{"GET", "/streams", "", 200},
		{"GET", "/clients", "", 200},
		{"GET", "/clients?limit=1&stream=orders", "", 200},
		{"GET", "/clients?after=" + first, "", 200},
		{"GET", "/clients?limit=0", "", 400},
		{"GET", "/clients?stream=none", "", 404},
		{"POST", "/clients/disconnect", `{"id":"` + first + `"}`, 200},
		{"POST", "/clients/disconnect", `{"id":"99"}`, 404},
		{"POST", "/clients/disconnect", `{"id":"x"}`, 400},
		{"GET", "/openapi.json", "", 200},
		{"GET", "/inspector/config.json", "", 200},
		{"POST", "/inspector/login", `{"token":"x"}`, 404},
		{"POST", "/inspector/logout", "", 204},
		{"GET", "/debug/pprof/", "", 200},
		{"GET", "/debug/pprof/cmdline", "", 200},
		{"GET", "/debug/pprof/symbol", "", 200},
		{"GET", "/debug/pprof/heap?debug=1", "", 200},
		{"GET", "/livez", "", 200},
		{"POST", "/drain", "", 202},
		{"GET", "/readyz", "", 503},
	} {
		req, err := http.NewRequestWithContext(t.Context(), q.method, server.URL+q.target, strings.NewReader(q.body))
		if err != nil {
			t.Fatal(err)
		}
		if q.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != q.want {
			t.Errorf("%s %s: got %d, want %d: %s", q.method, q.target, res.StatusCode, q.want, body)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		req.Body = io.NopCloser(strings.NewReader(q.body))
		if ok, errs := v.ValidateHttpResponse(req, res); !ok {
			for _, err := range errs {
				t.Errorf("%s %s: %s: %s", q.method, q.target, err.Message, err.Reason)
				for _, s := range err.SchemaValidationErrors {
					t.Errorf("  %s: %s", s.FieldPath, s.Reason)
				}
			}
			t.Logf("the answer was %s", body)
		}
		if q.want < 300 {
			if ok, errs := v.ValidateHttpRequest(req); !ok {
				t.Errorf("%s %s is no request of the document: %v", q.method, q.target, errs)
			}
		}
	}
}

// A validator that finds nothing proves nothing.
func TestValidatorFindsWrongAnswers(t *testing.T) {
	v := newValidator(t)
	for target, body := range map[string]string{
		"/clients": `{"total":1,"clients":[{"id":17}]}`,
		"/streams": `{"streams":[{"name":"orders"}]}`,
	} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}
		if ok, _ := v.ValidateHttpResponse(req, res); ok {
			t.Errorf("%s: %s is taken for an answer", target, body)
		}
	}
}

// everything is options with all that can be served.
func everything(t *testing.T) Options {
	t.Helper()
	return Options{
		Probes: sink.NewProbes(sink.ProbeOptions{}), Metrics: http.NotFoundHandler(), Clients: sink.NewHandler(sink.Options{}),
		Drain: func() (int, time.Duration) { return 0, 0 }, Loopback: true, Inspector: true,
	}
}

// served is options over streams that are read and a handler with clients.
// connect opens a client and returns its id.
func served(t *testing.T) (o Options, connect func(query string) (id string)) {
	t.Helper()
	o = everything(t)
	o.Streams = []Stream{readStream(t, "orders"), waitingStream(t, "prices")}
	waits := make(chan struct{})
	events := sink.NewHandler(sink.Options{
		Streams: []string{"orders", "prices"}, StreamFormats: map[string]string{"prices": "base64"},
		Open: func(context.Context, *bridge.Subscription) (sink.Follower, error) { return &idle{waits: waits}, nil },
	})
	o.Clients = events
	o.Probes = sink.NewProbes(sink.ProbeOptions{Draining: events.Draining})
	o.Drain = func() (int, time.Duration) {
		n := events.Clients()
		if err := events.Drain(t.Context(), 0); err != nil {
			t.Error(err)
		}
		return n, 20 * time.Second
	}
	public := httptest.NewServer(events)
	t.Cleanup(public.Close)
	return o, func(query string) string {
		t.Helper()
		before := events.ClientList(0, maxClients, "").Total
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, public.URL+"/events"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "tester/1 "+url.QueryEscape("é"))
		res, err := public.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		<-waits
		list := events.ClientList(0, maxClients, "").Clients
		if res.StatusCode != http.StatusOK || len(list) != before+1 {
			t.Fatalf("status %d, %d clients after %d", res.StatusCode, len(list), before)
		}
		return clientID(list[len(list)-1].Number)
	}
}

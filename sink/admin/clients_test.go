package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// send sends a request with a loopback Host to a handler.
func send(t *testing.T, h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Host = "localhost:8481"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// code is the code of a problem; the test fails if w is none.
func code(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var p struct {
		Code, Title, Detail, Advice string
		Status                      int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%v, Content-Type %q: %s", err, w.Header().Get("Content-Type"), w.Body)
	}
	if p.Status != w.Code || p.Title == "" || p.Detail == "" || p.Advice == "" {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	return p.Code
}

// A lost client is found by its address, and one that hangs by its lag: both are
// in one place, page by page.
func TestClientsTellsOfEachClient(t *testing.T) {
	o, connect := served(t)
	connect("?subject=orders.>&subject=prices.*&format=envelope")
	connect("")
	h := NewHandler(o)
	type answer struct {
		Total   int
		Next    *string
		Clients []map[string]any
	}
	var got, last answer
	w := send(t, h, http.MethodGet, "/clients?limit=1", "")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Total != 2 || len(got.Clients) != 1 || got.Next == nil || *got.Next != "1" {
		t.Fatalf("%v: %s", err, w.Body)
	}
	c := got.Clients[0]
	if _, err := time.Parse(time.RFC3339Nano, c["since"].(string)); err != nil {
		t.Error(err)
	}
	if address := c["address"].(string); !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("address %q", address)
	}
	delete(c, "since")
	delete(c, "address")
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"bytes":27,"events":1,"format":"envelope","id":"1","lag":12,"position":%q,"protocol":"HTTP/1.1","state":"level",`+
		`"streams":["orders"],"subjects":["orders.\u003e","prices.*"],"userAgent":"tester/1 %%C3%%A9"}`, idleID)
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	w = send(t, h, http.MethodGet, "/clients?stream=orders&after=1", "")
	if err := json.Unmarshal(w.Body.Bytes(), &last); err != nil || len(last.Clients) != 1 || last.Clients[0]["id"] != "2" || last.Next != nil {
		t.Fatalf("the last page: %v: %s", err, w.Body)
	}
	if _, told := last.Clients[0]["format"]; told {
		t.Errorf("a client that takes each stream's own format has one: %s", w.Body)
	}
}

// A parameter that is misread shows the wrong clients, and a body that is
// misread sends the wrong one away.
func TestRequestsThatCannotBeUsed(t *testing.T) {
	o, _ := served(t)
	h := NewHandler(o)
	for _, test := range []struct{ method, target, body, want string }{
		{"GET", "/clients?limit=0", "", "bad-parameter"},
		{"GET", "/clients?limit=1001", "", "bad-parameter"},
		{"GET", "/clients?limit=ten", "", "bad-parameter"},
		{"GET", "/clients?limit=", "", "bad-parameter"},
		{"GET", "/clients?after=-1", "", "bad-parameter"},
		{"GET", "/clients?after=1x", "", "bad-parameter"},
		{"GET", "/clients?limit=1&limit=2", "", "duplicate-parameter"},
		{"GET", "/clients?stream=none", "", "unknown-stream"},
		{"GET", "/clients?stream=", "", "unknown-stream"},
		{"GET", "/clients?page=2", "", "unknown-parameter"},
		{"GET", "/clients?limit=%zz", "", "bad-query"},
		{"POST", "/clients/disconnect", "", "bad-body"},
		{"POST", "/clients/disconnect", `{"id":17}`, "bad-body"},
		{"POST", "/clients/disconnect", `{"id":""}`, "bad-body"},
		{"POST", "/clients/disconnect", `{"id":"-1"}`, "bad-body"},
		{"POST", "/clients/disconnect", `{"id":"1","all":true}`, "bad-body"},
		{"POST", "/clients/disconnect", `{"id":"1"}{"id":"2"}`, "bad-body"},
		{"POST", "/clients/disconnect", `{"id":"` + strings.Repeat("1", maxBodyBytes) + `"}`, "bad-body"},
		{"POST", "/clients/disconnect", `{"id":"17"}`, "unknown-client"},
		{"POST", "/streams", "", "method-not-allowed"},
		{"GET", "/drain", "", "method-not-allowed"},
		{"PUT", "/debug/pprof/symbol", "", "method-not-allowed"},
		{"GET", "/nowhere", "", "not-found"},
	} {
		w := send(t, h, test.method, test.target, test.body)
		if got := code(t, w); got != test.want {
			t.Errorf("%s %s %s: got %s, want %s", test.method, test.target, test.body, got, test.want)
		}
		if allow := w.Header().Get("Allow"); (allow != "") != (test.want == "method-not-allowed") {
			t.Errorf("%s %s: Allow %q", test.method, test.target, allow)
		}
	}
}

// The page of somebody else, open in an operator's browser, reaches a loopback
// listener too. It could not read an answer, but must not drain the bridge either.
func TestForeignPagesChangeNothing(t *testing.T) {
	o, connect := served(t)
	id := connect("")
	drains := 0
	o.Drain = func() (int, time.Duration) { drains++; return 1, time.Second }
	h := NewHandler(o)
	for name, header := range map[string][]string{
		"another site":        {"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"},
		"another port":        {"Sec-Fetch-Site", "same-site", "Origin", "http://localhost:3000"},
		"an older browser":    {"Origin", "https://evil.example"},
		"a page without name": {"Origin", "null"},
	} {
		for target, body := range map[string]string{"/drain": "", "/clients/disconnect": `{"id":"` + id + `"}`} {
			w := send(t, h, http.MethodPost, target, body, header...)
			if w.Code != http.StatusForbidden || code(t, w) != "cross-origin" {
				t.Errorf("%s: POST %s: got %d %s", name, target, w.Code, w.Body)
			}
		}
	}
	if drains != 0 || o.Clients.ClientList(0, 1, "").Clients[0].State != "level" {
		t.Error("a foreign page changed something")
	}
	for name, header := range map[string][]string{
		"curl":         nil,
		"our own page": {"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:8481"},
	} {
		if w := send(t, h, http.MethodPost, "/drain", "", header...); w.Code != http.StatusAccepted {
			t.Errorf("%s: got %d %s", name, w.Code, w.Body)
		}
	}
	if drains != 2 {
		t.Errorf("%d drains, want 2", drains)
	}
}

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/sink"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// ask sends a request and returns the answer.
func ask(t *testing.T, o Options, method, path, host, authorization string) *httptest.ResponseRecorder {
	t.Helper()
	o.Probes = sink.NewProbes(sink.ProbeOptions{})
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Host = host
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	NewHandler(o).ServeHTTP(w, r)
	return w
}

func token(text string) func() string { return func() string { return text } }

// The second listener must answer the same probes as the first, and nothing
// that was not put there.
func TestHandlerServesWhatIsListedOnly(t *testing.T) {
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/startupz": 200, "/streams": 200, "/openapi.json": 200, "/debug/pprof/": 200, "/debug/pprof/goroutine": 200,
		"/": 404, "/events": 404, "/streams/": 404, "/metrics": 404, "/debug/pprof/none": 404, "/debug/": 404,
	} {
		if w := ask(t, Options{Loopback: true}, http.MethodGet, path, "localhost:8481", ""); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
	if w := ask(t, Options{Loopback: true}, http.MethodPost, "/streams", "localhost:8481", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d, want 405", w.Code)
	}
}

// Names of streams, offsets and the texts of errors are the operator's. Nobody
// else on the network may read them, nor a web page in the operator's browser
// whose host name has been made to resolve to this machine.
func TestOnlyOperatorsAreToldOfStreams(t *testing.T) {
	secret := token("planted-secret")
	for name, test := range map[string]struct {
		options             Options
		host, authorization string
		want                int
	}{
		"loopback":                        {Options{Loopback: true}, "127.0.0.1:8481", "", 200},
		"loopback by name":                {Options{Loopback: true}, "LocalHost:8481", "", 200},
		"loopback without port":           {Options{Loopback: true}, "localhost", "", 200},
		"loopback, IPv6":                  {Options{Loopback: true}, "[::1]:8481", "", 200},
		"loopback, IPv6 without port":     {Options{Loopback: true}, "[::1]", "", 200},
		"loopback, another of its names":  {Options{Loopback: true}, "127.9.9.9", "", 200},
		"rebound":                         {Options{Loopback: true}, "evil.example:8481", "", 403},
		"rebound, alike":                  {Options{Loopback: true}, "localhost.evil.example", "", 403},
		"rebound, no host":                {Options{Loopback: true}, "", "", 403},
		"rebound, unspecified":            {Options{Loopback: true}, "0.0.0.0:8481", "", 403},
		"rebound, token set":              {Options{Loopback: true, Token: secret}, "evil.example", "", 401},
		"loopback needs no token":         {Options{Loopback: true, Token: secret}, "localhost", "", 200},
		"behind a proxy, with the token":  {Options{Loopback: true, Token: secret}, "admin.example", "Bearer planted-secret", 200},
		"beyond, off":                     {Options{}, "10.0.0.1:8481", "", 403},
		"beyond, off for any token":       {Options{}, "10.0.0.1:8481", "Bearer planted-secret", 403},
		"beyond, a loopback host":         {Options{}, "localhost:8481", "", 403},
		"beyond, no token":                {Options{Token: secret}, "10.0.0.1:8481", "", 401},
		"beyond, loopback host, no token": {Options{Token: secret}, "localhost", "", 401},
		"beyond, token":                   {Options{Token: secret}, "10.0.0.1:8481", "Bearer planted-secret", 200},
		"beyond, token, other spelling":   {Options{Token: secret}, "10.0.0.1:8481", "bearer  planted-secret", 200},
		"beyond, wrong token":             {Options{Token: secret}, "10.0.0.1:8481", "Bearer planted-secre", 401},
		"beyond, longer token":            {Options{Token: secret}, "10.0.0.1:8481", "Bearer planted-secrets", 401},
		"beyond, other scheme":            {Options{Token: secret}, "10.0.0.1:8481", "Basic planted-secret", 401},
		"beyond, no scheme":               {Options{Token: secret}, "10.0.0.1:8481", "planted-secret", 401},
		"beyond, file gone":               {Options{Token: token("")}, "10.0.0.1:8481", "Bearer ", 401},
	} {
		w := ask(t, test.options, http.MethodGet, "/streams", test.host, test.authorization)
		if w.Code != test.want {
			t.Errorf("%s: got %d, want %d: %s", name, w.Code, test.want, w.Body)
		}
		if w.Code == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: the answer does not say how to authenticate", name)
		}
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", name, got)
		}
		secrettest.Check(t, name, w.Body.String())
		test.options.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		for _, path := range []string{"/livez", "/metrics"} {
			if p := ask(t, test.options, http.MethodGet, path, test.host, test.authorization); p.Code != 200 {
				t.Errorf("%s: %s got %d: orchestrators have no token", name, path, p.Code)
			}
		}
	}
}

// A path that is added and not guarded lets anybody on the network drain the
// bridge or read its memory.
func TestEverythingButProbesAndMetricsIsGuarded(t *testing.T) {
	o := everything(t)
	o.Drain = func() (int, time.Duration) {
		t.Error("a stranger drained the bridge")
		return 0, 0
	}
	o.Events = echo
	events := []route{{method: http.MethodGet, path: "/events"}, {method: http.MethodGet, path: "/events/orders"}, {method: http.MethodOptions, path: "/events"}}
	for _, r := range append(routes(o), events...) {
		for name, test := range map[string]struct {
			loopback bool
			token    func() string
			want     string
		}{
			"token":    {false, token("planted-secret"), "unauthorized"},
			"no token": {false, nil, "admin-off"},
			"rebound":  {true, nil, "foreign-host"},
		} {
			o.Loopback, o.Token = test.loopback, test.token
			w := ask(t, o, r.method, r.path, "evil.example", "")
			if r.path == "/metrics" || test.token != nil && strings.HasPrefix(r.path, inspectorPath+"log") {
				continue // who logs in has no login yet
			}
			if got := code(t, w); got != test.want {
				t.Errorf("%s: %s %s: got %s, want %s", name, r.method, r.path, got, test.want)
			}
		}
	}
}

// telling is a source that knows more of its partitions than its position.
type telling struct {
	bridge.Source
	reports []bridge.PartitionReport
}

func (s telling) ReportPartitions() []bridge.PartitionReport { return s.reports }
func (s telling) ReducedGuarantees() []string                { return []string{"less"} }

// An operator who is called at night sees in one place which stream waits, for
// what, and how far behind each partition is.
func TestStreamsTellsHowFarEachPartitionIs(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.FixedZone("", 3600))
	broker := sourcetest.NewBroker(sourcetest.BrokerOptions{Kind: sourcetest.KafkaLike, Partitions: 2})
	reading := bridge.NewStream("orders", telling{feigned{broker.Source(sourcetest.SourceOptions{}), []bridge.Change{
		{Kind: bridge.Waiting, Err: errors.New("no broker")},
		{Kind: bridge.Started, Position: bridge.Position{Incarnation: 71, Places: []bridge.Place{{Offset: 7, Proof: bridge.ProofOf(3)}, {Offset: 4}}}},
		{Kind: bridge.Reading},
		{Kind: bridge.Doubted},
	}}, []bridge.PartitionReport{
		{End: 9, Asked: at, Leader: "1", Err: errors.New("leader moved"), ErrAt: at, OpenTransaction: at},
		{End: 2, Asked: at, Leader: "2"},
		{End: bridge.UnknownOffset},
	}}, bridge.StreamOptions{})
	waiting := bridge.NewStream("prices", feigned{nil, []bridge.Change{{Kind: bridge.Waiting, Err: errors.New("no such stream")}}}, bridge.StreamOptions{})
	for _, s := range []*bridge.Stream{reading, waiting} {
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w := ask(t, Options{Loopback: true, Streams: []Stream{{reading, "kafka@eu", "orders.v1"}, {waiting, "nats", "PRICES"}}}, http.MethodGet, "/streams", "localhost", "")
	var got struct{ Streams []map[string]any }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	for _, s := range got.Streams {
		for _, name := range []string{"since", "lastErrorAt"} {
			if _, err := time.Parse(time.RFC3339Nano, s[name].(string)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			delete(s, name) // now, more or less
		}
	}
	text, err := json.Marshal(got.Streams)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"broker":"kafka@eu","generation":1,"incarnation":"1z","lastError":"no broker","name":"orders","partitions":[` +
		`{"end":9,"endAt":"2026-01-31T11:00:00Z","lag":2,"lastError":"leader moved","lastErrorAt":"2026-01-31T11:00:00Z","leader":"1",` +
		`"openTransactionSince":"2026-01-31T11:00:00Z","partition":0,"position":7,"proof":3},` +
		`{"end":4,"endAt":"2026-01-31T11:00:00Z","lag":0,"leader":"2","partition":1,"position":4},{"partition":2}],` +
		`"reduced":["less"],"state":"reading","subjects":["\u003e"],"upstream":"orders.v1"},` +
		`{"broker":"nats","generation":0,"lastError":"no such stream","name":"prices","partitions":[],"state":"waiting","subjects":null,"upstream":"PRICES"}]`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// feigned is a source whose live reader reports some changes and ends.
type feigned struct {
	bridge.Source
	changes []bridge.Change
}

func (f feigned) Tail(_ context.Context, out bridge.Receiver) error {
	for _, c := range f.changes {
		out.Change(c)
	}
	return nil
}

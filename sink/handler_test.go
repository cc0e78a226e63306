package sink

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// Proxies hold back, compress or cache streams unless these say no, and
// browsers would render what a record says.
func TestStreamsCarryTheirHeaders(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		b := start(t, Options{})
		s, _ := b.open(b.client("/events"))
		head := b.client("/events")
		head.Method = http.MethodHead
		h, body := b.get(head)
		if h.Status() != 200 || body != "" {
			t.Errorf("HEAD: %d %q", h.Status(), body)
		}
		for name, want := range map[string]string{
			"Content-Type":            "text/event-stream; charset=utf-8",
			"Cache-Control":           "no-cache, no-transform",
			"X-Accel-Buffering":       "no",
			"Vary":                    "Accept, Origin",
			"X-Content-Type-Options":  "nosniff",
			"Content-Security-Policy": "default-src 'none'",
			"Referrer-Policy":         "no-referrer",
			"Content-Length":          "",
			"Content-Encoding":        "",
		} {
			if got := s.Header(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
			if got := h.Header(name); got != want {
				t.Errorf("HEAD: %s: got %q, want %q", name, got, want)
			}
		}
	})
}

// Methods that are not served say so and say what is.
func TestOtherMethodsAreRefused(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, "NONSENSE"} {
		r := httptest.NewRequestWithContext(t.Context(), method, "/events", strings.NewReader("x"))
		w, opened := ask(t, Options{}, r)
		if w.Code != 405 || w.Header().Get("Allow") != allowedMethods || opened != nil || !strings.Contains(w.Body.String(), `"method-not-allowed"`) {
			t.Errorf("%s: %d %v %s", method, w.Code, w.Header(), w.Body)
		}
	}
}

func origins(t *testing.T, texts ...string) Origins {
	t.Helper()
	o, err := ParseOrigins(texts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A page must be able to read streams and problems alike, and only pages that
// were named.
func TestCORSHeadersAreOnEveryStatus(t *testing.T) {
	o := Options{Origins: origins(t, "https://app.example", "http://localhost:*")}
	for _, target := range []string{"/events", "/events?x=1", "/events/nosuch", "/other"} {
		for origin, allowed := range map[string]bool{
			"https://app.example": true, "http://localhost:5173": true, "http://localhost": true,
			"https://evil.example": false, "http://localhost.evil.example:80": false, "http://localhost:5173.evil.example": false, "http://localhost:80.x": false,
			"https://app.example.evil.example": false, "https://app.example:8443": false, "null": false, "http://localhost:": false,
		} {
			w, _ := ask(t, o, get(t, target, "Origin", origin))
			got := w.Header().Get("Access-Control-Allow-Origin")
			if want := map[bool]string{true: origin}[allowed]; got != want {
				t.Errorf("%s from %s: allowed %q, want %q", target, origin, got, want)
			}
			if w.Header().Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(w.Header().Get("Vary"), "Origin") {
				t.Errorf("%s from %s: %v", target, origin, w.Header())
			}
		}
	}
	w, _ := ask(t, Options{}, get(t, "/events", "Origin", "https://app.example"))
	if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("without origins: allowed %q", got)
	}
}

// Clients built on fetch set Last-Event-ID themselves, and browsers ask before
// they let them.
func TestPreflight(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/events/orders", nil)
	r.Header.Set("Origin", "https://app.example")
	r.Header.Set("Access-Control-Request-Method", "GET")
	r.Header.Set("Access-Control-Request-Headers", "last-event-id")
	for _, allowed := range []bool{true, false} {
		o := Options{}
		want := map[string]string{"Allow": "GET, HEAD, OPTIONS"}
		if allowed {
			o.Origins = origins(t, "https://app.example")
			want["Access-Control-Allow-Origin"] = "https://app.example"
			want["Access-Control-Allow-Methods"] = "GET, HEAD"
			want["Access-Control-Allow-Headers"] = "last-event-id, authorization, cache-control, content-type"
			want["Access-Control-Max-Age"] = "7200"
		}
		w, opened := ask(t, o, r)
		if w.Code != 204 || opened != nil || w.Body.Len() > 0 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		for _, name := range []string{"Allow", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age"} {
			if got := w.Header().Get(name); got != want[name] {
				t.Errorf("allowed %v: %s is %q, want %q", allowed, name, got, want[name])
			}
		}
	}
}

// An operator who forgot an origin must find the line to add, and strangers
// must not be able to fill the log.
func TestFirstRefusedOriginIsLogged(t *testing.T) {
	var out bytes.Buffer
	h := NewHandler(Options{Origins: origins(t, "https://a.example"), Logger: slog.New(slog.NewTextHandler(&out, nil))})
	for _, origin := range []string{"null", "http://bridge.test", "https://a.example", "https://b.example", "https://c.example"} {
		r := get(t, "http://bridge.test/other", "Origin", origin)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	got := out.String()
	if strings.Count(got, "\n") != 1 || !strings.Contains(got, "SSEBRIDGE_CORS_ORIGINS=https://a.example,https://b.example") {
		t.Errorf("log: %q", got)
	}
}

// An origin that no browser ever sends would never work, and nobody would be
// told why.
func TestOriginsAreValidated(t *testing.T) {
	for text, want := range map[string]string{
		"*":                         "exact origin",
		"https://*.example":         "exact origin",
		"http://localhost:*:*":      "exact origin",
		"app.example":               "scheme://host",
		"null":                      "scheme://host",
		"":                          "scheme://host",
		"https://":                  "scheme://host",
		"https://app.example/":      "write it so",
		"https://app.example/x?y":   "write it so",
		"https://user@app.example":  "write it so",
		"https://App.example":       "browsers send https://app.example",
		"https://app.example:443":   "leave out the port",
		"http://app.example:80":     "leave out the port",
		"http://app.example:":       "port behind the colon",
		"http://app.example:8080:*": "one port or *",
		"https://bücher.example":    "xn--",
	} {
		if _, err := ParseOrigins([]string{"https://good.example", text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	_, err := ParseOrigins([]string{"*", "null"})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two problems give %v", err)
	}
	good := []string{"https://app.example", "http://127.0.0.1:8080", "http://[::1]:*", "capacitor://localhost"}
	o := origins(t, good...)
	for _, origin := range []string{"https://app.example", "http://127.0.0.1:8080", "http://[::1]", "http://[::1]:3000", "capacitor://localhost"} {
		if !o.Allows(origin) {
			t.Errorf("%s is not allowed by %v", origin, good)
		}
	}
	if o.Allows("http://127.0.0.1") || o.Allows("http://[::2]:3000") || o.Allows("") {
		t.Error("more is allowed than was named")
	}
}

// Orchestrators act on the status; the word is for whoever looks.
func TestProbesAnswerAWord(t *testing.T) {
	yes, no := func() bool { return true }, func() bool { return false }
	tests := []struct {
		name    string
		opt     ProbeOptions
		answers []string // of livez, startupz, readyz
	}{
		{"listening", ProbeOptions{}, []string{"ok", "ok", "ok"}},
		{"starting", ProbeOptions{Started: no}, []string{"ok", "starting", "starting"}},
		{"draining", ProbeOptions{Started: yes, Draining: yes, Ready: no}, []string{"ok", "ok", "draining"}},
		{"waiting", ProbeOptions{Started: yes, Draining: no, Ready: no}, []string{"ok", "ok", "waiting"}},
		{"ready", ProbeOptions{Started: yes, Draining: no, Ready: yes}, []string{"ok", "ok", "ok"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			h := WithProbes(NewProbes(tt.opt), NewHandler(Options{}))
			for _, path := range []string{"/livez", "/startupz", "/readyz"} {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, get(t, path))
				word := strings.TrimSpace(w.Body.String())
				if (w.Code == 200) != (word == "ok") || w.Code != 200 && w.Code != 503 {
					t.Errorf("%s: %d with %q", path, w.Code, word)
				}
				got = append(got, word)
			}
			if !slices.Equal(got, tt.answers) {
				t.Errorf("got %q, want %q", got, tt.answers)
			}
		})
	}
	w := httptest.NewRecorder()
	WithProbes(NewProbes(ProbeOptions{}), NewHandler(Options{})).ServeHTTP(w, get(t, "/events/x"))
	if w.Code != 404 || !strings.Contains(w.Body.String(), "unknown-stream") {
		t.Errorf("other paths: %d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	NewProbes(ProbeOptions{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/livez", nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

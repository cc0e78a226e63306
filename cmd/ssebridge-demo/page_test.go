package main

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func servedPage(t *testing.T) http.Handler {
	t.Helper()
	handler, err := page(site{
		Events: "http://127.0.0.1:8480/events", Inspector: "http://127.0.0.1:8481/inspector/", Broker: "JetStream",
		tabs: http.NotFoundHandler(), truth: newTruth(), deeds: http.NotFoundHandler(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

// serve returns the answer to GET path.
func serve(handler http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	r.Host = "localhost:8400"
	handler.ServeHTTP(w, r)
	return w
}

// Records are other people's text. Even if one became markup, the page could
// neither run it nor send anything elsewhere.
func TestPageAllowsOnlyItself(t *testing.T) {
	handler := servedPage(t)
	for _, path := range []string{"/", "/?subject=host.cpu", "/app.js", "/style.css", "/nothing"} {
		res := serve(handler, path)
		policy := res.Header().Get("Content-Security-Policy")
		for _, want := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'",
			"connect-src 'self';", "base-uri 'none'", "frame-ancestors 'none'",
		} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q, want %s in it", path, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q, want nothing unsafe", path, policy)
		}
		if got := res.Header().Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q, want nosniff", path, got)
		}
	}
}

// Every file that the page names is served, with the type that nosniff demands,
// and the directory around them is not.
func TestPageServesItsFilesOnly(t *testing.T) {
	handler := servedPage(t)
	for path, want := range map[string]string{
		"/":                 "text/html; charset=utf-8",
		"/app.js":           "text/javascript; charset=utf-8",
		"/charts.js":        "text/javascript; charset=utf-8",
		"/continuity.js":    "text/javascript; charset=utf-8",
		"/follow.js":        "text/javascript; charset=utf-8",
		"/journal.js":       "text/javascript; charset=utf-8",
		"/ticker.js":        "text/javascript; charset=utf-8",
		"/style.css":        "text/css; charset=utf-8",
		"/look/look.css":    "text/css; charset=utf-8",
		"/look/chart.js":    "text/javascript; charset=utf-8",
		"/look/favicon.svg": "image/svg+xml",
		"/truth":            "application/json",
	} {
		res := serve(handler, path)
		if got := res.Header().Get("Content-Type"); res.Code != http.StatusOK || got != want {
			t.Errorf("%s: status %d, type %q; want 200, %q", path, res.Code, got, want)
		}
	}
	for _, path := range []string{"/index.html", "/static/", "/static/app.js", "/page.go", "/look/", "/look/index.html"} {
		res := serve(handler, path)
		if res.Code != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, res.Code)
		}
	}
}

// A site elsewhere can have its own name resolved to 127.0.0.1, and then its
// pages would read and press what is here.
func TestPageAnswersToNamesOfThisMachineOnly(t *testing.T) {
	handler := servedPage(t)
	for host, want := range map[string]int{
		"127.0.0.1:8400": http.StatusOK, "localhost:8400": http.StatusOK, "localhost": http.StatusOK, "127.0.0.2": http.StatusOK,
		"evil.example:8400": http.StatusForbidden, "localhost.evil.example": http.StatusForbidden,
		"192.0.2.1:8400": http.StatusForbidden, "": http.StatusForbidden,
	} {
		for _, path := range []string{"/", "/truth"} {
			r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
			r.Host = host
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s of host %q: status %d, want %d", path, host, w.Code, want)
			}
		}
	}
}

// The demo runs without a network, and text from events never becomes markup.
func TestPageNeedsNothingFromElsewhere(t *testing.T) {
	outside := regexp.MustCompile(`https?://|//[a-z]+\.[a-z]|@import`)
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function`)
	err := fs.WalkDir(static, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(static, path)
		if err != nil {
			return err
		}
		// A name space is not an address that anybody fetches.
		code := strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", "")
		for _, re := range []*regexp.Regexp{outside, markup} {
			if found := re.FindString(code); found != "" {
				t.Errorf("%s contains %q", path, found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What the page says of itself, and what it says of each outage, is worked out by
// two modules that need no browser. Their tests are JavaScript.
func TestPageJudgesRight(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("SSEBRIDGE_TEST_REQUIRE"), ","), "browser") {
			t.Fatal("node is not installed")
		}
		t.Skip("node is not installed: to run this, install Node 18 or later, such as Debian's nodejs")
	}
	cmd := exec.CommandContext(t.Context(), node, "--test", "continuity.test.mjs", "journal.test.mjs")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "# fail 0") || strings.Contains(string(out), "# pass 0") {
		t.Errorf("node --test ran nothing:\n%s", out)
	}
}

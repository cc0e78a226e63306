package main

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

func servedPage(t *testing.T) http.Handler {
	t.Helper()
	handler, err := page(&url.URL{Scheme: "http", Host: "127.0.0.1:8480", Path: "/events"}, "JetStream")
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

// serve returns the answer to GET path.
func serve(handler http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	return w
}

// Records are other people's text. Even if one became markup, the page could
// neither run it nor send anything anywhere but to the bridge.
func TestPageAllowsOnlyItselfAndTheBridge(t *testing.T) {
	handler := servedPage(t)
	for _, path := range []string{"/", "/?subject=host.cpu", "/app.js", "/style.css", "/nothing"} {
		res := serve(handler, path)
		policy := res.Header().Get("Content-Security-Policy")
		for _, want := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'",
			"connect-src http://127.0.0.1:8480;", "base-uri 'none'", "frame-ancestors 'none'",
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
		"/":              "text/html; charset=utf-8",
		"/app.js":        "text/javascript; charset=utf-8",
		"/continuity.js": "text/javascript; charset=utf-8",
		"/follow.js":     "text/javascript; charset=utf-8",
		"/style.css":     "text/css; charset=utf-8",
		"/favicon.svg":   "image/svg+xml",
	} {
		res := serve(handler, path)
		if got := res.Header().Get("Content-Type"); res.Code != http.StatusOK || got != want {
			t.Errorf("%s: status %d, type %q; want 200, %q", path, res.Code, got, want)
		}
	}
	for _, path := range []string{"/index.html", "/static/", "/static/app.js", "/page.go"} {
		res := serve(handler, path)
		if res.Code != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, res.Code)
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

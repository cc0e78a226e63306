package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/sink"
)

// beyond are the options of a listener that other machines reach.
func beyond(secret *string) Options {
	return Options{Inspector: true, Token: func() string { return *secret }, Probes: sink.NewProbes(sink.ProbeOptions{})}
}

// post sends a request with a body, as the page on that host does.
func post(t *testing.T, h http.Handler, method, path, body string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://bridge.example:8481"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, f := range edit {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// login logs in and returns the cookie.
func login(t *testing.T, h http.Handler, token string) *http.Cookie {
	t.Helper()
	w := post(t, h, http.MethodPost, "/inspector/login", `{"token":"`+token+`"}`)
	cookies := w.Result().Cookies()
	if w.Code != http.StatusNoContent || len(cookies) != 1 {
		t.Fatalf("login: %d with %d cookies, want 204 with one: %s", w.Code, len(cookies), w.Body)
	}
	return cookies[0]
}

func with(c *http.Cookie) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value}) }
}

// problemCode is the code of an answer that is a problem.
func problemCode(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var p struct {
		Code   string
		Status int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %q: is no problem: %v", w.Code, w.Body, err)
	}
	return p.Code
}

// A browser cannot send a bearer token with a page. The cookie that it gets opens
// what the token opens, and scripts and other sites cannot use it.
func TestLoginGivesACookieThatOpensTheListener(t *testing.T) {
	secret := "s3cret"
	h := NewHandler(beyond(&secret))
	for _, path := range []string{"/streams", "/inspector/config.json"} {
		if w := post(t, h, http.MethodGet, path, ""); w.Code != http.StatusUnauthorized || problemCode(t, w) != "unauthorized" {
			t.Errorf("%s without a login: %d", path, w.Code)
		}
	}
	c := login(t, h, secret)
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.MaxAge != 12*60*60 {
		t.Errorf("cookie %s: want HttpOnly, SameSite=Strict, Path=/, 12 hours", c)
	}
	if strings.Contains(c.Value, secret) {
		t.Error("the cookie shows the token")
	}
	for _, path := range []string{"/streams", "/inspector/config.json"} {
		if w := post(t, h, http.MethodGet, path, "", with(c)); w.Code != http.StatusOK {
			t.Errorf("%s with the cookie: %d", path, w.Code)
		}
	}
}

// Behind a proxy that speaks TLS the cookie must not go over a plain connection.
func TestLoginIsForTLSWhereThereIsTLS(t *testing.T) {
	secret := "s3cret"
	h := NewHandler(beyond(&secret))
	for proto, want := range map[string]bool{"": false, "http": false, "https": true, "HTTPS": true} {
		for _, path := range []string{"/inspector/login", "/inspector/logout"} {
			w := post(t, h, http.MethodPost, path, `{"token":"s3cret"}`, func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", proto) })
			if cookies := w.Result().Cookies(); len(cookies) != 1 || cookies[0].Secure != want {
				t.Errorf("%s over %q: %v, want one cookie with Secure %v", path, proto, cookies, want)
			}
		}
	}
}

// Who tries tokens waits for each.
func TestGuessesTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := "s3cret"
		h := NewHandler(beyond(&secret))
		for body, want := range map[string]time.Duration{`{"token":"s3cre"}`: guessTime, `{"token":"s3cret"}`: 0, `{}`: guessTime} {
			began := time.Now()
			post(t, h, http.MethodPost, "/inspector/login", body)
			if took := time.Since(began); took != want {
				t.Errorf("%s: answered after %s, want %s", body, took, want)
			}
		}
	})
}

// A login ends: by itself, with the token that it was made by, and by logging out.
func TestLoginsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := "s3cret"
		h := NewHandler(beyond(&secret))
		c := login(t, h, secret)
		may := func() int { return post(t, h, http.MethodGet, "/streams", "", with(c)).Code }
		time.Sleep(sessionTime - time.Second)
		if code := may(); code != http.StatusOK {
			t.Errorf("a second before its end: %d", code)
		}
		time.Sleep(time.Second)
		if code := may(); code != http.StatusUnauthorized {
			t.Errorf("after 12 hours: %d", code)
		}
		c = login(t, h, secret)
		secret = "rotated"
		if code := may(); code != http.StatusUnauthorized {
			t.Errorf("after the token was rotated: %d", code)
		}
		secret = ""
		if code := may(); code != http.StatusUnauthorized {
			t.Errorf("after the token's file went: %d", code)
		}
		secret = "rotated"
		w := post(t, h, http.MethodPost, "/inspector/logout", "", with(login(t, h, secret)))
		gone := w.Result().Cookies()
		if w.Code != http.StatusNoContent || len(gone) != 1 || gone[0].MaxAge >= 0 || gone[0].Value != "" {
			t.Errorf("logout: %d %v, want 204 and the cookie to go", w.Code, gone)
		}
	})
}

// Nobody makes a cookie without the token, and none outlives what it says.
func TestForgedLoginsOpenNothing(t *testing.T) {
	secret := "s3cret"
	h := NewHandler(beyond(&secret))
	real := login(t, h, secret)
	until, mac, _ := strings.Cut(real.Value, ".")
	later := session("another", time.Now().Add(time.Hour))
	for name, value := range map[string]string{
		"empty": "", "no mac": until, "empty mac": until + ".", "other token": later, "later": "zzzzzzz." + mac,
		"negative": "-1." + mac, "not a number": "x y." + mac, "zeros before": "0" + real.Value, "cut": real.Value[:len(real.Value)-1],
		"more behind": real.Value + "A", "too large": strings.Repeat("z", 40) + "." + mac, "the token": secret,
		"made with no token": session("", time.Now().Add(time.Hour)),
	} {
		if w := post(t, h, http.MethodGet, "/streams", "", with(&http.Cookie{Name: sessionCookie, Value: value})); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d, want 401", name, w.Code)
		}
	}
	other := with(&http.Cookie{Name: sessionCookie, Value: "of-another-program"})
	if w := post(t, h, http.MethodGet, "/streams", "", other, with(real)); w.Code != http.StatusOK {
		t.Errorf("beside another cookie of the name: %d", w.Code)
	}
}

// The login is the one place that takes text from everybody.
func TestLoginRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := "s3cret"
		h := NewHandler(beyond(&secret))
		form := func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }
		foreign := func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }
		site := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
		for name, test := range map[string]struct {
			body string
			edit func(*http.Request)
			want int
			code string
		}{
			"wrong token":     {`{"token":"s3cre"}`, nil, 401, "unauthorized"},
			"longer":          {`{"token":"s3crets"}`, nil, 401, "unauthorized"},
			"empty token":     {`{"token":""}`, nil, 401, "unauthorized"},
			"none":            {`{}`, nil, 401, "unauthorized"},
			"no body":         {``, nil, 400, "bad-body"},
			"no JSON":         {`token=s3cret`, nil, 400, "bad-body"},
			"another member":  {`{"token":"s3cret","user":"x"}`, nil, 400, "bad-body"},
			"more behind":     {`{"token":"s3cret"} {}`, nil, 400, "bad-body"},
			"too long":        {`{"token":"` + strings.Repeat("x", maxBodyBytes) + `"}`, nil, 400, "bad-body"},
			"blanks too long": {strings.Repeat(" ", maxBodyBytes) + `{"token":"s3cret"}`, nil, 400, "bad-body"},
			"a form":          {`{"token":"s3cret"}`, form, 415, "not-json"},
			"foreign page":    {`{"token":"s3cret"}`, foreign, 403, "cross-origin"},
			"foreign site":    {`{"token":"s3cret"}`, site, 403, "cross-origin"},
		} {
			var edits []func(*http.Request)
			if test.edit != nil {
				edits = append(edits, test.edit)
			}
			w := post(t, h, http.MethodPost, "/inspector/login", test.body, edits...)
			if w.Code != test.want || problemCode(t, w) != test.code {
				t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, test.want, test.code)
			}
			if len(w.Result().Cookies()) > 0 || strings.Contains(w.Body.String(), "s3cret") {
				t.Errorf("%s: a cookie, or the token: %v %s", name, w.Header(), w.Body)
			}
		}
		if w := post(t, h, http.MethodGet, "/inspector/login", ""); w.Code == http.StatusOK || len(w.Result().Cookies()) > 0 {
			t.Errorf("GET: %d", w.Code)
		}
		if w := post(t, NewHandler(Options{Inspector: true, Loopback: true, Probes: sink.NewProbes(sink.ProbeOptions{})}), http.MethodPost, "/inspector/login", `{"token":""}`, func(r *http.Request) { r.Host = "localhost" }); w.Code != http.StatusNotFound || problemCode(t, w) != "no-token" {
			t.Errorf("where there is no token: %d %s", w.Code, w.Body)
		}
	})
}

package admin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A browser keeps its login in a cookie that holds no secret: the time at which
// it ends, and a MAC of that time under the token. So nothing is kept here, the
// token cannot be read from the cookie, and a rotated token ends every login.
const (
	sessionCookie = "ssebridge_admin"
	sessionTime   = 12 * time.Hour
	guessTime     = 500 * time.Millisecond // after which a wrong token is answered
)

// login takes {"token":"…"} and answers with a cookie.
func (a access) login(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !a.hasToken() {
		kinds.New(codeNoToken, "", "SSEBRIDGE_ADMIN_TOKEN is not set").Write(w)
		return
	}
	// Only JSON: a form of another site could send anything else without asking.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		kinds.New(codeNotJSON, "", "want Content-Type: application/json").Write(w)
		return
	}
	var body struct {
		Token string `json:"token"`
	}
	if err := readJSON(w, r, &body); err != nil {
		kinds.New(codeBadBody, "", `want {"token":"…"}`).Write(w)
		return
	}
	token := a.token()
	if !same(body.Token, token) {
		// Whoever tries tokens waits for each, at least on one connection.
		select {
		case <-time.After(guessTime):
		case <-r.Context().Done():
		}
		kinds.New(codeUnauthorized, "token", "the token is not the one that is set").Write(w)
		return
	}
	setSession(w, r, session(token, time.Now().Add(sessionTime)), int(sessionTime/time.Second))
	w.WriteHeader(http.StatusNoContent)
}

// logout makes the browser forget its login.
func (a access) logout(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	setSession(w, r, "", -1)
	w.WriteHeader(http.StatusNoContent)
}

func setSession(w http.ResponseWriter, r *http.Request, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", MaxAge: seconds,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// The header is a proxy's, or a stranger's: it can only make the cookie stricter.
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	})
}

// session returns the value of a cookie that ends at a time.
func session(token string, ends time.Time) string {
	until := strconv.FormatInt(ends.Unix(), 36)
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("ssebridge admin session until " + until)) // a hash.Hash never returns an error
	return until + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// loggedIn reports whether a request brings the cookie of a login that holds.
func (a access) loggedIn(r *http.Request) bool {
	if !a.hasToken() {
		return false
	}
	for _, c := range r.CookiesNamed(sessionCookie) { // cookies know no ports: another program's may have the name
		until, _, _ := strings.Cut(c.Value, ".")
		seconds, err := strconv.ParseInt(until, 36, 64)
		if err != nil {
			continue
		}
		ends := time.Unix(seconds, 0)
		if same(c.Value, session(a.token(), ends)) && time.Now().Before(ends) {
			return true
		}
	}
	return false
}

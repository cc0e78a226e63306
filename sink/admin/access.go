package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// access decides who may ask more than the probes.
type access struct {
	loopback bool
	token    func() string // nil: there is none
}

// guard returns a handler that lets through to h whoever may ask.
func (a access) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		if p := a.refuse(r); p != nil {
			if p.Status == http.StatusUnauthorized {
				header.Set("WWW-Authenticate", `Bearer realm="ssebridge admin"`)
			}
			p.Write(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// front returns a handler that lets through to h whoever may ask, or could after
// a login: for the inspector's own files, which are no secret.
func (a access) front(h http.Handler) http.Handler {
	guarded := a.guard(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.hasToken() {
			h.ServeHTTP(w, r)
		} else {
			guarded.ServeHTTP(w, r)
		}
	})
}

func (a access) hasToken() bool { return a.token != nil && a.token() != "" }

// refuse says why a request is not answered, nil if it is.
func (a access) refuse(r *http.Request) *problem.Problem {
	switch {
	case a.loopback && isLoopbackHost(r.Host), a.fits(r.Header.Get("Authorization")), a.loggedIn(r):
		return nil
	case a.token != nil:
		return kinds.New(codeUnauthorized, "", "the request brings no token, or not the one that is set")
	case a.loopback:
		return kinds.New(codeForeignHost, "", "no token is set, and the Host of the request is not a loopback address")
	default:
		return kinds.New(codeAdminOff, "", "no token is set, and this listener can be reached from other machines")
	}
}

// fits reports whether an Authorization header brings the token. How long the
// answer takes tells nothing of the token, not even its length.
func (a access) fits(authorization string) bool {
	scheme, given, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || a.token == nil {
		return false
	}
	return same(strings.TrimSpace(given), a.token())
}

// same compares what was given with a secret. An empty secret fits nothing.
func same(given, secret string) bool {
	got, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
	return secret != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// isLoopbackHost reports whether a Host header, with or without a port, names
// this machine in a way that no DNS server has a say in.
func isLoopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

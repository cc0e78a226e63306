// Package problem has errors as those see them who ask over HTTP (RFC 9457).
// Both listeners answer by it.
package problem

import (
	"encoding/json"
	"net/http"
	"unicode/utf8"
)

// Kinds say for each code what all its problems have in common. Programs act on
// codes: one never changes its meaning, is never used again, and means the same
// in all tables.
type Kinds map[string]struct {
	Status        int
	Title, Advice string
}

// Problem is an error as it is answered.
type Problem struct {
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	Parameter string `json:"parameter,omitempty"` // which one of the request, as it was spelled
	Advice    string `json:"advice"`
}

// MaxDetailBytes bounds the detail of a problem, which may quote the request.
const MaxDetailBytes = 400

// New makes the problem of a code. parameter may be empty.
func (k Kinds) New(code, parameter, detail string) *Problem {
	kind := k[code]
	return &Problem{kind.Title, kind.Status, Shorten(detail, MaxDetailBytes), code, Shorten(parameter, 64), kind.Advice}
}

// Error returns the detail.
func (p *Problem) Error() string { return p.Detail }

// Write sends the problem as the whole response.
func (p *Problem) Write(w http.ResponseWriter) {
	body, err := json.Marshal(p) // escapes what HTML could read, and repairs UTF-8
	if err != nil {
		http.Error(w, p.Code, p.Status)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}

// Shorten cuts a text to at most n bytes, at a character.
func Shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

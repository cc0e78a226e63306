// Package secrettest plants secrets in tests and finds them where they must not
// be. Every secret that a test makes up has the same words in it, so whatever
// captures the output of a bridge can look for all of them, and so can whoever
// has the log of the whole suite.
package secrettest

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

// Marker is in every planted secret. Output in which it appears has leaked one.
const Marker = "planted-secret"

// New returns a secret. name tells it apart from others; letters and digits fit
// wherever a secret is used.
func New(name string) string { return Marker + "-" + name }

// forms are the ways in which a text may hold the marker: as it is, and in base64
// with any number of bytes before it, as in a Basic login.
var forms = func() []string {
	list := []string{Marker}
	for before := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + Marker))
		// The characters at both ends depend on what stands around the marker.
		first, last := (before*8+5)/6, (before+len(Marker))*8/6
		list = append(list, text[first:last])
	}
	return list
}()

// Hide returns a text with every planted secret replaced, so that a test that
// fails can show it.
func Hide(text string) string {
	for _, form := range forms {
		text = strings.ReplaceAll(text, form, "[LEAKED]")
	}
	return text
}

// Check fails the test if text, which left a process as what, holds a planted
// secret. It shows the lines, but not the secret.
func Check(t testing.TB, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if decoded, err := url.PathUnescape(line); err == nil && Hide(decoded) != decoded {
			line = decoded
		}
		if hidden := Hide(line); hidden != line {
			t.Errorf("%s holds a planted secret: %s", what, strings.TrimSpace(hidden))
		}
	}
}

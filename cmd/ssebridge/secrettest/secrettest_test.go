package secrettest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// recorder is a test that keeps what it is failed with.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// A check that misses a secret is worse than none, and one that repeats it puts
// it into the log of the suite.
func TestCheckFindsASecretInAnyFormAndHidesIt(t *testing.T) {
	secret := New("one")
	leaks := []string{secret, "x" + secret + "y", "line\n" + secret, "planted%2Dsecret-one", "%70lanted-secret"}
	for _, user := range []string{"", "u", "us", "use"} {
		leaks = append(leaks, "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+secret)))
	}
	for _, text := range leaks {
		r := &recorder{TB: t}
		Check(r, "a text", text)
		if len(r.failures) != 1 {
			t.Errorf("%d failures", len(r.failures))
		}
		for _, f := range r.failures {
			if strings.Contains(f, Marker) || !strings.Contains(f, "[LEAKED]") {
				t.Error("the failure does not hide the secret, or says nothing")
			}
		}
	}
	r := &recorder{TB: t}
	Check(r, "a text", "planted, secret\nnothing is 100% sure, %zz")
	if len(r.failures) != 0 {
		t.Errorf("found where there is none: %q", r.failures)
	}
}

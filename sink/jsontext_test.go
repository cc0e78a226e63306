package sink

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzJSONStringIsReadBack holds the writer of JSON strings against a reader of
// JSON: a key or subject that came out wrong would be another key or subject.
func FuzzJSONStringIsReadBack(f *testing.F) {
	for _, s := range []string{"", "a", `"\`, "\n\r\t\b\x00\x1f\x7f", "é€😀", "\ufffd", "\xff", "a\xe2\x82", "\xed\xa0\x80", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := appendJSONString(nil, s)
		var got string
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%q of %q: %v", text, s, err)
		}
		if want := string([]rune(s)); got != want { // as Go and JSON replace bytes that are not UTF-8
			t.Errorf("got %q, want %q", got, want)
		}
		if strings.ContainsAny(string(text), "\r\n") {
			t.Errorf("%q is more than one line", text)
		}
		if again := appendJSONString(nil, []byte(s)); string(again) != string(text) {
			t.Errorf("bytes give %q, the string %q", again, text)
		}
	})
}

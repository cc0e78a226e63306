package bridge

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// Keys and subjects are made of payload members; numbers over 2^53 must keep their
// digits, and what is no plain value must not become one.
func TestJSONValueIsTakenAsWritten(t *testing.T) {
	for _, c := range []struct{ text, path, want string }{
		{`{"a":"x"}`, "a", "x"},
		{` { "b" : [ 1 , { "a" : 2 } ] , "a" : "x" } `, "a", "x"},
		{`{"a":12345678901234567890123}`, "a", "12345678901234567890123"},
		{`{"a":-0.10E+2}`, "a", "-0.10E+2"},
		{`{"a":true,"b":false}`, "b", "false"},
		{`{"a":null}`, "a", ""},
		{`{"a":{}}`, "a", ""},
		{`{"a":[]}`, "a", ""},
		{`{"a":""}`, "a", ""},
		{`{"a":{"b":{"c":7}}}`, "a.b.c", "7"},
		{`{"a":{"b":1},"a":{"c":2}}`, "a.c", ""}, // the first a counts
		{`{"a":"x","a":"y"}`, "a", "x"},
		{`{"x":"}]\"{","a":"x"}`, "a", "x"},
		{`{"\u0061":"\u00e9\n\"\\"}`, "a", "é\n\"\\"},
		{`{"a":"\ud83d\ude00"}`, "a", "😀"},
		{`{"A":"x"}`, "a", ""},
		{`{"b":1}`, "a", ""},
		{`{"a":1}`, "a.b", ""},
		{`{"a":[{"b":1}]}`, "a.b", ""},
		{`[{"a":1}]`, "a", ""},
		{`"a"`, "a", ""},
		{``, "a", ""},
		{`{`, "a", ""},
		{`{"a"`, "a", ""},
		{`{"a":`, "a", ""},
		{`{"a":}`, "a", ""},
		{`{"b":,"a":1}`, "a", ""},
		{`{"b":,"c","a":1}`, "a", ""},
		{`{"b":],"a":1}`, "a", ""},
		{`{"b":[1,"a":1}`, "a", ""},
		{`{"a":"x`, "a", ""},
		{`{"a":"\q"}`, "a", ""},
		{`{"a":01}`, "a", ""},
		{`{"a":nope}`, "a", ""},
		{`{"a":1x}`, "a", ""},
		{`{"a":"x", and then nonsense`, "a", "x"}, // is not read any more
		{`{"b":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `,"a":"deep"}`, "a", "deep"},
	} {
		got := string(appendJSONValue([]byte("<"), []byte(c.text), strings.Split(c.path, ".")))
		if got != "<"+c.want {
			t.Errorf("value at %s of %.80s is %q, want %q", c.path, c.text, got, "<"+c.want)
		}
	}
}

// decodeValue does what appendJSONValue does, with the standard decoder. The text
// is valid JSON.
func decodeValue(text []byte, path []string) string {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for _, name := range path {
		if token, err := d.Token(); err != nil || token != json.Delim('{') {
			return ""
		}
		for found := false; !found; {
			token, err := d.Token()
			if err != nil || token == json.Delim('}') {
				return ""
			}
			if found = token == name; !found {
				var skipped json.RawMessage
				if d.Decode(&skipped) != nil {
					return ""
				}
			}
		}
	}
	switch token, _ := d.Token(); v := token.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "true"
		}
		return "false"
	}
	return ""
}

// Payloads come from anywhere. For those that are JSON the standard library is
// the judge; the others must only do no harm.
func FuzzJSONValue(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1e5},"c":"\u0061"}`), "a.b")
	f.Add([]byte(`{"x":[1,{"y":"}"}],"\u0063":"\u0061\n"}`), "c")
	f.Add([]byte(`{"a":"x","a":{"b":true}}`), "a")
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		names := strings.Split(path, ".")
		got := appendJSONValue(nil, text, names)
		if !json.Valid(text) || !utf8.Valid(text) {
			return
		}
		if want := decodeValue(text, names); string(got) != want {
			t.Errorf("value at %q of %s is %q, want %q", path, text, got, want)
		}
	})
}

func BenchmarkJSONValue(b *testing.B) {
	text := []byte(`{"items":[` + strings.Repeat(`{"name":"something","price":17.5},`, 30) + `{}],"order":{"id":4711}}`)
	dst, path := []byte(nil), []string{"order", "id"}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		dst = appendJSONValue(dst[:0], text, path)
	}
	if string(dst) != "4711" {
		b.Fatalf("value is %q", dst)
	}
}

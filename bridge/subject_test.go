package bridge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestAppendTokenWritesOneToken(t *testing.T) {
	hash := func(value string) string {
		sum := sha256.Sum256([]byte(value))
		return "%~" + hex.EncodeToString(sum[:])
	}
	long := strings.Repeat("a", 256)
	for _, c := range []struct{ value, want string }{
		{"", "_"},
		{"_", "%5F"},
		{"__", "__"},
		{"a_", "a_"},
		{"eu", "eu"},
		{"4711", "4711"},
		{"a.b", "a%2Eb"},
		{"*", "%2A"},
		{">", "%3E"},
		{"100%", "100%25"},
		{"%2E", "%252E"},
		{"a b\tc", "a%20b%09c"},
		{"a\r\nb\x00", "a%0D%0Ab%00"},
		{"\x7f", "%7F"},
		{"\u0085\u009f", "%C2%85%C2%9F"},
		{"\u00a0\u2028\u3000", "%C2%A0%E2%80%A8%E3%80%80"},
		{"größe", "größe"},
		{"日本", "日本"},
		{"\ufffd", "\ufffd"},
		{"\xff\xc3", "%FF%C3"},
		{"ok\xe2\x82", "ok%E2%82"},
		{"{}<\"/\\~", "{}<\"/\\~"},
		{long, long},
		{long + "a", long[:190] + hash(long+"a")},
		// The prefix ends where a character or an escape does.
		{long[:189] + "é" + long, long[:189] + hash(long[:189]+"é"+long)},
		{long[:188] + "." + long, long[:188] + hash(long[:188]+"."+long)},
		{long[:187] + "." + long, long[:187] + "%2E" + hash(long[:187]+"."+long)},
		{strings.Repeat(".", 85), strings.Repeat("%2E", 85)},
		{strings.Repeat(".", 86), strings.Repeat("%2E", 63) + hash(strings.Repeat(".", 86))},
	} {
		if got := string(AppendToken([]byte("x."), []byte(c.value))); got != "x."+c.want {
			t.Errorf("AppendToken(%q)\n got %q\nwant %q", c.value, got, "x."+c.want)
		}
	}
}

// readToken undoes AppendToken. A token that was cut gives the beginning of the
// value and the hash of the whole.
func readToken(token string) (value []byte, hash string, err error) {
	if token == "_" {
		return nil, "", nil
	}
	for token != "" {
		switch {
		case token[0] != '%':
			value, token = append(value, token[0]), token[1:]
		case strings.HasPrefix(token, "%~"):
			return value, token[2:], nil
		default:
			if len(token) < 3 || strings.ToUpper(token[:3]) != token[:3] {
				return nil, "", fmt.Errorf("bad escape %q", token)
			}
			b, err := hex.DecodeString(token[1:3])
			if err != nil {
				return nil, "", err
			}
			value, token = append(value, b...), token[3:]
		}
	}
	return value, "", nil
}

// Who may read what is decided by subjects, and the values in them are chosen by
// whoever may write: two values must never meet in one token, nor may one
// value be several tokens or a wildcard. The value can be read back from the
// token, so equal tokens have equal values.
func FuzzAppendToken(f *testing.F) {
	f.Add([]byte("a.b"), []byte("a%2Eb"))
	f.Add([]byte("_"), []byte(""))
	f.Add([]byte("\xff"), []byte("\ufffd"))
	f.Add([]byte(strings.Repeat("é", 129)), []byte(strings.Repeat("\x80", 300)))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		tokenA, tokenB := AppendToken(nil, a), AppendToken(nil, b)
		if bytes.Equal(tokenA, tokenB) != bytes.Equal(a, b) {
			t.Errorf("values %q and %q have tokens %q and %q", a, b, tokenA, tokenB)
		}
		if p, err := ParsePattern(string(tokenA)); err != nil || strings.ContainsAny(string(p), ".*>") || len(tokenA) > 256 {
			t.Errorf("value %q gives %q, which is not one token: %v", a, tokenA, err)
		}
		value, hash, err := readToken(string(tokenA))
		sum := sha256.Sum256(a)
		switch {
		case err != nil:
			t.Errorf("value %q gives %q: %v", a, tokenA, err)
		case hash == "" && !bytes.Equal(value, a):
			t.Errorf("value %q gives %q, which reads as %q", a, tokenA, value)
		case hash != "" && (hash != hex.EncodeToString(sum[:]) || !bytes.HasPrefix(a, value)):
			t.Errorf("value %q gives %q, which belongs to another value", a, tokenA)
		}
	})
}

func ExampleAppendToken() {
	fmt.Println(string(AppendToken([]byte("orders."), []byte("eu.north 7"))))
	// Output: orders.eu%2Enorth%207
}

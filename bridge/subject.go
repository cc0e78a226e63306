package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"unicode"
	"unicode/utf8"
)

// A subject is one or more tokens with a dot between them, such as
// "orders.eu.4711". A token has at least one character.

// maxTokenBytes bounds what [AppendToken] writes.
const maxTokenBytes = 256

// tokenCut stands between the prefix and the hash of a token that was too long.
// No encoding makes it: after '%' there are always two hexadecimal digits.
const tokenCut = "%~"

// absentToken stands for a value that is absent or empty.
const absentToken = "_"

// AppendToken appends value to dst as exactly one token of a subject, of at
// most 256 bytes. Different values give different tokens:
//
//   - '%', '.', '*', '>', white space, control characters and bytes that are not
//     UTF-8 are written as %XX, each byte in two upper-case hexadecimal digits;
//   - the empty value is "_", and the value "_" is "%5F";
//   - a token that would be longer is cut to a prefix, followed by "%~" and
//     the SHA-256 of the whole value in hexadecimal digits.
//
// Example: "a.b c" becomes "a%2Eb%20c".
func AppendToken(dst []byte, value []byte) []byte {
	switch string(value) {
	case "":
		return append(dst, absentToken...)
	case absentToken:
		return appendEscaped(dst, value)
	}
	const maxPrefix = maxTokenBytes - len(tokenCut) - 2*sha256.Size
	start := len(dst)
	prefix := start // end of the longest run of whole characters within maxPrefix
	for rest := value; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if plainRune(r, size) && !tokenSyntax(r) {
			dst = append(dst, rest[:size]...)
		} else {
			dst = appendEscaped(dst, rest[:size])
		}
		rest = rest[size:]
		switch n := len(dst) - start; {
		case n <= maxPrefix:
			prefix = len(dst)
		case n > maxTokenBytes:
			sum := sha256.Sum256(value)
			return hex.AppendEncode(append(dst[:prefix], tokenCut...), sum[:])
		}
	}
	return dst
}

// tokenSyntax reports whether r means something in a subject, a pattern or an
// escape.
func tokenSyntax(r rune) bool { return r == '%' || r == '.' || r == '*' || r == '>' }

// plainRune reports whether a decoded character may be in a subject at all: no
// white space, no control character, and no byte that is not UTF-8.
func plainRune(r rune, size int) bool {
	if r < utf8.RuneSelf {
		return ' ' < r && r < 0x7f
	}
	return (r != utf8.RuneError || size > 1) && !unicode.IsSpace(r) && !unicode.IsControl(r)
}

// appendEscaped appends each byte as %XX.
func appendEscaped(dst, bytes []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, b := range bytes {
		dst = append(dst, '%', digits[b>>4], digits[b&15])
	}
	return dst
}

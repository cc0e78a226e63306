package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// fileSuffix ends the name of the variable that names a file with a secret.
const fileSuffix = "_FILE"

// redacted stands for a secret wherever one would be shown.
const redacted = "[redacted]"

// Secret is text that no log, error or listing ever shows: a password, a key, a
// certificate. It is given as the text itself, or as the name of a file that is
// read again each time it is asked for, so that it can be rotated. The zero
// Secret is not set.
type Secret struct {
	text string
	file string
}

// IsSet reports whether there is a secret.
func (s Secret) IsSet() bool { return s.text != "" || s.file != "" }

// Read returns the text of the secret, from its file if it has one. The newline
// that editors leave at the end of a file is not part of it.
func (s Secret) Read() (string, error) {
	if s.file == "" {
		return s.text, nil
	}
	b, err := os.ReadFile(s.file)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// read takes the secret from the variable, or from the file that NAME_FILE names.
func (s *Secret) read(name string) []problem {
	text, file := os.Getenv(name), os.Getenv(name+fileSuffix)
	if text != "" && file != "" {
		return []problem{problemf("%s and %s%s: want one of them", name, name, fileSuffix)}
	}
	*s = Secret{text, file}
	got, err := s.Read()
	switch {
	case err != nil:
		return []problem{problemf("%s%s: %v", name, fileSuffix, err)}
	case s.IsSet() && strings.TrimSpace(got) == "":
		return []problem{problemf("%s%s: file %s is empty", name, fileSuffix, file)}
	}
	return nil
}

// Decode sets the secret to text. It cannot fail: envconfig quotes in its errors
// what could not be decoded.
func (s *Secret) Decode(text string) error {
	*s = Secret{text: text}
	return nil
}

func (s Secret) String() string {
	switch {
	case s.file != "":
		return redacted + " (file " + s.file + ")"
	case s.text != "":
		return redacted
	}
	return ""
}

// GoString keeps %#v from showing the text.
func (s Secret) GoString() string { return s.String() }

// Format keeps the other verbs, such as %d, from showing the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue keeps slog from showing the text.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps JSON and other encoders from showing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

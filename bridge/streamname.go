package bridge

import (
	"errors"
	"fmt"
)

// ValidStreamName returns nil if name may be the configured name of a stream: a
// lower-case letter, then lower-case letters, digits, '_' and '-'. An event id
// relies on it, because its separators '.' and '~' can then never be in a name.
func ValidStreamName(name string) error {
	if name == "" {
		return errors.New("stream name is empty")
	}
	for i := range len(name) {
		if c := name[i]; isLower(c) || i > 0 && (isDigit(c) || c == '_' || c == '-') {
			continue
		}
		return fmt.Errorf("stream name %.64q: want a lower-case letter, then lower-case letters, digits, '_' and '-'", name)
	}
	return nil
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

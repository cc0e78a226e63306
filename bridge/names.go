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

// ReservedName reports whether an event name belongs to the bridge itself, or
// to EventSource, which fires open, error and message events of its own.
func ReservedName(name string) bool {
	switch name {
	case "connected", "position", "caught-up", "gap", "reset", "closing", "expiring",
		"delete", "snapshot-end", "binary",
		"open", "error", "message":
		return true
	}
	return false
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

package main

import (
	"fmt"
	"io"
	"log/slog"
	"unicode"
	"unicode/utf8"
)

// newLogger returns the process' logger, which writes to w.
func newLogger(c *ProcessConfig, w io.Writer) *slog.Logger {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	o := &slog.HandlerOptions{Level: levels[c.LogLevel]}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(jsonEscaper{w}, o))
}

// jsonEscaper writes lines of JSON with everything escaped that does not print.
// The handler of JSON leaves DEL, the C1 controls, and what reverses the direction
// of text as they are, and lines are read in terminals; that of text escapes them.
type jsonEscaper struct{ w io.Writer }

// Write takes whole lines.
func (e jsonEscaper) Write(b []byte) (int, error) {
	kept, escaped := 0, []byte(nil) // b up to kept is in escaped
	for i := 0; i < len(b); {
		if b[i] < 0x7f { // controls below are escaped, but for the newline at the end
			i++
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		if !unicode.IsPrint(r) {
			escaped = append(escaped, b[kept:i]...)
			escaped = appendEscape(escaped, r)
			kept = i + size
		}
		i += size
	}
	if kept == 0 {
		return e.w.Write(b)
	}
	if _, err := e.w.Write(append(escaped, b[kept:]...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// appendEscape appends a rune as JSON can say it in ASCII.
func appendEscape(dst []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		return fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}

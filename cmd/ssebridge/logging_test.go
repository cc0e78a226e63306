package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode"
)

// Logs are read in terminals, which obey control characters, and by programs,
// which must get back what was logged.
func TestLogsEscapeWhatDoesNotPrint(t *testing.T) {
	const hostile = "a\x00\x1b[31m\x7f\u009b2J\u202eevil\ufeff\U000e0041 \n\r\"level\":\"ERROR\" é 漢 \xff end"
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		log := newLogger(&ProcessConfig{LogFormat: format, LogLevel: "info"}, &out)
		log.Info("client said", "text", hostile, "bytes", []byte(hostile), "group", slog.GroupValue(slog.String("text", hostile)))
		log.Info("plain")
		lines := strings.SplitAfter(out.String(), "\n")
		if len(lines) != 3 || lines[2] != "" {
			t.Fatalf("%s: %d lines: %q", format, len(lines), lines)
		}
		for _, r := range lines[0][:len(lines[0])-1] {
			if !unicode.IsPrint(r) {
				t.Errorf("%s: %U is not escaped: %q", format, r, lines[0])
			}
		}
		if format == "text" {
			continue
		}
		var got struct{ Text string }
		if err := json.Unmarshal([]byte(lines[0]), &got); err != nil || got.Text != strings.ToValidUTF8(hostile, "\ufffd") {
			t.Errorf("%v: got %q", err, got.Text)
		}
	}
}

package main

import (
	"io"
	"log/slog"
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
	return slog.New(slog.NewJSONHandler(w, o))
}

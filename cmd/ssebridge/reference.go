package main

import (
	"context"
	"io"
	"strings"
)

// printReference prints the reference of all variables as Markdown. The README
// holds the same text.
func printReference(_ context.Context, _ []string, stdout, _ io.Writer) error {
	p := printer{w: stdout}
	p.printf("Items of a list are separated by commas or new lines. Sizes are plain bytes or as in `64MiB`, `8MB`; durations as in `15s`, `5m`.\n")
	p.printf("A variable that is set but empty counts as not set where it has no default, and stops the start where it has one, as does any unknown variable that begins with `SSEBRIDGE_`.\n")
	p.table("The process", prefix, &ProcessConfig{})
	p.table("A NATS cluster", prefix+"_NATS", &NATSConfig{})
	p.printf("\nThese are for streams `name=nats:…`. For `name=nats@eu:…` the same variables begin with `SSEBRIDGE_NATS_EU_`. Variables that end in `_FILE` name a file with the text; it is read again at each new connection.\n")
	p.table("A Kafka cluster", prefix+"_KAFKA", &KafkaConfig{})
	p.printf("\nThese are for streams `name=kafka:…`; for `name=kafka@eu:…` they begin with `SSEBRIDGE_KAFKA_EU_`.\n")
	p.table("A stream", prefix+"_STREAM_<NAME>", &StreamConfig{})
	p.printf("\n`<NAME>` is the stream's name in upper case, with `_` for `-`.\n")
	return p.err
}

// table prints the variables of one settings struct.
func (p *printer) table(title, prefix string, spec any) {
	p.printf("\n| %s | default | meaning |\n|---|---|---|\n", title)
	for _, s := range settingsOf(prefix, spec) {
		p.printf("| `%s` | %s | %s |\n", strings.Join(s.names(), "`, `"), s.defaultCell(), s.meaning())
	}
}

func (s setting) defaultCell() string {
	switch def := s.tag.Get("default"); {
	case def != "":
		return "`" + def + "`"
	case s.tag.Get("required") == "true":
		return "required"
	case strings.HasPrefix(s.tag.Get("zero"), "derived"):
		return "derived"
	}
	return "none"
}

// meaning is the description of s with its possible values.
func (s setting) meaning() string {
	text := strings.ReplaceAll(s.tag.Get("desc"), "|", `\|`)
	if choices := s.tag.Get("choices"); choices != "" {
		text += "; `" + strings.ReplaceAll(choices, "|", "`, `") + "`"
	}
	if b := s.bounds(); b != "" {
		text += "; " + b
	}
	return text
}

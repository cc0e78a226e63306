package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// problemsError reports everything that is wrong with the configuration; nil if
// nothing is.
func problemsError(problems []problem) error {
	if len(problems) == 0 {
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "the configuration has %s:", counted(len(problems), "problem"))
	for _, p := range problems {
		text.WriteString("\n  ")
		text.WriteString(string(p))
	}
	return &usageError{text.String()}
}

// counted returns as in "1 problem", "2 problems".
func counted(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return strconv.Itoa(n) + " " + word
}

// printConfig prints the effective settings in the form of an env file.
func printConfig(_ context.Context, _ []string, stdout, _ io.Writer) error {
	c, problems := readConfig()
	if err := problemsError(problems); err != nil {
		return err
	}
	p := printer{w: stdout}
	for _, s := range c.settings() {
		value, note := s.show(), ""
		switch s.name {
		case "SSEBRIDGE_MEMORY":
			if c.Process.Memory == 0 {
				value, note = c.Process.memory(os.DirFS("/")).String(), " # derived"
			}
		case "SSEBRIDGE_MAX_CLIENTS":
			if c.Process.MaxClients == 0 {
				value, note = strconv.Itoa(c.Process.maxClients(openFiles())), " # derived"
			}
		}
		if value == "" {
			p.printf("# %s is not set\n", s.name)
			continue
		}
		p.printf("%s=%s%s\n", s.name, value, note)
	}
	return p.err
}

// show returns the value of s as it could be set, secrets redacted.
func (s setting) show() string {
	if d, ok := reflect.TypeAssert[time.Duration](s.value); ok {
		return formatDuration(d)
	}
	return fmt.Sprint(s.value.Interface())
}

// printID tells what an event id says.
func printID(_ context.Context, args []string, stdout, _ io.Writer) error {
	id, err := bridge.ParseID(args[0])
	if err != nil {
		return err
	}
	// Whatever else is wrong with the configuration, an id can be read.
	var known struct {
		Streams Mappings `split_words:"true"`
	}
	_ = readSettings(prefix, &known)
	brokers := map[string]string{}
	for _, m := range known.Streams {
		brokers[m.Name] = m.Broker
	}
	p := printer{w: stdout}
	for _, part := range id {
		p.printf("stream %s\n", part.Stream)
		p.printf("  incarnation %s\n", strconv.FormatUint(uint64(part.Position.Incarnation), 36))
		for partition, place := range part.Position.Places {
			p.printf("  partition %d: next offset %d%s\n", partition, place.Offset, describeProof(place, brokers[part.Stream]))
		}
	}
	return p.err
}

// describeProof says what is known of the record before a place. Proofs of
// JetStream are timestamps in milliseconds, those of Kafka leader epochs. broker
// is the kind of the stream's, empty if it is not configured here: then only a
// number beyond all leader epochs (32 bits) tells what it is.
func describeProof(place bridge.Place, broker string) string {
	v, ok := place.Proof.Value()
	switch {
	case !ok:
		return ", no proof"
	case broker == brokerKafka:
		return fmt.Sprintf(", proof: record %d is of leader epoch %d", place.Offset-1, v)
	case broker == brokerNATS || v > math.MaxInt32:
		return fmt.Sprintf(", proof: record %d is of %s", place.Offset-1, time.UnixMilli(v).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return fmt.Sprintf(", proof: %d", v)
}

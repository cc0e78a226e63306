package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
)

// kubernetesShape matches the variables that Kubernetes sets in every container
// of a namespace for a Service called ssebridge or ssebridge-something
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
// No setting has such a name.
var kubernetesShape = regexp.MustCompile(`^SSEBRIDGE_(PORT.*|SERVICE_.*|.+_SERVICE_HOST|.+_SERVICE_PORT.*|.+_PORT|.+_PORT_[0-9]+_(TCP|UDP|SCTP).*)$`)

// unknown reports variables that look like settings and are none: a typo would
// otherwise change nothing, silently. Unless all streams could be named, variables
// of streams and clusters must be very like a known one: others may be those of a
// stream that could not.
func (c *Config) unknown(named bool) []problem {
	var known []string
	for _, s := range c.settings() {
		known = append(known, s.names()...)
	}
	var problems []problem
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix+"_") || slices.Contains(known, name) || kubernetesShape.MatchString(name) {
			continue
		}
		edits := 1 + (len(name)-len(prefix))/4
		suspect := !named && ofStreamOrCluster(name)
		if suspect {
			edits = 2
		}
		if near := nearest(name, known, edits); near != "" {
			problems = append(problems, problemf("%s: unknown variable, did you mean %s?", name, near))
		} else if !suspect {
			problems = append(problems, problemf("%s: unknown variable (ssebridge env lists all)", name))
		}
	}
	slices.Sort(problems) // the environment's own order means nothing
	return problems
}

func ofStreamOrCluster(name string) bool {
	return strings.HasPrefix(name, prefix+"_STREAM_") || strings.HasPrefix(name, prefix+"_NATS_") || strings.HasPrefix(name, prefix+"_KAFKA_")
}

// clashes reports streams and clusters whose variables cannot be told apart from
// others'.
func (c *Config) clashes() []problem {
	var problems []problem
	streams := newVariables("stream", optionsOf(&StreamConfig{}, "FIELDS", "READ"))
	for _, s := range c.Streams {
		problems = append(problems, streams.add(s.Mapping.Name)...)
	}
	nats := newVariables("NATS cluster", optionsOf(&NATSConfig{}))
	for _, n := range c.NATS {
		problems = append(problems, nats.addCluster(NATSConfig{}.prefix(), n.Cluster)...)
	}
	kafka := newVariables("Kafka cluster", optionsOf(&KafkaConfig{}))
	for _, k := range c.Kafka {
		problems = append(problems, kafka.addCluster(KafkaConfig{}.prefix(), k.Cluster)...)
	}
	return problems
}

// optionsOf lists the names of a struct's variables without their prefix, and
// those that are reserved for later.
func optionsOf(spec any, reserved ...string) []string {
	var options []string
	for _, s := range settingsOf("", spec) {
		options = append(options, s.names()...)
	}
	return append(options, reserved...)
}

// variables knows which name a variable belongs to, for names of one kind.
type variables struct {
	kind    string
	options []string
	owners  map[string]string // of variables without the prefix of their kind
}

func newVariables(kind string, options []string) variables {
	return variables{kind, options, map[string]string{}}
}

// add enters a name and tells which one it cannot stand beside.
//
// Example: a-b and a_b both read SSEBRIDGE_STREAM_A_B_SUBJECT; orders-filter is
// the FILTER option of orders.
func (v variables) add(name string) []problem {
	mine := []string{variable(name)}
	for _, option := range v.options {
		mine = append(mine, variable(name)+"_"+option)
	}
	for _, m := range mine {
		if owner, ok := v.owners[m]; ok && owner != name {
			return []problem{problemf("SSEBRIDGE_STREAMS: the variables of %s %q and %q would be the same or read as options of each other: rename one", v.kind, owner, name)}
		}
	}
	for _, m := range mine {
		v.owners[m] = name
	}
	return nil
}

// addCluster enters a cluster other than the default one, whose variables begin
// with prefix. A name that is the beginning of an option's name is refused:
// SSEBRIDGE_NATS_TLS_CA must not be the CA of a cluster called tls.
func (v variables) addCluster(prefix, name string) []problem {
	if name == "" {
		return nil
	}
	problems := v.add(name)
	for _, option := range v.options {
		if option == variable(name) || strings.HasPrefix(option, variable(name)+"_") {
			return append(problems, problemf("SSEBRIDGE_STREAMS: cluster %q begins the name of the option %s_%s: want another name", name, prefix, option))
		}
	}
	return problems
}

// nearest returns the known name that is fewest edits away from name, or "" if
// none is within so many.
func nearest(name string, known []string, edits int) string {
	found := ""
	for _, k := range known {
		if d := distance(name, k); d < edits || (d == edits && found == "") {
			edits, found = d, k
		}
	}
	return found
}

// distance is the number of characters to insert, delete or change to turn a
// into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

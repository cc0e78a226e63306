package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// update makes golden tests write what they got.
var update = flag.Bool("update", false, "rewrite golden files and generated blocks")

// setenv gives the test an environment without any setting but those of env,
// which are written NAME=value without the prefix.
func setenv(t *testing.T, env ...string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, prefix+"_") {
			t.Setenv(name, "") // so that it comes back after the test
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(prefix+"_"+name, value)
	}
}

// minimal is the least that a configuration has to say.
func minimal(more ...string) []string {
	return append([]string{
		"STREAMS=orders=nats:ORDERS", "NATS_URL=nats://localhost:4222", "AUTH=none",
	}, more...)
}

// invoke runs a command as a shell would, and returns what it printed with what
// its error prints, and the exit code. No planted secret may be in it.
func invoke(t *testing.T, args ...string) (output string, code int) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), args, &out, &out)
	if err != nil {
		out.WriteString("ssebridge: " + err.Error() + "\n")
	}
	secrettest.Check(t, "the output of ssebridge "+strings.Join(args, " "), out.String())
	return secrettest.Hide(out.String()), exitCode(err)
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("output differs from %s (make update rewrites it)\n got:\n%s\nwant:\n%s", path, got, want)
	}
}

// Package deploy holds what an operator copies, and tests that keep it true:
// every file is read as strictly as what it is for reads it, and what it says to
// the bridge is said to the real one.
package deploy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// buildDir holds the binary under test; TestMain makes and removes it.
var buildDir string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ssebridge-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	buildDir = dir
	return m.Run()
}

// buildBridge builds the production binary, once per test process.
var buildBridge = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "ssebridge")
	out, err := exec.Command("go", "build", "-o", path, "../cmd/ssebridge").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the bridge: %w\n%s", err, out)
	}
	return path, nil
})

// effective returns the settings that the bridge makes of an environment, by
// name, as its config command prints them. An environment that it does not
// accept fails the test.
func effective(t *testing.T, environment map[string]string) map[string]string {
	t.Helper()
	path, err := buildBridge()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "config")
	cmd.Env = []string{}
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		secrettest.Check(t, "standard error", string(exit.Stderr))
		t.Fatalf("the bridge does not accept it:\n%s", secrettest.Hide(string(exit.Stderr)))
	}
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(out)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "# ") // a remark, or a whole line of them
		if name, value, ok := strings.Cut(line, "="); ok {
			settings[name] = strings.TrimSpace(value)
		}
	}
	return settings
}

// need returns the path of a program that a test cannot do without.
func need(t *testing.T, what, get, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, what, program+" is not installed; "+get)
	}
	return path
}

// missing skips a test that cannot run here and says how it could, or fails it
// where SSEBRIDGE_TEST_REQUIRE lists what the test is for.
func missing(t *testing.T, what, text string) {
	t.Helper()
	required := strings.FieldsFunc(os.Getenv("SSEBRIDGE_TEST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(required, what) {
		t.Fatalf("%s (SSEBRIDGE_TEST_REQUIRE asks for %s)", text, what)
	}
	t.Skip(text)
}

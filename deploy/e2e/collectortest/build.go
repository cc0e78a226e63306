package collectortest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// builder makes collectors. It and what it puts together have versions of their
// own, which need not be equal.
const builder = "go.opentelemetry.io/collector/cmd/builder@v0.164.0"

// parts is what the collector is made of.
const parts = `dist:
  name: otelcol
  output_path: ./made
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v0.158.0
exporters:
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter v0.158.0
`

// errAbsent reports that there is no collector and that none could be made.
var errAbsent = errors.New("to run it, let go test reach a module proxy once: the collector is then built into the user's cache directory, which takes a minute or two")

// require skips a test that needs what is not there, or fails it where
// SSEBRIDGE_TEST_REQUIRE names collector.
func require(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	needed := strings.FieldsFunc(os.Getenv("SSEBRIDGE_TEST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if errors.Is(err, errAbsent) && !slices.Contains(needed, "collector") {
		t.Skipf("this test runs a real OpenTelemetry collector: %v", err)
	}
	t.Fatalf("collector for tests: %v", err)
}

// program returns the path of the collector's program, and makes it if it is not
// there.
var program = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	key := sha256.Sum256([]byte(builder + "\n" + parts + runtime.GOOS + "/" + runtime.GOARCH))
	path := filepath.Join(cache, "ssebridge-collectortest", fmt.Sprintf("otelcol-%x", key[:8]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the collector: %w", err)
	}
	// Several test processes may build at once: each uses a folder of its own.
	own, err := os.MkdirTemp(filepath.Dir(path), "building-")
	if err != nil {
		return "", fmt.Errorf("make the folder of the collector: %w", err)
	}
	defer func() { _ = os.RemoveAll(own) }() // only space
	if err := build(own); err != nil {
		return "", fmt.Errorf("%w: %w", err, errAbsent)
	}
	if err := os.Rename(filepath.Join(own, "made", "otelcol"), path); err != nil {
		return "", fmt.Errorf("put the collector in place: %w", err)
	}
	return path, nil
})

// build makes the collector in a folder.
func build(folder string) error {
	if err := os.WriteFile(filepath.Join(folder, "parts.yaml"), []byte(parts), 0o600); err != nil {
		return fmt.Errorf("write the collector's parts: %w", err)
	}
	for _, args := range [][]string{
		{"go", "install", builder},
		{filepath.Join(folder, "builder"), "--config=parts.yaml", "--skip-strict-versioning"},
	} {
		cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // ends by itself
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "GOBIN="+folder, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	}
	return nil
}

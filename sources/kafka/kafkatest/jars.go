package kafkatest

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
)

// The versions of Kafka that tests run.
const (
	Current = "4.3.1"
	Older   = "3.9.2"
)

// errAbsent reports that a tool is not installed.
var errAbsent = errors.New("to run it, install a Java runtime (17 or later) and Maven, such as Debian's openjdk-17-jre-headless and maven; " +
	"or name a broker in SSEBRIDGE_TEST_KAFKA=host:port")

// require skips a test that needs what is not there, or fails it where
// SSEBRIDGE_TEST_REQUIRE names kafka.
func require(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	needed := strings.FieldsFunc(os.Getenv("SSEBRIDGE_TEST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if errors.Is(err, errAbsent) && !slices.Contains(needed, "kafka") {
		t.Skipf("this test runs on a real Kafka: %v", err)
	}
	t.Fatalf("Kafka for tests: %v", err)
}

// jars returns the folder that holds Kafka's jars.
func jars(version string) (string, error) {
	resolving.Lock()
	defer resolving.Unlock()
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("%s is not installed: %w", tool, errAbsent)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	folder := filepath.Join(cache, "ssebridge-kafkatest", version)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the jars: %w", err)
	}
	// Several test processes may resolve at once: each uses a folder of its own.
	own, err := os.MkdirTemp(filepath.Dir(folder), "resolving-")
	if err != nil {
		return "", fmt.Errorf("make the folder of the jars: %w", err)
	}
	defer func() { _ = os.RemoveAll(own) }() // empty by then, or of no use
	if err := resolve(own, version); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(own, "libs"), folder); err != nil {
		if _, there := os.Stat(folder); there != nil {
			return "", fmt.Errorf("put the jars in place: %w", err)
		}
	}
	return folder, nil
}

// resolving is held while jars are looked for.
var resolving sync.Mutex

// project is a Maven project that depends on the broker and on nothing else.
const project = `<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>ssebridge</groupId><artifactId>kafkatest</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>%s</version></dependency></dependencies>
</project>
`

func resolve(folder, version string) error {
	if err := os.WriteFile(filepath.Join(folder, "pom.xml"), fmt.Appendf(nil, project, version), 0o600); err != nil {
		return fmt.Errorf("write the Maven project: %w", err)
	}
	cmd := exec.Command("mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime") //nolint:noctx // ends by itself
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("resolve Kafka %s by Maven: %w\n%s", version, err, out)
	}
	return nil
}

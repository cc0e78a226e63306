package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// kafkaVersion is the version of Kafka that the demo runs.
const kafkaVersion = "4.3.1"

// leastJava is the oldest Java that it runs on
// (https://kafka.apache.org/43/operations/java-version/).
const leastJava = 17

// howToGetJava says what is missing on a machine without Java or Maven.
const howToGetJava = "Kafka needs a Java runtime (17 or later), and Maven to be fetched once; on Debian: apt-get install openjdk-17-jre-headless maven. " +
	"`make run` shows the same with a NATS server, and needs neither"

// javaVersionShape finds the version in what `java -version` prints.
var javaVersionShape = regexp.MustCompile(`version "(\d+)`)

// kafkaJars returns the directory with Kafka's own jars, in the user's cache
// directory. Maven fetches them if they are not there yet.
func kafkaJars(ctx context.Context, log *slog.Logger) (string, error) {
	if err := checkJava(ctx); err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a directory for Kafka's jars: %w", err)
	}
	dir := filepath.Join(cache, "ssebridge-kafka", kafkaVersion)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return "", fmt.Errorf("%w. %s", err, howToGetJava)
	}
	log.Info("fetching Kafka by Maven, once", "version", kafkaVersion, "into", dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", fmt.Errorf("make a directory for Kafka's jars: %w", err)
	}
	// In a directory of its own until it is whole.
	partial, err := os.MkdirTemp(filepath.Dir(dir), "partial-")
	if err != nil {
		return "", fmt.Errorf("make a directory for Kafka's jars: %w", err)
	}
	defer func() { _ = os.RemoveAll(partial) }()
	if err := os.WriteFile(filepath.Join(partial, "pom.xml"), fmt.Appendf(nil, kafkaProject, kafkaVersion), 0o600); err != nil {
		return "", fmt.Errorf("write the Maven project: %w", err)
	}
	mvn := exec.CommandContext(ctx, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars", "-DincludeScope=runtime")
	mvn.Dir = partial
	if out, err := mvn.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch Kafka %s by Maven: %w\n%s", kafkaVersion, err, out)
	}
	if err := os.Rename(filepath.Join(partial, "jars"), dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // another demo was faster otherwise
			return "", fmt.Errorf("put Kafka's jars in place: %w", err)
		}
	}
	return dir, nil
}

// kafkaProject is a Maven project that depends on the broker and on nothing else.
const kafkaProject = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ssebridge</groupId>
  <artifactId>demo</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>%s</version></dependency>
  </dependencies>
</project>
`

// checkJava looks whether there is a Java that Kafka runs on.
func checkJava(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w. %s", err, howToGetJava)
	}
	if err != nil {
		return fmt.Errorf("ask for the version of java: %w\n%s", err, out)
	}
	m := javaVersionShape.FindSubmatch(out)
	if m == nil {
		return nil // a Java that says it otherwise may do
	}
	if version, err := strconv.Atoi(string(m[1])); err == nil && version < leastJava {
		return fmt.Errorf("the java in the PATH is version %d. %s", version, howToGetJava)
	}
	return nil
}

// kafkaCommand returns the command of one of Kafka's programs, with flags that
// make it start fast and stay small. It is killed when ctx ends.
func kafkaCommand(ctx context.Context, jars, class string, args ...string) *exec.Cmd {
	flags := []string{
		"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData",
		"-Djava.net.preferIPv4Stack=true", "-cp", filepath.Join(jars, "*"), class,
	}
	return exec.CommandContext(ctx, "java", append(flags, args...)...)
}

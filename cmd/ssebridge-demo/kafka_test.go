package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
)

// requireKafka skips a test that runs Kafka where that is not possible, or fails
// it where SSEBRIDGE_TEST_REQUIRE names kafka.
func requireKafka(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if slices.Contains(strings.Split(os.Getenv("SSEBRIDGE_TEST_REQUIRE"), ","), "kafka") {
			t.Fatalf("%s is not installed", tool)
		}
		t.Skipf("%s is not installed: to run this, install Java 17 and Maven, such as Debian's openjdk-17-jre-headless and maven", tool)
	}
}

// The demo on Kafka promises what the other does: one command, a page, records
// in both topics, and nothing left behind, not even a broker.
func TestKafkaDemoServesAPageAndLeavesNothingBehind(t *testing.T) {
	requireKafka(t)
	cache, err := os.UserCacheDir() // before TMPDIR and the rest are changed
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", cache)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := newWatch(), newWatch()
	done := make(chan error, 1)
	go func() {
		defer close(stdout.lines) // whoever still waits for a line need not
		done <- run(ctx, []string{"-kafka", "-bridge", self(t), "-listen", "127.0.0.1:0", "-bridge-listen", "127.0.0.1:0"}, stdout, stderr)
	}()

	pageURL := stdout.Next(t, `^  Open  (http://127\.0\.0\.1:\d+)  `)
	address := stdout.Next(t, `host and prices is at (127\.0\.0\.1:\d+)`)
	if status, html := get(t, pageURL+"/"); status != http.StatusOK || !strings.Contains(html, "Kafka, live") {
		t.Errorf("page: status %d, want 200 and the name of the broker in it:\n%s", status, html)
	}
	for topic, key := range map[string]string{"host": "cpu", "prices": "ACME"} {
		r := readFirst(t, address, topic, key)
		if !strings.HasPrefix(string(r.Value), `{"n":1,`) {
			t.Errorf("first record of %s with key %s: %s, want number 1", topic, key, r.Value)
		}
	}

	recreatesTopics(t, pageURL, address)

	cancel()
	if err := <-done; err != nil {
		t.Errorf("run ended with %v, want nil", err)
	}
	if entries, err := os.ReadDir(tmp); err != nil || len(entries) != 0 {
		t.Errorf("temporary directory afterwards: %v, %v; want none", entries, err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("listen at %s afterwards: %v; the broker is still there", address, err)
	}
	_ = l.Close()
}

// recreatesTopics presses the page's buttons that delete a topic and make it
// anew: what it holds then begins where the truth says, and nothing is missing.
func recreatesTopics(t *testing.T, pageURL, address string) {
	t.Helper()
	for topic, key := range map[string]string{"host": "cpu", "prices": "ACME"} {
		var first uint64
		for life := 2; life <= 3; life++ {
			if status, text := postJSON(t, pageURL+"/do/recreate", `{"stream":"`+topic+`"}`); status != http.StatusOK {
				t.Fatalf("recreate %s: status %d, %s", topic, status, text)
			}
			var stated statement
			until(t, "record of "+topic+" in its new life", func() bool {
				_, text := get(t, pageURL+"/truth")
				if err := json.Unmarshal([]byte(text), &stated); err != nil {
					t.Fatal(err)
				}
				e := stated.Streams[topic].Subjects[topic+"."+key]
				return e.Last >= e.First
			})
			if got := stated.Streams[topic].Life; got != life {
				t.Errorf("life of %s: %d, want %d", topic, got, life)
			}
			e := stated.Streams[topic].Subjects[topic+"."+key]
			if e.First <= first {
				t.Errorf("the life of %s begins at %d after one that began at %d, want that the numbers go on", topic, e.First, first)
			}
			first = e.First
			if r := readFirst(t, address, topic, key); !strings.HasPrefix(string(r.Value), fmt.Sprintf(`{"n":%d,`, first)) || r.Offset > 10 {
				t.Errorf("first record of %s with key %s: %s at offset %d, want number %d in a new topic", topic, key, r.Value, r.Offset, first)
			}
		}
	}
}

// postJSON returns the status and the body of the answer.
func postJSON(t *testing.T, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// readFirst returns the first record of a key.
func readFirst(t *testing.T, address, topic, key string) kafkago.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found := make(chan kafkago.Message, kafkaPartitions)
	ended := make(chan error, kafkaPartitions)
	ctx, stop := context.WithCancel(ctx)
	for p := range kafkaPartitions {
		go func() {
			r := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{address}, Topic: topic, Partition: p})
			for {
				m, err := r.ReadMessage(ctx)
				if err != nil || string(m.Key) == key {
					if err == nil {
						found <- m
					}
					ended <- errors.Join(err, r.Close())
					return
				}
			}
		}()
	}
	var m kafkago.Message
	select {
	case m = <-found:
	case <-ctx.Done():
		t.Errorf("no record of %s with key %s: %v", topic, key, ctx.Err())
	}
	stop()
	for range kafkaPartitions {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("read %s: %v", topic, err)
		}
	}
	return m
}

// What is missing must be said with what to install, before anything is started.
func TestKafkaDemoSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := kafkaJars(t.Context(), discard())
	if !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "openjdk-17-jre-headless") {
		t.Errorf("without java: %v, want it to say what to install", err)
	}
	java := t.TempDir()
	if err := os.WriteFile(java+"/java", []byte("#!/bin/sh\necho 'openjdk version \"11.0.22\" 2024-01-16' >&2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", java)
	if _, err := kafkaJars(t.Context(), discard()); err == nil || !strings.Contains(err.Error(), "version 11") {
		t.Errorf("with an old java: %v, want its version", err)
	}
}

// Two clusters with one id look like one to their brokers; an id that begins
// with a dash is none.
func TestKafkaClusterIDsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := kafkaClusterID()
		if len(id) != 22 || strings.HasPrefix(id, "-") || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

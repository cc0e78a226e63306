package kafkatest

import (
	"path/filepath"
	"testing"
)

// Resolving takes Maven a while the first time. A build server does it before
// everything else, by this test, so that no other has to wait for it.
func TestJarsAreResolved(t *testing.T) {
	for _, version := range []string{Current, Older} {
		folder, err := jars(version)
		require(t, err)
		found, err := filepath.Glob(filepath.Join(folder, "kafka-server-*.jar"))
		if err != nil || len(found) == 0 {
			t.Errorf("Kafka %s: no broker among the jars in %s", version, folder)
		}
	}
}

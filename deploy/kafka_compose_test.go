package deploy

import "testing"

// Kafka's file is copied as often as the one for NATS, and must start as well.
func TestKafkaComposeIsAcceptedByTheBinary(t *testing.T) {
	_, settings := composeBridge(t, "kafka.yaml")
	for name, want := range map[string]string{
		"SSEBRIDGE_STREAMS":       "orders=kafka:orders.v1",
		"SSEBRIDGE_KAFKA_BROKERS": "kafka:9092",
	} {
		if got := settings[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

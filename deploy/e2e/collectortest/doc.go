// Package collectortest runs an OpenTelemetry collector for tests: a real one, as
// a process of its own, on free ports of the loopback interface.
//
//	program under test ── OTLP by gRPC or HTTP ──► collector ──► file, a JSON line per export
//	                                                               │
//	test ◄── spans and metrics as Go values ───────────────────────┘
//
// The collector is made once, by its own builder, of the receiver and the exporter
// that this needs, into the user's cache directory; that needs Go and the network.
// Where it cannot be made a test is skipped and says why; with collector in
// SSEBRIDGE_TEST_REQUIRE it fails.
//
// Before a test gets a collector, a span with an id that nobody else has was sent
// to its port and found in its file.
package collectortest

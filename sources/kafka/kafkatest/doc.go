// Package kafkatest runs Apache Kafka for tests: real brokers, as processes of
// their own, on free ports of the loopback interface.
//
// Brokers are made of Kafka's own jars, which Maven resolves once into the
// user's cache directory; that needs java (17 or later) and mvn. Where they are
// absent a test is skipped, and says how to get them; with kafka in
// SSEBRIDGE_TEST_REQUIRE it fails. SSEBRIDGE_TEST_KAFKA=host:port names a broker
// that is there already, for the tests that need no broker of their own.
//
// Every cluster has a random id. Before anything is created or deleted it is
// checked that the broker which answers has it.
//
// It is imported by tests only, and so may use another client library than the
// one under test.
package kafkatest

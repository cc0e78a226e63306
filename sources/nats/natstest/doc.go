// Package natstest gives tests a real NATS server with JetStream: inside the
// test process ([Embedded], [Cluster]) or as a process of its own that can be
// killed and have its data rolled back ([Process]).
//
// Every server listens on loopback only, on a free port, and has a name of its
// own, so that a test notices when something else answers on its port. All of
// it ends with the test. The package is imported by tests only.
package natstest

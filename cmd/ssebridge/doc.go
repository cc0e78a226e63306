// Command ssebridge follows NATS JetStream streams and Kafka topics and serves
// them to browsers as Server-Sent Events that can be resumed exactly, on any
// replica.
//
//	environment ──► config ──► sources ──► hub ──► replay ──► http server
//	                             (one per stream)               ▲     ▲
//	                                                       clients   probes
//
// This package only wires: it reads the configuration, builds the parts, runs
// them and prints errors. All settings come from the environment; `ssebridge
// env` prints them all.
//
// Commands are tested against golden files in testdata; what a process does as
// a whole (waiting for its broker, draining, exit codes) is tested on the built
// binary.
package main

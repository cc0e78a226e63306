// Package sourcetest holds what every source is measured by: a faithful broker
// in memory, and the contract of [bridge.Source] as a suite of tests.
//
// # The broker in memory
//
// A [Broker] keeps the one true log of a stream. Each [Source] on it is what
// one replica of the bridge would have: it answers questions from the truth,
// and its live reader follows the log at its own pace.
//
//	     Append Begin Delete Trim Grow NewEpoch Rollback Revert Recreate Restore Remove Down Up
//	                                      │
//	                                ┌─────▼─────┐   History Held Ends
//	                                │  Broker   │──────────────► oracles
//	                                └─┬───────┬─┘
//	Verify Bounds ReadChunk PositionAt│       │
//	        ┌─────────────────────────┴─┐   ┌─┴─────────────────────────┐
//	        │ Source (replica 1)        │   │ Source (replica 2)        │
//	        │ Tail: free, or by Step(p) │   │ Tail: free, or by Step(p) │
//	        └───────────────────────────┘   └───────────────────────────┘
//
// It comes in two kinds that differ as the brokers do. [JetStreamLike] has one
// partition, counts from 1, and proves with the time of the record right before
// a place. [KafkaLike] has any number of partitions, counts from 0, proves with
// the leader epoch, knows where histories part, and has transactions whose
// aborted records and markers nobody is shown.
//
//	b := sourcetest.NewBroker(sourcetest.BrokerOptions{Kind: sourcetest.KafkaLike, Partitions: 3})
//	s := b.Source(sourcetest.SourceOptions{Stepped: true})
//	go s.Tail(ctx, receiver)                                    // tells Started at once
//	b.Append(sourcetest.Message{Partition: 1, Data: []byte("a")})
//	s.Step(1)                                                   // the receiver has the record when Step returns
//	b.Rollback(1, 0)
//	s.Step(1)                                                   // Doubted, then Found
//
// Invariants: no method of a Broker blocks; nobody waits while it holds a lock,
// so all of it works in testing/synctest bubbles; what a source does depends on
// nothing but the calls made, so that a seeded schedule repeats itself; bytes
// handed to a receiver are overwritten when it returns, so that whoever keeps
// them is found out.
//
// # The contract
//
// [Run] takes a function that opens a [Subject], a fresh and empty stream with
// a source on it, and runs every part of the contract that the subject has the
// means for. Each adapter calls it from its own tests:
//
//	func TestContract(t *testing.T) {
//		sourcetest.Run(t, func(t *testing.T) sourcetest.Subject { ... })
//	}
//
// The suite waits for events, up to a generous deadline, and never for a time.
// The broker in memory passes it too; besides, random schedules compare what
// its live readers end up with against its own truth.
package sourcetest

// Package kafka follows Kafka topics as [bridge.Source]s.
//
//	Cluster  live ──► lane of broker 1 ──one fetch at a time──► Tail of topic A, of B …
//	          ├─────► lane of broker 2 ──────────┘
//	          └─────► Metadata: who leads, is it the same topic; what became of places in doubt
//	         cold ──► Metadata, ListOffsets, OffsetForLeaderEpoch ──► Verify, Bounds, PositionAt
//	          └─────► Fetch ──► ReadChunk
//
// A [Cluster] is two pools of connections, which all topics of a Kafka cluster
// share; a [Source] is one topic. kafka-go's Transport dials, logs in and finds
// brokers. What is said over its connections is written and read here, byte by
// byte, after the protocol guide: the library's own readers deliver the records
// of aborted transactions, take a null value for an empty one, skip silently
// what has expired, and read a topic that was deleted and made again, or a log
// that lost its end, as if nothing had happened.
//
// # What holds
//
//   - No group is joined, nothing is committed, and no topic is ever created.
//   - Live, a broker has one connection for data and one request on it, however
//     many topics and partitions it leads and however many clients there are.
//   - Each fetch names the topic's id, the leader's epoch, and the epoch of the
//     batch that was read last. So the broker itself refuses to go on where the
//     history is another one; what it refuses is judged by the resume table.
//   - The place after a batch is its last offset plus one, also where compaction
//     has left no record there, for markers of transactions, and for batches of
//     aborted ones. Checksums are checked.
//   - A proof is the epoch of a batch that was read, never one that was only named
//     with an offset: an epoch may have no records, and then proves nothing.
//   - By read_committed, which is the default, nothing is shown, and no place is
//     beyond, the first record of an open transaction.
//   - A verdict that a topic was made again is confirmed by its leader. One that a
//     place lies beyond the end has held for two seconds.
//   - What waits in memory is bounded by what was asked for, and by one batch.
//
// # Older brokers
//
// Fetch by topic id came with Kafka 3.1, and the check of the last epoch with
// 2.7. With brokers that lack them the same is found out by asking, a little
// later; [Source.Reduced] says which guarantee is weaker. Before Kafka 2.4 there
// is no service.
//
// # Tests
//
// The tests run against real brokers, which package kafkatest makes of Kafka's
// own jars.
package kafka

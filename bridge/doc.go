// Package bridge holds the words that all parts of ssebridge share, and the
// live path that is made of them. It knows neither brokers nor HTTP: those are
// sources and sinks, which import it and never each other.
//
// # The data
//
// A broker's log becomes the events of clients in four steps:
//
//	Source     adapter of one JetStream stream or Kafka topic
//	  │ records and what is found out about history, in order per partition
//	Stream     the only reader of it in this process: public subject and event
//	  │        name of each record, live position, generation, subject space
//	Feed       one per set of streams and form: each record encoded once, with
//	  │        its event id, in a ring bounded in bytes
//	Group      one per distinct filter: the numbers of the ring's entries that
//	  │        its clients are shown, found by a subject trie
//	client     a cursor into its group; nothing is queued for it
//
// Nothing is stored. The broker is the history, and the event id is the cursor:
// an [ID] names, for each stream of a subscription, a [Position], which is for
// each partition the next offset to read ([Place]) with a [Proof] of the record
// before it. Any replica can go on from any id.
//
//	feed's ring     …  orders 7   prices 41   orders 8  …
//	id after it        orders 8   orders 8    orders 9
//	                   prices 41  prices 42   prices 42
//
// A client whose position is not in the ring is brought there by the package
// replay, which reads older records from the broker in chunks that clients
// share ([ChunkReader]). Before that a [Verifier] judges the position: it is
// exact, or each [Finding] says which records are lost (gap) or that the
// history is not the one that the client has seen (reset).
//
// A public subject is dotted tokens, made of a record by a [Template]; a
// [Pattern] matches subjects, a [Filter] is a set of patterns in normal form,
// and a [Trie] finds the filters that match a subject.
//
// # What always holds
//
//   - An id means that of every partition all records below its place were
//     delivered or filtered out, and none at or above. The ids of one client
//     never go back.
//   - Every loss is told as an event with an id of its own. Nothing is skipped or
//     repeated without one.
//   - Records of one partition keep the broker's order. The order between
//     partitions is each replica's own.
//   - Older records are only read below the live position of this replica:
//     above it, its reader could not notice that they are rewritten. A chunk
//     counts for the offsets that were really read, within one incarnation,
//     read epoch and generation.
//   - Every doubt about a stream's history (a reset, a reconnect, another leader)
//     raises its generation, and every client that is not level with its group
//     is verified again.
//   - Where two readings of a history meet, the proofs they know of the same
//     offset agree, or the client is verified again.
//   - A client that is ahead of its feed, because another replica had read further,
//     is verified again with each heartbeat, and where the feed passes its place.
//   - The live position also moves over offsets that hold nothing, or a client
//     that was sent there by another replica would never become level.
//   - A client that falls behind goes on from what it was last given, never from
//     what the ring has left.
//   - Gaps and resets that the live reader finds are entries of every group,
//     whatever its filter.
//   - Bytes that are shared are never changed.
//
// # How it is tested
//
// Event ids, patterns, templates and JSON members are fuzzed; what patterns say
// of each other is compared with all subjects over a small alphabet, the trie
// with the filters it holds. Ids of each released version are kept in testdata
// and read by all later ones. Sources are held to the contract by one suite, in
// sources/sourcetest, which also has a faithful broker in memory; the live path
// runs over that broker in simulated time, with seeded schedules, and each
// client's history is compared with the broker's.
package bridge

// Package replay takes clients from any position to the live bytes of their
// group, and back there whenever they fall behind.
//
// # The way of a client
//
//	            brokers
//	   verify │  ▲  │ chunks, read once for everybody
//	          ▼  │  ▼
//	┌─────────────────────────────────┐            ┌──────────────┐
//	│ Follower, away                  │            │ bridge.Feed  │
//	│ verify ─► target ─► walk ───────┼──► level ◄─┤ ring, groups │
//	│    ▲────────┴────────┘ doubt    │            └──────────────┘
//	└─────────────────────────────────┘
//	          ▲       fell out of the ring │
//	          └────────────────────────────┘
//
// A client's position is one place for each partition of each of its streams. A
// feed has such a position, too: the vector of what this replica has read, which
// every entry of its ring moves on. Where both are equal the bytes of the feed
// are the client's bytes, and nothing is left to do for it alone. The catch-up
// makes them equal:
//
//   - verify: the brokers say what became of the client's position. Losses are
//     told, each with the position behind it.
//   - target: the feed's vector T and the number of its next entry are taken as
//     one. What lies between the position and T is read from the broker.
//   - walk: from that entry on the ring is gone through. Entries below the
//     position, which another replica has delivered, are skipped. The id of what
//     is delivered is the greater of position and vector, place by place.
//   - level: once the vector is nowhere below the position they are equal.
//
// T does not move while it is read, so reading ends, however fast records
// arrive; waiting for the two to be equal by chance would not.
//
// # Invariants
//
//   - The first event tells the position that the client came with, before any
//     gap moves it; each gap and reset has its own id. So a cut anywhere finds
//     what was not told again, and only that.
//   - Ids stand behind a record, or where the broker has vouched for the place:
//     never at a border of chunks or anywhere else in a hole. There the proof
//     would be another record's, and a broker that is asked about it would call
//     an honest client's position broken.
//   - Nothing is read at or beyond this replica's own live position. What its
//     reader has passed it is sure to verify; what lies beyond may be rewritten
//     without a sign.
//   - A chunk says from where to where it is complete. Before it the log was
//     trimmed; behind it nothing was read. Taken for complete, both lose records
//     in silence.
//   - Chunks are shared within one incarnation, read epoch and generation. A
//     history is not rewritten within a read epoch, and the verdict on a client's
//     own position names the one to use. A read that began in an older generation
//     is not kept.
//   - Where two sides know the proof of the same record, position and chunk or
//     position and feed, the proofs must agree; otherwise the brokers are asked
//     again.
//   - Any doubt about a stream's history (a new connection or leader, a reset that
//     its reader finds, the first reset of a client in a read epoch) raises its
//     generation. Everybody who is not level then verifies with their own position.
//     Level clients need not: what the reader finds comes to them through the ring.
//   - A client ahead of this replica waits in the walk and is verified again with
//     each heartbeat, and where the feed crosses its place. A log that was rolled
//     back between the two places shows itself in no other way.
//   - A position that a heartbeat tells is the client's own unless it is level and
//     nothing is pending. It is never behind the last id, and never ahead of what
//     was handed out.
//   - Places of partitions that this replica does not know are carried in every id.
//
// # Who waits for whom
//
// Nobody is pushed: [Follower.Next] hands out what there is when the writer has
// room. A client that is away has one goroutine, which stops when the client does
// not pull; a level one has none, nor has one that waits for its first turn: a
// bounded number work at a time, and those that wait for a client, a broker or
// memory do not count. What has been found is handed out at once when something has to
// be waited for, and else in whole batches. Broker reads run on the cache's own context, so
// that a client that leaves does not spoil a read for others, and are bounded for
// each stream. Questions that a broker does not answer are repeated, and the
// connection is held meanwhile.
//
// # How it is tested
//
// TestSimulation moves two brokers (one like JetStream, one like Kafka), replicas
// with rings of a few entries, and clients with filters by seeded schedules:
// appends, deletions, retention, growth, transactions, rollbacks, elections,
// streams made again or restored, brokers away, answers that come late, cuts
// between any two events, sockets that take nothing. An oracle holds every event
// against what the broker holds: no duplicate, order, no loss that is not told,
// no false gap or reset, exact bounds, ids that never go back, no record that was
// dead before the connection began; at the end everybody is level. A failing
// schedule prints the command that repeats it.
//
// The comment of TestSimulation lists the wrong rules that it was seen to catch.
package replay

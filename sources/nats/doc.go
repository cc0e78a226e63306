// Package nats follows JetStream streams as [bridge.Source]s.
//
//	Cluster  live connection ──► reader's consumer ──pull──► inbox ─► Tail ─► records, changes
//	                └──────────► STREAM.INFO, STREAM.MSG.GET ─► is it still the same history?
//	         cold connection ──► the same two questions ──► Verify, Bounds, PositionAt
//	                └──────────► DIRECT.GET, or a consumer for the while ──► ReadChunk
//
// A [Cluster] is two connections, which all streams of a NATS cluster share; a
// [Source] is one stream. The JetStream API is spoken by hand. The client
// library's consumers read a stream that was deleted and made again as if it
// were the old one, and take a record for a control message if it has no body
// and a Status header.
//
// # What holds
//
//   - One consumer per stream and bridge, however many clients there are. It is
//     ephemeral, in memory, needs no acknowledgement, and is gone 30 s after a
//     bridge that was killed.
//   - A record is known by the reply subject of its delivery, or by the
//     Nats-Sequence header of direct get. What else its headers say does not matter.
//   - Whatever way a record is read, live, by direct get, by consumer, or from
//     the leader, it is the same record.
//   - A verdict that is not exact was confirmed by the stream's leader, twice.
//   - No record is skipped silently: a hole in the sequence is looked at, and is
//     a gap if the log began above it. Records that are deleted, expire one by
//     one, or are replaced by newer ones of their subject leave holes that are no
//     gaps.
//   - What waits in memory is bounded by what was asked for, in records and bytes.
//
// # Identity
//
// A stream's life is told by its creation time (see [bridge.Incarnation]), its
// history by the time of the record before a place (see [bridge.Proof]). Either
// alone is not enough: a data directory that is rolled back keeps the creation
// time, and a restored backup has another one over the same records. Both are
// verified before and after each consumer is made, at every sign of a new
// connection or leader, and every few seconds.
//
// # Tests
//
// The tests run against real servers, inside the process and as a process of
// their own that is killed, and whose data is rolled back (package natstest).
package nats

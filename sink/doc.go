// Package sink is what clients talk to: it reads a request, opens a follower for
// it, writes what the follower returns as Server-Sent Events, and says goodbye.
//
//	GET /events?subject=orders.>          Options.Open
//	      │                                    │
//	      ▼                                    ▼
//	  subscription ──► clients (the door) ──► Follower ──► response ──► socket
//	      │ 400 404 406     │ overload, drain     ▲  follow: the only loop
//	      ▼                 ▼                     │
//	   problem           closing block         Encoder: the bytes of every block
//
// The package knows nothing of brokers, and treats an event id as text.
//
// # Who writes
//
// A response begins in the handler's goroutine. Over HTTP/1.1 without TLS, on
// Linux, its connection is then taken out of net/http's hands (taken.go), and a
// client that is level gets a seat in a shard, which has one goroutine for all of
// its clients (sweep.go; seats.go has their order):
//
//	goroutine of net/http ──► goroutine of its own ◄──► seat in a shard
//	  head, verdict             history, what a          live: one write that does
//	                            socket had no room for   not wait, for all that is pending
//
// Elsewhere the goroutine of net/http stays (writer.go). How a shard reaches
// sockets is in line_linux.go; line.go has its plain twin.
//
// # Content codings
//
// A response in gzip or zstd is made of what its client is told alone, which is
// only stored, and of what its group is told, which is compressed once for all
// (compress.go). Each client's part in that is in its body (coding.go).
//
// # Requests
//
// Options.Path serves all streams, Path/name one. Parameters are subject and
// stream (both repeatable), lastEventId (also last-event-id, lastEventID,
// last_event_id), start, format, on-reset, names and control. The header
// Last-Event-ID wins over the parameter, as a browser reconnects with the old
// query and the newer header; an empty one counts as none.
//
// # Responses
//
// Every status but 200 ends a browser's EventSource for good. Whatever passes by
// itself is therefore answered 200 with one closing block, which has a reason
// (overload, drain, max-age, disconnect), a retry and the id to come back with, and a clean
// end. What does not pass is a problem (RFC 9457) with a stable code:
//
//	400 bad-query            the query is not percent-encoded pairs
//	400 unknown-parameter    no parameter has this name
//	400 duplicate-parameter  only subject and stream may be repeated
//	400 bad-parameter        the value is none of those expected
//	400 bad-subject          not a pattern
//	400 too-many-subjects    over the limit of one request
//	400 unreadable-id        an event id in the query that nobody can read
//	400 id-too-long          over so many partitions that ids would be too long
//	404 unknown-stream       no stream of this name is configured
//	404 no-stream            no stream has subjects that match
//	404 refused-stream       the stream is of a kind that is not served
//	404 not-found            nothing is served at the path
//	405 method-not-allowed   streams are read with GET
//	406 not-acceptable       Accept leaves text/event-stream out
//	410 reset                the position is gone, and on-reset=fail was asked for
//	500 internal             a mistake of the bridge, told in its log
//
// # Invariants
//
//   - The id is the last line of every block, and a response ends behind a block
//     unless the connection fails: an id never covers an event that its client
//     did not get.
//   - No byte of a record or of a request begins a line of the stream.
//   - A client that takes nothing for the write timeout is closed; nothing is
//     queued for it meanwhile but the rest of one write, whose bytes are shared.
//   - One goroutine at a time serves a client: its own, or its shard's. Others tell
//     them what they want, and wait for none.
//   - Closing carries the follower's id, so a client goes on exactly there.
//
// # Tests
//
// Everything with time runs under testing/synctest over in-memory connections, as
// net/http serves them and as they are taken over, read by the independent client
// of ssetest; the encoder is fuzzed against that parser. Shards are tested over
// real sockets, too.
package sink

// Package ssetest reads Server-Sent Events the way the standard says, for
// tests. It was written from the WHATWG text and from RFC 9112, and shares no
// code with the bridge or with net/http, so a mistake that the server makes is
// not made a second time by the reader that should notice it.
//
//	TCP bytes ──► response ──► Parser ──► Event
//	              head, chunks  lines,     dispatched at
//	              (RFC 9112)    fields     the blank line
//
// [Parser] is the event stream parser alone, [Client] a connection under it
// that remembers its place. A client can be told to cut its connection after
// any number of bytes ([Client].CutAfter), and tells a response that ended from
// one that was cut ([ErrCut]).
//
// The package is imported from tests only.
package ssetest

package bridge

import "errors"

var (
	// ErrUnavailable reports that the broker gave no answer that can be relied
	// on: it is away, electing a leader, or too slow. Ask again; it says nothing
	// about history.
	ErrUnavailable = errors.New("broker gave no answer")

	// ErrMissing reports that the broker answered and has no such stream.
	// It may come (back) at any time.
	ErrMissing = errors.New("stream does not exist on the broker")

	// ErrRefused reports a stream that the bridge does not serve whatever it
	// holds, such as a WorkQueue. The error text says why and what to use
	// instead.
	ErrRefused = errors.New("stream cannot be served")

	// ErrHistoryChanged reports that the stream turned into another one while it
	// was being read: what was read must be dropped and the position verified
	// again.
	ErrHistoryChanged = errors.New("history changed while reading")

	// ErrTooManyFeeds reports that no more combinations of streams and formats can
	// be followed at once. It passes when clients leave.
	ErrTooManyFeeds = errors.New("too many combinations of streams and formats")

	// ErrTooManyFilters reports that no more distinct filters can be kept. It
	// passes when clients leave.
	ErrTooManyFilters = errors.New("too many distinct filters")
)

package replay

import "sync"

// budget bounds the bytes that clients are being given in catch-up: encoded for
// one client alone, and not yet written to it. Small batches follow the number of
// clients (see Replay.batchBytes) and always fit; where single events are large the
// clients take turns, and one that takes nothing holds its turn until its writer
// gives it up.
type budget struct {
	limit int64

	mu   sync.Mutex
	used int64
	room chan struct{} // closed and replaced when there is more
}

func newBudget(limit int64) *budget { return &budget{limit: limit, room: make(chan struct{})} }

// take reserves n bytes if there is room for them, or if nobody has any. If not,
// it returns a channel that is closed when there is more room.
func (b *budget) take(n int64) (room <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > b.limit {
		return b.room
	}
	b.used += n
	return nil
}

// give gives back what take had reserved.
func (b *budget) give(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	close(b.room)
	b.room = make(chan struct{})
}

package replay

import (
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// A client that is level needs no goroutine: whoever writes to many of them may
// ask each for what it has, when their group has something new. These methods are
// for whoever may call Next, and instead of it.

// Group returns the group whose bytes the client shares, nil while it is away.
func (f *Follower) Group() *bridge.Group { return f.cursor.Group() }

// Rest lets go of the room that Next has used, and of what it returned last.
func (f *Follower) Rest() {
	f.scratch = nil
	f.returnRoom()
}

// Poll is Next for a client that is level, without waiting: it puts into s what
// there is to write, which may be nothing. If s holds what another client of the
// group was given at the same place, that is it; what has come since is for the
// next time, of which the group has told. It returns false when the client is not
// level any more; then Next has what comes.
func (f *Follower) Poll(s *bridge.Scratch) bool {
	now := s.Now.Sub(f.replay.began)
	f.mu.Lock()
	id, again := f.cursor.Again(s)
	if again {
		f.at = id
	}
	f.mu.Unlock()
	if again {
		f.sent, f.spoke = id, now
		return true
	}
	if f.take(s); f.fell {
		return false
	}
	if len(s.Batch.Units) > 0 {
		f.spoke = now
	}
	return true
}

// Beat puts a heartbeat or a position into s if within early the client will have
// been silent for as long as it may. It may be called as Poll may, when that has
// found nothing.
func (f *Follower) Beat(s *bridge.Scratch, early time.Duration) bool {
	now := s.Now.Sub(f.replay.began)
	if now+early < f.spoke+f.sub.Heartbeat {
		return false
	}
	f.heartbeat(s)
	f.spoke = now
	return true
}

// Told notes that instead of what Beat has put somewhere, the client was written
// the sign of life of another one of its group at the same place. id is the event
// id that it carries, empty if it has none.
func (f *Follower) Told(id string) {
	if id == "" {
		return
	}
	f.sent = id
	f.mu.Lock()
	f.at = id
	f.mu.Unlock()
}

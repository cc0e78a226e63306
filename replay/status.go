package replay

import "github.com/ssebridge/ssebridge/bridge"

// Status tells how far the client is. It may be called at any time and by any
// goroutine, also after Close. It asks no broker.
func (f *Follower) Status() bridge.FollowerStatus {
	f.mu.Lock()
	st, streams := bridge.FollowerStatus{State: "level", ID: f.position()}, f.streams
	if f.cursor.Group() == nil {
		st.State = "catching-up"
	}
	f.mu.Unlock()
	if streams == nil {
		st.State = "entering"
		return st
	}
	st.Lag, st.LagKnown = lag(streams, st.ID)
	return st
}

// Streams returns the names of the streams that are followed, sorted; none while
// it is not known which they are. It may be called as Status may.
func (f *Follower) Streams() []string {
	f.mu.Lock()
	streams := f.streams
	f.mu.Unlock()
	names := make([]string, 0, len(streams))
	for _, s := range streams {
		names = append(names, s.Name())
	}
	return names
}

// position is the furthest position that is the client's: at the head of its
// group the feed's vector, and while it is away what its catch-up has come to. The
// caller holds mu.
func (f *Follower) position() string {
	if f.trip != nil {
		return f.progress
	}
	if f.cursor.Group() != nil {
		if id, ok := f.cursor.Head(); ok {
			return id
		}
	}
	return f.at
}

// lag counts the offsets between an event id and what has been read of streams.
// ok is false when the id does not tell a place in each of their present lives.
func lag(streams []*bridge.Stream, text string) (n bridge.Offset, ok bool) {
	id, err := bridge.ParseID(text)
	if err != nil {
		return 0, false // there is none yet
	}
	for _, s := range streams {
		live, started := s.Live()
		pos, in := id.Lookup(s.Name())
		if !started || !in || pos.Incarnation != live.Incarnation {
			return 0, false
		}
		for p, pl := range live.Places {
			n += max(0, pl.Offset-pos.Place(int32(p)).Offset)
		}
	}
	return n, true
}

package replay

import (
	"context"
	"sync"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// takeBytes is about how much Next returns at once: enough to make a write
	// worth its system call, little enough that a slow client pins no memory.
	takeBytes = 64 << 10
	// defaultTakeEvents bounds the same in events.
	defaultTakeEvents = 256
)

// Follower is one client's way through its subscription, pulled by whoever
// writes to it.
//
//	Open ──► away ──────────────► level
//	          ▲  catch-up: verify,  │ shares its group's bytes
//	          │  target, walk       │
//	          └─────────────────────┘ fell out of the ring
//
// While it is away, a goroutine of its own catches up when it is its turn, and
// waits until Next takes what it found; while it is level it has none. Its methods
// are for one goroutine at a time, except those of status.go: to close it while Next
// waits, end that call's context first.
type Follower struct {
	// What every delivery to a level client reads and writes comes first, in one line
	// of the processor's cache, as there are thousands of clients between two
	// deliveries to one. What only the client's goroutine changes, it reads without mu.
	mu     sync.Mutex    // guards cursor, at, streams, and which trip it is
	cursor bridge.Cursor // of no group while away; the client's goroutine
	at     string        // event id of the client's position, see ID; the client's goroutine
	sent   string        // the last id that left in an event
	spoke  time.Duration // when Next last returned units, or the follower was opened; since Replay.began

	replay *Replay
	sub    *bridge.Subscription
	*trip                       // nil while level
	group  *bridge.Group        // nil until the catch-up has joined it
	demand bridge.Demand        // of the catch-up, until Close
	traced *bridge.RequestTrace // nil: the request is not sampled

	scratch *bridge.Scratch  // for Next; nil until it is needed
	lent    *room            // of Replay.batches, which holds what Next last returned
	streams []*bridge.Stream // of the group, once it was joined; the catch-up's goroutine

	fresh bool // nothing was sent yet: connected comes first
	told  bool // caught-up was sent
	fell  bool // it was level, and has to catch up
}

// trip is what a follower holds only while it is away.
type trip struct {
	request bridge.RequestTrace // the zero one, if it is not sampled
	out     chan batch          // from the catch-up
	done    chan struct{}       // closed when the catch-up has ended
	end     result              // read after done
	stop    context.CancelCauseFunc
	turn    *turn
	running sync.WaitGroup

	progress string // event id of the catch-up's own position, when nothing is pending; guarded by Follower.mu
}

// batch is what the catch-up hands to Next.
type batch struct {
	bridge.Batch
	id   string // of the last unit that has one
	at   string // event id of the position behind all of them
	room *room  // of Replay.batches, in which the units are; nil: none
	// cursor makes it the last one: behind it the client is level.
	cursor *bridge.Cursor
}

// result is how a catch-up ended.
type result struct {
	last batch // to be written first
	err  error // nil: the client is level
	gone bool  // Next has taken it already
}

// away starts the catch-up from the position f.at.
func (f *Follower) away() {
	ctx, stop := context.WithCancelCause(context.Background())
	t := &trip{stop: stop, out: make(chan batch), done: make(chan struct{}), progress: f.at}
	if f.traced != nil {
		t.request = *f.traced
	}
	f.mu.Lock()
	f.cursor, f.trip = bridge.Cursor{}, t
	f.mu.Unlock()
	cu := &catchUp{f: f, trip: t, fresh: f.fresh, from: f.at, began: time.Now()}
	f.replay.catchUps.Add(1)
	t.running.Add(1)
	t.turn = f.replay.turns.newTurn(func() { go cu.follow(ctx) })
	t.turn.enter()
}

// now is the time as of spoke.
func (f *Follower) now() time.Duration { return time.Since(f.replay.began) }

// Next returns the next units to write, waiting for them: events and, after
// Subscription.Heartbeat of silence, a heartbeat or a position. It returns without
// any when the client has become level without being told anything.
//
// An error ends the follower: [bridge.ErrNoStream], a limit of the hub's, or a
// [*bridge.ResetError], which comes together with units that tell the reset.
// When ctx ends first, its cause is returned and nothing is lost: Next may be
// called again.
func (f *Follower) Next(ctx context.Context) (bridge.Batch, error) {
	f.returnRoom()
	b, err := f.next(ctx)
	if len(b.Units) > 0 {
		f.spoke = f.now()
	}
	return b, err
}

// returnRoom gives back what Next returned last, which is written.
func (f *Follower) returnRoom() {
	f.replay.batches.give(f.lent)
	f.lent = nil
}

func (f *Follower) next(ctx context.Context) (bridge.Batch, error) {
	silence := time.NewTimer(f.spoke + f.sub.Heartbeat - f.now())
	defer silence.Stop()
	for {
		var changed, done <-chan struct{}
		var out <-chan batch
		if f.Group() != nil {
			changed = f.group.Changed()
			if f.scratch == nil {
				f.scratch = new(bridge.Scratch)
			}
			if !f.fell {
				f.take(f.scratch)
				if len(f.scratch.Batch.Units) > 0 {
					return f.scratch.Batch, nil
				}
			}
			if f.fell {
				f.fell = false
				f.away()
				continue
			}
		} else {
			out, done = f.out, f.done
		}
		select { // what there is comes before a sign of life
		case b := <-out:
			return f.give(b), nil
		case <-done:
			if end := f.end; end.err != nil {
				f.end.last, f.lent = batch{}, end.last.room
				return end.last.Batch, end.err
			}
			return f.give(f.end.last), nil
		default:
		}
		select {
		case <-changed:
		case <-done:
		case b := <-out:
			return f.give(b), nil
		case <-silence.C:
			if f.scratch == nil {
				f.scratch = new(bridge.Scratch)
			}
			f.heartbeat(f.scratch)
			return f.scratch.Batch, nil
		case <-ctx.Done():
			return bridge.Batch{}, context.Cause(ctx)
		}
	}
}

func (f *Follower) give(b batch) bridge.Batch {
	f.lent = b.room
	if b.cursor != nil {
		f.running.Wait() // it has nothing left to do
	}
	if len(b.Units) > 0 {
		f.fresh = false
	}
	if b.id != "" {
		f.sent = b.id
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(b.Units) > 0 {
		f.at, f.progress = b.at, b.at
	}
	if b.cursor != nil {
		f.arrive(b.cursor)
	}
	return b.Batch
}

// arrive ends the trip: the client is level. Where it is at the very position of its
// group, it shares its text, too. The caller holds mu.
func (f *Follower) arrive(cursor *bridge.Cursor) {
	f.cursor, f.trip = *cursor, nil
	f.replay.handOvers.Add(1)
	if head, ok := f.cursor.Head(); ok {
		if f.at == head {
			f.at = head
		}
		if f.sent == head {
			f.sent = head
		}
	}
}

// take gathers in s what the group has for a level client. It notes that the client
// has fallen if it is not level any more: what comes next has left the ring, or is
// a reset that this client wants answered in another way than its stream's reader
// did. The cursor is of no use then, as it may have passed that.
func (f *Follower) take(s *bridge.Scratch) {
	s.Restart()
	from, told := f.cursor.Place(), false
	entries, state := f.cursor.Take(s.Entries[:0], takeBytes)
	s.Entries = entries
	if state == bridge.Evicted {
		f.fell = true
		f.replay.falls.Add(1)
		return
	}
	for i := range entries {
		e := &entries[i]
		told = told || e.Loss != nil
		if e.Loss != nil && e.Loss.Open && !f.content(f.group.Streams()[e.Stream].OnReset()) {
			s.Restart()
			f.fell = true
			return
		}
		f.add(&s.Batch, e)
		f.sent = e.ID()
	}
	if len(entries) > 0 {
		f.mu.Lock()
		f.at = f.sent
		f.mu.Unlock()
		f.cursor.Mark(&s.Batch, from)
		if !told { // losses are counted for each client, and some want to be told otherwise
			f.cursor.Keep(s, f.sent)
		}
	}
	clear(entries)
}

// add adds an entry to a batch.
func (f *Follower) add(b *bridge.Batch, e *bridge.Entry) {
	b.Units = append(b.Units, e.Unit)
	if e.Loss != nil {
		f.replay.metrics.told(f.group.Streams()[e.Stream].Name(), e.Loss.Reason, 1)
		return
	}
	if b.Records == 0 {
		b.Received = time.Unix(0, e.Received)
	}
	b.Records++
	if e.Trace != nil {
		b.Traces = append(b.Traces, e.Trace)
	}
}

// content reports whether the client wants an open reset answered as the
// stream's reader has answered it.
func (f *Follower) content(readers bridge.OnReset) bool {
	return readers != bridge.ResetFail && (f.sub.OnReset == "" || f.sub.OnReset == readers)
}

// heartbeat puts a sign of life into s; if the position moved since the last id,
// it carries the position.
func (f *Follower) heartbeat(s *bridge.Scratch) {
	f.mu.Lock()
	known := true // that nobody of the group was told a newer position
	if f.Group() == nil {
		f.at = f.position()
	} else if head, ok := f.cursor.Head(); ok {
		f.at = head
	} else {
		known = false // an event has come just now
	}
	f.mu.Unlock()
	ev := bridge.Event{Kind: bridge.HeartbeatEvent}
	if known && f.sub.Control && f.at != f.sent && f.sent != "" {
		ev = bridge.Event{Kind: bridge.PositionEvent, ID: f.at}
		f.sent = f.at
	}
	s.Restart()
	s.Batch.Units = append(s.Batch.Units, s.Sign(f.sub.Form.Encoder, ev))
	if f.Group() != nil {
		f.cursor.Mark(&s.Batch, f.cursor.Place())
		s.Batch.ID = ev.ID
	}
}

// ID returns the event id of the client's position: all that Next returned is
// behind it, and nothing else that the client is to be shown. Until Next has
// returned something it is the id that the client came with, empty if none.
func (f *Follower) ID() string { return f.at }

// Close lets go of everything the follower holds and waits for its goroutine.
// Nothing but the methods of status.go may be called afterwards.
func (f *Follower) Close() {
	if f.trip != nil {
		f.stop(context.Canceled)
		if f.turn.drop() {
			f.replay.catchUps.Add(-1)
			f.running.Done() // it will not begin
		}
		f.running.Wait()
		f.replay.batches.give(f.end.last.room)
		f.end = result{}
	}
	f.mu.Lock()
	f.cursor, f.trip = bridge.Cursor{}, nil
	f.mu.Unlock()
	if f.group != nil {
		f.group.Leave()
		f.group = nil
	}
	f.demand.Release()
	// Not given back to be used again: a write that failed over HTTP/2 may have
	// returned before the server has done with the bytes.
	f.replay.batches.abandon(f.lent)
	f.lent = nil
}

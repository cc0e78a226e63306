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
// While it is away, a goroutine of its own catches up and waits until Next takes
// what it found; while it is level it has none. Its methods are for one goroutine
// at a time, except those of status.go: to close it while Next waits, end that
// call's context first.
type Follower struct {
	replay *Replay
	sub    bridge.Subscription
	group  *bridge.Group // nil until the catch-up has joined it

	sent  string    // the last id that left in an event
	fresh bool      // nothing was sent yet: connected comes first
	told  bool      // caught-up was sent
	spoke time.Time // when Next last returned units, or the follower was opened

	request bridge.RequestTrace

	taken []bridge.Entry
	batch bridge.Batch // scratch

	out     chan batch    // from the catch-up; nil while level
	done    chan struct{} // closed when the catch-up has ended; nil while level
	end     result        // read after done
	stop    context.CancelCauseFunc
	running sync.WaitGroup

	// What only the client's goroutine changes, it reads without mu.
	mu       sync.Mutex
	at       string           // event id of the client's position, see ID; the client's goroutine
	cursor   *bridge.Cursor   // level; nil while away; the client's goroutine
	progress string           // event id of the catch-up's own position, when nothing is pending
	streams  []*bridge.Stream // of the group, once it was joined; the catch-up's goroutine
}

// batch is what the catch-up hands to Next.
type batch struct {
	bridge.Batch
	id string // of the last unit that has one
	at string // event id of the position behind all of them
}

// result is how a catch-up ended.
type result struct {
	cursor *bridge.Cursor // level, if err is nil
	last   bridge.Batch   // to be written before the end
	err    error
}

// away starts the catch-up from the position f.at.
func (f *Follower) away() {
	ctx, stop := context.WithCancelCause(context.Background())
	f.stop = stop
	f.out, f.done = make(chan batch), make(chan struct{})
	f.mu.Lock()
	f.cursor, f.progress = nil, f.at
	f.mu.Unlock()
	cu := &catchUp{f: f, fresh: f.fresh, from: f.at}
	f.replay.catchUps.Add(1)
	f.running.Go(func() {
		defer close(f.done)
		defer stop(nil)
		defer f.replay.catchUps.Add(-1)
		f.end = cu.run(ctx)
	})
}

// Next returns the next units to write, waiting for them: events and, after
// Subscription.Heartbeat of silence, a heartbeat or a position.
//
// An error ends the follower: [bridge.ErrNoStream], a limit of the hub's, or a
// [*bridge.ResetError], which comes together with units that tell the reset.
// When ctx ends first, its cause is returned and nothing is lost: Next may be
// called again.
func (f *Follower) Next(ctx context.Context) (bridge.Batch, error) {
	b, err := f.next(ctx)
	if len(b.Units) > 0 {
		f.spoke = time.Now()
	}
	return b, err
}

func (f *Follower) next(ctx context.Context) (bridge.Batch, error) {
	silence := time.NewTimer(time.Until(f.spoke.Add(f.sub.Heartbeat)))
	defer silence.Stop()
	for {
		var changed <-chan struct{}
		if f.cursor != nil {
			changed = f.group.Changed()
			ok := f.take()
			if len(f.batch.Units) > 0 {
				return f.batch, nil
			}
			if !ok {
				f.away()
				continue
			}
		}
		select { // what there is comes before a sign of life
		case b := <-f.out:
			return f.give(b), nil
		case <-f.done:
			if f.end.err != nil {
				return f.end.last, f.end.err
			}
			f.out, f.done = nil, nil
			f.mu.Lock()
			f.cursor = f.end.cursor
			f.mu.Unlock()
			f.replay.handOvers.Add(1)
			continue
		default:
		}
		select {
		case <-changed:
		case <-f.done:
		case b := <-f.out:
			return f.give(b), nil
		case <-silence.C:
			return f.heartbeat(), nil
		case <-ctx.Done():
			return bridge.Batch{}, context.Cause(ctx)
		}
	}
}

func (f *Follower) give(b batch) bridge.Batch {
	f.fresh = false
	if b.id != "" {
		f.sent = b.id
	}
	f.mu.Lock()
	f.at, f.progress = b.at, b.at
	f.mu.Unlock()
	return b.Batch
}

// take gathers in f.batch what the group has for a level client. It returns false
// when the client is not level any more: what comes next left the ring, or is a
// reset that this client wants answered in another way than its stream's reader
// did.
func (f *Follower) take() bool {
	f.restart()
	var state bridge.WalkState
	f.taken, state = f.cursor.Take(f.taken[:0], takeBytes)
	if state == bridge.Evicted {
		f.replay.falls.Add(1)
		return false
	}
	for i := range f.taken {
		e := &f.taken[i]
		if e.Loss != nil && e.Loss.Open && !f.content(f.group.Streams()[e.Stream].OnReset()) {
			return false
		}
		f.add(e)
		f.sent = e.ID()
	}
	if len(f.taken) > 0 {
		f.mu.Lock()
		f.at = f.sent
		f.mu.Unlock()
	}
	clear(f.taken)
	return true
}

// restart empties f.batch, whose slices are used again.
func (f *Follower) restart() {
	clear(f.batch.Traces)
	f.batch = bridge.Batch{Units: f.batch.Units[:0], Traces: f.batch.Traces[:0]}
}

// add adds an entry to f.batch.
func (f *Follower) add(e *bridge.Entry) {
	b := &f.batch
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

// heartbeat is a sign of life; if the position moved since the last id, it
// carries the position.
func (f *Follower) heartbeat() bridge.Batch {
	f.mu.Lock()
	f.at = f.position()
	f.mu.Unlock()
	ev := bridge.Event{Kind: bridge.HeartbeatEvent}
	if f.sub.Control && f.at != f.sent && f.sent != "" {
		ev = bridge.Event{Kind: bridge.PositionEvent, ID: f.at}
		f.sent = f.at
	}
	f.restart()
	f.batch.Units = append(f.batch.Units, f.sub.Form.Encoder.AppendEvent(nil, ev))
	return f.batch
}

// ID returns the event id of the client's position: all that Next returned is
// behind it, and nothing else that the client is to be shown. Until Next has
// returned something it is the id that the client came with, empty if none.
func (f *Follower) ID() string { return f.at }

// Close lets go of everything the follower holds and waits for its goroutine.
// Nothing but the methods of status.go may be called afterwards.
func (f *Follower) Close() {
	f.stop(context.Canceled)
	f.running.Wait()
	f.mu.Lock()
	f.cursor, f.progress = nil, f.at
	f.mu.Unlock()
	if f.group != nil {
		f.group.Leave()
		f.group = nil
	}
}

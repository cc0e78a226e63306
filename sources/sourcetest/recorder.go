package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// errStop is the cause with which the suite ends a Tail.
var errStop = errors.New("the test has seen enough")

// heard is what a receiver was told in one call: records, or else a change.
type heard struct {
	records []bridge.Record
	change  bridge.Change
}

// recorder is a receiver that keeps all it is told, and follows along: whatever
// breaks the grammar of a Tail is a fault at once, in every test.
type recorder struct {
	busy atomic.Bool // a call is being made

	mu      sync.Mutex
	heard   []heard
	started bool
	pos     bridge.Position
	faults  []string
	told    chan struct{} // closed, and replaced, by each call
	gate    chan struct{} // while it is open, records wait; nil: they do not
}

// hold lets the receiver take no more records until release is called.
func (r *recorder) hold() (release func()) {
	gate := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

// Records implements [bridge.Receiver].
func (r *recorder) Records(recs []bridge.Record) {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
	defer r.enter()()
	if len(recs) == 0 {
		r.fault("an empty batch of records")
	}
	copied := make([]bridge.Record, len(recs))
	for i, rec := range recs {
		copied[i] = (&entry{rec: rec}).show()
		place := r.pos.Place(rec.Partition)
		switch {
		case !r.started:
			r.fault("record %s before Started", brief(rec))
		case rec.Partition < 0 || int(rec.Partition) >= len(r.pos.Places):
			r.fault("record %s of a partition that was not told", brief(rec))
			continue
		case rec.Offset < place.Offset:
			r.fault("record %s below the live place %d", brief(rec), place.Offset)
		}
		r.pos = r.pos.With(rec.Partition, rec.Next())
	}
	r.heard = append(r.heard, heard{records: copied})
}

// Change implements [bridge.Receiver].
func (r *recorder) Change(c bridge.Change) {
	defer r.enter()()
	c.Position, c.Finding.Next = c.Position.Clone(), c.Finding.Next.Clone()
	c.Subjects = slices.Clone(c.Subjects)
	r.heard = append(r.heard, heard{change: c})
	switch c.Kind {
	case bridge.Started:
		if r.started && (c.Position.Incarnation == r.pos.Incarnation || !slices.Equal(c.Position.Places, r.pos.Places)) {
			r.fault("Started at %+v, but live was at %+v", c.Position, r.pos)
		}
		r.started, r.pos = true, c.Position
	case bridge.Waiting:
		if c.Err == nil {
			r.fault("Waiting without saying for what")
		}
	case bridge.Reading, bridge.Spaced, bridge.Doubted: // at any time
	case bridge.Moved:
		r.moved(c)
	case bridge.Grown:
		if !r.started || c.Partitions <= len(r.pos.Places) {
			r.fault("Grown from %d to %d partitions", len(r.pos.Places), c.Partitions)
			return
		}
		r.pos = r.pos.With(int32(c.Partitions-1), bridge.Place{})
	case bridge.Found:
		r.found(c.Finding)
	}
}

func (r *recorder) moved(c bridge.Change) {
	switch place := r.pos.Place(c.Partition); {
	case !r.started:
		r.fault("Moved before Started")
	case c.Partition < 0 || int(c.Partition) >= len(r.pos.Places):
		r.fault("partition %d, which was not told, Moved", c.Partition)
	case c.Place.Offset <= place.Offset:
		r.fault("Moved from %d to %d", place.Offset, c.Place.Offset)
	default:
		r.pos = r.pos.With(c.Partition, c.Place)
	}
}

func (r *recorder) found(fd bridge.Finding) {
	if !r.started {
		r.fault("Found before Started")
		return
	}
	if fd.Partition != bridge.AllPartitions {
		if len(fd.Next.Places) != len(r.pos.Places) {
			r.fault("a finding with %d partitions, where %d had been told", len(fd.Next.Places), len(r.pos.Places))
		}
		for p := range fd.Next.Places {
			if int32(p) != fd.Partition && fd.Next.Places[p] != r.pos.Place(int32(p)) {
				r.fault("a finding of partition %d moved partition %d from %+v to %+v", fd.Partition, p, r.pos.Place(int32(p)), fd.Next.Places[p])
			}
		}
		switch want := r.pos.Place(fd.Partition).Offset; {
		case fd.Reason.Reset() && fd.To != want-1:
			r.fault("%s up to %d, but the live place was %d", fd.Reason, fd.To, want)
		case !fd.Reason.Reset() && (fd.From < want || fd.To != fd.Next.Place(fd.Partition).Offset-1):
			r.fault("gap [%d,%d] on at %d, but the live place was %d", fd.From, fd.To, fd.Next.Place(fd.Partition).Offset, want)
		}
	}
	r.pos = fd.Next
}

// enter guards one call; what it returns ends it and wakes who waits.
func (r *recorder) enter() (leave func()) {
	atOnce := r.busy.Swap(true)
	r.mu.Lock()
	if atOnce {
		r.fault("two calls at once")
	}
	return func() {
		close(r.told)
		r.told = make(chan struct{})
		r.mu.Unlock()
		r.busy.Store(false)
	}
}

func (r *recorder) fault(format string, a ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, a...))
}

// tailing is a Tail that runs.
type tailing struct {
	*recorder
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when Tail has returned err
	err    error
}

// begin starts a Tail of s, without waiting for anything. The end of the test
// stops it.
func begin(t *testing.T, s bridge.Tailer) *tailing {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	tl := &tailing{
		recorder: &recorder{told: make(chan struct{})},
		cancel:   cancel, done: make(chan struct{}),
	}
	go func() {
		defer close(tl.done)
		tl.err = s.Tail(ctx, tl.recorder)
	}()
	t.Cleanup(func() { tl.stop(t) })
	return tl
}

// tail starts a Tail of s and waits until it is Started.
func tail(t *testing.T, s bridge.Tailer) *tailing {
	t.Helper()
	tl := begin(t, s)
	tl.until(t, "Started", func() bool { return tl.started })
	return tl
}

// stop ends the Tail and checks how it ended. More calls do nothing.
func (tl *tailing) stop(t *testing.T) {
	t.Helper()
	tl.cancel(errStop)
	select {
	case <-tl.done:
	case <-time.After(patience):
		t.Fatal("Tail did not return after its context had ended")
	}
	tl.mu.Lock()
	defer tl.mu.Unlock()
	if !errors.Is(tl.err, errStop) {
		t.Errorf("Tail returned %v, want the cause of its context", tl.err)
	}
	for _, fault := range tl.faults {
		t.Errorf("the receiver was told %s", fault)
	}
	tl.err, tl.faults = errStop, nil
}

// until waits until claim holds, which is evaluated under the recorder's lock
// whenever it was told something.
func (tl *tailing) until(t *testing.T, what string, claim func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		tl.mu.Lock()
		holds, told := claim(), tl.told
		summary := tl.summary()
		tl.mu.Unlock()
		if holds {
			return
		}
		select {
		case <-told:
		case <-tl.done:
			t.Fatalf("Tail returned %v while the test waited for %s; it told %s", tl.err, what, summary)
		case <-deadline.C:
			t.Fatalf("no %s within %v; Tail told %s", what, patience, summary)
		}
	}
}

// reaches waits until the live place of each partition is at the end of what
// was published.
func (tl *tailing) reaches(t *testing.T, f *fixture) {
	t.Helper()
	tl.until(t, "arrival at the end", func() bool {
		for p := range f.partitions() {
			if tl.pos.Place(p).Offset < f.log(p).end {
				return false
			}
		}
		return true
	})
}

// records returns what was read of a partition since the last Found that moved
// it, or else since Started.
func (tl *tailing) records(partition int32) []bridge.Record {
	return tl.read(partition, func(fd bridge.Finding) bool {
		return fd.Partition == partition || fd.Partition == bridge.AllPartitions
	})
}

// everything returns all that was read of a partition.
func (tl *tailing) everything(partition int32) []bridge.Record {
	return tl.read(partition, func(bridge.Finding) bool { return false })
}

// read returns what was read of a partition since the last finding that is the
// beginning of something new.
func (tl *tailing) read(partition int32, anew func(bridge.Finding) bool) []bridge.Record {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	var recs []bridge.Record
	for _, h := range tl.heard {
		if h.change.Kind == bridge.Found && anew(h.change.Finding) {
			recs = nil
		}
		for _, r := range h.records {
			if r.Partition == partition {
				recs = append(recs, r)
			}
		}
	}
	return recs
}

// findings returns everything that was Found.
func (tl *tailing) findings() []bridge.Finding {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	var fs []bridge.Finding
	for _, h := range tl.heard {
		if h.change.Kind == bridge.Found {
			fs = append(fs, h.change.Finding)
		}
	}
	return fs
}

// count returns how many changes of a kind there were. The recorder's lock must
// be held.
func (r *recorder) count(kind bridge.ChangeKind) int {
	n := 0
	for _, h := range r.heard {
		if h.records == nil && h.change.Kind == kind {
			n++
		}
	}
	return n
}

// state returns which of Waiting and Reading was told last, Started if neither.
// The recorder's lock must be held.
func (r *recorder) state() bridge.ChangeKind {
	for _, h := range slices.Backward(r.heard) {
		if h.records == nil && (h.change.Kind == bridge.Waiting || h.change.Kind == bridge.Reading) {
			return h.change.Kind
		}
	}
	return bridge.Started
}

// summary says what was told, shortly.
func (r *recorder) summary() string {
	records := 0
	for _, h := range r.heard {
		records += len(h.records)
	}
	text := fmt.Appendf(nil, "%d records, started %v, live at %+v", records, r.started, r.pos)
	for _, h := range r.heard[max(0, len(r.heard)-5):] {
		if h.records == nil {
			text = fmt.Appendf(text, "; change %d %v %+v", h.change.Kind, h.change.Err, h.change.Finding)
		}
	}
	return string(text)
}

package bridge

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// DefaultMaxEventBytes is the size over which a record is told as a gap.
const DefaultMaxEventBytes = 8 << 20

// StreamOptions configure a [Stream]. The zero value is usable.
type StreamOptions struct {
	Subject       *Template // public subject of a record; nil: the broker's own
	Event         *Template // event name of a record; nil: none
	OnReset       OnReset   // empty: since
	Start         Start
	StartBack     time.Duration // if positive, instead of Start: so long before the client asks
	MaxEventBytes int           // 0: DefaultMaxEventBytes
	OnDemand      bool          // read only while somebody wants it, see Demand
	Linger        time.Duration // for OnDemand: how long after the last one has gone; 0: DefaultLinger
	Trace         TraceOptions
	Logger        *slog.Logger // nil: none
}

// Stream is one configured stream: it runs the single reader of its [Source]
// and hands what it reads to every feed that includes it. It knows how far this
// replica has read (the live position) and counts the doubts about its history
// (the generation).
//
//	Source.Tail ──records, changes──► Stream ──► Feed
//	                                    │        Feed …
//	                                    └ live position, generation, space, state
type Stream struct {
	name   string
	source Source
	opt    StreamOptions
	log    *slog.Logger
	trace  *tracing // nil: nothing is traced
	notify func()   // set by the hub, called without locks

	mu         sync.Mutex
	live       Position
	startedAt  time.Time   // when the end of the log was first told
	newest     []time.Time // by partition: of the newest live record, by its own time; zero: none yet
	atEnd      []time.Time // by partition: when the reader was last seen at the end of the log
	records    uint64      // read live
	bytes      uint64      // of their keys and data
	started    bool
	generation uint64
	doubted    Verdict // the reign that DoubtOnce was last called for
	space      []Pattern
	spaceKnown bool
	reading    bool
	err        error
	lastErr    error     // the newest that reading waited for, kept when it goes on
	lastErrAt  time.Time // when
	since      time.Time
	feeds      map[*Feed]int // the stream's index in the feed
	recent     recentSubjects

	// of an on-demand stream, see Hub.runOnDemand
	wanted   int           // clients that follow it, or wait for it
	turnedAt time.Time     // when the first of them came or the last one went
	turned   chan struct{} // capacity 1: that was after Run had last looked
	rests    uint64        // how often it has fallen idle
	resting  bool          // the reader was told to stop and has not begun again: nothing above holds but space
}

// NewStream returns a stream called name over source. It reads nothing until Run.
func NewStream(name string, source Source, o StreamOptions) *Stream {
	if o.MaxEventBytes == 0 {
		o.MaxEventBytes = DefaultMaxEventBytes
	}
	if o.OnReset == "" {
		o.OnReset = ResetSince
	}
	if o.Linger == 0 {
		o.Linger = DefaultLinger
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Stream{
		name: name, source: source, opt: o, log: o.Logger.With("stream", name), trace: newTracing(name, o.Trace),
		notify: func() {}, feeds: map[*Feed]int{}, since: time.Now(),
		recent: recentSubjects{seed: maphash.MakeSeed()}, turned: make(chan struct{}, 1),
	}
	if o.Subject != nil && !o.Subject.UsesSubject() {
		s.space, s.spaceKnown = o.Subject.Space(name, nil), true
	}
	return s
}

// Run reads the stream until ctx ends and returns context.Cause(ctx).
func (s *Stream) Run(ctx context.Context) error {
	defer s.trace.endAll()
	return s.source.Tail(context.WithValue(ctx, tailKey{}, s), receiver{s})
}

// Name returns the configured name.
func (s *Stream) Name() string { return s.name }

// Source returns the source the stream reads.
func (s *Stream) Source() Source { return s.source }

// Start says where clients without an event id begin, unless they say otherwise.
func (s *Stream) Start() Start {
	if s.opt.StartBack > 0 {
		return Start{Kind: StartAt, At: time.Now().Add(-s.opt.StartBack)}
	}
	return s.opt.Start
}

// OnDemand reports whether the stream is read only while somebody wants it.
func (s *Stream) OnDemand() bool { return s.opt.OnDemand }

// OnReset is the stream's own reset policy; its live reader follows it too.
func (s *Stream) OnReset() OnReset { return s.opt.OnReset }

// Live returns how far this replica has read the stream; ok is false until the
// broker has told the end of the log, and while nobody wants an on-demand stream.
func (s *Stream) Live() (pos Position, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting {
		return Position{}, false
	}
	return s.live.Clone(), s.started
}

// LivePlace returns one place of the live position and its incarnation.
func (s *Stream) LivePlace(partition int32) (Place, Incarnation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting {
		return Place{}, 0
	}
	return s.live.Place(partition), s.live.Incarnation
}

// Generation counts the doubts about the stream's history. What was read under
// another generation is not history until it is verified again.
func (s *Stream) Generation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// Doubt raises the generation and asks the source to verify its own position.
// Whoever finds that the broker's history is not what this replica holds calls it.
func (s *Stream) Doubt() {
	s.mu.Lock()
	s.raise()
	s.mu.Unlock()
	s.source.Poke()
}

// DoubtOnce is Doubt for a client's position that v declares broken. Only the
// first such client of a reign (see [Verdict]) raises the generation: what is
// read afterwards is read within that reign or a later one, and history does not
// change within one. So a thousand clients that come back with ids of a log that
// has been rolled back do not disturb each other a thousand times.
func (s *Stream) DoubtOnce(v Verdict) {
	s.mu.Lock()
	if s.doubted.Incarnation != v.Incarnation || !slices.Equal(s.doubted.Epochs, v.Epochs) {
		s.doubted = Verdict{Incarnation: v.Incarnation, Epochs: slices.Clone(v.Epochs)}
		s.raise()
	}
	s.mu.Unlock()
	s.source.Poke()
}

// raise begins a new generation. The caller holds mu.
func (s *Stream) raise() {
	s.generation++
	for f := range s.feeds {
		f.doubt()
	}
}

// StreamStatus is a snapshot of a stream for probes and pages.
type StreamStatus struct {
	Name       string
	State      string    // starting, reading, waiting or idle
	Err        error     // what is waited for
	Since      time.Time // of the state
	LastErr    error     // what was waited for last, also after it is over; nil: nothing yet
	LastErrAt  time.Time
	Live       Position
	Generation uint64
	Rests      uint64 // how many of the generations began because nobody followed the stream
	Space      []Pattern
	SpaceKnown bool
	Started    bool   // the broker has told the end of the log
	Records    uint64 // read live, ever
	Bytes      uint64 // of their keys and data
}

// Status returns a snapshot of the stream.
func (s *Stream) Status() StreamStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := "starting"
	switch {
	case s.resting && s.wanted == 0:
		state = "idle"
	case s.resting:
	case s.err != nil:
		state = "waiting"
	case s.reading:
		state = "reading"
	}
	st := StreamStatus{
		Name: s.name, State: state, Err: s.err, Since: s.since, LastErr: s.lastErr, LastErrAt: s.lastErrAt,
		Generation: s.generation, Rests: s.rests, Space: s.space, SpaceKnown: s.spaceKnown, Records: s.records, Bytes: s.bytes,
	}
	if !s.resting {
		st.Live, st.Started = s.live.Clone(), s.started
	}
	return st
}

// reach says whether a filter may meet the stream's subjects; settled is false
// while the broker has not told them. absent is what the broker answered when
// it has nothing to serve: it wraps ErrMissing or ErrRefused.
func (s *Stream) reach(f Filter) (meets, settled bool, absent error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting {
		return !s.spaceKnown || f.Overlaps(s.space), s.spaceKnown, nil
	}
	if errors.Is(s.err, ErrMissing) || errors.Is(s.err, ErrRefused) {
		absent = s.err
	}
	if !s.spaceKnown {
		return true, false, absent
	}
	return f.Overlaps(s.space), true, absent
}

// Prepare derives what clients see of records that were read for a replay:
// subject, event name, whether a record is too large, and what is traced. It may
// be called from anywhere and changes only recs.
func (s *Stream) Prepare(recs []Record) {
	s.derive(recs)
	for i := range recs {
		recs[i].Trace = s.trace.again(&recs[i])
	}
}

// derive is what live records and those of replays have in common.
func (s *Stream) derive(recs []Record) {
	var buf []byte
	for i := range recs {
		r := &recs[i]
		if s.opt.Subject == nil {
			r.Subject = r.Origin
		} else {
			buf = s.opt.Subject.Append(buf[:0], s.name, r)
			r.Subject = string(buf)
		}
		if s.opt.Event != nil {
			buf = s.opt.Event.Append(buf[:0], s.name, r)
			r.Name = string(buf)
		}
		if len(r.Data) > s.opt.MaxEventBytes && r.Kind != Hidden {
			r.Kind, r.Data = Oversized, nil
		}
	}
}

// attach adds a feed and gives it the live position to begin with.
func (s *Stream) attach(f *Feed, index int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.begin(index, s.live)
	s.feeds[f] = index
}

func (s *Stream) detach(f *Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.feeds, f)
}

// receiver is the stream as its source sees it.
type receiver struct{ s *Stream }

// Records appends a batch to every feed. The feeds move before the live
// position is seen to have moved, so no feed is ever ahead of it.
func (rc receiver) Records(recs []Record) {
	s := rc.s
	s.derive(recs)
	received := time.Now()
	span := s.trace.begin(recs, received)
	s.mu.Lock()
	for i := range recs {
		s.live.set(recs[i].Partition, recs[i].Next())
		s.note(&recs[i])
		if recs[i].Kind != Hidden {
			s.recent.see(recs[i].Subject)
		}
	}
	for f, index := range s.feeds {
		f.records(index, recs, received)
	}
	s.mu.Unlock()
	s.trace.hold(recs)
	span.End()
}

// Change applies what the source found out, in order with the records.
func (rc receiver) Change(c Change) {
	s := rc.s
	switch c.Kind {
	case Started:
		s.mu.Lock()
		known := s.spaceKnown
		s.mu.Unlock()
		if !known {
			s.spaced([]string{">"}) // a broker without subjects
		}
		s.mu.Lock()
		if s.started {
			s.generation++ // the same history in another life: nobody knew that it would be the same
		} else {
			s.startedAt = time.Now()
		}
		s.live, s.started = c.Position.Clone(), true
		for f, index := range s.feeds {
			f.begin(index, s.live)
		}
		s.mu.Unlock()
	case Moved:
		s.mu.Lock()
		s.live.set(c.Partition, c.Place)
		for f, index := range s.feeds {
			f.moved(index, c.Partition, c.Place)
		}
		s.mu.Unlock()
	case Found:
		s.found(c.Finding)
	case Grown:
		s.mu.Lock()
		for len(s.live.Places) < c.Partitions {
			s.live.Places = append(s.live.Places, Place{})
		}
		for f, index := range s.feeds {
			f.grown(index, c.Partitions)
		}
		s.mu.Unlock()
		s.log.Info("partitions added", "partitions", c.Partitions)
	case Doubted:
		s.mu.Lock()
		s.raise()
		s.mu.Unlock()
	case Waiting:
		s.state(false, c.Err)
	case Reading:
		s.state(true, nil)
	case Spaced:
		s.spaced(c.Subjects)
	}
	s.notify()
}

func (s *Stream) found(fd Finding) {
	s.mu.Lock()
	s.live = fd.Next.Clone()
	if fd.Reason.Reset() {
		s.generation++
	}
	for f, index := range s.feeds {
		f.found(index, fd)
	}
	s.mu.Unlock()
	s.log.Warn("history lost", "reason", string(fd.Reason), "partition", fd.Partition, "from", int64(fd.From), "to", int64(fd.To))
}

// state notes that reading goes on or waits, and logs each change once.
func (s *Stream) state(reading bool, err error) {
	s.mu.Lock()
	same := reading == s.reading && (err == nil) == (s.err == nil) && (err == nil || err.Error() == s.err.Error())
	s.reading, s.err = reading, err
	if !same {
		s.since = time.Now()
	}
	if err != nil {
		s.lastErr, s.lastErrAt = err, time.Now()
	}
	s.mu.Unlock()
	switch {
	case same:
	case err != nil:
		s.log.Warn("stream waits", "error", err)
	default:
		s.log.Info("stream is read")
	}
}

func (s *Stream) spaced(subjects []string) {
	own := make([]Pattern, 0, len(subjects))
	for _, text := range subjects {
		p, err := ParsePattern(text)
		if err != nil { // a subject of the broker's that our patterns cannot say: reach for everything
			p = ">"
		}
		own = append(own, p)
	}
	space := own
	if s.opt.Subject != nil {
		space = s.opt.Subject.Space(s.name, own)
	}
	s.mu.Lock()
	s.space, s.spaceKnown = space, true
	s.mu.Unlock()
}

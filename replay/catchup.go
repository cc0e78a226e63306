package replay

import (
	"context"
	"runtime"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// retryFirst and retryMost bound the pauses between questions that the broker
	// did not answer.
	retryFirst = 50 * time.Millisecond
	retryMost  = 2 * time.Second
	// walkEntries is how many entries of the ring are looked at at once.
	walkEntries = 256
)

// catchUp brings one client from its own position to its group's bytes:
//
//	verify   ask the brokers what became of the position; tell gaps and resets
//	target   read chunks up to the feed's head as it is now
//	walk     go through the ring from there, past what the client has already
//	level    the feed's vector is at or above its own in every place: the
//	         bytes are the same from here on
//
// Any doubt on the way (a generation passed, a proof that does not agree, a
// ring that moved on) leads back to verify, with the position of what was last
// delivered. That position, own, is the only state that counts: every id sent
// is own after the event.
//
//	own   7 . 3      record 1@3 comes by: own becomes 7 . 4, and that is its id
//	feed  5 . 9      record 0@5 and 0@6: below own, skipped
//	feed  7 . 9      nowhere below own: level
type catchUp struct {
	f       *Follower
	trip    *trip  // of f; behind the last batch, f has none any more
	from    string // event id to begin at, when it is not the subscription's
	streams []*bridge.Stream
	group   *bridge.Group
	own     bridge.ID       // in the order of streams
	renamed map[string]bool // parts of the client's id that a stream of another name took over
	fresh   bool            // connected is still to be sent
	states  []streamState

	target bridge.Target

	pending batch
	bytes   int
	trail   bridge.IDTrail // of own, aimed at the place that is read
	id      []byte         // scratch
	behind  bridge.Place   // of the last record in pending, if that came last: its id is not made yet
	idless  bool           // it did

	began   time.Time
	records int // handed to Next
}

// streamState is what a catch-up knows of one stream besides its place.
type streamState struct {
	placed  bool           // own has its position
	started bool           // it was not in the id: it begins by its start
	verdict bridge.Verdict // of the last verify
	// leap is a place at which the broker said "exact" though its log begins
	// later: on a stream whose holes are normal nothing was lost there.
	leap     bridge.Place
	leapPart int32
	leaps    bool
}

// step names what a catch-up does next.
type step uint8

const (
	toVerify step = iota
	toTarget
	toWalk
	toLevel
)

// follow runs the catch-up and tells the follower how it ended.
func (c *catchUp) follow(ctx context.Context) {
	t := c.trip
	defer t.running.Done()
	defer close(t.done)
	defer t.stop(nil)
	defer t.turn.leave()
	defer c.f.replay.catchUps.Add(-1)
	runtime.Gosched() // as in turn.wait
	if end := c.run(ctx); !end.gone {
		t.end = end
	}
}

// run goes through the steps until the client is level or ctx ends.
func (c *catchUp) run(ctx context.Context) result {
	if err := c.resolve(ctx); err != nil {
		return result{err: err}
	}
	next := toVerify
	for {
		var err error
		switch next {
		case toVerify:
			next, err = c.verify(ctx)
		case toTarget:
			next, err = c.read(ctx)
		case toWalk:
			next, err = c.walk(ctx)
		case toLevel:
			cursor, state := c.group.Level(c.target.Number, c.target.Generation)
			if state != bridge.Going {
				next = toVerify
				continue
			}
			c.traceEnd(ctx)
			return c.end(cursor)
		}
		if err != nil {
			return result{last: c.finish(), err: err}
		}
	}
}

// resolve finds the streams, waits until each has begun to be read, and joins
// the group. Waiting is not bounded: the connection is held.
func (c *catchUp) resolve(ctx context.Context) error {
	f := c.f
	hub := f.replay.hub
	if f.group == nil {
		for {
			changed := hub.Changed()
			streams, ready, err := hub.Resolve(*f.sub, &f.demand)
			if err != nil {
				return err
			}
			if ready {
				c.streams = streams
				break
			}
			if err := c.await(ctx, changed); err != nil {
				return err
			}
		}
		group, err := hub.Join(c.streams, f.sub.Filter, f.sub.Form)
		if err != nil {
			return err
		}
		f.group = group
		f.mu.Lock()
		f.streams = group.Streams()
		f.mu.Unlock()
	}
	c.group, c.streams = f.group, f.group.Streams()
	return c.place()
}

// place takes the places of the streams out of the event id.
func (c *catchUp) place() error {
	from := c.f.sub.From
	if !c.fresh {
		id, err := bridge.ParseID(c.from)
		if err != nil {
			return err // we made it: a bug
		}
		from = id
	}
	c.renamed = map[string]bool{}
	c.states = make([]streamState, len(c.streams))
	c.own = make(bridge.ID, len(c.streams))
	for i, s := range c.streams {
		c.own[i].Stream = s.Name()
		pos, ok := from.Lookup(s.Name())
		if !ok {
			pos, ok = c.formerly(from, s)
		}
		c.own[i].Position, c.states[i].placed = pos.Clone(), ok
	}
	return nil
}

// formerly finds the part of an id that belongs to a stream under an older name:
// no configured stream has the name, and the incarnation is the stream's.
func (c *catchUp) formerly(from bridge.ID, s *bridge.Stream) (bridge.Position, bool) {
	live, _ := s.Live()
	for _, part := range from {
		if c.f.replay.hub.Stream(part.Stream) == nil && part.Position.Incarnation == live.Incarnation {
			c.renamed[part.Stream] = true
			return part.Position, true
		}
	}
	return bridge.Position{}, false
}

// verify asks what became of own. It sends connected the first time, then every
// gap and reset with the position behind it.
func (c *catchUp) verify(ctx context.Context) (step, error) {
	if err := c.flush(ctx); err != nil {
		return 0, err
	}
	generation := c.group.Generation()
	for i := range c.streams {
		if err := c.begin(ctx, i); err != nil {
			return 0, err
		}
	}
	for i := range c.streams {
		if err := c.ask(ctx, i); err != nil {
			return 0, err
		}
		if st := &c.states[i]; c.fresh && st.started && anyReset(st.verdict, bridge.AllPartitions) {
			return toVerify, c.startAgain(ctx, i)
		}
	}
	if c.fresh {
		c.connected()
	}
	if c.f.sub.Unreadable && c.fresh {
		if err := c.unreadable(); err != nil {
			return 0, err
		}
	}
	c.fresh = false
	for i := range c.streams {
		if err := c.tell(ctx, i); err != nil {
			return 0, err
		}
	}
	return c.aim(ctx, generation)
}

// begin gives a stream that has no place yet the one that its start says, and
// every stream the partitions that its position lacks.
func (c *catchUp) begin(ctx context.Context, i int) error {
	s, st := c.streams[i], &c.states[i]
	if !st.placed {
		pos, err := c.start(ctx, s)
		if err != nil {
			return err
		}
		c.own[i].Position, st.placed, st.started = pos, true, true
	}
	live, _ := s.Live()
	if pos := &c.own[i].Position; pos.Incarnation == live.Incarnation {
		for len(pos.Places) < len(live.Places) {
			pos.Places = append(pos.Places, bridge.Place{}) // born later: from its first record
		}
	}
	return nil
}

// startAgain drops a start that is broken before anybody was told of it: this
// replica's reader has not noticed yet that the stream is another one.
func (c *catchUp) startAgain(ctx context.Context, i int) error {
	changed := c.group.Changed()
	c.states[i].placed = false
	c.streams[i].DoubtOnce(c.states[i].verdict)
	return c.pause(ctx, changed, retryMost)
}

func (c *catchUp) start(ctx context.Context, s *bridge.Stream) (bridge.Position, error) {
	start := s.Start()
	if c.f.sub.Start != nil {
		start = *c.f.sub.Start
	}
	var pos bridge.Position
	err := c.insist(ctx, s, "start", func(ctx context.Context) (err error) {
		switch start.Kind {
		case bridge.StartNew:
			pos, _ = s.Live()
		case bridge.StartAll:
			var b bridge.Bounds
			b, err = s.Source().Bounds(ctx)
			pos = b.First
		case bridge.StartAt:
			pos, err = s.Source().PositionAt(ctx, start.At)
		}
		return err
	})
	return pos, err
}

// ask gets the verdict for one stream, waiting while the broker does not answer.
func (c *catchUp) ask(ctx context.Context, i int) error {
	s, st := c.streams[i], &c.states[i]
	generation := s.Generation()
	return c.insist(ctx, s, "verify", func(ctx context.Context) error {
		v, err := s.Source().Verify(ctx, c.own[i].Position, c.known(s, generation, st))
		if err == nil {
			st.verdict = v
			traceVerdict(ctx, v)
		}
		return err
	})
}

// known tells a verifier what chunks and the live position say of a record, so
// that a client which comes back costs the broker nothing of its own.
func (c *catchUp) known(s *bridge.Stream, generation uint64, st *streamState) bridge.Known {
	return func(ctx context.Context, partition int32, offset bridge.Offset) (bridge.Proof, bool) {
		live, incarnation := s.LivePlace(partition)
		switch {
		case offset+1 == live.Offset:
			return live.Proof, live.Proof != 0
		case offset < 0 || offset+1 > live.Offset:
			return 0, false
		}
		at := At{generation, incarnation, c.f.replay.cache.epoch(s, partition)}
		ch, _, err := c.f.replay.cache.Chunk(ctx, c.trip.request, s, partition, offset+1, at)
		if err != nil || offset+1 < ch.From {
			return 0, false
		}
		if offset+1 == ch.From {
			return ch.Before, ch.Before != 0
		}
		return proofAt(ch, offset)
	}
}

// proofAt returns the proof of the record at exactly offset, the zero Proof if
// the chunk has none there.
func proofAt(ch *held, offset bridge.Offset) (p bridge.Proof, held bool) {
	if offset < ch.From || offset >= ch.End {
		return 0, false
	}
	i, ok := slices.BinarySearchFunc(ch.Records, offset, func(r bridge.Record, o bridge.Offset) int { return int(r.Offset - o) })
	if !ok {
		return 0, true
	}
	return ch.Records[i].Proof, true
}

// connected sends the verdict and the caller's own position: a cut right behind
// it must find the same gaps and resets again.
func (c *catchUp) connected() {
	rank := map[string]int{"new": 0, "exact": 1, "gap": 2, "reset": 3}
	body := bridge.Connected{Resume: "new", Streams: map[string]string{}, Dropped: []string{}, Heartbeat: c.f.sub.Heartbeat.Seconds()}
	for i, s := range c.streams {
		verdict := "exact"
		for _, fd := range c.states[i].verdict.Findings {
			if fd.Reason.Reset() {
				verdict = "reset"
			} else if verdict == "exact" {
				verdict = "gap"
			}
		}
		switch {
		case c.f.sub.Unreadable:
			verdict = "reset"
		case c.states[i].started && verdict == "exact":
			verdict = "started"
		}
		body.Streams[s.Name()] = verdict
		if rank[verdict] > rank[body.Resume] {
			body.Resume = verdict
		}
	}
	for _, part := range c.f.sub.From {
		followed := slices.ContainsFunc(c.streams, func(s *bridge.Stream) bool { return s.Name() == part.Stream })
		if !followed && !c.renamed[part.Stream] {
			body.Dropped = append(body.Dropped, part.Stream)
		}
	}
	c.f.replay.metrics.resumed(body.Resume, 1)
	if !c.f.sub.Control {
		c.put(bridge.Event{Kind: bridge.HeartbeatEvent}, false)
		return
	}
	c.put(bridge.Event{Kind: bridge.ConnectedEvent, Connected: &body, Retry: c.f.sub.Retry}, !c.f.sub.Unreadable)
}

// unreadable tells for each stream that the client's id said nothing about it,
// and where it begins instead. Only the last of them gives the client an id: a
// cut before it must find the unreadable one again.
func (c *catchUp) unreadable() error {
	for i, s := range c.streams {
		fd := bridge.Finding{
			Reason: bridge.UnreadableID, Partition: bridge.AllPartitions, To: bridge.UnknownOffset, Next: c.own[i].Position.Clone(),
		}
		fail := c.policy(s) == bridge.ResetFail
		c.put(bridge.Event{Kind: bridge.LossEvent, Stream: s.Name(), Finding: &fd}, i == len(c.streams)-1 && !fail)
		if fail {
			return &bridge.ResetError{Stream: s.Name(), Finding: fd}
		}
	}
	return nil
}

// policy says where this client goes on after an open reset of a stream.
func (c *catchUp) policy(s *bridge.Stream) bridge.OnReset {
	if c.f.sub.OnReset != "" {
		return c.f.sub.OnReset
	}
	return s.OnReset()
}

// tell applies the findings of one stream, each with its own event and id.
func (c *catchUp) tell(ctx context.Context, i int) error {
	s, st := c.streams[i], &c.states[i]
	for n := range st.verdict.Findings {
		fd := st.verdict.Findings[n]
		if fd.Reason.Reset() {
			s.DoubtOnce(st.verdict) // what this replica holds may be as dead as the position was
		}
		st.leaps = false // what follows is judged from another place
		if fd.Open {
			policy := c.policy(s)
			if policy == bridge.ResetFail {
				c.put(bridge.Event{Kind: bridge.LossEvent, Stream: s.Name(), Finding: &fd}, true)
				return &bridge.ResetError{Stream: s.Name(), Finding: fd}
			}
			if err := c.choose(ctx, s, policy, &fd); err != nil {
				return err
			}
		}
		if fd.Partition >= 0 {
			// Only this place moves: others may have been told to move already.
			c.own[i].Position = c.own[i].Position.With(fd.Partition, fd.Next.Place(fd.Partition))
			c.own[i].Position.Incarnation = fd.Next.Incarnation
		} else {
			c.own[i].Position = fd.Next.Clone()
		}
		fd.Next = c.own[i].Position.Clone()
		c.put(bridge.Event{Kind: bridge.LossEvent, Stream: s.Name(), Finding: &fd}, true)
	}
	c.own[i].Position.Incarnation = st.verdict.Incarnation
	st.verdict.Findings = nil
	c.f.replay.cache.setEpochs(s, st.verdict.Epochs)
	return nil
}

// choose says where to go on after a reset whose point of divergence nobody knows.
func (c *catchUp) choose(ctx context.Context, s *bridge.Stream, policy bridge.OnReset, fd *bridge.Finding) error {
	return c.insist(ctx, s, "start", func(ctx context.Context) error {
		var pos bridge.Position
		var err error
		switch {
		case policy == bridge.ResetNew:
			var b bridge.Bounds
			b, err = s.Source().Bounds(ctx)
			pos = b.End
		case policy == bridge.ResetSince && fd.Since > 0:
			pos, err = s.Source().PositionAt(ctx, time.UnixMilli(fd.Since+1))
		default:
			return nil
		}
		if err == nil {
			fd.Next = pos
		}
		return err
	})
}

// aim takes the target, once this replica's feed lives in the incarnations of
// own. The verdict that own rests on was asked for in a generation; when that has
// passed, maybe by a doubt of ours, it is asked for again.
func (c *catchUp) aim(ctx context.Context, generation uint64) (step, error) {
	for {
		changed := c.group.Changed()
		c.target = c.group.Head()
		if c.target.Generation != generation {
			return toVerify, nil
		}
		same := true
		for i, s := range c.streams {
			if c.own[i].Position.Incarnation != c.target.Head[i].Position.Incarnation {
				same = false
				s.Source().Poke()
			}
		}
		if same {
			return toTarget, nil
		}
		if err := c.pause(ctx, changed, retryMost); err != nil {
			return 0, err
		}
	}
}

// insist repeats a question to a stream's broker until it is answered; the
// connection is held meanwhile, and others have the turn. What there is for the
// client so far does not wait for the answer. operation names the span of each try,
// but for most of many: a broker that is away for hours is not worth a million of
// them.
func (c *catchUp) insist(ctx context.Context, s *bridge.Stream, operation string, question func(context.Context) error) error {
	if err := c.leave(ctx); err != nil {
		return err
	}
	if err := c.repeat(ctx, s, operation, question); err != nil {
		return err
	}
	return c.trip.turn.resume(ctx)
}

func (c *catchUp) repeat(ctx context.Context, s *bridge.Stream, operation string, question func(context.Context) error) error {
	wait := retryFirst
	for try := 1; ; try++ {
		asking, cancel := context.WithTimeout(ctx, readTimeout)
		span := trace.Span(nooptrace.Span{})
		if operation != "" && try&(try-1) == 0 { // 1, 2, 4, 8 …
			asking, span = startSpan(asking, c.trip.request, s, operation)
		}
		err := question(asking)
		cancel()
		bridge.EndSpan(span, err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !passing(err) && try == 1 { // it is a state, not as many events as there are tries
			c.f.replay.log.Warn("broker question failed", "stream", s.Name(), "error", err)
		}
		if err := pause(ctx, nil, wait); err != nil {
			return err
		}
		wait = min(2*wait, retryMost)
	}
}

// pause waits for d, or until wake is closed.
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// pause lets others have the turn for d, or until wake is closed. What there is for
// the client so far does not wait.
func (c *catchUp) pause(ctx context.Context, wake <-chan struct{}, d time.Duration) error {
	if err := c.leave(ctx); err != nil {
		return err
	}
	if err := pause(ctx, wake, d); err != nil {
		return err
	}
	return c.trip.turn.resume(ctx)
}

// await lets others have the turn until wake is closed.
func (c *catchUp) await(ctx context.Context, wake <-chan struct{}) error {
	c.trip.turn.leave()
	select {
	case <-wake:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return c.trip.turn.resume(ctx)
}

// put adds an event to what is handed to Next; withID ends it with own.
func (c *catchUp) put(ev bridge.Event, withID bool) {
	if withID {
		ev.ID = c.own.String()
	}
	unit := c.f.sub.Form.Encoder.AppendEvent(nil, ev)
	if len(unit) == 0 {
		return
	}
	c.add(unit, ev.ID)
	if ev.Finding != nil {
		c.f.replay.metrics.told(ev.Stream, ev.Finding.Reason, 1)
	}
}

// addRecord notes that the unit that was added last carries a record. rt may be
// nil.
func (c *catchUp) addRecord(rt *bridge.RecordTrace) {
	c.pending.Records++
	c.records++
	if rt != nil {
		c.pending.Traces = append(c.pending.Traces, rt)
	}
}

// add adds a unit that ends with this event id; empty: with none.
func (c *catchUp) add(unit []byte, id string) {
	c.pending.Units = append(c.pending.Units, unit)
	c.bytes += len(unit)
	if id != "" {
		c.pending.id, c.idless = id, false
	}
}

// full reports whether what is pending should be handed over.
func (c *catchUp) full() bool {
	return len(c.pending.Units) >= c.f.replay.takeEvents || c.bytes >= takeBytes ||
		c.pending.room == nil && c.bytes >= c.f.replay.batchBytes()
}

// flush hands what is pending to Next, and then it is others' turn.
func (c *catchUp) flush(ctx context.Context) error {
	if c.fresh {
		return nil // nothing was verified yet
	}
	if err := c.hand(ctx); err != nil {
		return err
	}
	return c.trip.turn.pass(ctx)
}

// leave hands what is pending to Next and gives up the turn, because something has
// to be waited for.
func (c *catchUp) leave(ctx context.Context) error {
	err := c.hand(ctx)
	c.trip.turn.leave()
	return err
}

// hand hands what is pending to Next, which takes it when the client can be
// written to, and then makes own the position that a heartbeat may tell. If it has
// to wait it gives up the turn.
func (c *catchUp) hand(ctx context.Context) error {
	if c.fresh {
		return nil // nothing was verified yet
	}
	if len(c.pending.Units) == 0 {
		at := c.own.String()
		c.f.mu.Lock()
		c.trip.progress = at
		c.f.mu.Unlock()
		return nil
	}
	b := c.finish()
	select {
	case c.trip.out <- b:
		return nil
	default:
	}
	c.trip.turn.leave()
	b.room, b.Units = c.f.replay.batches.fit(b.room, b.Units) // nobody knows for how long
	select {
	case c.trip.out <- b:
		return nil
	case <-ctx.Done():
		c.f.replay.batches.give(b.room)
		return context.Cause(ctx)
	}
}

// end hands over what is pending and the cursor behind it. It does not wait for
// the client.
func (c *catchUp) end(cursor *bridge.Cursor) result {
	b := c.finish()
	b.cursor = cursor
	select {
	case c.trip.out <- b:
		return result{gone: true}
	default:
	}
	b.room, b.Units = c.f.replay.batches.fit(b.room, b.Units)
	return result{last: b}
}

// finish takes what is pending.
func (c *catchUp) finish() batch {
	b := c.pending
	c.makeID()
	b.id = c.pending.id
	if len(b.Units) > 0 {
		b.at = c.own.String()
	}
	c.pending, c.bytes = batch{}, 0
	return b
}

// makeID makes the event id of the last record in what is pending.
func (c *catchUp) makeID() {
	if c.idless {
		c.pending.id, c.idless = string(c.trail.Append(nil, c.behind)), false
	}
}

package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// flushRecords and flushBytes bound what is handed on at once.
	flushRecords = 4096
	flushBytes   = 4 << 20
)

// tail is a running [Source.Tail]. Its own goroutine only reads what lanes
// deliver and tells the receiver; what has to be asked is asked beside it, so
// that a broker that is away holds up its own partitions only.
//
//	lanes ──deliveries──► tail ──► receiver
//	  ▲                    │ ▲
//	  └──────wants─────────┘ └─outcome── inquiry: who leads, is it the same topic,
//	                                     what became of the places in doubt
//
// The broker checks each fetch against the topic's id, the leader's epoch and
// the epoch of the batch that was read last. So every fetch verifies the place;
// only what it refuses is judged.
type tail struct {
	s     *Source
	out   bridge.Receiver
	topic string
	id    [16]byte // of the topic that is read

	started     bool
	incarnation bridge.Incarnation
	view        *view // the newest; nil: none yet
	parts       []*part
	lanes       map[*lane]struct{}

	asking   bool            // an inquiry is under way
	asked    uint64          // inquiries made so far
	answered uint64          // number of the last that had an answer
	outcomes chan outcome    // capacity 1: of it
	askAt    time.Time       // when to ask next
	trouble  error           // why the last inquiry had no answer
	troubles int             // in a row
	broken   bool            // a connection broke; to be told before anything is read on
	reading  bool            // Reading was told last, not Waiting
	told     error           // by Waiting
	records  []bridge.Record // scratch
	bytes    int             // of records
	moves    []bridge.Change // scratch

	wake chan struct{} // capacity 1: the inbox is not empty

	mu    sync.Mutex
	inbox []*delivery
	ended bool
}

// Tail implements [bridge.Tailer].
func (s *Source) Tail(ctx context.Context, out bridge.Receiver) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := &tail{
		s: s, out: out, topic: s.opt.Topic, lanes: map[*lane]struct{}{},
		outcomes: make(chan outcome, 1), wake: make(chan struct{}, 1),
	}
	var inquiries sync.WaitGroup
	defer inquiries.Wait()
	defer t.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var done []*delivery
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.wake:
			done = t.consume()
		case o := <-t.outcomes:
			t.apply(ctx, o)
		case <-s.poke:
			t.askAt = time.Time{}
		case <-timer.C:
		}
		now := time.Now()
		if !t.asking && !now.Before(t.askAt) {
			t.asking, t.askAt = true, now.Add(s.opt.Poll)
			t.asked++
			q := t.inquiry()
			inquiries.Go(func() { t.outcomes <- s.inquire(ctx, q) })
		}
		timer.Reset(t.want(now))
		for _, d := range done { // now that it is said what is wanted next
			close(d.done)
		}
		t.tell()
	}
}

// end takes back what is wanted, and lets go of what was delivered.
func (t *tail) end() {
	for l := range t.lanes {
		l.drop(t)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for _, d := range t.inbox {
		close(d.done)
	}
	t.inbox = nil
}

// hand takes a delivery. Lanes call it.
func (t *tail) hand(d *delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		close(d.done)
		return
	}
	t.inbox = append(t.inbox, d)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// position is where the tail stands.
func (t *tail) position() bridge.Position {
	pos := bridge.Position{Incarnation: t.incarnation, Places: make([]bridge.Place, len(t.parts))}
	for i, p := range t.parts {
		pos.Places[i] = p.place
	}
	return pos
}

// inquiry is what there is to ask now.
func (t *tail) inquiry() inquiry {
	q := inquiry{started: t.started, pos: t.position()}
	for i, p := range t.parts {
		if p.doubt {
			q.doubted = append(q.doubted, int32(i))
		}
	}
	return q
}

// ask has an inquiry made as soon as the present one, if any, is over.
func (t *tail) ask() { t.askAt = time.Time{} }

// want puts every partition that is ready into the lane of its leader, and
// returns how long there is nothing else to do.
func (t *tail) want(now time.Time) time.Duration {
	wait := t.askAt.Sub(now)
	if t.asking {
		wait = t.s.opt.Poll
	}
	if t.view == nil {
		return max(wait, 0)
	}
	for i, p := range t.parts {
		if p.wanted != nil || p.doubt || t.answered < p.after || t.broken && !p.reads {
			continue
		}
		if now.Before(p.rest) {
			wait = min(wait, p.rest.Sub(now))
			continue
		}
		if i >= len(t.view.parts) {
			continue
		}
		leader, err := t.view.leader(int32(i))
		if err != nil {
			t.failed(p, err, now)
			wait = min(wait, firstWait)
			continue
		}
		p.number++
		p.wanted = t.s.cluster.lane(leader.broker)
		t.lanes[p.wanted] = struct{}{}
		p.wanted.add(t, want{
			topic: t.topic, id: t.id,
			fetchPartition: fetchPartition{index: p.index, leader: leader.epoch, last: p.last, offset: int64(p.place.Offset), bytes: partitionBytes},
			number:         p.number, fresh: p.fresh,
		})
	}
	return max(wait, 0)
}

// tell tells whether anything can be read.
func (t *tail) tell() {
	var err error
	for _, p := range t.parts {
		if p.reads {
			if !t.reading {
				t.reading, t.told = true, nil
				t.out.Change(bridge.Change{Kind: bridge.Reading})
			}
			return
		}
		if err == nil && (p.fails > 1 || denied(p.err)) { // once may be over in a moment
			err = p.err
		}
	}
	if t.trouble != nil {
		err = t.trouble
	}
	if err == nil || t.told != nil && t.told.Error() == err.Error() {
		return
	}
	t.reading, t.told = false, err
	t.broken = t.started // who answers next may be another
	t.out.Change(bridge.Change{Kind: bridge.Waiting, Err: err})
}

// apply takes note of what an inquiry found, and tells it.
func (t *tail) apply(ctx context.Context, o outcome) {
	now := time.Now()
	t.asking = false
	if ctx.Err() != nil {
		return
	}
	if o.err != nil {
		t.trouble = o.err
		wait := min(firstWait<<min(t.troubles, 10), longestWait)
		if denied(o.err) {
			wait = deniedWait
		}
		t.troubles++
		t.askAt = now.Add(wait)
		for _, p := range t.parts {
			if p.doubt || errors.Is(o.err, bridge.ErrMissing) { // it is not read while this lasts
				p.reads = false
			}
		}
		return
	}
	t.trouble, t.answered = nil, t.asked
	if o.unjudged == nil {
		t.troubles = 0
	}
	if t.askAt.IsZero() { // asked for since: not at once again, or a broker that lags were asked all the time
		t.askAt = now.Add(firstWait)
	} else {
		t.askAt = now.Add(t.s.opt.Poll)
	}
	if !t.started {
		t.started = true
		t.begin(o.view, o.start)
		t.out.Change(bridge.Change{Kind: bridge.Started, Position: t.position()})
		t.report()
		return
	}
	t.look(o.view)
	t.judged(o)
	for _, p := range t.parts {
		if p.doubt && o.unjudged != nil {
			p.reads = false
		} else if p.doubt {
			t.ask()
		}
	}
	if o.unjudged != nil {
		t.trouble = o.unjudged
		t.askAt = now.Add(min(firstWait<<min(t.troubles, 10), longestWait))
		t.troubles++
	}
	t.report()
}

// begin sets out to read a topic from a position on.
func (t *tail) begin(v *view, pos bridge.Position) {
	for l := range t.lanes {
		l.drop(t)
	}
	t.view, t.id, t.incarnation = v, v.id, v.incarnation
	number := uint64(0)
	for _, p := range t.parts {
		number = max(number, p.number)
	}
	t.parts = nil
	for i := range max(len(pos.Places), len(v.parts)) {
		place := pos.Place(int32(i))
		t.parts = append(t.parts, &part{index: int32(i), place: place, last: epochOf(place.Proof), number: number + 1, fresh: true, high: -1})
	}
}

// look takes note of who leads, and of new partitions.
func (t *tail) look(v *view) {
	doubted := t.broken
	t.broken = false
	if !v.same(bridge.Position{Incarnation: t.incarnation}) {
		t.doubt(doubted)
		return // judged sets it
	}
	old := t.view
	v = v.since(old, t.parts)
	t.view = v
	for i := range min(len(old.parts), len(v.parts)) {
		if old.parts[i] == v.parts[i] {
			continue
		}
		doubted = true
		if p := t.parts[i]; p.wanted != nil { // by the old leader
			p.number++
			p.wanted = nil
		}
		t.parts[i].fresh = true
		if version, ok := t.s.cluster.live.oldestFetch(); ok && version < 12 {
			t.parts[i].doubt = true // fetches do not check the place
			t.ask()
		}
	}
	t.doubt(doubted)
	if n := len(v.parts); n > len(t.parts) {
		for i := len(t.parts); i < n; i++ {
			// From its beginning: it was born after all that has been read.
			t.parts = append(t.parts, &part{index: int32(i), last: noEpoch, fresh: true, high: -1})
		}
		t.out.Change(bridge.Change{Kind: bridge.Grown, Partitions: n})
	}
}

// doubt tells a doubt, if there is one.
func (t *tail) doubt(doubted bool) {
	if doubted {
		t.out.Change(bridge.Change{Kind: bridge.Doubted})
	}
}

// judged applies rulings to the places they are about.
func (t *tail) judged(o outcome) {
	for i, j := range o.judged {
		p := t.parts[i]
		p.doubt = false
		if j.renamed {
			p.last = j.covering
		}
	}
	for _, f := range o.findings {
		if f.Partition == bridge.AllPartitions {
			t.begin(o.view, f.Next)
			f.Next = t.position()
			t.out.Change(bridge.Change{Kind: bridge.Found, Finding: f})
			return
		}
		p := t.parts[f.Partition]
		p.place = f.Next.Place(f.Partition)
		p.last, p.fresh = epochOf(p.place.Proof), true
		p.rest = time.Time{}
		f.Next = t.position() // the others have moved on since
		t.out.Change(bridge.Change{Kind: bridge.Found, Finding: f})
	}
}

// consume reads what was delivered. The caller closes it.
func (t *tail) consume() []*delivery {
	t.mu.Lock()
	inbox := t.inbox
	t.inbox = nil
	t.mu.Unlock()
	now := time.Now()
	for _, d := range inbox {
		for i := range d.parts {
			got := &d.parts[i]
			if int(got.index) >= len(t.parts) {
				continue
			}
			p := t.parts[got.index]
			if p.number != got.number {
				continue
			}
			p.wanted = nil
			if d.err != nil {
				t.broken = t.broken || p.reads // told once for each time that it had worked
				t.failed(p, d.err, now)
				p.doubt = true
				continue
			}
			if t.broken && !p.reads { // a straggler: to be read again when the doubt has been told
				continue
			}
			t.read(p, &got.fetched, now)
		}
	}
	t.flush()
	for _, d := range inbox {
		for i := range d.parts {
			t.reportPart(d.parts[i].index)
		}
	}
	for i := range t.moves {
		t.out.Change(t.moves[i])
	}
	t.moves = t.moves[:0]
	return inbox
}

// failed notes that a partition could not be read. It is not tried again before
// a new look at who leads, and whether it is still the same topic: brokers that
// read by name would not tell.
func (t *tail) failed(p *part, err error, now time.Time) {
	p.failed(err, now)
	p.after = t.asked + 1
	t.ask()
}

// read reads what was fetched of one partition.
func (t *tail) read(p *part, f *fetched, now time.Time) {
	switch {
	case f.err == codeOutOfRange || f.err == codeNone && f.diverging:
		p.doubt, p.fresh = true, true
		p.tire(now)
		t.ask()
		return
	case f.err != codeNone:
		t.failed(p, &CodeError{"Fetch", t.topic, p.index, int16(f.err)}, now)
		return
	}
	p.refreshed()
	if err := t.batches(p, f); err != nil {
		p.failed(err, now)
	}
	p.hold(f, now)
}

// batches reads complete batches. The place is right after each, also when the
// next one cannot be read.
func (t *tail) batches(p *part, f *fetched) error {
	filter := newAbortFilter(f.aborted)
	shown := p.place // the place behind the last record that is shown
	defer func() {
		if p.place.Offset > shown.Offset {
			t.moves = append(t.moves, bridge.Change{Kind: bridge.Moved, Partition: p.index, Place: p.place})
		}
	}()
	for rest := f.records; len(rest) > 0; {
		b, next, err := nextBatch(rest)
		if errors.Is(err, errPartial) {
			return nil
		}
		if err != nil {
			return unreadable(t.topic, p.index, err)
		}
		rest = next
		shows, err := filter.shows(&b)
		if err != nil {
			return unreadable(t.topic, p.index, err)
		}
		if b.last() < int64(p.place.Offset) {
			continue
		}
		if shows {
			last, err := t.show(p, &b)
			if last >= 0 {
				shown = bridge.Place{Offset: last + 1, Proof: proofOf(b.epoch)}
				p.place, p.last = shown, b.epoch
			}
			if err != nil {
				return unreadable(t.topic, p.index, err)
			}
		}
		p.place, p.last = bridge.Place{Offset: bridge.Offset(b.last() + 1), Proof: proofOf(b.epoch)}, b.epoch
	}
	return nil
}

// show gathers the records of a batch from the place on, and returns the offset
// of the last, -1 if there is none.
func (t *tail) show(p *part, b *batch) (last bridge.Offset, err error) {
	r := newRecordReader(b, t.s.opt.MaxRecordBytes)
	defer r.close()
	last = -1
	for r.next() {
		if bridge.Offset(r.rec.offset) < p.place.Offset {
			continue
		}
		rec := t.s.shown(p.index, b.epoch, &r.rec)
		t.records = append(t.records, rec)
		t.bytes += len(rec.Data) + len(rec.Key)
		last = rec.Offset
		if len(t.records) >= flushRecords || t.bytes >= flushBytes {
			t.flush()
		}
	}
	return last, r.err
}

// flush hands on the records that have been gathered.
func (t *tail) flush() {
	if len(t.records) == 0 {
		return
	}
	t.out.Records(t.records)
	clear(t.records)
	t.records, t.bytes = t.records[:0], 0
}

// report publishes how the partitions stand.
func (t *tail) report() {
	t.s.mu.Lock()
	t.s.status = make([]PartitionStatus, len(t.parts))
	t.s.mu.Unlock()
	for i := range t.parts {
		t.reportPart(int32(i))
	}
}

func (t *tail) reportPart(partition int32) {
	if int(partition) >= len(t.parts) {
		return
	}
	l := leadership{broker: -1, epoch: noEpoch}
	if int(partition) < len(t.view.parts) {
		l = t.view.parts[partition]
	}
	st := t.parts[partition].status(l)
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if int(partition) < len(t.s.status) {
		t.s.status[partition] = st
	}
}

// unreadable says which partition holds what cannot be read.
func unreadable(topic string, partition int32, err error) error {
	return &readError{topic, partition, err}
}

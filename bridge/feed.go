package bridge

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What is kept, by what it really costs: slices have room to grow, and what is
// allocated is rounded up to the next size.
const (
	// entryOverheadBytes is what an entry costs in the ring besides its bytes: itself,
	// twice, as the ring is copied to a larger place now and then.
	entryOverheadBytes = 240
	// numberBytes is what it costs besides for each group that is shown it.
	numberBytes = 16
	// lossBytes and placeBytes are what a finding costs, and each place in it.
	lossBytes, placeBytes = 128, 16
	// traceBytes is what a record costs besides if it is traced.
	traceBytes = 160
	// groupBytes is what a group costs besides its patterns, nodeBytes what a token
	// of them does in the trie, and childrenBytes one that others follow.
	groupBytes, nodeBytes, childrenBytes = 448, 144, 256
)

// maxScratchBytes is the largest room for encoding that is kept for the next event.
const maxScratchBytes = 64 << 10

// allocated is about what n bytes take.
func allocated(n int) int64 {
	if n == 0 {
		return 0
	}
	return int64(n + n/8 + 4)
}

// Entry is one step of a feed: a record, a finding, or a place that moved on
// over nothing. The vector after an entry is the one before it with one place
// (or, after a reset of a whole stream, one position) changed.
type Entry struct {
	Stream    int // index in the feed's streams
	Partition int32
	groups    int32  // that were shown it when it came
	Offset    Offset // of the record; of a moved place, the last offset it moved over
	Place     Place  // the partition's place after the entry
	Loss      *Finding
	Match     bool         // the group that asked is shown it
	Received  int64        // of a record: when this replica got it, in Unix nanoseconds
	Trace     *RecordTrace // of a record; nil: it is not traced
	Unit      []byte       // the encoded event, nil when no group is shown it; shared, read-only
	body      int          // length of Unit without its end
	id        string       // the vector after the entry, as text
}

// ID is the event id that Unit ends with: the feed's vector after the entry.
func (e *Entry) ID() string { return e.id }

// Body is Unit without its end, to be ended with another id. It is shared and
// read-only: append only to a copy.
func (e *Entry) Body() []byte { return e.Unit[:e.body:e.body] }

// memoryBytes is what the entry costs in the ring.
func (e *Entry) memoryBytes() int64 {
	n := entryOverheadBytes + allocated(len(e.Unit)) + allocated(len(e.id)) + numberBytes*int64(e.groups)
	if e.Loss != nil {
		n += lossBytes + placeBytes*int64(len(e.Loss.Next.Places))
	}
	if e.Trace != nil {
		n += traceBytes
	}
	return n
}

// Feed holds the events of one set of streams in one form: each record that
// some group is shown is encoded once, and kept in a ring bounded in bytes.
//
//	streams ──► [ 12 | 13 | 14 | 15 | 16 ]   entries, numbered for ever
//	              base                 head   vector: where this replica has read
//	                 ▲        ▲
//	              cursors of the groups' clients
//
// Entries come in the order in which this replica read them: the order inside a
// partition is the broker's, the order between partitions is the replica's own.
type Feed struct {
	streams []*Stream
	form    Form
	limit   *atomic.Int64 // bytes of the ring, set by the hub

	mu          sync.RWMutex
	head        ID
	headText    string // of head; empty: not made yet
	generation  uint64
	ring        []Entry // ring[0] has number base
	base        uint64
	bytes       int64
	groups      map[string]*Group
	filterBytes int64           // of groups, without the trie's nodes
	walked      map[*Group]bool // groups with a client in the walk, which must see every entry
	trie        Trie[*Group]
	matched     []*Group // scratch
	scratch     []byte   // for encoding
	evictions   uint64
	numbers     int // that groups hold, of entries in the ring and of some that have left it
	shown       int // groups of all entries in the ring
}

func newFeed(streams []*Stream, form Form, limit *atomic.Int64) *Feed {
	f := &Feed{streams: streams, form: form, limit: limit, head: make(ID, len(streams)), groups: map[string]*Group{}, walked: map[*Group]bool{}}
	for i, s := range streams {
		f.head[i].Stream = s.name
	}
	for i, s := range streams {
		s.attach(f, i)
	}
	return f
}

func (f *Feed) close() {
	for _, s := range f.streams {
		s.detach(f)
	}
}

// begin sets where a stream is when the feed joins it, or when it first starts.
func (f *Feed) begin(index int, live Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head[index].Position = live.Clone()
	f.headText = ""
	f.generation++
	f.wakeAll()
}

func (f *Feed) doubt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation++
	f.wakeAll()
}

func (f *Feed) grown(index, partitions int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.head[index].Position
	for len(p.Places) < partitions {
		p.Places = append(p.Places, Place{})
	}
	f.headText = ""
}

func (f *Feed) moved(index int, partition int32, pl Place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head[index].Position.set(partition, pl)
	f.headText = ""
	f.append(Entry{Stream: index, Partition: partition, Offset: pl.Offset - 1, Place: pl})
	for g := range f.walked {
		f.wakeGroup(g)
	}
}

// found appends a gap or reset, which every group is shown whatever its filter.
func (f *Feed) found(index int, fd Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head[index].Position = fd.Next.Clone()
	f.headText = ""
	if fd.Reason.Reset() {
		f.generation++
	}
	e := Entry{Stream: index, Partition: fd.Partition, Offset: fd.To, Loss: &fd}
	if fd.Partition >= 0 {
		e.Place = fd.Next.Place(fd.Partition)
	}
	f.encode(&e, Event{Kind: LossEvent, Stream: f.head[index].Stream, Finding: &fd})
	e.groups = int32(len(f.groups))
	number := f.append(e)
	for _, g := range f.groups {
		g.add(number)
		g.trim(f.base, trimStep)
	}
	f.wakeAll()
}

// records appends a batch of one stream, which came in at received, and wakes the
// groups that match.
func (f *Feed) records(index int, recs []Record, received time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name, at := f.head[index].Stream, received.UnixNano()
	var woken []*Group
	for i := range recs {
		r := &recs[i]
		f.head[index].Position.set(r.Partition, r.Next())
		f.headText = ""
		e := Entry{Stream: index, Partition: r.Partition, Offset: r.Offset, Place: r.Next(), Received: at}
		f.matched = f.matched[:0]
		if r.Kind != Hidden {
			f.matched = f.trie.Match(r.Subject, f.matched)
		}
		if len(f.matched) > 0 {
			if r.Trace != nil {
				e.Trace, r.shown = r.Trace, true
			}
			ev := Event{Kind: RecordEvent, Stream: name, Record: r}
			if r.Kind == Oversized {
				e.Loss = oversized(f.head[index].Position.Clone(), r)
				ev = Event{Kind: LossEvent, Stream: name, Finding: e.Loss}
			}
			f.encode(&e, ev)
			e.groups = int32(len(f.matched))
		}
		number := f.append(e)
		for _, g := range f.matched {
			g.add(number)
			if !g.woken {
				g.woken = true
				woken = append(woken, g)
			}
		}
	}
	for _, g := range woken {
		g.woken = false
		g.trim(f.base, trimStep)
		f.wakeGroup(g)
	}
	for g := range f.walked {
		f.wakeGroup(g)
	}
	f.trim()
}

// trim makes quiet groups forget what has left the ring, when that has come to be
// more than what is in it.
func (f *Feed) trim() {
	if f.numbers <= 2*f.shown+2*trimStep*len(f.groups) {
		return
	}
	for _, g := range f.groups {
		g.trim(f.base, 1)
	}
}

// oversized is the finding that stands for a record over the size limit.
func oversized(after Position, r *Record) *Finding {
	return &Finding{Reason: TooLarge, Partition: r.Partition, From: r.Offset, To: r.Offset, Next: after}
}

// encode makes the unit of an entry, ended with the vector after it.
func (f *Feed) encode(e *Entry, ev Event) {
	e.id = f.text()
	ev.ID = e.id
	f.scratch = f.form.Encoder.AppendEvent(f.scratch[:0], ev)
	e.Unit = append(make([]byte, 0, len(f.scratch)), f.scratch...) // it is kept: without room to grow
	if cap(f.scratch) > maxScratchBytes {
		f.scratch = nil
	}
	var end [256]byte
	e.body = len(e.Unit) - len(f.form.Encoder.AppendEnd(end[:0], e.id))
}

// text returns the head as an event id.
func (f *Feed) text() string {
	if f.headText == "" {
		f.headText = f.head.String()
	}
	return f.headText
}

// append puts an entry into the ring and evicts what no longer fits.
func (f *Feed) append(e Entry) (number uint64) {
	number = f.base + uint64(len(f.ring))
	f.ring = append(f.ring, e)
	f.bytes += e.memoryBytes()
	f.shown += int(e.groups)
	f.evict()
	return number
}

// evict lets go of the oldest entries that the ring has no room for.
func (f *Feed) evict() {
	limit := f.limit.Load()
	n := 0
	for f.bytes > limit && n < len(f.ring) {
		f.bytes -= f.ring[n].memoryBytes()
		f.shown -= int(f.ring[n].groups)
		f.ring[n] = Entry{}
		n++
	}
	f.ring = f.ring[n:]
	f.base += uint64(n)
	f.evictions += uint64(n)
}

// evicted returns how many entries have left the ring.
func (f *Feed) evicted() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.evictions
}

// shrink evicts what no longer fits when the feed's share of memory became less.
func (f *Feed) shrink() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.evict()
	if cap(f.ring) > 2*len(f.ring) {
		f.ring = slices.Clone(f.ring) // without the room that it had come to have
	}
	f.trim()
}

// number is the number that the next entry will have.
func (f *Feed) number() uint64 { return f.base + uint64(len(f.ring)) }

// wakeAll tells everyone who waits on the feed.
func (f *Feed) wakeAll() {
	for _, g := range f.groups {
		f.wakeGroup(g)
	}
}

func (f *Feed) wakeGroup(g *Group) {
	if g.waited {
		close(g.signal)
		g.signal, g.waited = make(chan struct{}), false
	}
	for _, w := range g.watched {
		w.notify()
	}
}

// join returns the group of a filter, holding it once more.
func (f *Feed) join(filter Filter, maxNew int) (g *Group, fresh bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := filter.Key()
	g = f.groups[key]
	if g == nil {
		if maxNew <= 0 {
			return nil, false, ErrTooManyFilters
		}
		fresh = true
		g = &Group{feed: f, filter: filter, key: key, signal: make(chan struct{})}
		f.groups[key] = g
		f.filterBytes += g.bytes()
		f.trie.Add(filter, g)
	}
	g.held++
	return g, fresh, nil
}

// leave lets go of a group once; the last one removes it.
func (f *Feed) leave(g *Group) (groupGone, feedIdle bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g.held--
	if g.held > 0 {
		return false, false
	}
	delete(f.groups, g.key)
	f.filterBytes -= g.bytes()
	f.numbers -= len(g.numbers)
	f.trie.Remove(g.filter, g)
	return true, len(f.groups) == 0
}

// keptBytes is what the feed's filters cost.
func (f *Feed) keptBytes() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.filterBytes + f.trie.bytes
}

// cloneHead copies the head vector.
func (f *Feed) cloneHead() ID {
	head := slices.Clone(f.head)
	for i := range head {
		head[i].Position = head[i].Position.Clone()
	}
	return head
}

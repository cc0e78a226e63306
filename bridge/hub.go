package bridge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// feedLinger is how long a feed without clients is kept, so that clients that
// come back after a cut find its ring.
const feedLinger = 30 * time.Second

// HubOptions bound what a [Hub] keeps. Zero values mean the defaults.
type HubOptions struct {
	RingBytes   int64        // for the rings of all feeds together; default 64 MiB
	FilterBytes int64        // for the filters of all feeds together; default 16 MiB
	MaxFeeds    int          // sets of streams times formats; default 64
	MaxFilters  int          // distinct filters over all feeds; default 20000
	MaxIDBytes  int          // event ids that are given out; default, and at most, [MaxIDBytes]
	Logger      *slog.Logger // nil: none
}

// Hub is the streams of a process and the feeds over them.
type Hub struct {
	streams []*Stream // sorted by name
	byName  map[string]*Stream
	opt     HubOptions
	limit   atomic.Int64 // ring bytes of one feed

	mu      sync.Mutex
	feeds   map[feedKey]*Feed
	idle    map[*Feed]time.Time
	filters int
	kept    int64  // bytes of the filters of all feeds
	evicted uint64 // entries that left the rings of feeds that are closed

	changeMu sync.Mutex
	changed  chan struct{}
}

type feedKey struct {
	streams string
	form    Form
}

// NewHub returns a hub over streams, whose names must differ.
func NewHub(streams []*Stream, o HubOptions) *Hub {
	if o.RingBytes == 0 {
		o.RingBytes = 64 << 20
	}
	if o.FilterBytes == 0 {
		o.FilterBytes = 16 << 20
	}
	if o.MaxFeeds == 0 {
		o.MaxFeeds = 64
	}
	if o.MaxFilters == 0 {
		o.MaxFilters = 20000
	}
	if o.MaxIDBytes == 0 || o.MaxIDBytes > MaxIDBytes {
		o.MaxIDBytes = MaxIDBytes
	}
	h := &Hub{
		streams: slices.Clone(streams), byName: map[string]*Stream{}, opt: o,
		feeds: map[feedKey]*Feed{}, idle: map[*Feed]time.Time{}, changed: make(chan struct{}),
	}
	slices.SortFunc(h.streams, func(a, b *Stream) int { return strings.Compare(a.name, b.name) })
	for _, s := range h.streams {
		h.byName[s.name] = s
		s.notify = h.change
	}
	h.limit.Store(o.RingBytes)
	return h
}

// Run reads all streams until ctx ends; it returns when the last reader has
// ended, with context.Cause(ctx).
func (h *Hub) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range h.streams {
		wg.Go(func() {
			if s.opt.OnDemand {
				h.runOnDemand(ctx, s)
				return
			}
			_ = s.Run(ctx) // returns only when ctx ends, with its cause
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// Streams returns all streams, sorted by name. The caller must not change it.
func (h *Hub) Streams() []*Stream { return h.streams }

// Stream returns the stream called name, or nil.
func (h *Hub) Stream(name string) *Stream { return h.byName[name] }

// Changed returns a channel that is closed when a stream's state, subjects or
// start changed. Take it before looking.
func (h *Hub) Changed() <-chan struct{} {
	h.changeMu.Lock()
	defer h.changeMu.Unlock()
	return h.changed
}

func (h *Hub) change() {
	h.changeMu.Lock()
	defer h.changeMu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
}

// Resolve returns the streams that a subscription follows, sorted by name. ready
// is false while a stream that it might include has not been told by its broker:
// then wait for Changed and ask again. A stream that the broker does not have is
// left out, unless the subscription names it or its event id does.
//
// From then on d keeps the on-demand streams among them being read, and those whose
// brokers have to be asked first; it lets go of others that it had.
//
// The error is [ErrNoStream] when nothing matches that a broker has or may get,
// [ErrRefused] when a stream is named, or is all there is, that cannot be served,
// and [ErrIDTooLong] when event ids over the streams would be, now or soon.
func (h *Hub) Resolve(sub Subscription, d *Demand) (streams []*Stream, ready bool, err error) {
	ready = true
	var missing []*Stream
	var refused error
	for _, s := range h.streams {
		named := slices.Contains(sub.Names, s.name)
		if len(sub.Names) > 0 && !named {
			continue
		}
		if meets, _, _ := s.reach(sub.Filter); !meets {
			continue
		}
		d.hold(s) // first: now what has started does not fall idle
		_, settled, absent := s.reach(sub.Filter)
		_, inID := sub.From.Lookup(s.name)
		switch {
		case errors.Is(absent, ErrRefused) && named:
			return nil, false, absent // waiting does not help
		case errors.Is(absent, ErrRefused) && !inID:
			refused = absent
			continue
		case absent != nil && !named && !inID:
			missing = append(missing, s)
			continue
		}
		if _, started := s.Live(); !settled || !started {
			ready = false
		}
		streams = append(streams, s)
	}
	if len(streams) == 0 {
		switch {
		case missing != nil:
			d.keep(missing)
			return nil, false, nil
		case refused != nil:
			return nil, false, refused
		}
		return nil, false, ErrNoStream
	}
	d.keep(streams)
	if ready && expectedIDBytes(streams) > h.opt.MaxIDBytes {
		return nil, false, ErrIDTooLong
	}
	return streams, ready, nil
}

// expectedIDBytes is the length of event ids over streams that have started, by
// the time that their numbers have grown.
func expectedIDBytes(streams []*Stream) int {
	id := make(ID, 0, len(streams))
	for _, s := range streams {
		pos, _ := s.Live()
		id = append(id, IDPart{s.name, pos})
	}
	return id.ExpectedBytes()
}

// Join returns the group of a filter in the feed over these streams, holding it
// until Leave. The streams must have started.
func (h *Hub) Join(streams []*Stream, filter Filter, form Form) (*Group, error) {
	var names strings.Builder
	for _, s := range streams {
		names.WriteString(s.name)
		names.WriteByte('~')
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire(false)
	key := feedKey{names.String(), form}
	f := h.feeds[key]
	if f == nil {
		if len(h.feeds) >= h.opt.MaxFeeds {
			h.expire(true)
		}
		if len(h.feeds) >= h.opt.MaxFeeds {
			return nil, ErrTooManyFeeds
		}
		f = newFeed(streams, form, &h.limit)
		h.feeds[key] = f
		h.share()
	}
	room := h.opt.MaxFilters - h.filters
	if h.kept >= h.opt.FilterBytes {
		room = 0
	}
	before := f.keptBytes()
	g, fresh, err := f.join(filter, room)
	if err != nil {
		return nil, err
	}
	h.kept += f.keptBytes() - before
	if fresh {
		g.hub = h
		h.filters++
	}
	delete(h.idle, f)
	return g, nil
}

func (h *Hub) leave(g *Group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := g.feed.keptBytes()
	gone, idle := g.feed.leave(g)
	h.kept += g.feed.keptBytes() - before
	if gone {
		h.filters--
	}
	if idle {
		h.idle[g.feed] = time.Now()
		time.AfterFunc(feedLinger, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.expire(false)
		})
	}
}

// expire closes the feeds that have been without clients for feedLinger, or all
// that are without.
func (h *Hub) expire(all bool) {
	for key, f := range h.feeds {
		since, idle := h.idle[f]
		if idle && (all || time.Since(since) >= feedLinger) {
			h.drop(key, f)
		}
	}
}

// drop closes a feed that nobody is in. The caller holds mu.
func (h *Hub) drop(key feedKey, f *Feed) {
	f.close()
	h.evicted += f.evicted()
	delete(h.feeds, key)
	delete(h.idle, f)
	h.share()
}

// share divides the rings' memory among the feeds.
func (h *Hub) share() {
	h.limit.Store(h.opt.RingBytes / int64(max(1, len(h.feeds))))
	for _, f := range h.feeds {
		f.shrink()
	}
}

// HubStats counts what the hub keeps and did.
type HubStats struct {
	Feeds, Filters int
	Evictions      uint64 // entries that left rings because there was no room, ever
}

// Stats returns the counts of this moment.
func (h *Hub) Stats() HubStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := HubStats{Feeds: len(h.feeds), Filters: h.filters, Evictions: h.evicted}
	for _, f := range h.feeds {
		st.Evictions += f.evicted()
	}
	return st
}

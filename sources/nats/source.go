package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// SourceOptions say which stream to follow, and how.
type SourceOptions struct {
	// Stream is the JetStream stream's name.
	Stream string
	// Filter are the upstream subjects to read; none means all. A filter makes the
	// broker leave records out, so that holes can no longer be told from other
	// subjects: records that retention removes before they were read live are then
	// noticed only when the reader verifies its place.
	Filter []string
	// Instance names this bridge in the names of its consumers:
	// ssebridge-<instance>-<n>. Letters, digits, - and _; empty means "0".
	Instance string
	// OnReset says where the live reader goes on after a reset: since (also when
	// empty, and for fail, which a shared reader cannot do), all, or new.
	OnReset bridge.OnReset
	// Poll is how often the live reader makes sure that the stream is still the
	// one it reads; 0 means 5 s.
	Poll   time.Duration
	Logger *slog.Logger // nil: none
}

// validate reports everything that is wrong with the options.
func (o *SourceOptions) validate() error {
	var errs []error
	if o.Stream == "" || strings.ContainsAny(o.Stream, ". \t\r\n*>/\\") {
		errs = append(errs, fmt.Errorf("stream name %q: want a name without dots, blanks, slashes and wildcards", o.Stream))
	}
	for _, f := range o.Filter {
		if _, err := bridge.ParsePattern(f); err != nil {
			errs = append(errs, fmt.Errorf("filter %q: %w", f, err))
		}
	}
	for _, r := range o.Instance {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (r < '0' || r > '9') && r != '-' && r != '_' {
			errs = append(errs, fmt.Errorf("instance %q: want letters, digits, - and _", o.Instance))
			break
		}
	}
	switch o.OnReset {
	case "", bridge.ResetSince, bridge.ResetAll, bridge.ResetNew, bridge.ResetFail:
	default:
		errs = append(errs, fmt.Errorf("reset policy %q: want since, all, new or fail", o.OnReset))
	}
	if o.Poll < 0 {
		errs = append(errs, fmt.Errorf("poll interval %s: want 0 or more", o.Poll))
	}
	return errors.Join(errs...)
}

// Source is one JetStream stream as a [bridge.Source]. It has one partition, 0;
// offsets are stream sequences, which begin at 1; proofs are the records' times
// in milliseconds.
type Source struct {
	cluster *Cluster
	opt     SourceOptions
	log     *slog.Logger
	live    *asker
	cold    *asker
	poke    chan struct{}
	doubts  atomic.Uint64
	// verified is the epoch in which the live reader last found its place exact, 0
	// before there is one.
	verified atomic.Uint64
	// noDirect is the connection on which direct get turned out not to work, plus
	// one; replay reads by consumer until there is another.
	noDirect      atomic.Uint64
	directSubject string // of direct get; tests set another
	stats         stats
}

var (
	_ bridge.Source            = (*Source)(nil)
	_ bridge.PartitionReporter = (*Source)(nil)
	_ bridge.SubjectTeller     = (*Source)(nil)
)

// NewSource returns the source of one stream of a cluster. It asks nothing yet.
func NewSource(c *Cluster, o SourceOptions) (*Source, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("nats stream: %w", err)
	}
	if o.Instance == "" {
		o.Instance = "0"
	}
	if o.Poll == 0 {
		o.Poll = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Source{
		cluster: c, opt: o, log: o.Logger.With("upstream", o.Stream), poke: make(chan struct{}, 1),
		directSubject: c.api + "DIRECT.GET." + o.Stream,
	}
	s.live = &asker{source: s, link: c.live}
	s.cold = &asker{source: s, link: c.cold}
	return s, nil
}

// Stats counts what a source has asked the broker so far.
type Stats struct {
	Infos     uint64 // STREAM.INFO
	Gets      uint64 // STREAM.MSG.GET, single records from the leader
	Batches   uint64 // batches of replay, by direct get or by consumer
	Consumers uint64 // consumers made, for live and for replay
}

type stats struct{ infos, gets, batches, consumers atomic.Uint64 }

// Stats returns the counters.
func (s *Source) Stats() Stats {
	return Stats{s.stats.infos.Load(), s.stats.gets.Load(), s.stats.batches.Load(), s.stats.consumers.Load()}
}

// Poke implements [bridge.Tailer].
func (s *Source) Poke() {
	select {
	case s.poke <- struct{}{}:
	default: // one is waiting already
	}
}

// reign names what a history cannot change under: the two connections, and how
// often the live reader had reason to doubt.
func (s *Source) reign() [3]uint64 {
	return [3]uint64{s.cluster.live.number(), s.cluster.cold.number(), s.doubts.Load()}
}

// Bounds implements [bridge.Bounder].
func (s *Source) Bounds(ctx context.Context) (bridge.Bounds, error) {
	v, err := s.cold.view(ctx)
	if err != nil {
		return bridge.Bounds{}, err
	}
	end, err := s.cold.endPlace(ctx, v)
	if err != nil {
		return bridge.Bounds{}, err
	}
	return bridge.Bounds{First: v.position(bridge.Place{Offset: v.first}), End: v.position(end)}, nil
}

// Subjects implements [bridge.SubjectTeller].
func (s *Source) Subjects(ctx context.Context) ([]string, error) {
	v, err := s.cold.view(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(s.subjects(v)), nil
}

// subjects are those that records may have which are read.
func (s *Source) subjects(v *view) []string {
	if len(s.opt.Filter) > 0 {
		return s.opt.Filter
	}
	return v.subjects
}

// PositionAt implements [bridge.Seeker].
func (s *Source) PositionAt(ctx context.Context, t time.Time) (bridge.Position, error) {
	v, err := s.cold.view(ctx) // first: what is written from now on is after the end
	if err != nil {
		return bridge.Position{}, err
	}
	pl, err := s.seek(ctx, s.cold, v, t)
	if err != nil {
		return bridge.Position{}, err
	}
	return v.position(pl), nil
}

// seek returns the place of the first record at or after t, or the end of the
// view.
func (s *Source) seek(ctx context.Context, a *asker, v *view, t time.Time) (bridge.Place, error) {
	if v.end <= v.first {
		return bridge.Place{Offset: v.end}, nil
	}
	m, err := a.since(ctx, t)
	if err != nil {
		return bridge.Place{}, err
	}
	if m != nil && m.Time.Before(t) { // a server before 2.11 reads over start_time
		return s.search(ctx, a, v, t)
	}
	if m == nil || bridge.Offset(m.Seq) >= v.end {
		return a.endPlace(ctx, v)
	}
	return a.prove(ctx, v, bridge.Place{Offset: bridge.Offset(m.Seq)})
}

// search finds the place by bisection over the records' times.
func (s *Source) search(ctx context.Context, a *asker, v *view, t time.Time) (bridge.Place, error) {
	low, high := v.first, v.end // every record below low is older than t, none at high or above
	for low < high {
		mid := low + (high-low)/2
		m, err := a.next(ctx, mid, ">")
		if err != nil {
			return bridge.Place{}, err
		}
		if m == nil || !m.Time.Before(t) {
			high = mid
		} else {
			low = bridge.Offset(m.Seq) + 1
		}
	}
	return a.prove(ctx, v, bridge.Place{Offset: min(low, v.end)})
}

// position is the position of a place in the life of the stream that v shows.
func (v *view) position(pl bridge.Place) bridge.Position {
	return bridge.Position{Incarnation: v.incarnation, Places: []bridge.Place{pl}}
}

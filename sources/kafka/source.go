package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// SourceOptions say which topic to follow, and how.
type SourceOptions struct {
	// Topic is the Kafka topic's name.
	Topic string
	// MaxRecordBytes is the size over which a record's value is not read into
	// memory: the record is then of kind [bridge.Oversized]. 0 means 8 MiB.
	MaxRecordBytes int
	// OnReset says where the live reader goes on after a reset whose place the
	// broker does not name: at the first record (all; also since and fail, and when
	// empty), or at the end (new).
	OnReset bridge.OnReset
	// Poll is how often the live reader looks for new partitions, other leaders
	// and another topic of the same name; 0 means 3 s.
	Poll   time.Duration
	Logger *slog.Logger // nil: none
}

// validate reports everything that is wrong with the options.
func (o *SourceOptions) validate() error {
	var errs []error
	if !validTopic(o.Topic) {
		errs = append(errs, fmt.Errorf("topic name %q: want 1 to 249 letters, digits, dots, - and _", o.Topic))
	}
	switch o.OnReset {
	case "", bridge.ResetSince, bridge.ResetAll, bridge.ResetNew, bridge.ResetFail:
	default:
		errs = append(errs, fmt.Errorf("reset policy %q: want since, all, new or fail", o.OnReset))
	}
	if o.MaxRecordBytes < 0 {
		errs = append(errs, fmt.Errorf("largest record of %d bytes: want 0 or more", o.MaxRecordBytes))
	}
	if o.Poll < 0 {
		errs = append(errs, fmt.Errorf("poll interval %s: want 0 or more", o.Poll))
	}
	return errors.Join(errs...)
}

// validTopic applies the broker's own rule for names.
func validTopic(name string) bool {
	if name == "" || len(name) > 249 || name == "." || name == ".." {
		return false
	}
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r) {
			return false
		}
	}
	return true
}

// Source is one Kafka topic as a [bridge.Source]. Offsets and partitions are
// Kafka's own; proofs are the leader epochs of record batches.
type Source struct {
	cluster *Cluster
	opt     SourceOptions
	log     *slog.Logger
	live    *asker
	cold    *asker
	poke    chan struct{}
	stats   stats

	beyondFor time.Duration // tests wait less

	mu     sync.Mutex
	status []PartitionStatus
}

var _ bridge.Source = (*Source)(nil)

// NewSource returns the source of one topic of a cluster. It asks nothing yet.
func NewSource(c *Cluster, o SourceOptions) (*Source, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("kafka topic: %w", err)
	}
	if o.MaxRecordBytes == 0 {
		o.MaxRecordBytes = recordLimit
	}
	if o.Poll == 0 {
		o.Poll = 3 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Source{cluster: c, opt: o, log: o.Logger.With("upstream", o.Topic), poke: make(chan struct{}, 1), beyondFor: beyondFor}
	s.live = &asker{source: s, link: c.live}
	s.cold = &asker{source: s, link: c.cold}
	return s, nil
}

// Stats counts what a source has asked the brokers so far.
type Stats struct {
	Epochs uint64 // OffsetForLeaderEpoch
	Probes uint64 // small fetches that look at one batch
	Chunks uint64 // fetches of replay
}

type stats struct{ epochs, probes, chunks atomic.Uint64 }

// Stats returns the counters.
func (s *Source) Stats() Stats {
	return Stats{s.stats.epochs.Load(), s.stats.probes.Load(), s.stats.chunks.Load()}
}

// Poke implements [bridge.Tailer].
func (s *Source) Poke() {
	select {
	case s.poke <- struct{}{}:
	default: // one is waiting already
	}
}

// Bounds implements [bridge.Bounder]. The end is that of what can be read: by
// read_committed, records behind the first open transaction wait for it.
func (s *Source) Bounds(ctx context.Context) (b bridge.Bounds, err error) {
	if ctx.Err() != nil {
		return b, context.Cause(ctx)
	}
	err = s.cold.insist(ctx, func(ctx context.Context) error {
		g, err := s.cold.look(ctx)
		if err != nil {
			return err
		}
		ends, err := s.cold.offsets(ctx, g.view, latest, nil)
		if err != nil {
			return err
		}
		b = bridge.Bounds{First: g.position(g.firsts), End: g.position(ends)}
		return nil
	})
	return b, err
}

// PositionAt implements [bridge.Seeker].
func (s *Source) PositionAt(ctx context.Context, t time.Time) (pos bridge.Position, err error) {
	if ctx.Err() != nil {
		return pos, context.Cause(ctx)
	}
	at := t.UnixMilli()
	if t.After(time.UnixMilli(at)) { // records have whole milliseconds: the next one is the first at or after t
		at++
	}
	at = max(at, 0)
	err = s.cold.insist(ctx, func(ctx context.Context) error {
		v, err := s.cold.view(ctx, anyBroker)
		if err != nil {
			return err
		}
		places, err := s.cold.offsets(ctx, v, latest, nil) // first: what is written from now on is after the end
		if err != nil {
			return err
		}
		found, err := s.cold.offsets(ctx, v, at, nil)
		if err != nil {
			return err
		}
		for p, o := range found {
			if o >= 0 {
				places[p] = min(places[p], o)
			}
		}
		pos = v.position(places)
		return nil
	})
	return pos, err
}

package nats

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/internal/flight"
)

// asker asks the leader of one stream, over one of the two connections. Equal
// questions that are put at the same time share an answer.
type asker struct {
	source *Source
	link   *link
	views  flight.Flight[*view]
	gets   flight.Flights[getKey, *storedMessage]
	last   atomic.Pointer[view]
}

// getKey is a getQuestion without a time.
type getKey struct {
	seq     uint64
	nextFor string
}

// view asks for the state of the stream. The answer was given after the call.
// Streams that cannot be served are an error.
func (a *asker) view(ctx context.Context) (*view, error) {
	v, err := a.views.Do(ctx, func(ctx context.Context) (*view, error) {
		s := a.source
		for {
			asked, reign := time.Now(), s.reign()
			s.stats.infos.Add(1)
			info, err := a.link.streamInfo(ctx, s.opt.Stream)
			if err != nil {
				return nil, err
			}
			if s.reign() != reign { // nobody knows in which of the two it was answered
				continue
			}
			v := newView(s.opt.Stream, asked, info, reign)
			if v.refused == nil {
				a.last.Store(v)
			}
			return v, nil
		}
	})
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w", a.source.opt.Stream, err)
	}
	if v.refused != nil {
		return nil, v.refused
	}
	return v, nil
}

// at returns the record at exactly this offset, nil if there is none.
func (a *asker) at(ctx context.Context, o bridge.Offset) (*storedMessage, error) {
	return a.get(ctx, getKey{seq: uint64(o)})
}

// next returns the first record at or after an offset whose subject matches
// filter, nil if there is none.
func (a *asker) next(ctx context.Context, o bridge.Offset, filter string) (*storedMessage, error) {
	return a.get(ctx, getKey{uint64(o), filter})
}

func (a *asker) get(ctx context.Context, k getKey) (*storedMessage, error) {
	m, err := a.gets.Do(ctx, k, func(ctx context.Context) (*storedMessage, error) {
		a.source.stats.gets.Add(1)
		return a.link.get(ctx, a.source.opt.Stream, getQuestion{Seq: k.seq, NextFor: k.nextFor})
	})
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w", a.source.opt.Stream, err)
	}
	return m, nil
}

// since returns the first record whose time is at or after t, nil if there is none.
func (a *asker) since(ctx context.Context, t time.Time) (*storedMessage, error) {
	a.source.stats.gets.Add(1)
	m, err := a.link.get(ctx, a.source.opt.Stream, getQuestion{Start: &t, NextFor: ">"})
	if err != nil {
		return nil, fmt.Errorf("stream %q: look for %s: %w", a.source.opt.Stream, t.UTC().Format(time.RFC3339Nano), err)
	}
	return m, nil
}

// endPlace returns the place behind the last record, with its proof if the
// broker still holds that record.
func (a *asker) endPlace(ctx context.Context, v *view) (bridge.Place, error) {
	pl := bridge.Place{Offset: v.end}
	if v.end <= v.first {
		return pl, nil
	}
	return a.prove(ctx, v, pl)
}

// prove adds the proof to a place, if the broker holds the record before it.
func (a *asker) prove(ctx context.Context, v *view, pl bridge.Place) (bridge.Place, error) {
	if pl.Offset <= v.first {
		return pl, nil
	}
	m, err := a.at(ctx, pl.Offset-1)
	if err != nil {
		return pl, err
	}
	// The stream may have been made again since the view. The proof of another
	// life would turn into a false reset, so it is left out where that shows.
	if m != nil && (pl.Offset != v.end || m.Time.Equal(v.lastTime)) {
		pl.Proof = proofOf(m.Time)
	}
	return pl, nil
}

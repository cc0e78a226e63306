package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/internal/flight"
)

const (
	// staleWait is the pause after an answer that a change of leaders explains, and
	// staleFor is how long it may go on before it counts as no answer.
	staleWait = 25 * time.Millisecond
	staleFor  = 3 * time.Second
	// maxEpochs bounds the ends of epochs that are kept.
	maxEpochs = 1 << 16
)

// asker puts the questions of one source to its topic, over one link. Callers
// with the same question share the answer.
type asker struct {
	source *Source
	link   *link
	ground flight.Flight[*ground]
	last   atomic.Pointer[ground]

	mu   sync.Mutex
	ends map[endKey]epochEnd
}

// ground is what most verdicts need: who leads, and where the log begins.
type ground struct {
	*view
	firsts []int64 // by partition; -1 where it was not asked for
}

type endKey struct {
	id                       [16]byte
	partition, leader, epoch int32
}

// view asks who leads, any broker or a certain one.
func (a *asker) view(ctx context.Context, broker int32) (*view, error) {
	topic, asked := a.source.opt.Topic, time.Now()
	d, version, err := a.link.ask(ctx, question{api: apiMetadata, broker: broker, body: func(e *encoder, version int16) {
		appendMetadata(e, version, []string{topic})
	}})
	if err != nil {
		return nil, err
	}
	m, err := decodeMetadata(d, version)
	if err != nil {
		return nil, fmt.Errorf("metadata of topic %q: %w: %w", topic, err, bridge.ErrUnavailable)
	}
	for i := range m.topics {
		if m.topics[i].name == topic {
			return newView(topic, m.clusterID, asked, &m.topics[i])
		}
	}
	return nil, &CodeError{"Metadata", topic, -1, int16(codeUnknownTopic)}
}

// look asks who leads and where the log begins.
func (a *asker) look(ctx context.Context) (*ground, error) {
	return a.ground.Do(ctx, func(ctx context.Context) (*ground, error) {
		var g *ground
		err := a.insist(ctx, func(ctx context.Context) error {
			v, err := a.view(ctx, anyBroker)
			if err != nil {
				return err
			}
			firsts, err := a.offsets(ctx, v, earliest, nil)
			g = &ground{v, firsts}
			return err
		})
		if err != nil {
			return nil, err
		}
		a.last.Store(g)
		return g, nil
	})
}

// lookAt is look for some partitions only (nil: all): the leaders of others need
// not be there. It is not shared, and does not insist.
func (a *asker) lookAt(ctx context.Context, wanted []int32) (*ground, error) {
	if wanted == nil {
		return a.look(ctx)
	}
	v, err := a.view(ctx, anyBroker)
	if err != nil {
		return nil, err
	}
	for _, p := range wanted {
		if int(p) >= len(v.parts) {
			return nil, &CodeError{"Metadata", v.topic, p, int16(codeUnknownTopic)}
		}
	}
	firsts, err := a.offsets(ctx, v, earliest, wanted)
	if err != nil {
		return nil, err
	}
	return &ground{v, firsts}, nil
}

// insist repeats what met a change of leaders, until they have settled.
func (a *asker) insist(ctx context.Context, f func(ctx context.Context) error) error {
	for begun := time.Now(); ; {
		err := f(ctx)
		if err == nil || !stale(err) || time.Since(begun) > staleFor {
			return err
		}
		if err := sleep(ctx, staleWait); err != nil {
			return err
		}
	}
}

// stale reports whether an error says only that leaders have changed since we
// asked for them, or that a new one has not found its feet.
func stale(err error) bool {
	e, ok := errors.AsType[*CodeError](err)
	if !ok || e.Partition < 0 {
		return false
	}
	switch code(e.Code) {
	case codeUnknownTopic, codeUnknownTopicID, codeInconsistentID, codeNotLeader, codeLeaderNotAvailable, codeFencedEpoch,
		codeUnknownEpoch, codeOffsetNotAvailable, 9: // REPLICA_NOT_AVAILABLE
		return true
	default:
		return false
	}
}

// each calls ask for every leader at the same time, with the partitions it
// leads out of those that are wanted (nil: all), and joins the errors.
func (a *asker) each(ctx context.Context, v *view, wanted []int32, ask func(ctx context.Context, broker int32, partitions []int32) error) error {
	byLeader := map[int32][]int32{}
	add := func(p int32) error {
		l, err := v.leader(p)
		byLeader[l.broker] = append(byLeader[l.broker], p)
		return err
	}
	if wanted == nil {
		for p := range v.parts {
			if err := add(int32(p)); err != nil {
				return err
			}
		}
	}
	for _, p := range wanted {
		if err := add(p); err != nil {
			return err
		}
	}
	if len(byLeader) == 1 {
		for broker, partitions := range byLeader {
			return ask(ctx, broker, partitions)
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for broker, partitions := range byLeader {
		wg.Go(func() {
			if err := ask(ctx, broker, partitions); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
		})
	}
	wg.Wait()
	return first
}

// offsets asks for one place of each wanted partition (nil: all). The result is
// by partition; -1 stands for none, and for what was not asked.
func (a *asker) offsets(ctx context.Context, v *view, timestamp int64, wanted []int32) ([]int64, error) {
	out := make([]int64, len(v.parts))
	for i := range out {
		out[i] = -1
	}
	var mu sync.Mutex
	err := a.each(ctx, v, wanted, func(ctx context.Context, broker int32, partitions []int32) error {
		questions := make([]offsetQuestion, len(partitions))
		for i, p := range partitions {
			questions[i] = offsetQuestion{p, v.parts[p].epoch, timestamp}
		}
		d, _, err := a.link.ask(ctx, question{api: apiListOffsets, broker: broker, body: func(e *encoder, _ int16) {
			appendListOffsets(e, a.source.cluster.opt.isolation(), v.topic, questions)
		}})
		if err != nil {
			return err
		}
		answers, err := decodeListOffsets(d)
		if err != nil {
			return fmt.Errorf("offsets of topic %q: %w: %w", v.topic, err, bridge.ErrUnavailable)
		}
		mu.Lock()
		defer mu.Unlock()
		return match(v, "ListOffsets", partitions, answers, func(x offsetAnswer) (string, int32, code) {
			if x.partition >= 0 && int(x.partition) < len(out) {
				out[x.partition] = x.offset
			}
			return x.topic, x.partition, x.err
		})
	})
	return out, err
}

// match checks that every partition was answered for. take uses an answer and
// says what it is about.
func match[A any](v *view, operation string, partitions []int32, answers []A, take func(A) (string, int32, code)) error {
	seen := map[int32]bool{}
	for _, x := range answers {
		topic, partition, c := take(x)
		if c != codeNone {
			return &CodeError{operation, v.topic, partition, int16(c)}
		}
		seen[partition] = topic == v.topic
	}
	for _, p := range partitions {
		if !seen[p] {
			return fmt.Errorf("%s: no answer for topic %q partition %d: %w", operation, v.topic, p, bridge.ErrUnavailable)
		}
	}
	return nil
}

// known returns the end of an epoch that was asked for before in the present
// leader's reign. The end of the newest epoch may have moved up since.
func (a *asker) known(v *view, partition, epoch int32) (epochEnd, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	end, ok := a.ends[endKey{v.id, partition, v.parts[partition].epoch, epoch}]
	return end, ok
}

// epochEnds asks where epochs end: one epoch for each of the partitions.
func (a *asker) epochEnds(ctx context.Context, v *view, epochs map[int32]int32) (map[int32]epochEnd, error) {
	wanted := make([]int32, 0, len(epochs))
	for p := range epochs {
		wanted = append(wanted, p)
	}
	out := make(map[int32]epochEnd, len(epochs))
	var mu sync.Mutex
	err := a.each(ctx, v, wanted, func(ctx context.Context, broker int32, partitions []int32) error {
		questions := make([]epochQuestion, len(partitions))
		for i, p := range partitions {
			questions[i] = epochQuestion{p, v.parts[p].epoch, epochs[p]}
		}
		a.source.stats.epochs.Add(1)
		d, _, err := a.link.ask(ctx, question{api: apiEpochEnd, broker: broker, body: func(e *encoder, _ int16) {
			appendEpochEnd(e, v.topic, questions)
		}})
		if err != nil {
			return err
		}
		answers, err := decodeEpochEnd(d)
		if err != nil {
			return fmt.Errorf("epochs of topic %q: %w: %w", v.topic, err, bridge.ErrUnavailable)
		}
		mu.Lock()
		defer mu.Unlock()
		return match(v, "OffsetForLeaderEpoch", partitions, answers, func(x epochEnd) (string, int32, code) {
			out[x.partition] = x
			return x.topic, x.partition, x.err
		})
	})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ends == nil || len(a.ends) > maxEpochs {
		a.ends = map[endKey]epochEnd{}
	}
	for p, end := range out {
		a.ends[endKey{v.id, p, v.parts[p].epoch, epochs[p]}] = end
	}
	return out, nil
}

// sleep waits for d or the end of ctx, whose cause it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

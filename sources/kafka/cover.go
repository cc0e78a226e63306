package kafka

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// coverBytes is how much of each partition is read at most when many are asked
	// for the batch at a place.
	coverBytes = 16 << 10
	// coverTotal bounds such a request as a whole.
	coverTotal = 8 << 20
)

// cover is what stands at one offset of a partition.
type cover struct {
	held    bool  // a batch covers the offset
	epoch   int32 // of that batch
	visible bool  // the offset is one that readers can be told of by now
	outside bool  // the offset is below or above the log
}

// covers looks at one offset of each partition: which batch covers it. It sees
// batches of open and aborted transactions too.
func (a *asker) covers(ctx context.Context, v *view, offsets map[int32]int64) (map[int32]cover, error) {
	wanted := make([]int32, 0, len(offsets))
	for p := range offsets {
		wanted = append(wanted, p)
	}
	out := make(map[int32]cover, len(offsets))
	var mu sync.Mutex
	err := a.each(ctx, v, wanted, func(ctx context.Context, broker int32, partitions []int32) error {
		got, err := a.cover(ctx, v, broker, partitions, offsets)
		if err != nil {
			return err
		}
		// A broker gives a whole batch only for the first partition that has any.
		for _, p := range partitions {
			if c := got[p]; c.visible && !c.held && len(partitions) > 1 {
				alone, err := a.cover(ctx, v, broker, []int32{p}, offsets)
				if err != nil {
					return err
				}
				got[p] = alone[p]
			}
		}
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(out, got)
		return nil
	})
	return out, err
}

func (a *asker) cover(ctx context.Context, v *view, broker int32, partitions []int32, offsets map[int32]int64) (map[int32]cover, error) {
	topic := fetchTopic{name: v.topic, id: v.id}
	for _, p := range partitions {
		topic.partitions = append(topic.partitions, fetchPartition{
			index: p, leader: v.parts[p].epoch, last: noEpoch, offset: offsets[p], bytes: coverBytes,
		})
	}
	a.source.stats.probes.Add(1)
	parts, err := a.fetch(ctx, broker, fetchLimits{bytes: coverTotal}, topic)
	if err != nil {
		return nil, err
	}
	out := map[int32]cover{}
	for i := range parts {
		f := &parts[i]
		offset, asked := offsets[f.partition]
		switch {
		case !asked:
			continue
		case f.err == codeOutOfRange:
			out[f.partition] = cover{outside: true}
			continue
		case f.err != codeNone:
			return nil, &CodeError{"Fetch", v.topic, f.partition, int16(f.err)}
		}
		c := cover{visible: offset < f.high}
		if x, _, _ := nextBatch(f.records); x.base >= 0 { // its head is enough
			c.held = x.base <= offset && offset <= x.last()
			c.epoch = x.epoch
		}
		out[f.partition] = c
	}
	for _, p := range partitions {
		if _, ok := out[p]; !ok {
			return nil, fmt.Errorf("fetch: no answer for topic %q partition %d: %w", v.topic, p, bridge.ErrUnavailable)
		}
	}
	return out, nil
}

// fetch reads partitions of one topic from one broker.
func (a *asker) fetch(ctx context.Context, broker int32, limits fetchLimits, topic fetchTopic) ([]fetched, error) {
	d, version, err := a.link.ask(ctx, question{api: apiFetch, broker: broker, body: func(e *encoder, version int16) {
		appendFetch(e, version, limits, []fetchTopic{topic})
	}})
	if err != nil {
		return nil, err
	}
	got, err := decodeFetch(d, version)
	if err != nil {
		return nil, fmt.Errorf("fetch from broker %d: %w: %w", broker, err, bridge.ErrUnavailable)
	}
	if got.err != codeNone {
		return nil, &CodeError{"Fetch", topic.name, topic.partitions[0].index, int16(got.err)}
	}
	return got.parts, nil
}

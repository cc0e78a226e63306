package kafka

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// maxPartitions bounds what a broker may claim a topic to have. Clusters hold
// some 200,000 partitions in all.
const maxPartitions = 1 << 18

// view is a topic as one answer told it. It does not change.
type view struct {
	topic       string
	id          [16]byte // zero: the brokers have no topic ids
	incarnation bridge.Incarnation
	asked       time.Time // before the question was put
	parts       []leadership
}

// leadership says who leads a partition. Within one epoch a leader only appends.
type leadership struct {
	broker int32 // -1: nobody
	epoch  int32
	err    code
}

// newView reads an answer of Metadata.
func newView(topic, clusterID string, asked time.Time, t *metadataTopic) (*view, error) {
	if t.err != codeNone && t.err != codeLeaderNotAvailable {
		return nil, &CodeError{"Metadata", topic, -1, int16(t.err)}
	}
	v := &view{topic: topic, id: t.id, asked: asked}
	v.incarnation = incarnationOf(topic, clusterID, t.id)
	for _, p := range t.partitions {
		if p.index < 0 || p.index >= maxPartitions {
			return nil, fmt.Errorf("topic %q: partition %d: %w", topic, p.index, bridge.ErrUnavailable)
		}
		for int(p.index) >= len(v.parts) {
			v.parts = append(v.parts, leadership{broker: -1, epoch: noEpoch, err: codeLeaderNotAvailable})
		}
		l := leadership{p.leader, p.epoch, p.err}
		if l.broker >= 0 {
			l.err = codeNone // other replicas may be missing: no matter of ours
		}
		v.parts[p.index] = l
	}
	if len(v.parts) == 0 {
		return nil, &CodeError{"Metadata", topic, -1, int16(codeLeaderNotAvailable)}
	}
	return v, nil
}

// incarnationOf names this life of a topic: FNV-1a (32 bits) over its id. It is
// part of event ids and so never changes between releases. 0 means "not known"
// in an id; the one hash in four billion that is 0 reads as 1. Brokers without
// topic ids leave only the names of cluster and topic, which say nothing about a
// topic that is made again.
func incarnationOf(topic, clusterID string, id [16]byte) bridge.Incarnation {
	h := fnv.New32a()
	if id != [16]byte{} {
		_, _ = h.Write(id[:]) // a hash never fails
	} else {
		_, _ = fmt.Fprintf(h, "%s\n%s", clusterID, topic)
	}
	return bridge.Incarnation(max(h.Sum32(), 1))
}

// since returns v with the leaders of an older view where v tells of earlier
// ones: brokers learn of a change one after the other. A partition that cannot
// be read by what we know believes v; a cluster may have been set back.
func (v *view) since(old *view, parts []*part) *view {
	var out *view
	for i := range min(len(v.parts), len(old.parts)) {
		if v.parts[i].epoch >= old.parts[i].epoch || parts[i].fails > 2 {
			continue
		}
		if out == nil {
			c := *v
			c.parts = slices.Clone(v.parts)
			out = &c
		}
		out.parts[i] = old.parts[i]
	}
	if out == nil {
		return v
	}
	return out
}

// leader returns who leads a partition, or why nobody does.
func (v *view) leader(partition int32) (leadership, error) {
	l := v.parts[partition]
	if l.broker < 0 {
		c := l.err
		if c == codeNone {
			c = codeLeaderNotAvailable
		}
		return l, &CodeError{"find the leader", v.topic, partition, int16(c)}
	}
	return l, nil
}

// position is the position of these offsets, without proofs, in the life that v
// shows.
func (v *view) position(offsets []int64) bridge.Position {
	pos := bridge.Position{Incarnation: v.incarnation, Places: make([]bridge.Place, len(offsets))}
	for i, o := range offsets {
		pos.Places[i].Offset = bridge.Offset(o)
	}
	return pos
}

// epochs are the reigns of a verdict: leader epochs, from 1 on.
func (v *view) epochs() []uint64 {
	epochs := make([]uint64, len(v.parts))
	for i, l := range v.parts {
		epochs[i] = uint64(int64(l.epoch) + 2) // -1 is "not known"
	}
	return epochs
}

// proofOf makes the proof of a record in a batch of this leader epoch.
func proofOf(epoch int32) bridge.Proof {
	if epoch < 0 {
		return 0
	}
	return bridge.ProofOf(int64(epoch))
}

// epochOf is the leader epoch that a proof carries, noEpoch if none that Kafka
// could have.
func epochOf(p bridge.Proof) int32 {
	v, ok := p.Value()
	if !ok || v > 1<<31-1 {
		return noEpoch
	}
	return int32(v)
}

package nats

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// view is the stream as its leader told it in one answer. It does not change.
type view struct {
	stream      string
	asked       time.Time // before the question was put
	incarnation bridge.Incarnation
	reign       [3]uint64 // what it came by: see Source.reign
	epoch       uint64    // of reign and leader
	leader      string    // name of the server that answered, empty without a cluster
	// first and end bound the log: records are in [first, end). Both are at least
	// 1, and equal when the log is empty.
	first, end bridge.Offset
	origin     bridge.Offset // the first offset that the stream ever gave
	lastTime   time.Time     // of the record at end-1, if the broker still has it
	density    float64       // records per offset in [first, end), a hint
	consumers  int

	// loss is the reason to give when records below first are gone. It is empty on
	// streams whose records only go because newer ones replace them.
	loss        bridge.Reason
	subjects    []string
	allowDirect bool
	maxInactive time.Duration // longest inactive threshold of consumers, 0: any
	refused     error         // why the stream cannot be served, nil if it can
}

// newView reads an answer.
func newView(stream string, asked time.Time, info *streamInfo, reign [3]uint64) *view {
	c, st := &info.Config, &info.State
	v := &view{
		stream: stream, asked: asked, incarnation: incarnationOf(info), reign: reign, leader: info.Cluster.Leader,
		first: bridge.Offset(max(st.FirstSeq, 1)), end: bridge.Offset(st.LastSeq + 1), origin: bridge.Offset(max(c.FirstSeq, 1)),
		lastTime: st.LastTime, density: 1, consumers: st.Consumers,
		loss: lossOf(c), allowDirect: c.AllowDirect, maxInactive: c.ConsumerLimits.InactiveThreshold, refused: refusal(stream, c),
	}
	v.first = min(v.first, v.end) // an empty log
	if span := v.end - v.first; span > 0 {
		v.density = float64(st.Messages) / float64(span)
	}
	// A mirror takes over subjects, a transform changes them before they are stored.
	if v.subjects = c.Subjects; c.Mirror != nil || len(c.Sources) > 0 || c.SubjectTransform != nil {
		v.subjects = []string{">"}
	}
	h := fnv.New64a()
	for _, n := range append(reign[:], uint64(info.Cluster.LeaderSince.UnixNano())) {
		_ = binary.Write(h, binary.LittleEndian, n)
	}
	_, _ = h.Write([]byte(info.Cluster.Leader))
	v.epoch = h.Sum64()
	return v
}

// incarnationOf names this life of a stream: FNV-1a (32 bits) over its domain,
// its name and the time of its creation in nanoseconds, set off by newlines. It
// is part of event ids and so never changes between releases. 0 means "not
// known" in an id; the one hash in four billion that is 0 reads as 1.
//
// The time of creation survives restarts, elections and changes of replicas. It
// changes when the stream is deleted and made again, and when it is restored
// from a backup; it stays when a data directory is rolled back, which is why
// places also carry a proof.
func incarnationOf(info *streamInfo) bridge.Incarnation {
	h := fnv.New32a()
	_, _ = fmt.Fprintf(h, "%s\n%s\n%d", info.Domain, info.Config.Name, info.Created.UnixNano())
	if sum := h.Sum32(); sum != 0 {
		return bridge.Incarnation(sum)
	}
	return 1
}

// lossOf says what it means when the log begins above an offset that was wanted.
//
// On a plain stream records were lost. Where a newer record of a subject
// replaces older ones (KV buckets, per-subject limits, roll-ups, records with a
// time to live), the log begins later with every change of its oldest key:
// nothing was lost that a reader still needs. With a limit of the whole stream
// on top nobody can tell the two apart.
func lossOf(c *streamConfig) bridge.Reason {
	replaced := c.MaxPerSubject > 0 || c.AllowRollup || c.AllowTTL || c.AllowSchedules
	limited := c.MaxAge > 0 || c.MaxMessages > 0 || c.MaxBytes > 0
	switch {
	case !replaced:
		return bridge.Retention
	case limited:
		return bridge.Limits
	}
	return ""
}

// refusal says why a stream cannot be served at all.
func refusal(stream string, c *streamConfig) error {
	switch c.Retention {
	case "workqueue":
		return fmt.Errorf("stream %q has WorkQueue retention, where records vanish once they are worked on and a second reader is not allowed; "+
			"make another stream that has it as mirror or source, and serve that: %w", stream, bridge.ErrRefused)
	case "interest":
		return fmt.Errorf("stream %q has Interest retention, where a reader that is alone removes what it reads, so that nobody can resume; "+
			"make another stream that has it as mirror or source, and serve that: %w", stream, bridge.ErrRefused)
	}
	return nil
}

// lost returns what is gone of [want, first), both ends included. It is never
// more than the stream ever held: one that began at offset 1,000 has lost
// nothing of 1 to 999.
func (v *view) lost(want bridge.Offset) (from, to bridge.Offset, ok bool) {
	from, to = max(want, v.origin), v.first-1
	return from, to, v.loss != "" && from <= to
}

// proofOf makes a proof: the record's time in whole milliseconds, rounded down. It
// is the same on all replicas and mirrors, and in every way of reading.
func proofOf(t time.Time) bridge.Proof { return bridge.ProofOf(max(t.UnixMilli(), 0)) }

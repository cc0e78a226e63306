package sourcetest

import (
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// table judges places by the resume table, against one life of a stream.
type table struct {
	*life
	kind Kind
	loss Loss
}

// judge returns what became of one place of a position. nil means that it is
// exact, or that the broker does not list the partition (yet), so that it is to
// be kept as it is. held is the proof of the record before the place if the
// caller vouches for it. An unknown incarnation cannot differ from this one.
func (t table) judge(pos bridge.Position, partition int32, held bridge.Proof) *bridge.Finding {
	same := pos.Incarnation == 0 || pos.Incarnation == t.incarnation
	if t.kind == KafkaLike && !same {
		return t.recreated(pos) // epochs begin again at 0, so they prove nothing here
	}
	if int(partition) >= len(t.logs) {
		return nil
	}
	if t.kind == KafkaLike {
		return t.judgeKafka(pos, partition)
	}
	return t.judgeJetStream(pos, same, held)
}

func (t table) judgeJetStream(pos bridge.Position, same bool, held bridge.Proof) *bridge.Finding {
	l, place := t.logs[0], pos.Place(0)
	want := max(place.Offset, l.base())
	if same && want < l.first {
		return t.gap(pos, 0, want)
	}
	if want > l.end {
		return t.rewritten(pos, 0, same, l.end, want-1)
	}
	_, proven := place.Proof.Value()
	anchor := l.anchor(want).Proof
	if proven && same && held == place.Proof {
		anchor = held
	}
	switch _, known := anchor.Value(); {
	case proven && known && anchor == place.Proof:
		return nil
	case proven && known:
		return t.rewritten(pos, 0, same, want-1, want-1)
	case !same:
		return t.recreated(pos)
	}
	return nil
}

func (t table) judgeKafka(pos bridge.Position, partition int32) *bridge.Finding {
	l, place := t.logs[partition], pos.Place(partition)
	want := place.Offset
	if want < l.first {
		return t.gap(pos, partition, want)
	}
	if proof, proven := place.Proof.Value(); proven {
		number, end := l.epochEnd(proof)
		if number >= 0 && end < want {
			return &bridge.Finding{
				Reason: bridge.RolledBack, Partition: partition, From: end, To: want - 1,
				Next: t.on(pos, partition, l.anchor(end)),
			}
		}
		// The leader may not know an epoch because that wrote nothing, or because
		// it was another history: the record itself tells.
		if before := l.at(want - 1); number < proof && before != nil && before.rec.Proof != place.Proof {
			return t.rewritten(pos, partition, true, want-1, want-1)
		}
	}
	if want > l.end {
		return t.rewritten(pos, partition, true, l.end, want-1)
	}
	return nil
}

// gap tells what retention took from want on.
func (t table) gap(pos bridge.Position, partition int32, want bridge.Offset) *bridge.Finding {
	l := t.logs[partition]
	f := &bridge.Finding{
		Reason: bridge.Retention, Partition: partition, From: want, To: l.first - 1,
		Next: t.on(pos, partition, l.anchor(l.first)),
	}
	switch t.loss {
	case LossNone:
		return nil
	case LossLimits:
		f.Reason = bridge.Limits
	case LossRetention:
	}
	return f
}

// rewritten tells that [from, to] is another history, and nobody knows since
// where.
func (t table) rewritten(pos bridge.Position, partition int32, same bool, from, to bridge.Offset) *bridge.Finding {
	if !same {
		return t.recreated(pos)
	}
	l := t.logs[partition]
	return &bridge.Finding{
		Reason: bridge.RolledBack, Partition: partition, From: from, To: to,
		Next: t.on(pos, partition, l.anchor(l.first)),
		Open: true, Since: t.provenTime(pos),
	}
}

// recreated tells that the stream is another one. From is the place that was
// wanted where a position has only one.
func (t table) recreated(pos bridge.Position) *bridge.Finding {
	from := bridge.UnknownOffset
	if len(pos.Places) <= 1 {
		from = pos.Place(0).Offset
		if t.kind == JetStreamLike {
			from = max(from, 1)
		}
	}
	return &bridge.Finding{
		Reason: bridge.Recreated, Partition: bridge.AllPartitions, From: from, To: bridge.UnknownOffset,
		Next: t.firsts(),
		Open: true, Since: t.provenTime(pos),
	}
}

// provenTime is the time that a JetStream position proves itself with, in Unix
// milliseconds; 0 for none.
func (t table) provenTime(pos bridge.Position) int64 {
	if t.kind != JetStreamLike {
		return 0
	}
	ms, _ := pos.Place(0).Proof.Value()
	return max(ms, 0)
}

// choose returns where to go on after an open finding, by a reset policy.
func (t table) choose(policy bridge.OnReset, f *bridge.Finding) bridge.Position {
	var to bridge.Position
	switch {
	case policy == bridge.ResetNew:
		to = t.ends()
	case policy == bridge.ResetSince && f.Since > 0:
		to = t.since(time.UnixMilli(f.Since + 1))
	default:
		return f.Next
	}
	if f.Partition == bridge.AllPartitions {
		return to
	}
	return t.on(f.Next, f.Partition, to.Place(f.Partition))
}

// on returns pos with one place moved, in this life.
func (t table) on(pos bridge.Position, partition int32, place bridge.Place) bridge.Position {
	pos = pos.With(partition, place)
	pos.Incarnation = t.incarnation
	return pos
}

// firsts is the position of the oldest records.
func (t table) firsts() bridge.Position {
	return t.position(func(l *log) bridge.Offset { return l.first })
}

// ends is the position behind everything that can be read.
func (t table) ends() bridge.Position {
	return t.position((*log).stable)
}

// since is the position of the first records at or after a time.
func (t table) since(at time.Time) bridge.Position {
	return t.position(func(l *log) bridge.Offset {
		stable := l.stable()
		for _, e := range l.entries {
			if e.rec.Offset < stable && !e.rec.Time.Before(at) {
				return e.rec.Offset
			}
		}
		return stable
	})
}

func (t table) position(offset func(l *log) bridge.Offset) bridge.Position {
	pos := bridge.Position{Incarnation: t.incarnation}
	for _, l := range t.logs {
		pos.Places = append(pos.Places, l.anchor(offset(l)))
	}
	return pos
}

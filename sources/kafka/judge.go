package kafka

import (
	"context"

	"github.com/ssebridge/ssebridge/bridge"
)

// ruling is what became of one place.
type ruling uint8

const (
	exact    ruling = iota
	expired         // below the log's first offset: a gap up to there
	diverged        // the histories part at the end of the proof's epoch
	other           // the batch before the place is another one, nobody knows since where
	beyond          // above the end of the log: counts only when it lasts
	foreign         // as other, but said by a leader that is older than the proof: counts only when it lasts
)

// judgement is a ruling with what it rests on.
type judgement struct {
	ruling ruling
	first  int64 // of the log
	end    int64 // diverged: where histories part; beyond: the end of the log
	// covering is the epoch of the batch before the place when the proof's own
	// epoch means nothing to the leader; fetches then go by this one.
	covering int32
	renamed  bool // covering holds
}

// lasting reports whether the ruling counts only when it lasts.
func (j judgement) lasting() bool { return j.ruling == beyond || j.ruling == foreign }

// judge applies the resume table to the places of pos in the partitions wanted
// (nil: all that the topic has). cached lets it use answers of the leader's
// present reign that show a place to be exact; every other ruling is asked for.
//
// A leader only appends within one epoch, and every question names the epoch
// that must answer. So all answers in one judgement are of one history.
func (a *asker) judge(ctx context.Context, g *ground, pos bridge.Position, wanted []int32, cached bool) (map[int32]judgement, error) {
	if wanted == nil {
		for p := range g.parts {
			wanted = append(wanted, int32(p))
		}
	}
	out := make(map[int32]judgement, len(wanted))
	ask := map[int32]int32{} // epochs whose end is needed
	for _, p := range wanted {
		place, first := pos.Place(p), g.firsts[p]
		want := int64(place.Offset)
		j := judgement{first: first}
		switch {
		case want < first:
			j.ruling = expired
		case want == 0 || want == first && place.Proof == 0:
			// The beginning of the log is a place that every history has.
		default:
			epoch := g.epochFor(p, place)
			if end, ok := a.known(g.view, p, epoch); cached && ok && end.end >= want && !older(end, place) {
				break
			}
			ask[p] = epoch
		}
		out[p] = j
	}
	if len(ask) == 0 {
		return out, nil
	}
	ends, err := a.epochEnds(ctx, g.view, ask)
	if err != nil {
		return nil, err
	}
	return out, a.weigh(ctx, g, pos, ends, out)
}

// epochFor is the epoch to ask the end of for a place: that of its proof, and
// without one the leader's own, which ends where the log does.
func (g *ground) epochFor(partition int32, place bridge.Place) int32 {
	if epoch := epochOf(place.Proof); epoch != noEpoch {
		return epoch
	}
	return g.parts[partition].epoch
}

// older reports whether the leader does not know the epoch of a place's proof.
func older(end epochEnd, place bridge.Place) bool {
	epoch := epochOf(place.Proof)
	return epoch != noEpoch && end.epoch < epoch
}

// weigh judges by the ends of epochs, and looks at the batch before a place
// where they are not enough.
//
// "The epoch ends at or above the place" is not enough where the leader names an
// older epoch than the proof. Either the proof's epoch wrote nothing that is
// left, and all is well. Or a leader with a shorter log came between, and the
// present one has a longer log of the older epoch: other records under our
// offsets. The batch that covers the offset before the place tells.
func (a *asker) weigh(ctx context.Context, g *ground, pos bridge.Position, ends map[int32]epochEnd, out map[int32]judgement) error {
	look := map[int32]int64{}
	tops := map[int32]int32{} // partitions whose log end is needed
	for p, end := range ends {
		place, j := pos.Place(p), out[p]
		want := int64(place.Offset)
		switch {
		case end.end < 0:
			look[p] = want - 1
			tops[p] = g.parts[p].epoch
		case end.end < want && place.Proof == 0:
			j.ruling, j.end = beyond, end.end
		case end.end < want:
			j.ruling, j.end = diverged, max(end.end, j.first)
		case older(end, place):
			look[p] = want - 1
		}
		out[p] = j
	}
	if len(look) == 0 {
		return nil
	}
	logEnds, err := a.epochEnds(ctx, g.view, tops)
	if err != nil {
		return err
	}
	found, err := a.covers(ctx, g.view, look)
	if err != nil {
		return err
	}
	for p := range look {
		place, j, c := pos.Place(p), out[p], found[p]
		top, asked := logEnds[p]
		switch proof := epochOf(place.Proof); {
		case asked && top.end >= 0 && top.end < int64(place.Offset):
			j.ruling, j.end = beyond, top.end
		case c.held && c.epoch != proof && proof > g.parts[p].epoch:
			j.ruling, j.end = foreign, int64(place.Offset)-1
		case c.held && c.epoch != proof && proof != noEpoch:
			j.ruling = other
		case !c.held && !c.outside && !c.visible:
			// The leader does not show its end yet. It will.
			return &CodeError{"Fetch", g.topic, p, int16(codeOffsetNotAvailable)}
		default: // compacted away, or the proof was no proof
			j.covering, j.renamed = noEpoch, true
			if c.held {
				j.covering = c.epoch
			}
		}
		out[p] = j
	}
	return nil
}

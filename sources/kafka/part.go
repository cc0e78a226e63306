package kafka

import (
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	firstWait   = 50 * time.Millisecond // after an error; doubles with each
	longestWait = time.Second
	// deniedWait is the pause when a permission is missing: an operator has to grant
	// it first.
	deniedWait = 5 * time.Second
)

// part is one partition as its tail reads it.
//
//	  ┌───────────────────────────────────────────┐
//	  ▼                                           │ records
//	ready ─► wanted (in a lane, or being fetched) ┤
//	  ▲                                           ├─► error ─► rests, then ready
//	  └──── judged ◄── in doubt ◄─────────────────┘
type part struct {
	index  int32
	place  bridge.Place // next to read, as told
	last   int32        // leader epoch to read on by, noEpoch: unchecked
	number uint64       // of the newest want
	wanted *lane        // that has the want; nil: none
	doubt  bool         // to be judged before it is read on
	fresh  bool         // nothing has been read by this place and leader yet
	reads  bool         // the last fetch was answered
	err    error        // of the last, if it was not
	fails  int          // in a row
	rest   time.Time    // until then it is not read
	after  uint64       // nor before an inquiry later than this one has been answered
	high   int64
	held   time.Time
}

// failed notes an answer that is no use, and how long to rest.
func (p *part) failed(err error, now time.Time) {
	p.err, p.reads, p.fresh = err, false, true
	p.tire(now)
	if denied(err) {
		p.rest = now.Add(deniedWait)
	}
}

// tire lets the partition rest, longer each time until something is read.
func (p *part) tire(now time.Time) {
	p.rest = now.Add(min(firstWait<<min(p.fails, 10), longestWait))
	p.fails++
}

// refreshed notes an answer that is of use.
func (p *part) refreshed() {
	p.err, p.reads, p.fresh, p.fails = nil, true, false, 0
}

// hold notes whether the place stands before an open transaction.
func (p *part) hold(f *fetched, now time.Time) {
	switch p.high = f.high; {
	case f.stable < 0 || f.stable >= f.high || int64(p.place.Offset) < f.stable:
		p.held = time.Time{}
	case p.held.IsZero():
		p.held = now
	}
}

func (p *part) status(l leadership) PartitionStatus {
	st := PartitionStatus{
		Partition: p.index, Place: p.place, HighWatermark: bridge.Offset(p.high),
		Leader: l.broker, LeaderEpoch: l.epoch, Held: p.held, Err: p.err,
	}
	if p.high >= 0 {
		st.Lag = max(0, p.high-int64(p.place.Offset))
	}
	return st
}

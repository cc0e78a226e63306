package admin

import (
	"net/http"
	"strconv"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// Stream is a stream to tell about, with what the configuration says of it.
type Stream struct {
	*bridge.Stream
	Broker   string // kind of the broker and name of the cluster, as in kafka@eu
	Upstream string // the broker's own name of the stream
}

// streamInfo is a stream in the answer of /streams. Times are as in RFC 3339,
// and left out where they are not known, as is all that the source cannot tell.
type streamInfo struct {
	Name        string          `json:"name"`
	Broker      string          `json:"broker"`
	Upstream    string          `json:"upstream"`
	State       string          `json:"state"` // starting, reading, waiting or idle
	Since       time.Time       `json:"since"` // of the state
	LastError   string          `json:"lastError,omitempty"`
	LastErrorAt time.Time       `json:"lastErrorAt,omitzero"`
	Incarnation string          `json:"incarnation,omitempty"` // as event ids have it
	Generation  uint64          `json:"generation"`
	Subjects    []string        `json:"subjects"`          // null until the broker has told them
	Reduced     []string        `json:"reduced,omitempty"` // promises that do not hold with this broker
	Partitions  []partitionInfo `json:"partitions"`
}

// partitionInfo is a partition in the answer of /streams. Lag counts offsets: as
// logs may have holes, it is the most records that have not been read yet.
type partitionInfo struct {
	Partition            int            `json:"partition"`
	Position             *bridge.Offset `json:"position,omitempty"` // next offset to read
	Proof                *int64         `json:"proof,omitempty"`    // what the broker said of the record before it
	End                  *bridge.Offset `json:"end,omitempty"`      // next offset that could be shown
	EndAt                time.Time      `json:"endAt,omitzero"`     // when the broker told End
	Lag                  *bridge.Offset `json:"lag,omitempty"`
	Leader               string         `json:"leader,omitempty"`
	LastError            string         `json:"lastError,omitempty"`
	LastErrorAt          time.Time      `json:"lastErrorAt,omitzero"`
	OpenTransactionSince time.Time      `json:"openTransactionSince,omitzero"` // what the reader waits for
}

// streamsHandler tells the state of all streams as JSON. It asks no broker.
func streamsHandler(streams []Stream) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer := struct {
			Streams []streamInfo `json:"streams"`
		}{make([]streamInfo, 0, len(streams))}
		for _, s := range streams {
			answer.Streams = append(answer.Streams, s.info())
		}
		writeJSON(w, http.StatusOK, answer)
	})
}

func (s Stream) info() streamInfo {
	// Before the status: the position moves on meanwhile, so no lag is shown that
	// has been caught up.
	var reports []bridge.PartitionReport
	if r, ok := s.Source().(bridge.PartitionReporter); ok {
		reports = r.ReportPartitions()
	}
	st := s.Status()
	info := streamInfo{
		Name: st.Name, Broker: s.Broker, Upstream: s.Upstream, State: st.State, Since: st.Since.UTC(),
		LastError: errorText(st.LastErr), LastErrorAt: utc(st.LastErrAt), Generation: st.Generation, Partitions: []partitionInfo{},
	}
	if st.Live.Incarnation != 0 {
		info.Incarnation = strconv.FormatUint(uint64(st.Live.Incarnation), 36)
	}
	if st.SpaceKnown {
		info.Subjects = make([]string, 0, len(st.Space))
		for _, p := range st.Space {
			info.Subjects = append(info.Subjects, string(p))
		}
	}
	if r, ok := s.Source().(bridge.GuaranteeReporter); ok {
		info.Reduced = r.ReducedGuarantees()
	}
	for i := range max(len(st.Live.Places), len(reports)) {
		p := partitionInfo{Partition: i}
		if st.Started && i < len(st.Live.Places) {
			p.at(st.Live.Places[i])
		}
		if i < len(reports) {
			p.report(reports[i])
		}
		info.Partitions = append(info.Partitions, p)
	}
	return info
}

// at notes how far the partition has been read.
func (p *partitionInfo) at(pl bridge.Place) {
	p.Position = &pl.Offset
	if v, ok := pl.Proof.Value(); ok {
		p.Proof = &v
	}
}

// report adds what the source knows.
func (p *partitionInfo) report(r bridge.PartitionReport) {
	p.Leader, p.LastError, p.LastErrorAt = r.Leader, errorText(r.Err), utc(r.ErrAt)
	p.OpenTransactionSince = utc(r.OpenTransaction)
	if r.End == bridge.UnknownOffset {
		return
	}
	p.End, p.EndAt = &r.End, utc(r.Asked)
	if p.Position == nil {
		return
	}
	*p.End = max(r.End, *p.Position) // read further since it was asked
	lag := *p.End - *p.Position
	p.Lag = &lag
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// utc keeps the zero time zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

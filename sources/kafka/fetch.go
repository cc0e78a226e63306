package kafka

import "time"

// noEpoch stands for a leader epoch that is not known or not to be checked.
const noEpoch int32 = -1

// fetchPartition is what is asked of one partition.
type fetchPartition struct {
	index  int32
	leader int32 // epoch of the leader that must answer
	last   int32 // epoch of the batch before offset: the broker checks it, from version 12 on
	offset int64
	bytes  int32 // at most, though a first batch that is larger comes whole
}

type fetchTopic struct {
	name       string
	id         [16]byte
	partitions []fetchPartition
}

// fetchLimits bound a whole request.
type fetchLimits struct {
	isolation int8
	waitMs    int32 // how long the broker may wait for the first byte
	bytes     int32
}

// abortedTxn is a transaction of a producer that was aborted: its records are
// those from first on up to its marker.
type abortedTxn struct{ producer, first int64 }

// fetched is what came of one partition. records refers to the response.
type fetched struct {
	name       string   // before version 13
	id         [16]byte // from 13 on
	partition  int32
	err        code
	high       int64 // high watermark, -1 with an error
	stable     int64 // last stable offset
	start      int64 // of the log
	aborted    []abortedTxn
	diverging  bool // the histories part: what was asked for is not what was read before
	divergence epochEnd
	records    []byte
}

// appendFetch writes Fetch (key 1), versions 11 to 13, without a session: each
// request names all it wants.
func appendFetch(e *encoder, version int16, limits fetchLimits, topics []fetchTopic) {
	e.int32(-1) // replica_id: a consumer
	e.int32(limits.waitMs)
	e.int32(1) // min_bytes
	e.int32(limits.bytes)
	e.int8(limits.isolation)
	e.int32(0)  // session_id
	e.int32(-1) // session_epoch: no session
	e.array(len(topics))
	for _, t := range topics {
		if version >= 13 {
			e.uuid(t.id)
		} else {
			e.string(t.name)
		}
		e.array(len(t.partitions))
		for _, p := range t.partitions {
			e.int32(p.index)
			e.int32(p.leader)
			e.int64(p.offset)
			if version >= 12 {
				e.int32(p.last)
			}
			e.int64(-1) // log_start_offset: for followers
			e.int32(p.bytes)
			e.tags()
		}
		e.tags()
	}
	e.array(0)   // forgotten_topics_data
	e.string("") // rack_id
	e.tags()
}

// fetchAnswer is a whole answer.
type fetchAnswer struct {
	// throttle is how long the broker wants to hear nothing of us, by its quotas: it
	// will not read what is sent before.
	throttle time.Duration
	err      code
	parts    []fetched
}

// decodeFetch reads an answer.
func decodeFetch(d *decoder, version int16) (a fetchAnswer, err error) {
	a.throttle = time.Duration(d.int32()) * time.Millisecond
	a.err = code(d.int16())
	d.int32() // session_id
	d.array(func() {
		var name string
		var id [16]byte
		if version >= 13 {
			id = d.uuid()
		} else {
			name = d.string()
		}
		d.array(func() {
			f := fetched{name: name, id: id, partition: d.int32(), err: code(d.int16()), high: d.int64(), stable: d.int64(), start: d.int64()}
			d.array(func() {
				f.aborted = append(f.aborted, abortedTxn{d.int64(), d.int64()})
				d.tags(nil)
			})
			d.int32() // preferred_read_replica
			f.records = d.bytes()
			d.tags(func(tag uint64, d *decoder) {
				if tag == 0 { // diverging_epoch
					f.diverging = true
					f.divergence = epochEnd{partition: f.partition, epoch: d.int32(), end: d.int64()}
				}
			})
			a.parts = append(a.parts, f)
		})
		d.tags(nil)
	})
	d.tags(nil)
	return a, d.err()
}

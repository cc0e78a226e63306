package kafka

// epochQuestion asks where a leader epoch ends in the leader's log.
type epochQuestion struct {
	partition int32
	leader    int32 // epoch of the leader that must answer, -1: any
	epoch     int32
}

// epochEnd is the answer: the largest epoch at or below the one asked for that
// the leader knows, and the offset behind it. For the newest epoch that is the
// end of the log, which may lie above the high watermark. Both are -1 when the
// epoch is newer than all that the leader knows.
type epochEnd struct {
	topic     string
	partition int32
	err       code
	epoch     int32
	end       int64
}

// appendEpochEnd writes OffsetForLeaderEpoch (key 23), versions 3 and 4.
func appendEpochEnd(e *encoder, topic string, questions []epochQuestion) {
	e.int32(-1) // replica_id: a consumer
	e.array(1)
	e.string(topic)
	e.array(len(questions))
	for _, q := range questions {
		e.int32(q.partition)
		e.int32(q.leader)
		e.int32(q.epoch)
		e.tags()
	}
	e.tags()
	e.tags()
}

// decodeEpochEnd reads an answer. Unlike elsewhere the error stands before the
// partition.
func decodeEpochEnd(d *decoder) (out []epochEnd, err error) {
	d.int32() // throttle_time_ms
	d.array(func() {
		topic := d.string()
		d.array(func() {
			a := epochEnd{topic: topic, err: code(d.int16()), partition: d.int32(), epoch: d.int32(), end: d.int64()}
			d.tags(nil)
			out = append(out, a)
		})
		d.tags(nil)
	})
	d.tags(nil)
	return out, d.err()
}

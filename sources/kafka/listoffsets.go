package kafka

// Timestamps with a meaning of their own in ListOffsets; others are
// milliseconds since 1970.
const (
	latest   int64 = -1 // read_committed: the last stable offset, otherwise the high watermark
	earliest int64 = -2 // the first offset that the log holds
)

// offsetQuestion asks for one place of a partition.
type offsetQuestion struct {
	partition int32
	epoch     int32 // of the leader that must answer, -1: any
	timestamp int64
}

// offsetAnswer is the answer of ListOffsets for a partition. offset is -1 where
// there is no record at or after the timestamp. The epoch that the broker names
// with it is left out on purpose: it may be one that has no records, and so
// proves nothing.
type offsetAnswer struct {
	topic     string
	partition int32
	err       code
	offset    int64
}

// appendListOffsets writes ListOffsets (key 2), versions 4 to 7. A partition may
// be asked about only once in a request.
func appendListOffsets(e *encoder, isolation int8, topic string, questions []offsetQuestion) {
	e.int32(-1) // replica_id: a consumer
	e.int8(isolation)
	e.array(1)
	e.string(topic)
	e.array(len(questions))
	for _, q := range questions {
		e.int32(q.partition)
		e.int32(q.epoch)
		e.int64(q.timestamp)
		e.tags()
	}
	e.tags()
	e.tags()
}

// decodeListOffsets reads an answer, whose order is not that of the questions.
func decodeListOffsets(d *decoder) (out []offsetAnswer, err error) {
	d.int32() // throttle_time_ms
	d.array(func() {
		topic := d.string()
		d.array(func() {
			a := offsetAnswer{topic: topic, partition: d.int32(), err: code(d.int16())}
			d.int64() // timestamp
			a.offset = d.int64()
			d.int32() // leader_epoch
			d.tags(nil)
			out = append(out, a)
		})
		d.tags(nil)
	})
	d.tags(nil)
	return out, d.err()
}

package kafka

import (
	"fmt"

	"github.com/ssebridge/ssebridge/bridge"
)

// code is an error code of the protocol guide ("Error Codes").
type code int16

// The codes that mean something to this package.
const (
	codeNone               code = 0
	codeOutOfRange         code = 1
	codeCorrupt            code = 2
	codeUnknownTopic       code = 3
	codeLeaderNotAvailable code = 5
	codeNotLeader          code = 6
	codeTopicDenied        code = 29
	codeClusterDenied      code = 31
	codeUnsupportedVersion code = 35
	codeStorage            code = 56
	codeFencedEpoch        code = 74
	codeUnknownEpoch       code = 75
	codeOffsetNotAvailable code = 78
	codeUnknownTopicID     code = 100
	codeInconsistentID     code = 103
)

// String names a code as the protocol guide does.
func (c code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("error code %d", int16(c))
}

// codeNames never changes.
var codeNames = map[code]string{
	-1: "UNKNOWN_SERVER_ERROR", codeOutOfRange: "OFFSET_OUT_OF_RANGE", codeCorrupt: "CORRUPT_MESSAGE",
	codeUnknownTopic: "UNKNOWN_TOPIC_OR_PARTITION", codeLeaderNotAvailable: "LEADER_NOT_AVAILABLE",
	codeNotLeader: "NOT_LEADER_OR_FOLLOWER", 7: "REQUEST_TIMED_OUT", 8: "BROKER_NOT_AVAILABLE", 9: "REPLICA_NOT_AVAILABLE",
	13: "NETWORK_EXCEPTION", 17: "INVALID_TOPIC_EXCEPTION", codeTopicDenied: "TOPIC_AUTHORIZATION_FAILED",
	codeClusterDenied: "CLUSTER_AUTHORIZATION_FAILED", codeUnsupportedVersion: "UNSUPPORTED_VERSION", 42: "INVALID_REQUEST",
	43: "UNSUPPORTED_FOR_MESSAGE_FORMAT", codeStorage: "KAFKA_STORAGE_ERROR", codeFencedEpoch: "FENCED_LEADER_EPOCH",
	codeUnknownEpoch: "UNKNOWN_LEADER_EPOCH", codeOffsetNotAvailable: "OFFSET_NOT_AVAILABLE",
	codeUnknownTopicID: "UNKNOWN_TOPIC_ID", codeInconsistentID: "INCONSISTENT_TOPIC_ID",
}

// CodeError is an answer of the broker that is an error, about one topic or
// partition.
type CodeError struct {
	Operation string // what was asked for, such as "Fetch"
	Topic     string
	Partition int32 // -1: the topic as a whole
	Code      int16 // of the protocol guide's table of errors
}

func (e *CodeError) Error() string {
	where := fmt.Sprintf("topic %q", e.Topic)
	if e.Partition >= 0 {
		where = fmt.Sprintf("topic %q partition %d", e.Topic, e.Partition)
	}
	switch c := code(e.Code); c {
	case codeTopicDenied:
		return fmt.Sprintf("%s: %s is not allowed (%v): give the user Read and Describe on the topic", where, e.Operation, c)
	default:
		return fmt.Sprintf("%s: %s: %v", where, e.Operation, c)
	}
}

// Unwrap says what the answer means: [bridge.ErrMissing] for a topic that does
// not exist, and [bridge.ErrUnavailable] for everything else.
func (e *CodeError) Unwrap() error {
	switch code(e.Code) {
	case codeUnknownTopic, codeUnknownTopicID:
		return bridge.ErrMissing
	default:
		return bridge.ErrUnavailable
	}
}

// Denied reports whether the broker refused for lack of permission.
func (e *CodeError) Denied() bool {
	return code(e.Code) == codeTopicDenied || code(e.Code) == codeClusterDenied
}

// readError is a part of a partition that cannot be read.
type readError struct {
	topic     string
	partition int32
	err       error
}

func (e *readError) Error() string {
	return fmt.Sprintf("topic %q partition %d: %v", e.topic, e.partition, e.err)
}

// Unwrap lets who asks try again: the copy of another replica may be sound.
func (e *readError) Unwrap() []error { return []error{e.err, bridge.ErrUnavailable} }

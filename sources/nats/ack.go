package nats

import (
	"strconv"
	"strings"

	"github.com/ssebridge/ssebridge/bridge"
)

// delivery is what the reply subject of a delivered record tells of it.
type delivery struct {
	offset      bridge.Offset // stream sequence
	consumerSeq uint64        // counts what this consumer delivered, from 1, without holes
	nanos       int64         // the record's time
	pending     uint64        // records of the stream still to be delivered
}

// parseDelivery reads a reply subject. ok is false for anything else, which is
// how control messages are told from records: a record may carry any header,
// also those of a control message, but only records are sent with
//
//	$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
//	$JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>[.<token>]
//
// The second form is that of servers with js_ack_fc_v2 (ADR-15 of
// github.com/nats-io/nats-architecture-and-design).
func parseDelivery(reply string) (d delivery, ok bool) {
	rest, found := strings.CutPrefix(reply, "$JS.ACK.")
	if !found {
		return d, false
	}
	var tokens [10]string // one more than is read, so that too many show
	n := 0
	for n < len(tokens) {
		token, after, more := strings.Cut(rest, ".")
		tokens[n], rest = token, after
		n++
		if !more {
			break
		}
	}
	first := 3
	switch {
	case n == 7:
	case n >= 9:
		first = 5
	default:
		return d, false
	}
	var numbers [4]uint64
	for i := range numbers {
		v, err := strconv.ParseUint(tokens[first+i], 10, 63)
		if err != nil {
			return d, false
		}
		numbers[i] = v
	}
	return delivery{bridge.Offset(numbers[0]), numbers[1], int64(numbers[2]), numbers[3]}, true
}

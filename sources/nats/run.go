package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/bridge"
)

// run reads by a consumer of its own where direct get does not work. It lives
// as long as one chunk is read, and is used by one goroutine.
type run struct {
	s     *Source
	name  string
	next  bridge.Offset // where the consumer is
	pull  *puller
	inbox *inbox
}

// startRun makes a consumer that delivers from an offset on. The caller closes
// the run.
func (s *Source) startRun(ctx context.Context, v *view, from bridge.Offset) (*run, error) {
	nc, err := s.cold.link.conn()
	if err != nil {
		return nil, err
	}
	in, err := openInbox(nc)
	if err != nil {
		return nil, err
	}
	name := s.cluster.consumerName(s.opt.Instance)
	s.stats.consumers.Add(1)
	r := &run{s: s, name: name, next: from, inbox: in, pull: &puller{
		nc: nc, inbox: in, subject: s.cluster.api + "CONSUMER.MSG.NEXT." + s.opt.Stream + "." + name,
	}}
	if err := s.cold.link.createConsumer(ctx, v, name, from, nil); err != nil {
		r.close(ctx)
		return nil, err
	}
	return r, nil
}

func (r *run) close(ctx context.Context) {
	r.inbox.close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	if err := r.s.cold.link.deleteConsumer(ctx, r.s.opt.Stream, r.name); err != nil {
		r.s.log.Debug("a consumer of replay is left to expire", "consumer", r.name, "error", err)
	}
}

// read reads the next batch. A record that is larger than bytes comes alone.
func (r *run) read(ctx context.Context, records, bytes int) (batch, error) {
	got, tooLarge, err := r.once(ctx, pullQuestion{Batch: records, MaxBytes: bytes, NoWait: true})
	if err == nil && tooLarge && len(got.records) == 0 {
		got, _, err = r.once(ctx, pullQuestion{Batch: 1, NoWait: true})
	}
	return got, err
}

func (r *run) once(ctx context.Context, q pullQuestion) (got batch, tooLarge bool, err error) {
	ctx, span := r.s.cold.link.startSpan(ctx, "CONSUMER.MSG.NEXT")
	defer func() { bridge.EndSpan(span, err) }()
	r.s.stats.batches.Add(1)
	ctx, deny := context.WithCancelCause(ctx)
	defer deny(nil)
	defer r.s.cold.link.denials.wait(r.pull.subject, deny)()
	if err := r.pull.ask(q); err != nil {
		return got, false, err
	}
	quiet := time.NewTimer(requestTimeout)
	defer quiet.Stop()
	var spare []*natsgo.Msg
	tries := 1
	for {
		select {
		case <-ctx.Done():
			return got, false, context.Cause(ctx)
		case <-quiet.C:
			return got, false, fmt.Errorf("pull: no answer within %s: %w", requestTimeout, bridge.ErrUnavailable)
		case <-r.inbox.arrived:
			quiet.Reset(requestTimeout)
		}
		spare = r.inbox.take(spare)
		for _, m := range spare {
			d, ok := parseDelivery(m.Reply)
			if !ok {
				text := lastValue(m.Header, "Description")
				switch lastValue(m.Header, "Status") {
				case "404":
					got.tail = true
					return got, false, nil
				case "409":
					if text == "Message Size Exceeds MaxBytes" {
						return got, true, nil
					}
					if text == "Batch Completed" {
						continue // told by the count
					}
				case "503":
					if tries++; tries <= noResponderTries {
						if err := sleep(ctx, firstWait); err != nil {
							return got, false, err
						}
						if err := r.pull.ask(q); err != nil {
							return got, false, err
						}
						continue
					}
				}
				return got, false, fmt.Errorf("the consumer ended: %s %s: %w", lastValue(m.Header, "Status"), text, bridge.ErrUnavailable)
			}
			if err := r.pull.deliver(m, d); err != nil {
				return got, false, err
			}
			if d.offset < r.next {
				return got, false, errors.Join(errForeign, bridge.ErrUnavailable)
			}
			got.records = append(got.records, r.s.delivered(m, d))
			r.next = d.offset + 1
			q.Batch--
			q.MaxBytes -= m.Size()
			if d.pending == 0 {
				got.tail = true
			}
			// The pull ends by its count, or silently when its bytes are exactly used up.
			if q.Batch == 0 || q.MaxBytes == 0 {
				return got, false, nil
			}
		}
	}
}

package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/bridge"
)

// The JetStream API is spoken by hand, as JSON over requests, because what the
// library offers hides the life of a stream that is deleted and made again.
// Subjects and fields: github.com/nats-io/nats-architecture-and-design, ADR-1,
// ADR-31 (direct get), ADR-42; nats-server/server/jetstream_api.go.

// requestTimeout bounds one request. An answer takes well under a millisecond;
// what takes longer is an election or a server that is gone.
const requestTimeout = 2 * time.Second

// Error codes of the API, from nats-server/server/errors.json.
const (
	codeStreamNotFound   = 10059
	codeMessageNotFound  = 10037
	codeConsumerNotFound = 10014
	codeMaxConsumers     = 10026
)

// apiError is an error that the API answered with.
type apiError struct {
	Status      int    `json:"code"`
	Code        int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.Code) }

// Unwrap says what the answer means to callers outside of the package.
func (e *apiError) Unwrap() error {
	if e.Code == codeStreamNotFound {
		return bridge.ErrMissing
	}
	return bridge.ErrUnavailable
}

func hasCode(err error, code int) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.Code == code
}

// request asks the API at subject (without its prefix) and decodes the answer
// into answer. Errors wrap [bridge.ErrUnavailable] or [bridge.ErrMissing], or
// are the context's own.
func (l *link) request(ctx context.Context, subject string, question, answer any) (err error) {
	ctx, span := l.startSpan(ctx, subject)
	defer func() { bridge.EndSpan(span, err) }()
	nc, err := l.conn()
	if err != nil {
		return err
	}
	subject = l.cluster.api + subject
	body := []byte(nil)
	if question != nil {
		if body, err = json.Marshal(question); err != nil {
			return fmt.Errorf("ask %s: %w", subject, err)
		}
	}
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	limited, deny := context.WithCancelCause(limited)
	defer deny(nil)
	defer l.denials.wait(subject, deny)()
	msg, err := nc.RequestWithContext(limited, subject, body)
	if err != nil {
		return l.requestError(ctx, limited, subject, err)
	}
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &failed); err != nil {
		return fmt.Errorf("ask %s: read the answer: %w: %w", subject, err, bridge.ErrUnavailable)
	}
	if failed.Error != nil {
		return fmt.Errorf("ask %s: %w", subject, failed.Error)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		return fmt.Errorf("ask %s: read the answer: %w: %w", subject, err, bridge.ErrUnavailable)
	}
	return nil
}

// requestError says why a request had no answer.
func (l *link) requestError(ctx, limited context.Context, subject string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if denied, ok := errors.AsType[*PermissionError](context.Cause(limited)); ok {
		return fmt.Errorf("ask %s: %w", subject, denied)
	}
	if denied := l.denials.lasting(); denied != nil {
		return fmt.Errorf("ask %s: %w", subject, denied)
	}
	switch {
	case errors.Is(err, natsgo.ErrNoResponders):
		return fmt.Errorf("ask %s: nobody answers there, is JetStream on and the domain right?: %w", subject, bridge.ErrUnavailable)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("ask %s: no answer within %s: %w", subject, requestTimeout, bridge.ErrUnavailable)
	}
	return fmt.Errorf("ask %s: %w: %w", subject, err, bridge.ErrUnavailable)
}

// streamInfo is what STREAM.INFO answers, as far as it matters here.
type streamInfo struct {
	Config  streamConfig `json:"config"`
	Created time.Time    `json:"created"`
	Domain  string       `json:"domain"`
	State   struct {
		Messages  uint64    `json:"messages"`
		FirstSeq  uint64    `json:"first_seq"`
		LastSeq   uint64    `json:"last_seq"`
		LastTime  time.Time `json:"last_ts"`
		Consumers int       `json:"consumer_count"`
	} `json:"state"`
	Cluster struct {
		Leader      string    `json:"leader"`
		LeaderSince time.Time `json:"leader_since"`
	} `json:"cluster"`
}

type streamConfig struct {
	Name             string            `json:"name"`
	Subjects         []string          `json:"subjects"`
	Retention        string            `json:"retention"`
	MaxAge           time.Duration     `json:"max_age"`
	MaxMessages      int64             `json:"max_msgs"`
	MaxBytes         int64             `json:"max_bytes"`
	MaxPerSubject    int64             `json:"max_msgs_per_subject"`
	FirstSeq         uint64            `json:"first_seq"`
	AllowDirect      bool              `json:"allow_direct"`
	AllowRollup      bool              `json:"allow_rollup_hdrs"`
	AllowTTL         bool              `json:"allow_msg_ttl"`
	AllowSchedules   bool              `json:"allow_msg_schedules"`
	Mirror           json.RawMessage   `json:"mirror"`
	Sources          []json.RawMessage `json:"sources"`
	SubjectTransform json.RawMessage   `json:"subject_transform"`
	ConsumerLimits   struct {
		InactiveThreshold time.Duration `json:"inactive_threshold"`
	} `json:"consumer_limits"`
}

func (l *link) streamInfo(ctx context.Context, stream string) (*streamInfo, error) {
	info := new(streamInfo)
	if err := l.request(ctx, "STREAM.INFO."+stream, nil, info); err != nil {
		return nil, err
	}
	return info, nil
}

// storedMessage is a record as STREAM.MSG.GET tells it: from the stream's
// leader, with its headers as they were published.
type storedMessage struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Header  []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// getQuestion asks for the record at Seq; with NextFor, for the first one at or
// after Seq or Start on that subject.
type getQuestion struct {
	Seq     uint64     `json:"seq,omitempty"`
	NextFor string     `json:"next_by_subj,omitempty"`
	Start   *time.Time `json:"start_time,omitempty"`
}

// get asks the stream's leader for one record; nil means that there is none.
func (l *link) get(ctx context.Context, stream string, q getQuestion) (*storedMessage, error) {
	var answer struct {
		Message *storedMessage `json:"message"`
	}
	err := l.request(ctx, "STREAM.MSG.GET."+stream, q, &answer)
	switch {
	case hasCode(err, codeMessageNotFound):
		return nil, nil //nolint:nilnil // documented: no record is an answer
	case err != nil:
		return nil, err
	case answer.Message == nil:
		return nil, fmt.Errorf("get a record of %s: the answer has none: %w", stream, bridge.ErrUnavailable)
	}
	return answer.Message, nil
}

// consumerQuestion makes an ephemeral consumer that keeps nothing on disk and
// vanishes by itself when it is not asked for records any more.
type consumerQuestion struct {
	Stream string         `json:"stream_name"`
	Config consumerConfig `json:"config"`
	Action string         `json:"action"`
}

type consumerConfig struct {
	Name              string        `json:"name"`
	DeliverPolicy     string        `json:"deliver_policy"`
	StartSeq          uint64        `json:"opt_start_seq,omitempty"`
	AckPolicy         string        `json:"ack_policy"`
	ReplayPolicy      string        `json:"replay_policy"`
	InactiveThreshold time.Duration `json:"inactive_threshold"`
	Replicas          int           `json:"num_replicas"`
	MemoryStorage     bool          `json:"mem_storage"`
	Filter            string        `json:"filter_subject,omitempty"`
	Filters           []string      `json:"filter_subjects,omitempty"`
}

// inactiveThreshold is how long a consumer outlives a bridge that was killed.
const inactiveThreshold = 30 * time.Second

// createConsumer makes a consumer that delivers from start on.
func (l *link) createConsumer(ctx context.Context, v *view, name string, start bridge.Offset, filters []string) error {
	c := consumerConfig{
		Name: name, DeliverPolicy: "by_start_sequence", StartSeq: uint64(start), AckPolicy: "none", ReplayPolicy: "instant",
		InactiveThreshold: inactiveThreshold, Replicas: 1, MemoryStorage: true,
	}
	if v.maxInactive > 0 {
		c.InactiveThreshold = min(c.InactiveThreshold, v.maxInactive)
	}
	subject := "CONSUMER.CREATE." + v.stream + "." + name
	if len(filters) == 1 { // named in the subject, so that permissions can say which
		c.Filter = filters[0]
		subject += "." + filters[0]
	} else {
		c.Filters = filters
	}
	var answer struct{}
	err := l.request(ctx, subject, consumerQuestion{v.stream, c, "create"}, &answer)
	if hasCode(err, codeMaxConsumers) {
		return fmt.Errorf("the stream has as many consumers as it may (max_consumers, or the server's default of 1,000): %w", err)
	}
	return err
}

// deleteConsumer removes a consumer; one that is gone already is no error.
func (l *link) deleteConsumer(ctx context.Context, stream, name string) error {
	var answer struct{}
	err := l.request(ctx, "CONSUMER.DELETE."+stream+"."+name, nil, &answer)
	if hasCode(err, codeConsumerNotFound) || hasCode(err, codeStreamNotFound) {
		return nil
	}
	return err
}

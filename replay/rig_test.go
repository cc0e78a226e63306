package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// rig is one replica over brokers in memory, in a bubble of fake time.
type rig struct {
	t       *testing.T
	brokers map[string]*sourcetest.Broker
	sources map[string]*sourcetest.Source
	streams map[string]*bridge.Stream
	hub     *bridge.Hub
	replay  *Replay
}

// rigStream is one stream of a rig.
type rigStream struct {
	name    string
	broker  sourcetest.BrokerOptions
	source  sourcetest.SourceOptions
	options bridge.StreamOptions
	made    *sourcetest.Broker // if set, instead of a new one
	deaf    bool               // the reader's doubts are not reported
	wrap    func(*sourcetest.Source) bridge.Source
}

// newRig starts a replica, which ends with the test. It must be called in a bubble.
func newRig(t *testing.T, o Options, h bridge.HubOptions, streams ...rigStream) *rig {
	t.Helper()
	r := &rig{t: t, brokers: map[string]*sourcetest.Broker{}, sources: map[string]*sourcetest.Source{}, streams: map[string]*bridge.Stream{}}
	var list []*bridge.Stream
	for _, s := range streams {
		b := s.made
		if b == nil {
			b = sourcetest.NewBroker(s.broker)
		}
		if s.options.OnReset == "" {
			s.options.OnReset = bridge.ResetSince
		}
		s.source.OnReset = s.options.OnReset
		src := b.Source(s.source)
		r.brokers[s.name], r.sources[s.name] = b, src
		var reader bridge.Source = src
		if s.deaf {
			reader = deafSource{src}
		}
		if s.wrap != nil {
			reader = s.wrap(src)
		}
		r.streams[s.name] = bridge.NewStream(s.name, reader, s.options)
		list = append(list, r.streams[s.name])
	}
	r.hub = bridge.NewHub(list, h)
	r.replay = New(r.hub, o)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.hub.Run(ctx)
	}()
	t.Cleanup(func() {
		r.replay.Close()
		stop()
		<-ended
	})
	synctest.Wait()
	return r
}

// js and kafka are the streams that most tests need.
var (
	js    = rigStream{name: "j", broker: sourcetest.BrokerOptions{Name: "J", Subjects: []string{">"}}}
	kafka = rigStream{name: "k", broker: sourcetest.BrokerOptions{Name: "K", Kind: sourcetest.KafkaLike, Partitions: 2}}
)

// deafSource is a source whose reader does not tell its doubts, as one would that
// has not noticed that another leader took over.
type deafSource struct{ *sourcetest.Source }

func (s deafSource) Tail(ctx context.Context, out bridge.Receiver) error {
	return s.Source.Tail(ctx, deafReceiver{out})
}

type deafReceiver struct{ bridge.Receiver }

func (r deafReceiver) Change(c bridge.Change) {
	if c.Kind != bridge.Doubted {
		r.Receiver.Change(c)
	}
}

// write appends a record with this text to a stream, and lets it be read.
func (r *rig) write(stream string, partition int32, subject, data string) bridge.Record {
	r.t.Helper()
	rec, ok := r.brokers[stream].Append(sourcetest.Message{Partition: partition, Subject: subject, Key: []byte(subject), Data: []byte(data)})
	if !ok {
		r.t.Fatalf("append to %s/%d refused", stream, partition)
	}
	synctest.Wait()
	return rec
}

// fill appends records 1 to n, whose text is their number.
func (r *rig) fill(stream string, partition int32, n int) {
	r.t.Helper()
	for i := range n {
		r.write(stream, partition, "s", fmt.Sprint(i+1))
	}
}

// follow opens a follower that ends with the test. Heartbeat, Form and Control
// are set.
func (r *rig) follow(sub bridge.Subscription) *rigClient {
	r.t.Helper()
	sub.Heartbeat, sub.Form.Encoder, sub.Control = 15*time.Second, simEncoder{}, true
	return r.open(sub)
}

// quiet is follow with control events off.
func (r *rig) quiet(sub bridge.Subscription) *rigClient {
	r.t.Helper()
	sub.Heartbeat, sub.Form.Encoder = 15*time.Second, simEncoder{}
	return r.open(sub)
}

func (r *rig) open(sub bridge.Subscription) *rigClient {
	c := &rigClient{t: r.t, Follower: r.replay.Open(r.t.Context(), &sub)}
	r.t.Cleanup(c.leave)
	return c
}

// rigClient is a follower whose events are read as text.
type rigClient struct {
	*Follower
	t    *testing.T
	left bool
	last string // the last id
}

func (c *rigClient) leave() {
	if !c.left {
		c.left = true
		c.Close()
	}
}

// read returns what comes within d of fake time, an event each:
//
//	record   "data stream/partition@offset text"
//	loss     "reason stream/partition from-to"
//	others   their kind, connected with its verdict
func (c *rigClient) read(d time.Duration) (events []string, err error) {
	c.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	for {
		b, err := c.Next(ctx)
		for _, u := range b.Units {
			e := simDecode(u)
			if e.id != "" {
				c.last = e.id
			}
			events = append(events, e.text(string(u)))
		}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return events, nil
		case err != nil:
			return events, err
		}
	}
}

func (e simEvent) text(unit string) string {
	switch e.kind {
	case "record":
		body, _, _ := strings.Cut(unit, "#")
		return fmt.Sprintf("data %s/%d@%d %s", e.stream, e.partition, e.offset, strings.Split(body, "|")[4])
	case "gap", "reset":
		return fmt.Sprintf("%s %s/%d %d-%d", e.reason, e.stream, e.partition, e.from, e.to)
	case "connected":
		return "connected " + e.resume
	}
	return e.kind
}

// expect reads for d and compares.
func (c *rigClient) expect(d time.Duration, want ...string) {
	c.t.Helper()
	got, err := c.read(d)
	if err != nil {
		c.t.Errorf("Next: %v", err)
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		c.t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

// until reads until an event of this kind has come, and returns all but heartbeats.
func (c *rigClient) until(last string) (events []string) {
	c.t.Helper()
	ctx, stop := context.WithTimeout(c.t.Context(), 10*time.Minute) // of fake time
	defer stop()
	for {
		b, err := c.Next(ctx)
		if err != nil {
			c.t.Fatalf("Next: %v, after %q", err, events)
		}
		for _, u := range b.Units {
			e := simDecode(u)
			if e.id != "" {
				c.last = e.id
			}
			if e.kind != "heartbeat" {
				events = append(events, e.text(string(u)))
			}
			if e.kind == last {
				if c.Group() != nil {
					c.Rest() // as who has written all of it
				}
				return events
			}
		}
	}
}

// from parses an id that a client got earlier.
func from(t *testing.T, id string) bridge.ID {
	t.Helper()
	parsed, err := bridge.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// all is a start at the oldest record.
func all() *bridge.Start { return &bridge.Start{Kind: bridge.StartAll} }

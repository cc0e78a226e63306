package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/replay"
	"github.com/ssebridge/ssebridge/sink"
	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/nats"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

const (
	loadRecords   = 6000  // at least; more come until enough has happened
	loadMost      = 30000 // but no more than this
	loadPerSecond = 500
	loadClients   = 200
	loadSockets   = 50 // of the clients, those that come by HTTP
	// loadRingBytes holds about half a second of records: long enough to join,
	// short enough to fall out.
	loadRingBytes = 128 << 10
	// loadMilestone is how many records are between two moments that lazy clients
	// can wait for.
	loadMilestone = 100

	wantHandOvers = 1000
	wantFalls     = 100
)

// loadFilters let through everything, a tenth, and several shares in between.
var loadFilters = [...]string{"", "load.1.*", "load.2.*", "load.*.even", "load.*.odd", "load.3.odd", "load.4.>", "*.5.even", "load.6.*", "load.7.even"}

// loadSubject is the subject of the record with this sequence.
func loadSubject(seq int) string {
	return fmt.Sprintf("load.%d.%s", seq*7%10, []string{"even", "odd"}[seq/10%2])
}

// replica is the parts of a bridge, put together as in the binary, but within
// the test process, so that the race detector watches them.
type replica struct {
	hub    *bridge.Hub
	replay *replay.Replay
	url    string
}

func startReplica(t *testing.T, natsURL, instance string) *replica {
	t.Helper()
	cluster, err := nats.NewCluster(nats.Options{URLs: []string{natsURL}})
	if err != nil {
		t.Fatal(err)
	}
	source, err := nats.NewSource(cluster, nats.SourceOptions{Stream: "S", Instance: instance})
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{hub: bridge.NewHub([]*bridge.Stream{bridge.NewStream("s", source, bridge.StreamOptions{})}, bridge.HubOptions{RingBytes: loadRingBytes})}
	r.replay = replay.New(r.hub, replay.Options{})
	handler := sink.NewHandler(sink.Options{
		Streams: []string{"s"},
		Open: func(ctx context.Context, sub *bridge.Subscription) (sink.Follower, error) {
			return r.replay.Open(ctx, sub), nil
		},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + l.Addr().String() + "/events"
	ctx, stop := context.WithCancelCause(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = cluster.Run(ctx) })
	parts.Go(func() { _ = r.hub.Run(ctx) })
	parts.Go(func() { _ = handler.Run(ctx) })
	parts.Go(func() { _ = sink.NewServer(handler, sink.ServerOptions{}).Run(ctx, l) })
	t.Cleanup(func() {
		stop(errStopped)
		parts.Wait()
		r.replay.Close()
	})
	until(t, "the stream to be read", func() bool { _, started := r.hub.Stream("s").Live(); return started })
	return r
}

// visit is one connection of a client, by HTTP or straight to a follower.
type visit interface {
	next(ctx context.Context) (ssetest.Event, error)
	close()
}

type socketVisit struct{ stream *ssetest.Stream }

func (v socketVisit) next(ctx context.Context) (ssetest.Event, error) { return v.stream.Next(ctx) }
func (v socketVisit) close()                                          { v.stream.Close() }

type directVisit struct {
	follower *replay.Follower
	parser   ssetest.Parser
	events   []ssetest.Event
}

func (v *directVisit) next(ctx context.Context) (ssetest.Event, error) {
	for len(v.events) == 0 {
		b, err := v.follower.Next(ctx)
		if err != nil {
			return ssetest.Event{}, err
		}
		for _, u := range b.Units {
			v.events = append(v.events, v.parser.Feed(u)...)
		}
	}
	e := v.events[0]
	v.events = v.events[1:]
	return e, nil
}

func (v *directVisit) close() { v.follower.Close() }

// load is what all clients of the test share.
type load struct {
	replicas   []*replica
	coming     context.Context // ends when all records are published
	encoder    *sink.Encoder
	milestones [loadMost/loadMilestone + 1]chan struct{} // the nth is closed when n*loadMilestone records are published
	over       chan struct{}                             // closed when all are published
	last       int                                       // how many those were, set before over is closed
}

// isOver reports whether all records are published.
func (l *load) isOver() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// counts adds up what the replicas did.
func (l *load) counts() (s replay.Stats) {
	for _, r := range l.replicas {
		one := r.replay.Stats()
		s.HandOvers += one.HandOvers
		s.Falls += one.Falls
		s.Reads += one.Reads
	}
	return s
}

// loadClient comes and goes.
type loadClient struct {
	*load
	random  *rand.Rand
	socket  bool
	filter  bridge.Filter
	subject string
	matches []int // sequences of the records that it is shown; shared

	lastID string
	ids    []string // all that it ever had
	next   int      // index in matches of the record that must come next
}

// run visits the replicas until all records are published, and then reads to
// the end.
func (c *loadClient) run(ctx context.Context) error {
	for {
		over := c.isOver()
		if over {
			n, _ := slices.BinarySearch(c.matches, c.last+1)
			c.matches = c.matches[:n]
		}
		err := c.visit(ctx, over)
		switch {
		case over && err == nil:
			return nil
		case err != nil && (over || !c.isOver() || !errors.Is(err, context.Canceled)):
			return fmt.Errorf("filter %q, %d of %d records, last id %s: %w", c.subject, c.next, len(c.matches), c.lastID, err)
		}
	}
}

// choose says where a visit begins: mostly where the last one ended.
func (c *loadClient) choose(toTheEnd bool) (id, start string) {
	dice := c.random.IntN(100)
	switch n := len(c.ids); {
	case toTheEnd && c.lastID != "", dice < 70 && n > 0:
		return c.lastID, ""
	case dice < 85 && n > 0: // not long ago
		return c.ids[max(0, n-1-c.random.IntN(100))], ""
	case dice < 87 && n > 0:
		return c.ids[c.random.IntN(n)], ""
	case dice < 89:
		return "", "all"
	}
	return "", "new"
}

func (c *loadClient) open(ctx context.Context, id, start string) (visit, error) {
	r := c.replicas[c.random.IntN(len(c.replicas))]
	if c.socket {
		url := r.url + "?start=" + start
		if id != "" {
			url = r.url + "?"
		}
		if c.subject != "" {
			url += "&subject=" + c.subject
		}
		s, err := (&ssetest.Client{URL: url, LastID: id}).Open(ctx)
		if err != nil {
			return nil, err
		}
		if s.Status() != 200 {
			body, _ := s.ReadAll(ctx)
			s.Close()
			return nil, fmt.Errorf("status %d: %s", s.Status(), body)
		}
		return socketVisit{s}, nil
	}
	sub := bridge.Subscription{
		Filter: c.filter, Form: bridge.Form{Encoder: c.encoder}, Control: true, Heartbeat: 15 * time.Second,
	}
	if id != "" {
		from, err := bridge.ParseID(id)
		if err != nil {
			return nil, err
		}
		sub.From = from
	}
	if start == "all" {
		sub.Start = &bridge.Start{Kind: bridge.StartAll}
	}
	return &directVisit{follower: r.replay.Open(ctx, &sub)}, nil
}

// visit reads for a while, or to the end. Most clients leave soon after they
// have caught up, some before. Others stop reading as soon as they have caught
// up, until the ring has gone on without them.
func (c *loadClient) visit(ctx context.Context, toTheEnd bool) error {
	if !toTheEnd {
		ctx = c.coming
	}
	id, start := c.choose(toTheEnd)
	v, err := c.open(ctx, id, start)
	if err != nil {
		return err
	}
	defer v.close()
	e, err := v.next(ctx)
	if err != nil {
		return err
	}
	if e.Type != "connected" || id != "" && e.ID != id {
		return fmt.Errorf("first event %v, want connected at %s", e, id)
	}
	c.begin(e)
	lazy := !c.socket && !toTheEnd && c.random.IntN(4) == 0
	live := c.random.IntN(5) == 0
	for more := 1 + c.random.IntN(8); more > 0 || toTheEnd; {
		if c.next == len(c.matches) {
			return nil
		}
		e, err := v.next(ctx)
		if err != nil {
			return err
		}
		if err := c.see(e); err != nil {
			return err
		}
		switch {
		case e.Type == "caught-up":
			live = true
			if lazy {
				if err := c.sleep(ctx); err != nil {
					return err
				}
			}
		case live && e.Type == "message":
			more--
		}
	}
	return nil
}

// begin takes note of where a visit starts.
func (c *loadClient) begin(e ssetest.Event) {
	offset := eventOffset(e)
	c.next, _ = slices.BinarySearch(c.matches, offset)
	c.keep(e)
}

func (c *loadClient) keep(e ssetest.Event) {
	c.lastID = e.ID
	c.ids = append(c.ids, e.ID)
}

// see compares one event with what has to come.
func (c *loadClient) see(e ssetest.Event) error {
	offset := eventOffset(e)
	switch e.Type {
	case "message":
		seq := c.matches[c.next]
		if e.Data != fmt.Sprint(seq) || offset != seq+1 {
			return fmt.Errorf("record %s at %d, want %d", e.Data, offset, seq)
		}
		c.next++
	case "caught-up", "position":
		if seq := c.matches[c.next]; offset > seq {
			return fmt.Errorf("%s at %d, before record %d came", e.Type, offset, seq)
		}
	default:
		return fmt.Errorf("unexpected event %v", e)
	}
	c.keep(e)
	return nil
}

// sleep waits until the rings are sure to have been filled anew.
func (c *loadClient) sleep(ctx context.Context) error {
	reached := 0
	for ; reached < len(c.milestones); reached++ {
		select {
		case <-c.milestones[reached]:
			continue
		default:
		}
		break
	}
	select {
	case <-c.milestones[min(reached+6, len(c.milestones)-1)]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// eventOffset is the place in the stream that an event's id says; -1 if none.
func eventOffset(e ssetest.Event) int {
	id, err := bridge.ParseID(e.ID)
	if err != nil {
		return -1
	}
	pos, ok := id.Lookup("s")
	if !ok {
		return -1
	}
	return int(pos.Place(0).Offset)
}

// publish fills the stream at the configured rate until enough has happened.
func (l *load) publish(ctx context.Context, js jetstream.JetStream) error {
	close(l.milestones[0])
	const step = 10
	pace := time.NewTicker(step * time.Second / loadPerSecond)
	defer pace.Stop()
	acks := make([]jetstream.PubAckFuture, 0, loadMilestone)
	for l.last < loadMost {
		l.last++
		ack, err := js.PublishAsync(loadSubject(l.last), fmt.Append(nil, l.last))
		if err != nil {
			return fmt.Errorf("publish record %d: %w", l.last, err)
		}
		acks = append(acks, ack)
		if l.last%step == 0 {
			<-pace.C
		}
		if l.last%loadMilestone != 0 {
			continue
		}
		for i, a := range acks {
			want := uint64(l.last - loadMilestone + 1 + i)
			select {
			case ok := <-a.Ok():
				if ok.Sequence != want {
					return fmt.Errorf("record %d became %d", want, ok.Sequence)
				}
			case err := <-a.Err():
				return fmt.Errorf("publish record %d: %w", want, err)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		acks = acks[:0]
		close(l.milestones[l.last/loadMilestone])
		if c := l.counts(); l.last >= loadRecords && c.HandOvers >= wantHandOvers && c.Falls >= wantFalls {
			break
		}
	}
	close(l.over)
	return nil
}

// The moment in which a client changes from history to live is where records
// get lost or doubled, the more so while new ones pour in, other replicas are
// further or less far, and the ring is too short for it.
func TestEveryHistoryIsWholeUnderLoad(t *testing.T) {
	server := natstest.Embedded(t)
	js := server.JS()
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"load.>"}, AllowDirect: true})
	l := &load{
		replicas: []*replica{startReplica(t, server.URL, "a"), startReplica(t, server.URL, "b")},
		encoder:  sink.NewEncoder(sink.EncoderOptions{Names: true}),
		over:     make(chan struct{}),
	}
	for i := range l.milestones {
		l.milestones[i] = make(chan struct{})
	}
	seed := rand.Uint64()
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	var allPublished context.CancelFunc
	l.coming, allPublished = context.WithCancel(ctx)
	defer allPublished()

	var filters [len(loadFilters)]bridge.Filter
	var matches [len(loadFilters)][]int
	for i, subject := range loadFilters {
		if subject != "" {
			filters[i] = bridge.NewFilter(bridge.Pattern(subject))
		}
	}
	for seq := 1; seq <= loadMost; seq++ {
		subject := loadSubject(seq)
		for i, f := range filters {
			if f.Match(subject) {
				matches[i] = append(matches[i], seq)
			}
		}
	}
	var clients sync.WaitGroup
	for n := range loadClients {
		c := &loadClient{load: l, random: rand.New(rand.NewPCG(seed, uint64(n))), socket: n < loadSockets, subject: loadFilters[n%len(loadFilters)]}
		c.filter, c.matches = filters[n%len(filters)], matches[n%len(filters)]
		clients.Go(func() {
			if err := c.run(ctx); err != nil {
				if ctx.Err() == nil { // one is enough
					t.Errorf("client %d of seed %d: %v", n, seed, err)
				}
				fail(errStopped)
			}
		})
	}
	// A doubt takes everybody back to the broker; it must cost nobody a record.
	clients.Go(func() {
		for n := 10; n < len(l.milestones); n += 15 {
			select {
			case <-l.coming.Done():
				return
			case <-l.milestones[n]:
				l.replicas[n%len(l.replicas)].hub.Stream("s").Doubt()
			}
		}
	})
	if err := l.publish(ctx, js); err != nil && ctx.Err() == nil {
		t.Error(err)
		fail(errStopped)
	}
	allPublished()
	clients.Wait()

	sum := l.counts()
	t.Logf("%d records, %d hand-overs, %d falls out of the ring, %d reads of chunks", l.last, sum.HandOvers, sum.Falls, sum.Reads)
	if t.Failed() {
		return
	}
	if sum.HandOvers < wantHandOvers || sum.Falls < wantFalls {
		t.Errorf("%d hand-overs and %d falls out of the ring, want at least %d and %d", sum.HandOvers, sum.Falls, wantHandOvers, wantFalls)
	}
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// fetchWait is how long a broker holds a fetch back when there is nothing new.
	fetchWait = 500 * time.Millisecond
	// lateWait is the same while a tail is still busy with what the last fetch
	// brought: its partitions are not in this one, and must not wait for long.
	lateWait = 50 * time.Millisecond
	// handBack is how long a lane waits for tails to want more before it fetches for
	// the others.
	handBack = 50 * time.Millisecond
	// earlyPause is the wait after a fetch that came back at once with nothing. A
	// broker does so for a place above what it shows yet.
	earlyPause = 50 * time.Millisecond
	// throttleMost bounds what a broker may ask for by its quotas.
	throttleMost = 30 * time.Second

	partitionBytes = 1 << 20 // of one partition in a fetch, though a first batch comes whole
	fetchBytes     = 8 << 20 // of a whole fetch
)

// want is one partition that a tail wants to read on.
type want struct {
	topic string
	id    [16]byte // of the topic
	fetchPartition
	number uint64 // of the want: a tail may have thought better of it since
	fresh  bool   // nothing has come by this place yet: do not let the broker wait
}

// delivery is what a fetch brought for one tail, or why it brought nothing. The
// bytes are valid until done is closed.
type delivery struct {
	parts []delivered
	err   error
	done  chan struct{} // closed by the tail when it has read it, and wants more
}

type delivered struct {
	want
	fetched
}

// lane reads from one broker for all tails of a cluster whose partitions it
// leads: one connection, with one fetch at a time that names all of them.
//
//	tail A ──wants 0,3──┐         ┌─► fetch ─► delivery to A ─┐
//	tail B ──wants 1────┴─► lane ─┘            delivery to B ─┴─ done, new wants ─► fetch …
//
// A tail that is slow to want more holds the others up for [handBack] at most.
type lane struct {
	cluster *Cluster
	broker  int32
	wake    chan struct{} // capacity 1: there are wants
	buffer  []byte        // for the next response, if nobody reads it any more
	// throttle is how long the broker wants no more requests, by the last answer.
	throttle time.Duration

	mu    sync.Mutex
	wants map[*tail]map[int32]want
}

func newLane(c *Cluster, broker int32) *lane {
	return &lane{cluster: c, broker: broker, wake: make(chan struct{}, 1), wants: map[*tail]map[int32]want{}}
}

// add notes that a tail wants to read a partition on. It replaces an older want.
func (l *lane) add(t *tail, w want) {
	l.mu.Lock()
	if l.wants[t] == nil {
		l.wants[t] = map[int32]want{}
	}
	l.wants[t][w.index] = w
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// drop forgets what a tail wants.
func (l *lane) drop(t *tail) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.wants, t)
}

// take waits for wants and returns them; nil when ctx ends. A fetch can name a
// partition only once, so where several tails read one topic, all but one are
// left for the next: more reports that.
func (l *lane) take(ctx context.Context) (wants map[*tail]map[int32]want, more bool) {
	for {
		if wants, more = l.pick(); len(wants) > 0 {
			return wants, more
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// pick takes the wants of one tail for each topic.
func (l *lane) pick() (wants map[*tail]map[int32]want, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wants = make(map[*tail]map[int32]want, len(l.wants))
	topics := make(map[string]bool, len(l.wants))
	for t, parts := range l.wants {
		if topics[t.topic] {
			more = true
			continue
		}
		topics[t.topic] = true
		wants[t] = parts
		delete(l.wants, t)
	}
	return wants, more
}

// run fetches until ctx ends.
func (l *lane) run(ctx context.Context) {
	for late := false; ctx.Err() == nil; {
		wants, more := l.take(ctx)
		if wants == nil {
			return
		}
		wait := fetchWait
		if late || more {
			wait = lateWait
		}
		for _, parts := range wants {
			for _, w := range parts {
				if w.fresh {
					wait = 0
				}
			}
		}
		begun := time.Now()
		deliveries, idle := l.fetch(ctx, wants, wait)
		if idle && time.Since(begun) < wait/2 {
			if sleep(ctx, earlyPause) != nil {
				return
			}
		}
		for t, d := range deliveries {
			t.hand(d)
		}
		late = !l.handedBack(ctx, deliveries)
		if l.throttle > 0 && sleep(ctx, l.throttle) != nil {
			return
		}
	}
}

// handedBack waits until all tails have read what they got, but not for long.
func (l *lane) handedBack(ctx context.Context, deliveries map[*tail]*delivery) bool {
	timer := time.NewTimer(handBack)
	defer timer.Stop()
	for _, d := range deliveries {
		select {
		case <-d.done:
		case <-timer.C:
			l.buffer = nil // it is still being read
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// address names a partition in a response.
type address struct {
	id        [16]byte
	name      string
	partition int32
}

// fetch puts one request for all wants and sorts the answer by tail. idle means
// that it brought nothing at all.
func (l *lane) fetch(ctx context.Context, wants map[*tail]map[int32]want, wait time.Duration) (out map[*tail]*delivery, idle bool) {
	out = make(map[*tail]*delivery, len(wants))
	owners := map[address]*tail{}
	topics := make([]fetchTopic, 0, len(wants))
	for t, parts := range wants {
		out[t] = &delivery{done: make(chan struct{})}
		topic := fetchTopic{partitions: make([]fetchPartition, 0, len(parts))}
		for p, w := range parts {
			topic.name, topic.id = w.topic, w.id
			topic.partitions = append(topic.partitions, w.fetchPartition)
			owners[address{w.id, "", p}] = t
			owners[address{[16]byte{}, w.topic, p}] = t
		}
		topics = append(topics, topic)
	}
	parts, err := l.request(ctx, topics, wait)
	if err == nil {
		err = l.sort(parts, owners, wants, out)
	}
	idle = err == nil
	for t, d := range out {
		if err != nil { // each tail learns for which of its partitions
			d.err, d.parts = err, d.parts[:0]
			for _, w := range wants[t] {
				d.parts = append(d.parts, delivered{want: w})
			}
		}
		for i := range d.parts {
			f := &d.parts[i].fetched
			idle = idle && len(f.records) == 0 && f.err == codeNone && !f.diverging
		}
	}
	return out, idle
}

func (l *lane) sort(parts []fetched, owners map[address]*tail, wants map[*tail]map[int32]want, out map[*tail]*delivery) error {
	for i := range parts {
		f := &parts[i]
		t := owners[address{f.id, f.name, f.partition}]
		if t == nil {
			return fmt.Errorf("broker %d answered for a partition that was not asked: %w", l.broker, bridge.ErrUnavailable)
		}
		out[t].parts = append(out[t].parts, delivered{wants[t][f.partition], *f})
	}
	for t, d := range out {
		if len(d.parts) != len(wants[t]) {
			return fmt.Errorf("broker %d answered for %d partitions of %d: %w", l.broker, len(d.parts), len(wants[t]), bridge.ErrUnavailable)
		}
	}
	return nil
}

// request puts one fetch.
func (l *lane) request(ctx context.Context, topics []fetchTopic, wait time.Duration) ([]fetched, error) {
	l.throttle = 0
	limits := fetchLimits{isolation: l.cluster.opt.isolation(), waitMs: int32(wait / time.Millisecond), bytes: fetchBytes}
	if cap(l.buffer) > 2*fetchBytes {
		l.buffer = nil
	}
	d, version, err := l.cluster.live.ask(ctx, question{
		api: apiFetch, broker: l.broker, wait: wait, buffer: &l.buffer, once: true,
		body: func(e *encoder, version int16) { appendFetch(e, version, limits, topics) },
	})
	if err != nil {
		return nil, err
	}
	got, err := decodeFetch(d, version)
	if err == nil && got.err != codeNone {
		err = errors.New(got.err.String())
	}
	if err != nil {
		return nil, fmt.Errorf("fetch from broker %d: %w: %w", l.broker, err, bridge.ErrUnavailable)
	}
	l.throttle = min(got.throttle, throttleMost)
	return got.parts, nil
}

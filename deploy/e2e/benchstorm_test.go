package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// BenchmarkStorm is a bridge that was killed: all its clients come back at once
// to one that has read nothing yet, 100 records behind, while others are live.
func BenchmarkStorm(b *testing.B) {
	for _, broker := range benchBrokers {
		for _, clients := range []int{1000, 10000} {
			clients := benchScale(b, clients)
			b.Run(fmt.Sprintf("%s/%d", broker.name, clients), func(b *testing.B) {
				s := newStorm(broker.name, clients)
				for b.Loop() {
					s.arena = newArenaOn(b, broker.start)
					s.asked = s.broker.reads(b)
					s.inTurns([]variant{limit, swept}, s.round)
				}
				report(b, s.wall, s.cpu, s.twice, s.worse)
			})
		}
	}
}

const (
	stormBehind    = 100 // records
	stormLive      = 100 // clients that do not come back
	stormPerSecond = 10  // records
	stormSettle    = 3   // seconds before it begins, in which those settle
)

// storm is clients who come back at once.
type storm struct {
	*arena
	asked   *readLog
	clients int

	wall, cpu, worse, calm, during *figure
	twice, reads, chunks, alone    *figure
}

func newStorm(broker string, clients int) *storm {
	name := fmt.Sprintf("%s clients come back, %d records behind in %s", thousands(clients), stormBehind, broker)
	row := func(what, unit, aim string) *figure { return benchFigures.row(name+what, unit, aim) }
	return &storm{
		clients: clients,
		wall:    row("", "ms until all have caught up", "≤ 5"),
		cpu:     row(", work", "ms CPU", ""),
		worse:   row(", others meanwhile to before", "times", "≤ 2 times"),
		calm:    row(", others before", "ms to the last of 100, 99th percentile", ""),
		during:  row(", others meanwhile", "ms to the last of 100, 99th percentile", ""),
		twice:   row(", reads of the broker to chunks", "times", "≤ 1.1 times"),
		reads:   row(", reads of the broker", "reads", ""),
		chunks:  row(", chunks that were read", "chunks", ""),
		alone:   row(", chunks that one client takes who comes later", "chunks", ""),
	}
}

// round lets the same happen to each variant: those who come back are given what
// they have missed, and everybody what comes meanwhile.
func (s *storm) round(v variant, l *loadGenerator) {
	id := ""
	if v == limit {
		last := s.last
		defer func() { s.last = last }()
		s.last = stormBehind // it counts by itself
	} else {
		s.publish(v, stormBehind)
		id = s.idOf(v, s.last-stormBehind+stormPerSecond*stormSettle)
		s.bridges[v].Restart() // with nothing read
	}
	from := s.last - stormBehind + stormPerSecond*stormSettle
	l.open(0, stormLive, "/events")
	stop := s.trickle(v, stormPerSecond)
	time.Sleep(stormSettle * time.Second)
	calm := l.stats(0).P99
	if v == limit {
		stop()
		from = s.last - stormBehind
		s.limit.backlog(stormBehind, from+1)
		stop = s.trickle(v, stormPerSecond)
	} else {
		s.asked.take()
	}
	before := s.arena.cpu(v)
	l.tell("from 1 %d", from+1)
	l.tell("open 1 %d /events %s", s.clients, id)
	l.tell("reach 1 %d", from+stormBehind)
	s.wall.add(v, l.awaitReach(1).MS)
	s.cpu.add(v, float64((s.arena.cpu(v) - before).Milliseconds()))
	l.await("open", 1)
	stop()
	l.reach(0, s.last)
	during := l.check(0, stormLive).P99
	l.reach(1, s.last)
	l.check(1, s.clients)
	s.calm.add(v, calm)
	s.during.add(v, during)
	s.worse.add(v, during/calm)
	if v != limit {
		s.count(v, l, from, id)
	}
}

// count notes what the broker was asked for, and what one client more takes.
func (s *storm) count(v variant, l *loadGenerator, from int, id string) {
	reads, chunks := s.asked.take()
	if chunks == 0 {
		s.b.Fatal("the broker was asked for nothing: it is not known how it is read")
	}
	s.reads.add(v, float64(reads))
	s.chunks.add(v, float64(chunks))
	s.twice.add(v, float64(reads)/float64(chunks))

	s.bridges[v].Restart()
	s.asked.take()
	l.tell("from 2 %d", from+1)
	l.tell("open 2 1 /events %s", id)
	l.reach(2, s.last)
	_, alone := s.asked.take()
	s.alone.add(v, float64(alone))
}

// idOf returns the event id of a record.
func (a *arena) idOf(v variant, number int) string {
	a.b.Helper()
	var id string
	c := &ssetest.Client{URL: a.bridges[v].events("start=all")}
	want := fmt.Sprintf("%c%08d", recordMark, number)
	err := c.Follow(a.b.Context(), reconnectPause, func(e ssetest.Event) bool {
		id = e.ID
		return !strings.HasPrefix(e.Data, want)
	})
	if err != nil {
		a.b.Fatal(err)
	}
	return id
}

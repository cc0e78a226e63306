package replay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// at is the condition under which the rig's stream can be read now.
func (r *rig) at(stream string) At {
	s := r.streams[stream]
	live, _ := s.Live()
	return At{Generation: s.Generation(), Incarnation: live.Incarnation, Epoch: r.replay.cache.epoch(s, 0)}
}

// When a thousand clients come back at once the broker must not notice: each run
// of records is read once.
func TestThousandFollowersReadEachRunOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{runOffsets: 10}, bridge.HubOptions{}, js)
		r.fill("j", 0, 50)
		clients := make([]*rigClient, 1000)
		for i := range clients {
			clients[i] = r.follow(bridge.Subscription{Start: all(), Filter: bridge.NewFilter(bridge.Pattern("s"), bridge.Pattern(fmt.Sprint("x", i)))})
		}
		for _, c := range clients {
			if got := len(c.until("caught-up")); got != 52 {
				t.Fatalf("a client was told %d events, want connected, 50 records and caught-up", got)
			}
		}
		// Offsets begin at 1, so the runs are 1-9, 10-19 ... 50-59.
		if got := r.sources["j"].Asked(sourcetest.OpReadChunk); got != 6 {
			t.Errorf("%d reads for 6 runs", got)
		}
	})
}

// Memory is promised to operators in bytes, whatever clients ask for.
func TestCacheStaysWithinItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 8000
		r := newRig(t, Options{CacheBytes: limit, runOffsets: 8}, bridge.HubOptions{}, js)
		r.fill("j", 0, 400)
		for range 2 {
			c := r.follow(bridge.Subscription{Start: all()})
			if got := len(c.until("caught-up")); got != 402 {
				t.Errorf("%d events, want 402", got)
			}
			if got := r.replay.Stats().Bytes; got > limit || got <= 0 {
				t.Errorf("the cache holds %d bytes, limit %d", got, limit)
			}
		}
		if st := r.replay.Stats(); st.Reads < 100 {
			t.Errorf("%d reads of 51 runs, twice: nothing was evicted", st.Reads)
		}
	})
}

// A chunk that was read before a doubt may hold what is no longer history. It
// must not be found by those who ask after the doubt.
func TestReadOfAnOlderGenerationIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		stream := js
		stream.source.After = func(_ context.Context, op sourcetest.Op) error {
			if op == sourcetest.OpReadChunk {
				<-answer
			}
			return nil
		}
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.fill("j", 0, 3)
		s, before := r.streams["j"], r.at("j")
		ended := make(chan error)
		go func() {
			_, _, err := r.replay.cache.Chunk(t.Context(), bridge.RequestTrace{}, s, 0, 1, before)
			ended <- err
		}()
		synctest.Wait()
		s.Doubt()
		r.at("j") // somebody asks in the new generation meanwhile
		close(answer)
		if err := <-ended; !errors.Is(err, bridge.ErrHistoryChanged) {
			t.Errorf("read across a doubt: %v, want ErrHistoryChanged", err)
		}
		if st := r.replay.Stats(); st.Bytes != 0 {
			t.Errorf("%d bytes of it are kept", st.Bytes)
		}
		if _, _, err := r.replay.cache.Chunk(t.Context(), bridge.RequestTrace{}, s, 0, 1, before); !errors.Is(err, bridge.ErrHistoryChanged) {
			t.Errorf("asked for the older generation: %v, want ErrHistoryChanged", err)
		}
		if ch, _, err := r.replay.cache.Chunk(t.Context(), bridge.RequestTrace{}, s, 0, 1, r.at("j")); err != nil || len(ch.Records) != 3 {
			t.Errorf("asked for the present one: %v, %v", ch, err)
		}
		if got := r.sources["j"].Asked(sourcetest.OpReadChunk); got != 2 {
			t.Errorf("%d reads, want 2", got)
		}
	})
}

// What lies beyond this replica's own place can be rewritten without its reader
// ever noticing, so it is not read, let alone kept.
func TestChunksEndAtTheLivePosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := kafka
		stream.source.Stepped = true
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.fill("k", 0, 9)
		for range 4 {
			r.sources["k"].Step(0)
		}
		ch, _, err := r.replay.cache.Chunk(t.Context(), bridge.RequestTrace{}, r.streams["k"], 0, 0, r.at("k"))
		if err != nil || ch.End != 4 || len(ch.Records) != 4 {
			t.Fatalf("chunk %+v, %v, want it to end at 4", ch, err)
		}
		// The run goes on where it ended, as one more chunk.
		r.sources["k"].Step(0)
		ch, _, err = r.replay.cache.Chunk(t.Context(), bridge.RequestTrace{}, r.streams["k"], 0, 4, r.at("k"))
		if err != nil || ch.From != 4 || ch.End != 5 {
			t.Fatalf("chunk %+v, %v, want [4, 5)", ch, err)
		}
	})
}

// A chunk that was read under another leader may be of another history even
// before this replica's reader has noticed.
func TestChunksAreNotSharedAcrossReadEpochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := kafka
		stream.source.Stepped = true
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.fill("k", 0, 1)
		r.sources["k"].Step(0)
		first := func() string {
			t.Helper()
			c := r.follow(bridge.Subscription{Start: all()})
			defer c.leave()
			return c.until("record")[1]
		}
		if got := first(); got != "data k/0@0 1" {
			t.Fatalf("got %s", got)
		}
		r.brokers["k"].Rollback(0, 0)
		r.write("k", 0, "s", "another")
		if got := first(); got != "data k/0@0 another" {
			t.Errorf("after a rollback that this replica's reader has not seen: %s", got)
		}
	})
}

// The broker's silence is nobody's fault: everyone who waits for a chunk is told
// so, and asks again.
func TestBrokenReadIsToldToAllWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := make(chan struct{})
		stream := js
		stream.source.Before = func(_ context.Context, op sourcetest.Op) error {
			if op != sourcetest.OpReadChunk {
				return nil
			}
			<-fail
			return bridge.ErrUnavailable
		}
		r := newRig(t, Options{}, bridge.HubOptions{}, stream)
		r.fill("j", 0, 3)
		errs := make(chan error)
		for range 10 {
			go func() {
				_, _, err := r.replay.cache.Chunk(t.Context(), bridge.RequestTrace{}, r.streams["j"], 0, 1, r.at("j"))
				errs <- err
			}()
		}
		synctest.Wait()
		close(fail)
		for range 10 {
			if err := <-errs; !errors.Is(err, bridge.ErrUnavailable) {
				t.Errorf("%v, want ErrUnavailable", err)
			}
		}
		if got := r.sources["j"].Asked(sourcetest.OpReadChunk); got != 1 {
			t.Errorf("%d reads for 10 who waited together", got)
		}
	})
}

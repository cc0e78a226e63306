package flight

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An answer that was under way when the caller came may be from before whatever
// made it ask: a loss would go unnoticed. And yet a thousand callers at once
// must not put a thousand questions.
func TestFlightSharesOnlyAnswersYoungerThanTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[time.Time]
		asked := 0
		start := time.Now()
		ask := func(context.Context) (time.Time, error) {
			asked++
			begun := time.Now()
			time.Sleep(time.Second)
			return begun, nil
		}
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				came := time.Now()
				begun, err := f.Do(t.Context(), ask)
				if err != nil || begun.Before(came) {
					t.Errorf("caller at %v got the answer to a question of %v, error %v", came.Sub(start), begun.Sub(start), err)
				}
			})
		}
		wg.Wait()
		if asked != 2 {
			t.Errorf("asked %d times, want 2", asked)
		}
	})
}

// A client that hangs up must not take the answer away from those who wait with it.
func TestFlightOutlivesTheCallerThatAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[int]
		ask := func(ctx context.Context) (int, error) {
			select {
			case <-time.After(time.Second):
				return 7, nil
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		}
		gone := errors.New("gone")
		var wg sync.WaitGroup
		for i := range 4 { // the first asks, the second is to ask next, the others share
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				ctx, cancel := context.WithCancelCause(t.Context())
				if i < 2 {
					time.AfterFunc(100*time.Millisecond, func() { cancel(gone) })
				}
				v, err := f.Do(ctx, ask)
				if i < 2 && !errors.Is(err, gone) || i >= 2 && (v != 7 || err != nil) {
					t.Errorf("caller %d got %d, %v", i, v, err)
				}
				cancel(nil)
			})
		}
		wg.Wait()
		if f.now != nil || f.next != nil {
			t.Error("a call is left behind")
		}
	})
}

// Callers that ask about different records do not wait for each other, and
// nothing is kept when nobody asks any more.
func TestFlightsAreByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs Flights[int, int]
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				v, err := fs.Do(t.Context(), i%3, func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return i % 3, nil
				})
				if v != i%3 || err != nil {
					t.Errorf("key %d got %d, %v", i%3, v, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v of fake time, want 2s: one question under way and one after it per key", took)
		}
		if len(fs.byKey) > 0 {
			t.Errorf("%d keys are left behind", len(fs.byKey))
		}
	})
}

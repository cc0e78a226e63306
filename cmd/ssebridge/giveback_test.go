package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A heap that stays as large as a storm has made it costs an operator memory for
// nothing; one that is collected again and again costs all clients time.
func TestMemoryIsGivenBackOnceAfterAStorm(t *testing.T) {
	for name, tc := range map[string]struct {
		perSecond func(second int) uint64 // how many clients come
		want      []int                   // seconds after which it is given back
	}{
		"nobody":     {func(int) uint64 { return 0 }, nil},
		"few":        {func(s int) uint64 { return map[int]uint64{10: 999}[s] }, nil},
		"a storm":    {func(s int) uint64 { return map[int]uint64{10: 5000, 11: 5000}[s] }, []int{15}},
		"a stream":   {func(int) uint64 { return 400 }, []int{60, 120, 180, 240, 300}},
		"two storms": {func(s int) uint64 { return map[int]uint64{10: 5000, 15: 5000, 60: 5000}[s] }, []int{14, 24, 64}},
		"later ones": {func(s int) uint64 { return map[int]uint64{10: 5000, 200: 1000, 400: 999}[s] }, []int{14, 204}},
		"stragglers": {func(s int) uint64 {
			if s == 10 {
				return 5000
			}
			return 20
		}, []int{14, 74, 134, 194, 254, 314}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			var came atomic.Uint64
			var got []int
			start, ended := time.Now(), make(chan error, 1)
			go func() {
				ended <- giveBack(ctx, came.Load, func() { got = append(got, int(time.Since(start)/time.Second)) })
			}()
			time.Sleep(time.Second / 2)
			for second := range 420 {
				came.Add(tc.perSecond(second))
				time.Sleep(time.Second)
				if second == 320 && name != "later ones" {
					break
				}
			}
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: ended with %v", name, err)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s: given back after %s seconds, want %v", name, fmt.Sprint(got), tc.want)
			}
		})
	}
}

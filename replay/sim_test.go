package replay

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	simSeeds = flag.Uint64("sim.seeds", 0, "how many schedules TestSimulation runs; 0: its default")
	simSeed  = flag.Uint64("sim.seed", 0, "run only this schedule of TestSimulation, and print it")
)

// simWeights is how often each operation is chosen.
var simWeights = map[string]int{
	"append": 22, "live": 40, "discover": 4, "pump": 70, "cut": 8, "connect": 12, "delete": 6, "trim": 3, "grow": 1,
	"rollback": 1, "recreate": 1, "restore": 1, "txn": 3, "epoch": 1, "time": 6, "beat": 2, "stuck": 4, "gate": 4, "down": 1, "up": 3,
}

// simProfiles are the mixes of trouble; a seed's remainder picks one.
var simProfiles = []simOptions{
	{name: "all", ops: 300, replicas: 3, clients: 4, maxPart: 3, onDemand: 2, weights: map[string]int{"idle": 1}},
	{name: "calm", ops: 150, replicas: 2, clients: 2, maxPart: 2, weights: map[string]int{
		"rollback": 0, "recreate": 0, "txn": 0, "epoch": 0, "stuck": 0, "gate": 0, "down": 0,
	}},
	{name: "rollbacks", ops: 250, replicas: 2, clients: 3, maxPart: 3, weights: map[string]int{
		"rollback": 6, "delete": 12, "recreate": 2, "trim": 5,
	}},
	{name: "partitions", ops: 250, replicas: 2, clients: 3, maxPart: 5, weights: map[string]int{
		"grow": 4, "discover": 2, "trim": 6, "recreate": 2,
	}},
	{name: "slow clients", ops: 250, replicas: 2, clients: 3, maxPart: 3, weights: map[string]int{
		"stuck": 15, "beat": 8, "live": 80,
	}},
	{name: "slow readers", ops: 250, replicas: 3, clients: 3, maxPart: 3, weights: map[string]int{
		"live": 15, "pump": 150, "cut": 20, "connect": 30,
	}},
	{name: "ahead", ops: 200, replicas: 2, clients: 2, maxPart: 2, weights: map[string]int{
		"rollback": 4, "stuck": 0, "grow": 0, "recreate": 0, "beat": 6,
	}},
	{name: "stale replicas", ops: 250, replicas: 2, clients: 3, maxPart: 2, weights: map[string]int{
		"live": 15, "append": 30, "pump": 120, "cut": 25, "connect": 40, "rollback": 5, "stuck": 0, "beat": 1, "down": 0, "trim": 1,
	}},
	{name: "broken brokers", ops: 250, replicas: 2, clients: 3, maxPart: 3, weights: map[string]int{
		"down": 5, "up": 8, "remove": 1, "recreate": 3, "restore": 4, "gate": 15, "time": 20,
	}},
	{name: "on demand", ops: 300, replicas: 2, clients: 3, maxPart: 3, onDemand: 8, weights: map[string]int{
		"idle": 10, "cut": 14, "connect": 24, "rollback": 3, "restore": 2, "grow": 2, "discover": 2, "trim": 4,
	}},
	{name: "two elections", ops: 250, replicas: 2, clients: 3, maxPart: 2, weights: map[string]int{
		"rollback": 5, "revert": 3, "recreate": 0, "epoch": 3,
	}},
}

// profile returns the options of a seed.
func profile(seed uint64) simOptions {
	o := simProfiles[seed%uint64(len(simProfiles))]
	weights := maps.Clone(simWeights)
	maps.Copy(weights, o.weights)
	o.weights = weights
	return o
}

// Whatever brokers, replicas and networks do, a client that comes back with its
// last event id is told every record of its filter once, in the order of its
// partition, or is told what it lost. Nothing else makes an event id worth
// having, and no other test meets the rare races.
//
// An oracle is worth what it catches, so rules were broken on purpose, one at a
// time. Seen to fail here within 4,000 schedules, most within 100:
//
//   - reading up to the target left out, or the greater of position and vector
//     replaced by the vector, or entries below the position not skipped
//   - connected after the gaps; a gap without an id; a gap not clipped to the
//     position; gaps hidden from groups whose filter is quiet
//   - places of unknown partitions dropped; new partitions begun at what the log
//     still holds; no room made for partitions born behind the verdict
//   - a heartbeat that tells the feed's head to who is not level, or to who has
//     entries pending
//   - a client ahead of the feed moved back to it; one that fell out of the ring
//     going on from its head; one that joins behind what the ring still holds
//   - a chunk taken for complete to the end of its run, or from its beginning;
//     ids at the borders of chunks
//   - a feed's place taken over without a question to the broker
//   - chunks shared across read epochs
//   - the live position not moved over deleted records at the end of the log
//   - a verdict of an older generation used; the broker's incarnation not taken
//   - a leap over what retention took; a target renewed without a verdict
//   - caught-up twice
//
// Some rules have a second line behind them, and only both together fail here:
// doubts by clients, by the reader's connections and by its resets; chunks kept
// over generations and read epochs; the verification of clients ahead and the
// reader's doubts; the generation checks of reading, walking and joining. Most
// of these lines alone have a test of their own in this package or beside the
// feed. Never seen to fail, because generations cover it: a hand-over to a feed
// that still lives in another incarnation.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		w := again(t, *simSeed)
		t.Log(strings.Join(w.trace, "\n"))
		if w.failure != "" {
			t.Fatal(w.failure)
		}
		return
	}
	seeds := *simSeeds
	switch {
	case seeds > 0:
	case testing.Short():
		seeds = 200
	default:
		seeds = defaultSeeds
	}
	const workers = 2
	for worker := range uint64(workers) {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			var sum simStats
			for seed := 1 + worker; seed <= seeds; seed += workers {
				w := simulate(t, seed, false)
				sum.add(w)
				if w.failure != "" {
					t.Fatalf("%s\nrepeat it with: go test ./replay -run TestSimulation -sim.seed=%d\n%s", w.failure, seed, tail(again(t, seed).trace))
				}
			}
			t.Logf("%+v", sum)
		})
	}
}

// tail is the end of a trace, where the reason mostly is.
func tail(trace []string) string {
	return strings.Join(trace[max(0, len(trace)-120):], "\n")
}

// simulate runs one schedule. One that hangs is ended with the stacks of all
// goroutines.
func simulate(t *testing.T, seed uint64, keep bool) (w *simWorld) {
	t.Helper()
	hung := time.AfterFunc(time.Minute, func() { panic(fmt.Sprintf("schedule %d hangs", seed)) })
	defer hung.Stop()
	synctest.Test(t, func(*testing.T) {
		w = newSimWorld(seed, profile(seed), keep)
		w.run()
	})
	return w
}

// A failing seed is worth something only if it fails again. Where two timers
// fire at the same instant the runtime may choose, so a few do not.
func TestSimulationRepeatsItself(t *testing.T) {
	const seeds = 100
	repeated := 0
	for seed := range uint64(seeds) {
		first, second := simulate(t, seed, true), simulate(t, seed, true)
		if slices.Equal(first.trace, second.trace) {
			repeated++
		}
	}
	if repeated < seeds*9/10 {
		t.Errorf("%d of %d schedules went the same way twice", repeated, seeds)
	}
}

// again runs a schedule, which has failed once, until it fails, and keeps its trace.
func again(t *testing.T, seed uint64) (w *simWorld) {
	t.Helper()
	for range 20 {
		if w = simulate(t, seed, true); w.failure != "" {
			break
		}
	}
	return w
}

func (s *simStats) add(w *simWorld) {
	s.records += w.stats.records
	s.gaps += w.stats.gaps
	s.resets += w.stats.resets
	s.evictions += w.stats.evictions
	s.reads += w.stats.reads
	s.handOvers += w.stats.handOvers
	s.falls += w.stats.falls
	s.idle += w.stats.idle
	if len(w.weak) > 0 {
		s.weak++
	}
}

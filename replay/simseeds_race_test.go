//go:build race

package replay

// defaultSeeds is how many schedules a run with the race detector has time for.
const defaultSeeds = 1000

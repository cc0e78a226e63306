//go:build !race

package replay

// defaultSeeds is how many schedules a plain run has time for: some 20 s.
const defaultSeeds = 10000

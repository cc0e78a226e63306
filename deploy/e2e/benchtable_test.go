package e2e

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// variant is a server that a benchmark measures.
type variant int

const (
	limit  variant = iota // the program that does nothing but write
	swept                 // the bridge
	waited                // the bridge without its sweeper: net/http's way, a goroutine for each client
)

var variants = []variant{limit, swept, waited}

func (v variant) String() string { return [...]string{"limit", "bridge", "net/http"}[v] }

// figures are all that the benchmarks of one run have measured.
type figures struct {
	mu   sync.Mutex
	rows []*figure
}

// benchFigures is printed when all benchmarks have run.
var benchFigures figures

// figure is one measure, one value a round.
type figure struct {
	name, unit string
	rounds     map[variant][]float64
}

// row returns the figure with this name and unit, and makes it if there is none.
func (f *figures) row(name, unit string) *figure {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rows {
		if r.name == name && r.unit == unit {
			return r
		}
	}
	r := &figure{name: name, unit: unit, rounds: map[variant][]float64{}}
	f.rows = append(f.rows, r)
	return r
}

func (r *figure) add(v variant, value float64) { r.rounds[v] = append(r.rounds[v], value) }

// ratio returns how much more one variant takes than another, round by round, as
// neighbours in time share what else the machine does.
func (r *figure) ratio(of, to variant) []float64 {
	var out []float64
	for i := range min(len(r.rounds[of]), len(r.rounds[to])) {
		if r.rounds[to][i] > 0 {
			out = append(out, r.rounds[of][i]/r.rounds[to][i])
		}
	}
	return out
}

// print writes one table, ratios first.
func (f *figures) print(w io.Writer) {
	if len(f.rows) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "\nMedians of the rounds, and their range.\n\n| | %s / %s | %s / %s | %s | %s | %s | |\n|---|---|---|---|---|---|---|\n",
		swept, limit, waited, swept, swept, limit, waited)
	for _, r := range f.rows {
		_, _ = fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", r.name,
			spread(r.ratio(swept, limit)), spread(r.ratio(waited, swept)),
			spread(r.rounds[swept]), spread(r.rounds[limit]), spread(r.rounds[waited]), r.unit)
	}
}

// median returns the middle value, 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// spread tells median and range.
func spread(values []float64) string {
	switch len(values) {
	case 0:
		return ""
	case 1:
		return short(values[0])
	}
	return fmt.Sprintf("%s (%s–%s)", short(median(values)), short(slices.Min(values)), short(slices.Max(values)))
}

// short writes a number with three digits that count.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.2f", v), ".00")
}

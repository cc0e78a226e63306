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
	limit      variant = iota // the program that does nothing but write
	swept                     // the bridge
	waited                    // the bridge without its sweeper: net/http's way, a goroutine for each client
	gzipShared                // the bridge with gzip, which a group's clients share
	zstdShared                // likewise with zstd
	gzipEach                  // the bridge as waited, with a gzip for each client
)

func (v variant) String() string {
	return [...]string{"limit", "bridge", "net/http", "gzip", "zstd", "gzip each"}[v]
}

// layout is a table: what is compared in it.
type layout struct {
	title  string
	ratios [][2]variant
	values []variant
}

var (
	fanOut = &layout{
		title:  "Medians of the rounds, and their range.",
		ratios: [][2]variant{{swept, limit}, {waited, swept}},
		values: []variant{swept, limit, waited},
	}
	coded = &layout{
		title: fmt.Sprintf("With compression, which the clients of a group share (gzip, zstd), beside a gzip for each client: "+
			"of %d clients at most, as each takes some 0.8 MB.", mostGzipEach),
		ratios: [][2]variant{{gzipShared, swept}, {gzipShared, gzipEach}, {zstdShared, swept}},
		values: []variant{swept, gzipShared, zstdShared, gzipEach},
	}
)

// variants are those of most benchmarks.
var variants = []variant{limit, swept, waited}

// figures are all that the benchmarks of one run have measured.
type figures struct {
	mu   sync.Mutex
	rows []*figure
}

// benchFigures is printed when all benchmarks have run.
var benchFigures figures

// figure is one measure, one value a round.
type figure struct {
	in              *layout
	name, unit, aim string
	rounds          map[variant][]float64
}

// row returns the figure with this name and unit, and makes it if there is none.
// aim is what a ratio is meant to be, or a value where it has a unit; empty: it only
// informs.
func (f *figures) row(name, unit, aim string) *figure { return f.rowIn(fanOut, name, unit, aim) }

// rowIn is row in any table.
func (f *figures) rowIn(in *layout, name, unit, aim string) *figure {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rows {
		if r.in == in && r.name == name && r.unit == unit {
			return r
		}
	}
	r := &figure{in: in, name: name, unit: unit, aim: aim, rounds: map[variant][]float64{}}
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

// print writes the tables, ratios and what they should be first.
func (f *figures) print(w io.Writer) {
	for _, in := range []*layout{fanOut, coded} {
		var lines []string
		for _, r := range f.rows {
			if r.in != in {
				continue
			}
			cells := []string{r.name}
			for _, pair := range in.ratios {
				cells = append(cells, spread(r.ratio(pair[0], pair[1])))
			}
			cells = append(cells, r.aim)
			for _, v := range in.values {
				cells = append(cells, spread(r.rounds[v]))
			}
			lines = append(lines, tableLine(append(cells, r.unit)))
		}
		if len(lines) > 0 {
			_, _ = fmt.Fprintf(w, "\n%s\n\n%s%s", in.title, in.head(), strings.Join(lines, ""))
		}
	}
}

// head returns the first two lines.
func (in *layout) head() string {
	cells := []string{""}
	for _, pair := range in.ratios {
		cells = append(cells, pair[0].String()+" / "+in.label(pair[1]))
	}
	cells = append(cells, "aim")
	for _, v := range in.values {
		cells = append(cells, in.label(v))
	}
	return tableLine(append(cells, "")) + strings.Repeat("|---", len(cells)+1) + "|\n"
}

// label returns what a variant is called in a table.
func (in *layout) label(v variant) string {
	if in == coded && v == swept {
		return "plain"
	}
	return v.String()
}

func tableLine(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

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

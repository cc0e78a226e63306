package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// hostReader reads this machine's counters from /proc, whose formats are those
// of proc(5). Rates are of the time since the reading before, so the first
// reading has none. It is not safe for concurrent use.
type hostReader struct {
	proc fs.FS
	now  func() time.Time

	lastCPU  cpuTicks
	lastDisk counters
	lastNet  counters
}

// cpuTicks is the first line of /proc/stat, in ticks since the machine started.
type cpuTicks struct{ user, system, iowait, idle, total float64 }

// counters are two totals that only rise, and when they were read.
type counters struct {
	at      time.Time
	in, out float64 // bytes
}

// newHostReader reads the machine that the program runs on.
func newHostReader() *hostReader {
	return &hostReader{proc: os.DirFS("/proc"), now: time.Now}
}

// Read returns the metrics that could be read, and an error for the others.
func (r *hostReader) Read() ([]metric, error) {
	var metrics []metric
	var errs []error
	for _, part := range []struct {
		name string
		read func() ([]field, error)
	}{
		{"cpu", r.cpu},
		{"memory", r.memory},
		{"load", r.load},
		{"disk", r.disk},
		{"network", r.network},
	} {
		fields, err := part.read()
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", part.name, err))
			continue
		}
		metrics = append(metrics, metric{Name: part.name, Scope: "machine", Fields: fields})
	}
	return metrics, errors.Join(errs...)
}

func (r *hostReader) cpu() ([]field, error) {
	lines, err := r.lines("stat")
	if err != nil {
		return nil, err
	}
	var ticks []float64
	cores := 0.0
	for _, line := range lines {
		switch {
		case line[0] == "cpu":
			ticks, err = numbers(line[1:])
		case strings.HasPrefix(line[0], "cpu"):
			cores++
		}
		if err != nil {
			return nil, err
		}
	}
	if len(ticks) < 5 {
		return nil, errors.New("stat: no cpu line")
	}
	// user nice system idle iowait irq softirq steal; the guest times that follow
	// are part of user already.
	now := cpuTicks{user: ticks[0] + ticks[1], system: ticks[2], idle: ticks[3], iowait: ticks[4]}
	for _, v := range ticks[:min(len(ticks), 8)] {
		now.total += v
	}
	last := r.lastCPU
	r.lastCPU = now
	fields := []field{{"cores", cores}}
	if passed := now.total - last.total; last.total > 0 && passed > 0 {
		percent := func(part float64) float64 { return round1(100 * part / passed) }
		fields = append(fields,
			field{"busy_percent", percent(passed - (now.idle - last.idle) - (now.iowait - last.iowait))},
			field{"user_percent", percent(now.user - last.user)},
			field{"system_percent", percent(now.system - last.system)},
			field{"iowait_percent", percent(now.iowait - last.iowait)})
	}
	return fields, nil
}

func (r *hostReader) memory() ([]field, error) {
	lines, err := r.lines("meminfo")
	if err != nil {
		return nil, err
	}
	kib := map[string]float64{}
	for _, line := range lines {
		if len(line) < 2 {
			continue
		}
		v, err := strconv.ParseFloat(line[1], 64)
		if err != nil {
			return nil, fmt.Errorf("meminfo: %w", err)
		}
		kib[strings.TrimSuffix(line[0], ":")] = v
	}
	total := kib["MemTotal"]
	if total == 0 {
		return nil, errors.New("meminfo: no MemTotal")
	}
	used := total - kib["MemAvailable"]
	return []field{
		{"used_percent", round1(100 * used / total)},
		{"used_bytes", used * 1024},
		{"total_bytes", total * 1024},
		{"swap_used_bytes", (kib["SwapTotal"] - kib["SwapFree"]) * 1024},
	}, nil
}

func (r *hostReader) load() ([]field, error) {
	lines, err := r.lines("loadavg")
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 || len(lines[0]) < 4 {
		return nil, errors.New("loadavg: want four fields")
	}
	averages, err := numbers(lines[0][:3])
	if err != nil {
		return nil, err
	}
	running, all, _ := strings.Cut(lines[0][3], "/")
	threads, err := numbers([]string{running, all})
	if err != nil {
		return nil, err
	}
	return []field{
		{"load_1m", averages[0]},
		{"load_5m", averages[1]},
		{"load_15m", averages[2]},
		{"running_threads", threads[0]},
		{"threads", threads[1]},
	}, nil
}

// sectorBytes is the unit of /proc/diskstats on every device
// (Documentation/admin-guide/iostats.rst of the kernel).
const sectorBytes = 512

func (r *hostReader) disk() ([]field, error) {
	lines, err := r.lines("diskstats")
	if err != nil {
		return nil, err
	}
	now := counters{at: r.now()}
	disks, disk := 0.0, ""
	for _, line := range lines {
		if len(line) < 10 || !physicalDisk(line[2]) || partitionOf(line[2], disk) {
			continue
		}
		disk = line[2]
		disks++
		sectors, err := numbers([]string{line[5], line[9]})
		if err != nil {
			return nil, err
		}
		now.in += sectors[0] * sectorBytes
		now.out += sectors[1] * sectorBytes
	}
	fields := []field{{"disks", disks}, {"read_bytes", now.in}, {"written_bytes", now.out}}
	if in, out, ok := now.rates(r.lastDisk); ok {
		fields = append(fields, field{"read_bytes_per_second", in}, field{"written_bytes_per_second", out})
	}
	r.lastDisk = now
	return fields, nil
}

// physicalDisk reports whether a device holds data of its own: not a loop, RAM
// or optical device, and not one made of others, which would count twice.
func physicalDisk(device string) bool {
	for _, prefix := range []string{"loop", "ram", "zram", "sr", "fd", "dm-", "md"} {
		if strings.HasPrefix(device, prefix) {
			return false
		}
	}
	return true
}

// partitionOf reports whether device is a part of disk: sda1 of sda, nvme0n1p2
// of nvme0n1. The kernel lists a disk right before its partitions.
func partitionOf(device, disk string) bool {
	rest, ok := strings.CutPrefix(device, disk)
	if !ok || disk == "" || rest == "" {
		return false
	}
	return rest[0] >= '0' && rest[0] <= '9' || rest[0] == 'p'
}

func (r *hostReader) network() ([]field, error) {
	lines, err := r.lines("net/dev")
	if err != nil {
		return nil, err
	}
	now := counters{at: r.now()}
	interfaces := 0.0
	for _, line := range lines {
		name, ok := strings.CutSuffix(line[0], ":")
		if !ok || name == "lo" || len(line) < 11 {
			continue // a heading, or the loopback, which carries the demo itself
		}
		interfaces++
		transferred, err := numbers([]string{line[1], line[9]})
		if err != nil {
			return nil, err
		}
		now.in += transferred[0]
		now.out += transferred[1]
	}
	fields := []field{{"interfaces", interfaces}, {"received_bytes", now.in}, {"sent_bytes", now.out}}
	if in, out, ok := now.rates(r.lastNet); ok {
		fields = append(fields, field{"received_bytes_per_second", in}, field{"sent_bytes_per_second", out})
	}
	r.lastNet = now
	return fields, nil
}

// rates returns bytes a second since last; ok is false without a last reading.
// A counter that fell (a device went away) counts as standing still.
func (c counters) rates(last counters) (in, out float64, ok bool) {
	passed := c.at.Sub(last.at).Seconds()
	if last.at.IsZero() || passed <= 0 {
		return 0, 0, false
	}
	rate := func(now, before float64) float64 { return math.Round(max(0, now-before) / passed) }
	return rate(c.in, last.in), rate(c.out, last.out), true
}

// lines returns the words of every line of a file that is not blank. A colon
// that is glued to the number behind it ("eth0:1") gets a blank.
func (r *hostReader) lines(name string) ([][]string, error) {
	text, err := fs.ReadFile(r.proc, name)
	if err != nil {
		return nil, err
	}
	var lines [][]string
	scan := bufio.NewScanner(bytes.NewReader(text))
	for scan.Scan() {
		if words := strings.Fields(strings.Replace(scan.Text(), ":", ": ", 1)); len(words) > 0 {
			lines = append(lines, words)
		}
	}
	return lines, scan.Err()
}

func numbers(words []string) ([]float64, error) {
	values := make([]float64, len(words))
	for i, word := range words {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("want a number, not %q", word)
		}
		values[i] = v
	}
	return values, nil
}

func round1(v float64) float64 { return math.Round(v*10) / 10 }

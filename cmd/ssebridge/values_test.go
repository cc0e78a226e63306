package main

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink"
)

// Kubernetes, humans and docker write sizes differently; 8MB must not be 8MiB.
func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "4096": 4096, "4096B": 4096, "64MiB": 64 << 20, "64 MiB": 64 << 20, "8MB": 8e6, "8kB": 8000, "8KB": 8000, "2GiB": 2 << 30, "1GB": 1e9, "1KiB": 1024,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "64M", "64mib", "9999999999GiB", "1e6", "0x10"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

// What `config` prints can be set again.
func TestSizesAndDurationsReadBack(t *testing.T) {
	for _, s := range []Size{0, 1, 1000, 1024, 4096, 5000, 1 << 20, 64 << 20, 3 << 30} {
		if got, err := parseSize(s.String()); err != nil || got != s {
			t.Errorf("%d prints as %q, which reads as %d, %v", s, s.String(), got, err)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0", time.Second: "1s", 5 * time.Minute: "5m", time.Hour: "1h", 90 * time.Minute: "1h30m", 100 * time.Millisecond: "100ms", 61 * time.Second: "1m1s", 10 * time.Minute: "10m", 10 * time.Second: "10s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("%d prints as %q, want %q", d, got, want)
		}
		if back, err := time.ParseDuration(want); err != nil || back != d {
			t.Errorf("%q reads as %v, %v", want, back, err)
		}
	}
}

// zstd goes first whatever the order, and what is printed can be set again.
func TestCompressionIsRead(t *testing.T) {
	for text, want := range map[string][]sink.Coding{
		"off": nil, "gzip": {sink.Gzip}, "zstd": {sink.Zstd}, "gzip,zstd": {sink.Zstd, sink.Gzip}, "zstd, gzip": {sink.Zstd, sink.Gzip}, "gzip\nzstd\n": {sink.Zstd, sink.Gzip},
	} {
		var got, again Compression
		if err := got.Decode(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
		if err := again.Decode(got.String()); err != nil || !slices.Equal(got, again) {
			t.Errorf("%q prints as %q, which reads as %v, %v", text, got.String(), again, err)
		}
	}
	for _, text := range []string{"", ",", "br", "on", "GZIP", "gzip,br", "off,gzip", "gzip,gzip", "gzip zstd"} {
		var c Compression
		if err := c.Decode(text); err == nil || !strings.Contains(err.Error(), "want off, gzip, zstd, or gzip,zstd") {
			t.Errorf("%q: got %v, %v, want an error that says what is expected", text, c, err)
		}
	}
}

// A stream's default start reads like the start of a request.
func TestStarts(t *testing.T) {
	for text, want := range map[string]StartSetting{
		"new":                       {},
		"all":                       {Start: bridge.Start{Kind: bridge.StartAll}},
		"15m":                       {Back: 15 * time.Minute},
		"2026-01-31T00:00:00Z":      {Start: bridge.Start{Kind: bridge.StartAt, At: time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)}},
		"2026-01-31T00:00:00+02:00": {Start: bridge.Start{Kind: bridge.StartAt, At: time.Date(2026, 1, 30, 22, 0, 0, 0, time.UTC)}},
	} {
		var got StartSetting
		if err := got.Decode(text); err != nil || got.Kind != want.Kind || !got.At.Equal(want.At) || got.Back != want.Back {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%q prints as %q", text, got.String())
		}
	}
	for _, text := range []string{"old", "-15m", "0s", "2026-01-31", "15"} {
		if err := new(StartSetting).Decode(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// A container's memory limit is found without any setting.
func TestMemoryFollowsTheControlGroup(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	for name, test := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"version 2, own group": {fstest.MapFS{
			"proc/self/cgroup":         file("0::/"),
			"sys/fs/cgroup/memory.max": file("134217728"),
		}, 128 << 20},
		"version 2, parent's limit is smaller": {fstest.MapFS{
			"proc/self/cgroup":                   file("0::/pod/app"),
			"sys/fs/cgroup/pod/memory.max":       file("67108864"),
			"sys/fs/cgroup/pod/app/memory.max":   file("134217728"),
			"sys/fs/cgroup/pod/other/memory.max": file("1"),
		}, 64 << 20},
		"version 1": {fstest.MapFS{
			"proc/self/cgroup": file("5:cpu,cpuacct:/x\n3:memory:/x"),
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes":     file("268435456"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":       file("9223372036854771712"),
			"sys/fs/cgroup/cpu,cpuacct/x/memory.limit_in_byte": file("1"),
		}, 256 << 20},
		"no limit": {fstest.MapFS{
			"proc/self/cgroup": file("0::/"), "sys/fs/cgroup/memory.max": file("max"),
		}, math.MaxInt64},
		"no control groups": {fstest.MapFS{}, math.MaxInt64},
	} {
		if got := cgroupMemory(test.root); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

// A container that uses half of what it may must not be killed because the heap
// grew to twice that before it was collected; who sets a limit knows better.
func TestHeapLimitFollowsTheControlGroup(t *testing.T) {
	const none = math.MaxInt64
	for name, test := range map[string]struct{ cgroup, own, want int64 }{
		"container":               {cgroup: 1000 << 20, own: none, want: 800 << 20},
		"GOMEMLIMIT in container": {cgroup: 1000 << 20, own: 300 << 20, want: 300 << 20},
		"GOMEMLIMIT":              {cgroup: none, own: 300 << 20, want: 300 << 20},
		"nothing":                 {cgroup: none, own: none, want: none},
	} {
		root := fstest.MapFS{
			"proc/self/cgroup":         {Data: []byte("0::/\n")},
			"sys/fs/cgroup/memory.max": {Data: strconv.AppendInt(nil, test.cgroup, 10)},
		}
		holds := test.own
		got := limitHeap(root, func(limit int64) int64 {
			before := holds
			if limit >= 0 {
				holds = limit
			}
			return before
		})
		if told := got; holds != test.want || told != holds && (told != 0 || holds != none) {
			t.Errorf("%s: %d holds and %d is told, want %d", name, holds, told, test.want)
		}
	}
}

// The parts of MEMORY are no more than it.
func TestMemoryIsShared(t *testing.T) {
	for _, m := range []Size{minMemory, minMemory + 7, 256 << 20, 1 << 40} {
		for _, compression := range []bool{false, true} {
			s := m.shares(compression)
			sum := s.rings + s.filters + s.cache + s.batches + s.compressors
			if sum > int64(m) || sum < int64(m)-8 || min(s.rings, s.filters, s.cache, s.batches) < int64(m)/8 || (s.compressors > 0) != compression {
				t.Errorf("%d is shared as %+v", m, s)
			}
		}
	}
}

// MEMORY is half of what the process may use, never too little to work.
func TestMemoryAndClientsAreDerived(t *testing.T) {
	limited := func(text string) fstest.MapFS {
		return fstest.MapFS{
			"proc/self/cgroup":         {Data: []byte("0::/\n")},
			"sys/fs/cgroup/memory.max": {Data: []byte(text)},
		}
	}
	var c ProcessConfig
	if got := c.memory(fstest.MapFS{}); got != 256<<20 {
		t.Errorf("without limits: %v", got)
	}
	if got := c.memory(limited("1073741824")); got != 512<<20 {
		t.Errorf("in 1 GiB: %v", got)
	}
	if got := c.memory(limited("33554432")); got != 32<<20 {
		t.Errorf("in 32 MiB: %v", got)
	}
	c.Memory = 40 << 20
	if got := c.memory(limited("1073741824")); got != 40<<20 {
		t.Errorf("set to 40 MiB: %v", got)
	}
	for files, want := range map[uint64]int{1024: 896, 100: 128, 0: 0, math.MaxUint64: math.MaxInt32} {
		if got := c.maxClients(files); got != want {
			t.Errorf("%d open files: %d clients, want %d", files, got, want)
		}
	}
	c.MaxClients = 7
	if got := c.maxClients(1024); got != 7 {
		t.Errorf("set to 7: %d", got)
	}
}

package main

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"
)

// machine is /proc of a made-up machine with two cores, two disks with
// partitions, and two interfaces.
func machine(stat, diskstats, dev string) fstest.MapFS {
	return fstest.MapFS{
		"stat":      {Data: []byte(stat)},
		"meminfo":   {Data: []byte("MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     750 kB\nSwapTotal:         40 kB\nSwapFree:          30 kB\n")},
		"loadavg":   {Data: []byte("0.50 0.25 0.10 2/345 6789\n")},
		"diskstats": {Data: []byte(diskstats)},
		"net/dev":   {Data: []byte(dev)},
	}
}

const (
	statThen = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 50 0 25 400 25 0 0 0 0 0\ncpu1 50 0 25 400 25 0 0 0 0 0\nintr 1 2 3\nctxt 9\n"
	statNow  = "cpu  120 0 60 860 60 0 0 0 0 0\ncpu0 60 0 30 430 30 0 0 0 0 0\ncpu1 60 0 30 430 30 0 0 0 0 0\nintr 1 2 3\nctxt 9\n"

	diskThen = "   7       0 loop0 9 9 999 9 9 9 999 9 0 9 9\n" +
		"   8       0 sda 10 0 100 5 20 0 200 7 0 9 9\n   8       1 sda1 10 0 100 5 20 0 200 7 0 9 9\n" +
		" 259       0 nvme0n1 10 0 10 5 20 0 20 7 0 9 9\n 259       1 nvme0n1p1 10 0 10 5 20 0 20 7 0 9 9\n" +
		" 253       0 dm-0 10 0 110 5 20 0 220 7 0 9 9\n"
	diskNow = "   8       0 sda 10 0 104 5 20 0 208 7 0 9 9\n   8       1 sda1 10 0 104 5 20 0 208 7 0 9 9\n" +
		" 259       0 nvme0n1 10 0 10 5 20 0 20 7 0 9 9\n"

	devThen = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo:   999       9    0    0    0     0          0         0      999       9    0    0    0     0       0          0\n" +
		"  eth0:1000       1    0    0    0     0          0         0      500       1    0    0    0     0       0          0\n" +
		" wlan0:     0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n"
	devNow = "  eth0:3000       1    0    0    0     0          0         0     1500       1    0    0    0     0       0          0\n"
)

// The page shows these as facts about the machine, so they must be the ones that
// other tools show.
func TestHostMetricsAreThoseOfTheMachine(t *testing.T) {
	at := time.Unix(1000, 0)
	r := &hostReader{proc: machine(statThen, diskThen, devThen), now: func() time.Time { return at }}
	first, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	r.proc = machine(statNow, diskNow, devNow)
	at = at.Add(2 * time.Second)
	second, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		metrics []metric
		want    []string
	}{
		{"first reading, which knows no rates", first, []string{
			`{"n":7,"scope":"machine","cores":2}`,
			`{"n":7,"scope":"machine","used_percent":25,"used_bytes":256000,"total_bytes":1024000,"swap_used_bytes":10240}`,
			`{"n":7,"scope":"machine","load_1m":0.5,"load_5m":0.25,"load_15m":0.1,"running_threads":2,"threads":345}`,
			`{"n":7,"scope":"machine","disks":2,"read_bytes":56320,"written_bytes":112640}`,
			`{"n":7,"scope":"machine","interfaces":2,"received_bytes":1000,"sent_bytes":500}`,
		}},
		{"second reading, two seconds later", second, []string{
			`{"n":7,"scope":"machine","cores":2,"busy_percent":30,"user_percent":20,"system_percent":10,"iowait_percent":10}`,
			`{"n":7,"scope":"machine","used_percent":25,"used_bytes":256000,"total_bytes":1024000,"swap_used_bytes":10240}`,
			`{"n":7,"scope":"machine","load_1m":0.5,"load_5m":0.25,"load_15m":0.1,"running_threads":2,"threads":345}`,
			`{"n":7,"scope":"machine","disks":2,"read_bytes":58368,"written_bytes":116736,"read_bytes_per_second":1024,"written_bytes_per_second":2048}`,
			`{"n":7,"scope":"machine","interfaces":1,"received_bytes":3000,"sent_bytes":1500,"received_bytes_per_second":1000,"sent_bytes_per_second":500}`,
		}},
	} {
		names := []string{"cpu", "memory", "load", "disk", "network"}
		if len(test.metrics) != len(names) {
			t.Fatalf("%s: %d metrics, want %d", test.name, len(test.metrics), len(names))
		}
		for i, m := range test.metrics {
			if got := string(m.appendJSON(nil, 7)); m.Name != names[i] || got != test.want[i] {
				t.Errorf("%s: %s %s\nwant %s %s", test.name, m.Name, got, names[i], test.want[i])
			}
		}
	}
}

// Containers hide some of these files; the others are shown all the same.
func TestUnreadableMetricsDoNotHideTheOthers(t *testing.T) {
	proc := machine(statThen, diskThen, devThen)
	delete(proc, "diskstats")
	proc["meminfo"] = &fstest.MapFile{Data: []byte("MemTotal: many kB\n")}
	proc["loadavg"] = &fstest.MapFile{Data: []byte("0.50\n")}
	metrics, err := (&hostReader{proc: proc, now: time.Now}).Read()
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one that tells of the missing file", err)
	}
	if len(metrics) != 2 || metrics[0].Name != "cpu" || metrics[1].Name != "network" {
		t.Errorf("metrics %+v, want cpu and network", metrics)
	}
}

// The formats are the kernel's: this machine's own files must be readable.
func TestThisMachineCanBeRead(t *testing.T) {
	r := newHostReader()
	for range 2 {
		metrics, err := r.Read()
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			t.Error(err)
		}
		if len(metrics) == 0 {
			t.Error("no metrics at all")
		}
	}
}

package main

import (
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// minMemory is the least that SSEBRIDGE_MEMORY may be.
	minMemory Size = 32 << 20
	// plainMemory holds where nothing limits the process.
	plainMemory Size = 256 << 20
	// reservedFiles are the open files that are not clients: broker connections,
	// listeners, the admin listener's connections, files being read.
	reservedFiles = 128
)

// memory returns the effective SSEBRIDGE_MEMORY. root is the root of the file
// system.
func (c *ProcessConfig) memory(root fs.FS) Size {
	if c.Memory > 0 {
		return c.Memory
	}
	// A negative argument asks for GOMEMLIMIT and sets nothing.
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		limit = cgroupMemory(root)
	}
	if limit == math.MaxInt64 {
		return plainMemory
	}
	return max(Size(limit/2), minMemory)
}

// limitHeap makes the garbage collector keep the process below four fifths of the
// cgroup's limit, unless GOMEMLIMIT says where. It returns the limit that holds
// then, 0 for none. SSEBRIDGE_MEMORY is half of the cgroup's limit: without this the
// heap may grow to twice what is used before it is collected, and a container be
// killed that uses half of what it may. What is left is for what is not in the
// heap, of which the kernel's buffers of connections are most.
func limitHeap(root fs.FS, set func(int64) int64) int64 {
	limit := set(-1)
	if limit == math.MaxInt64 {
		if limit = cgroupMemory(root); limit == math.MaxInt64 {
			return 0
		}
		limit = limit / 5 * 4
		set(limit)
	}
	return limit
}

// shares are the parts of SSEBRIDGE_MEMORY. Live bytes and older records are both
// served from memory; neither is of more use than the other before it is known what
// clients ask for. Compressors, where there are some, have their part from both.
type shares struct{ rings, filters, cache, batches, compressors int64 }

func (m Size) shares(compression bool) shares {
	eighth := int64(m) / 8
	s := shares{rings: 3 * eighth, filters: eighth, cache: 3 * eighth, batches: eighth}
	if compression {
		s.compressors = eighth
		s.rings -= eighth / 2
		s.cache -= eighth / 2
	}
	return s
}

// maxClients returns the effective SSEBRIDGE_MAX_CLIENTS; 0 means no limit.
func (c *ProcessConfig) maxClients(openFiles uint64) int {
	if c.MaxClients > 0 || openFiles == 0 {
		return c.MaxClients
	}
	return int(min(max(openFiles, 2*reservedFiles)-reservedFiles, math.MaxInt32))
}

// cgroupMemory returns the memory limit of the process' control group, the
// smallest of it and its parents, or math.MaxInt64 without one. It knows both
// versions (https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.max;
// cgroup-v1/memory.html, memory.limit_in_bytes).
func cgroupMemory(root fs.FS) int64 {
	limit := int64(math.MaxInt64)
	own, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return limit
	}
	for line := range strings.Lines(string(own)) {
		// hierarchy:controllers:path; version 2 has hierarchy 0 and no controllers.
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case controllers == "":
			limit = min(limit, leastLimit(root, "sys/fs/cgroup", group, "memory.max"))
		case strings.Contains(","+controllers+",", ",memory,"):
			limit = min(limit, leastLimit(root, "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
		}
	}
	return limit
}

// leastLimit returns the smallest number in the files called name from
// mount/group up to mount.
func leastLimit(root fs.FS, mount, group, name string) int64 {
	limit := int64(math.MaxInt64)
	for dir := path.Join("/", group); ; dir = path.Dir(dir) {
		if text, err := fs.ReadFile(root, path.Join(mount, dir, name)); err == nil {
			// "max", and what version 1 writes for no limit, stay above all real ones.
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n < 1<<60 {
				limit = min(limit, n)
			}
		}
		if dir == "/" {
			return limit
		}
	}
}

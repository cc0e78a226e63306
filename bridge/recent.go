package bridge

import (
	"hash/maphash"
	"slices"
)

// RecentSubjects is how many subjects [Stream.Recent] returns at most.
const RecentSubjects = recentSets * recentWays

const (
	recentSets = 64
	recentWays = 8
)

// recentSubjects remembers which subjects records had lately, in room that never
// grows: each subject has a set of eight by its hash, in which a new one takes
// the place of the one that came first. Up to some two hundred subjects are
// therefore all kept; of more, one that was pushed out and is still used comes
// back with its next record. It is not safe for concurrent use.
type recentSubjects struct {
	seed maphash.Seed
	sets [recentSets]recentSet
}

type recentSet struct {
	tags     [recentWays]uint32 // a part of each hash, so that most misses need no look at the texts
	next     uint32             // place of the next new one
	subjects [recentWays]string // empty: not used yet
}

// see notes the subject of a record. It allocates nothing and takes some fifty
// nanoseconds, for known subjects and for new ones (BenchmarkRecentSubjects).
func (r *recentSubjects) see(subject string) {
	if subject == "" {
		return
	}
	hash := maphash.String(r.seed, subject)
	set, tag := &r.sets[hash%recentSets], uint32(hash>>32)
	for i, t := range set.tags {
		if t == tag && set.subjects[i] == subject {
			return
		}
	}
	set.tags[set.next], set.subjects[set.next] = tag, subject
	set.next = (set.next + 1) % recentWays
}

// appendTo appends all that are remembered, in no order.
func (r *recentSubjects) appendTo(dst []string) []string {
	for i := range r.sets {
		for _, subject := range r.sets[i].subjects {
			if subject == "" {
				break
			}
			dst = append(dst, subject)
		}
	}
	return dst
}

// Recent returns subjects that records had since this process began to read the
// stream, sorted, at most [RecentSubjects] of them: for people who look for one,
// not as a list of all. The caller may keep the slice.
func (s *Stream) Recent() []string {
	s.mu.Lock()
	subjects := s.recent.appendTo(make([]string, 0, RecentSubjects))
	s.mu.Unlock()
	slices.Sort(subjects)
	return subjects
}

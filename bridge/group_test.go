package bridge

import "testing"

// Clients of one group read the same entries at their own pace, in order, and
// no more than they can write.
func TestCursorsMoveByThemselves(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a")
	g := r.join(NewFilter("s"), "a")
	fast, slow := r.level(g), r.level(g)
	r.records("a", "s", 2)
	r.records("a", "other", 1)
	if got := take(t, fast); got != "a 0@0, a 0@1" {
		t.Errorf("got %q", got)
	}
	r.records("a", "s", 1)
	if got := take(t, fast); got != "a 0@3" {
		t.Errorf("got %q", got)
	}
	if entries, state := fast.Take(nil, 1<<20); state != AtHead || len(entries) != 0 {
		t.Errorf("at the head: %d entries, state %d", len(entries), state)
	}
	for _, want := range []string{"a 0@0", "a 0@1", "a 0@3"} {
		if entries, _ := slow.Take(nil, 1); texts(entries) != want {
			t.Errorf("one byte at a time: got %q, want %q", texts(entries), want)
		}
	}
}

// The feed's head is a client's position only when all that the client is to be
// shown lies behind its cursor. Told any earlier, a cut loses what was pending.
func TestHeadIsNoPositionWhileEntriesArePending(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a")
	g := r.join(NewFilter("s"), "a")
	c := r.level(g)
	r.records("a", "s", 1)
	if id, ok := c.Head(); ok {
		t.Errorf("a client that has not taken its entry is at %s", id)
	}
	take(t, c)
	r.records("a", "other", 1)
	if id, ok := c.Head(); !ok || id != g.Head().Head.String() {
		t.Errorf("position %q, %v, want the head", id, ok)
	}
}

// Losses concern everyone: a filter hides records, not that records are gone.
func TestFindingsReachEveryGroup(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a")
	c := r.level(r.join(NewFilter("never"), "a"))
	r.change("a", Change{Kind: Found, Finding: Finding{Reason: Retention, From: 0, To: 4, Next: Position{1, []Place{{5, 0}, {}}}}})
	r.change("a", Change{Kind: Found, Finding: Finding{Reason: RolledBack, From: 2, To: 4, Next: Position{1, []Place{{2, 0}, {}}}}})
	if got := take(t, c); got != "a retention 0-4, a rolled-back 2-4" {
		t.Errorf("got %q", got)
	}
}

// A reset that a client may want answered otherwise must be in front of it, not
// somewhere in a batch.
func TestOpenResetComesAlone(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a")
	c := r.level(r.join(Filter{}, "a"))
	r.records("a", "s", 1)
	r.change("a", Change{Kind: Found, Finding: Finding{Reason: Recreated, Partition: AllPartitions, To: UnknownOffset, Open: true, Next: Position{2, []Place{{}}}}})
	r.records("a", "s", 1)
	for _, want := range []string{"a 0@0", "a recreated 0--1", "a 0@0"} {
		if got := take(t, c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A client that walks needs every entry, also of records it is not shown, or it
// cannot know when it has become level.
func TestWalkSeesEveryEntry(t *testing.T) {
	r := newLiveRig(t, HubOptions{RingBytes: 2000}, "a")
	g := r.join(NewFilter("s"), "a")
	target := g.Head()
	r.records("a", "other", 1)
	r.records("a", "s", 1)
	r.change("a", Change{Kind: Moved, Partition: 0, Place: Place{5, 0}})
	entries, state := g.Walk(target.Number, target.Generation, nil, 100)
	if state != Going || texts(entries) != "-, a 0@1, -" || entries[2].Place.Offset != 5 || entries[2].Offset != 4 {
		t.Errorf("walked %q, state %d", texts(entries), state)
	}
	entries, _ = g.Walk(target.Number, target.Generation, nil, 1)
	if texts(entries) != "-" {
		t.Errorf("one entry: %q", texts(entries))
	}
	if _, state = g.Walk(target.Number+3, target.Generation, nil, 100); state != AtHead {
		t.Errorf("at the head: state %d", state)
	}
	r.records("a", "s", 50)
	if _, state = g.Walk(target.Number, target.Generation, nil, 100); state != Evicted {
		t.Errorf("behind the ring: state %d", state)
	}
	if _, state = g.Level(target.Number, target.Generation); state != Evicted {
		t.Errorf("level behind the ring: state %d", state)
	}
}

// Whoever is not level when history is in doubt has to ask the broker again.
func TestDoubtStopsWalksAndJoins(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a", "b")
	g := r.join(Filter{}, "a", "b")
	level := r.level(g)
	for name, doubt := range map[string]func(){
		"doubt":     func() { r.Stream("b").Doubt() },
		"reconnect": func() { r.change("a", Change{Kind: Doubted}) },
		"reset": func() {
			r.change("a", Change{Kind: Found, Finding: Finding{Reason: RolledBack, Next: Position{1, []Place{{}, {}}}}})
		},
		"another life of the same history": func() {
			r.change("a", Change{Kind: Started, Position: Position{9, []Place{{}, {}}}})
		},
	} {
		target, changed := g.Head(), g.Changed()
		doubt()
		if !signalled(changed) {
			t.Errorf("%s: those who wait are not told", name)
		}
		if _, state := g.Walk(target.Number, target.Generation, nil, 1); state != Doubtful {
			t.Errorf("%s: walk in state %d, want Doubtful", name, state)
		}
		if _, state := g.Level(target.Number, target.Generation); state != Doubtful {
			t.Errorf("%s: join in state %d, want Doubtful", name, state)
		}
	}
	if got := take(t, level); got != "a rolled-back 0-0" {
		t.Errorf("a level client was told %q", got)
	}
}

// Ten thousand clients must not wake for what they are not shown.
func TestGroupsWakeForWhatTheyAreShown(t *testing.T) {
	r := newLiveRig(t, HubOptions{}, "a")
	g := r.join(NewFilter("s"), "a")
	changed := g.Changed()
	r.records("a", "other", 1)
	r.change("a", Change{Kind: Moved, Partition: 0, Place: Place{5, 0}})
	if signalled(changed) {
		t.Error("woken by a record that the group is not shown")
	}
	r.records("a", "s", 1)
	if !signalled(changed) {
		t.Error("not woken by a record that the group is shown")
	}
	g.StartWalk()
	changed = g.Changed()
	r.records("a", "other", 1)
	if !signalled(changed) {
		t.Error("a walk was not told of an entry")
	}
	g.EndWalk()
	changed = g.Changed()
	r.records("a", "other", 1)
	if signalled(changed) {
		t.Error("woken after the walk ended")
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
)

// truth is what the publisher has put into the broker, told past the bridge, so
// that the page can hold against it what arrives. It is safe for concurrent use.
type truth struct {
	mu  sync.Mutex
	now statement
}

// statement is the truth at one moment, as its JSON.
type statement struct {
	Run     string             `json:"run"` // another one after the demo was started again
	Bridge  bridgeTruth        `json:"bridge"`
	Streams map[string]*annals `json:"streams"`
}

// bridgeTruth is what is known of the bridge's process.
type bridgeTruth struct {
	childState
	Starts int `json:"starts"` // how often a process was started
}

// annals are what one stream holds.
type annals struct {
	Life     int                `json:"life"` // 1, and one more each time it is made again
	Subjects map[string]*extent `json:"subjects"`
}

// extent are the first and the last running number that a subject has in this
// life of its stream. First is last+1 while there is none.
type extent struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

func newTruth() *truth {
	return &truth{now: statement{
		Run:     strconv.FormatUint(rand.Uint64(), 36),
		Bridge:  bridgeTruth{childState: childState{State: "down"}},
		Streams: map[string]*annals{},
	}}
}

// Opened states what a subject held when it was opened.
func (t *truth) Opened(stream, subject string, first, last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.now.Streams[stream]
	if a == nil {
		a = &annals{Life: 1, Subjects: map[string]*extent{}}
		t.now.Streams[stream] = a
	}
	a.Subjects[subject] = &extent{first, last}
}

// Published states that the broker has confirmed a record of a subject that was
// opened.
func (t *truth) Published(stream, subject string, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.now.Streams[stream]; a != nil && a.Subjects[subject] != nil {
		a.Subjects[subject].Last = number
	}
}

// Recreated states that a stream begins a new life, empty.
func (t *truth) Recreated(stream string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.now.Streams[stream]
	if a == nil {
		return
	}
	a.Life++
	for _, e := range a.Subjects {
		e.First = e.Last + 1
	}
}

// Bridge states what has become of the bridge's process.
func (t *truth) Bridge(s childState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.now.Bridge.childState
	if s == before {
		return
	}
	if s.PID != 0 && s.PID != before.PID {
		t.now.Bridge.Starts++
	}
	t.now.Bridge.childState = s
}

// ServeHTTP answers the truth of now. Whoever asks after something has arrived
// gets an answer that tells of it.
func (t *truth) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	t.mu.Lock()
	text, err := json.Marshal(t.now)
	t.mu.Unlock()
	if err != nil {
		panic(fmt.Sprintf("encode %+v: %v", t.now, err)) // text and numbers always encode
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // a reader that left needs no answer
}

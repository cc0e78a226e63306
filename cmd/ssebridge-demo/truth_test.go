package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

// truthOf reads the truth as the page does.
func truthOf(t *testing.T, truth *truth) statement {
	t.Helper()
	w := httptest.NewRecorder()
	truth.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/truth", http.NoBody))
	var s statement
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return s
}

// The page judges by these numbers: a confirmed record that they left out could
// be lost without anybody seeing it.
func TestTruthFollowsThePublisher(t *testing.T) {
	truth := newTruth()
	if got := truthOf(t, truth); len(got.Streams) != 0 || got.Run == "" || got.Bridge.State != "down" {
		t.Errorf("truth at first %+v, want no streams, a run, and a bridge that is down", got)
	}
	truth.Opened("prices", "prices.ACME", 3, 7)
	truth.Published("prices", "prices.ACME", 8)
	truth.Published("prices", "prices.OTHER", 1) // never opened
	truth.Bridge(childState{"running", 17})
	truth.Bridge(childState{"running", 17}) // no news
	got := truthOf(t, truth)
	if e := got.Streams["prices"].Subjects["prices.ACME"]; *e != (extent{3, 8}) || len(got.Streams["prices"].Subjects) != 1 {
		t.Errorf("ACME is stated as %+v, want 3 to 8 and no other", e)
	}
	if got.Bridge.PID != 17 || got.Bridge.Starts != 1 {
		t.Errorf("bridge %+v, want process 17, started once", got.Bridge)
	}

	truth.Recreated("prices")
	truth.Bridge(childState{"waiting", 0})
	truth.Bridge(childState{"running", 18})
	got = truthOf(t, truth)
	if e := got.Streams["prices"].Subjects["prices.ACME"]; got.Streams["prices"].Life != 2 || *e != (extent{9, 8}) {
		t.Errorf("life %d, ACME %+v; want life 2, from 9 on, and none yet", got.Streams["prices"].Life, e)
	}
	if got.Bridge.Starts != 2 {
		t.Errorf("bridge started %d times, want 2", got.Bridge.Starts)
	}
}

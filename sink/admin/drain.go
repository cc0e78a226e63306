package admin

import (
	"net/http"
	"time"
)

// drainInfo is the answer of /drain.
type drainInfo struct {
	Draining bool   `json:"draining"`
	Clients  int    `json:"clients"` // that are told to go
	Over     string `json:"over"`    // time over which that is spread, as in 20s
}

// drainHandler begins the end of the process.
func drainHandler(drain func() (clients int, over time.Duration)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		clients, over := drain()
		writeJSON(w, http.StatusAccepted, drainInfo{true, clients, over.String()})
	})
}

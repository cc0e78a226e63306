package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ssebridge/ssebridge/sink"
)

// The second listener must answer the same probes as the first, and nothing
// that was not put there.
func TestHandlerServesProbesOnly(t *testing.T) {
	h := NewHandler(Options{Probes: sink.NewProbes(sink.ProbeOptions{})})
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/startupz": 200, "/": 404, "/events": 404} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
}

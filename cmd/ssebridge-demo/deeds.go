package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

const (
	// restartPause is how long a bridge that the page has killed stays down, so
	// that people see that it is.
	restartPause = time.Second
	// deedBytes bounds what the page sends.
	deedBytes = 1 << 10
)

// errWords reports a request whose words are not understood.
var errWords = errors.New("not understood")

// deeds are what the page's buttons do.
type deeds struct {
	bridge  bridge
	tabs    *tabs
	streams map[string]stream
	log     *slog.Logger
}

// bridge is a process that can be ended and started.
type bridge interface {
	Start(ctx context.Context) error
	Kill(ctx context.Context) error
	Restart(ctx context.Context, pause time.Duration) (pid int, err error)
}

// stream is one that can be deleted and made again.
type stream interface {
	Recreate(ctx context.Context) error
}

var (
	_ bridge = (*child)(nil)
	_ stream = (*series)(nil)
)

// words are what the page says with a button.
type words struct {
	Tab    string `json:"tab"`
	Stream string `json:"stream"`
}

// Handler serves POST /do/{deed}: kill, stop, start, cut and recreate. Other
// pages of the same browser may not press these buttons.
func (d deeds) Handler() http.Handler {
	mux := http.NewServeMux()
	for name, do := range map[string]func(context.Context, words) (any, error){
		"kill":     d.kill,
		"stop":     d.stop,
		"start":    d.start,
		"cut":      d.cut,
		"recreate": d.recreate,
	} {
		mux.HandleFunc("POST /do/"+name, func(w http.ResponseWriter, r *http.Request) { d.answer(w, r, name, do) })
	}
	return http.NewCrossOriginProtection().Handler(mux)
}

// answer does one deed and says how it went: JSON, or an error as plain text.
func (d deeds) answer(w http.ResponseWriter, r *http.Request, name string, do func(context.Context, words) (any, error)) {
	// A topic of Kafka takes its time to be deleted and made again.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * recreateTimeout)); err != nil {
		d.log.Debug("cannot extend the time for an answer", "error", err)
	}
	said := words{}
	if r.ContentLength != 0 {
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, deedBytes)).Decode(&said); err != nil {
			http.Error(w, "want a small JSON object", http.StatusBadRequest)
			return
		}
	}
	done, err := do(r.Context(), said)
	switch {
	case errors.Is(err, errWords):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, errNoConnection):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		if r.Context().Err() == nil {
			d.log.Error("cannot do what the page asks for", "deed", name, "error", err)
		}
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(done) // a reader that left needs no answer
	}
}

// killed says which process was killed, 0 for none.
type killed struct {
	PID int `json:"pid"`
}

func (d deeds) kill(ctx context.Context, _ words) (any, error) {
	pid, err := d.bridge.Restart(ctx, restartPause)
	return killed{pid}, err
}

func (d deeds) stop(ctx context.Context, _ words) (any, error) {
	return struct{}{}, d.bridge.Kill(ctx)
}

func (d deeds) start(ctx context.Context, _ words) (any, error) {
	return struct{}{}, d.bridge.Start(ctx)
}

func (d deeds) cut(ctx context.Context, said words) (any, error) {
	return d.tabs.Cut(ctx, said.Tab)
}

func (d deeds) recreate(ctx context.Context, said words) (any, error) {
	stream := d.streams[said.Stream]
	if stream == nil {
		return nil, fmt.Errorf("stream %q: %w", said.Stream, errWords)
	}
	return struct{}{}, stream.Recreate(ctx)
}

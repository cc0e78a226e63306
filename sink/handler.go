package sink

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// A Follower is one client's way through its subscription. Its methods are for
// one goroutine; ID may be called after Next has returned an error.
type Follower interface {
	// Next returns the next blocks to write, waiting for them. Everything that a
	// client is told comes this way, heartbeats included.
	//
	// An error ends the follower and may come with last blocks. Only when ctx ends
	// first, its cause is returned, nothing is lost, and Next may be called again.
	Next(ctx context.Context) (bridge.Batch, error)
	// ID is the event id behind all that Next returned and before all that it did
	// not; empty while there is none.
	ID() string
	// Close lets go of what the follower holds.
	Close()
}

// An Opener begins to follow a subscription. It returns soon, as Next does the
// waiting. The caller closes the follower. ctx carries the span of the request.
type Opener func(ctx context.Context, sub bridge.Subscription) (Follower, error)

// Defaults of [Options].
const (
	DefaultPath         = "/events"
	DefaultHeartbeat    = 15 * time.Second
	DefaultRetry        = 3 * time.Second
	DefaultWriteTimeout = 30 * time.Second
)

// Options configure a [Handler]. Open is required; zero values of the others
// mean their defaults.
type Options struct {
	Open Opener
	// Path is where clients connect, default [DefaultPath]; one stream is at
	// Path/name.
	Path string
	// Streams are the names of all configured streams.
	Streams []string
	// StreamFormats are the formats of streams that have another than data; see
	// [EncoderOptions].
	StreamFormats map[string]string
	// Origins may read responses in browsers; none by default.
	Origins Origins
	// Heartbeat is the longest silence on a connection.
	Heartbeat time.Duration
	// Retry is the time after which clients reconnect. Each is told another one,
	// at most half of it away.
	Retry time.Duration
	// WriteTimeout is how long a client may take no bytes at all before its
	// connection is closed.
	WriteTimeout time.Duration
	// MaxAge ends connections after about this time, at most a tenth of it away;
	// 0 means never.
	MaxAge time.Duration
	// MaxClients bounds the clients at a time, 0 means no bound.
	MaxClients int
	// MaxConnectsPerSecond bounds how fast clients connect, in bursts of up to
	// one second's worth; 0 means no bound.
	MaxConnectsPerSecond int
	// MaxPatterns bounds the subjects of one request, 0 means no bound.
	MaxPatterns int
	// Tracer makes the spans of requests; nil: none.
	Tracer trace.Tracer
	// Meter counts clients and what they are written; nil: nothing is counted.
	Meter metric.Meter
	// Logger may be nil.
	Logger *slog.Logger
}

// Handler serves streams to clients. See the package comment for what it
// answers. It is safe for concurrent use. Who stops it calls [Handler.Drain].
type Handler struct {
	opt      Options
	path     string // without a slash at its end
	streams  map[string]bool
	encoders map[form]*Encoder
	onlyData bool // no stream has another format of its own
	clients  clients
	metrics  *metrics
	log      *slog.Logger
	random   func() float64 // in [0, 1)

	refusedOrigin sync.Once // the log line about it
}

// form is what tells one encoder from another.
type form struct {
	format  string
	noNames bool
}

// NewHandler returns a handler. It starts nothing.
func NewHandler(o Options) *Handler {
	if o.Path == "" {
		o.Path = DefaultPath
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	if o.Retry == 0 {
		o.Retry = DefaultRetry
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = DefaultWriteTimeout
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{
		opt: o, path: strings.TrimSuffix(o.Path, "/"), streams: map[string]bool{}, encoders: map[form]*Encoder{},
		clients: clients{max: o.MaxClients, rate: bucket{perSecond: float64(o.MaxConnectsPerSecond)}},
		log:     o.Logger, random: rand.Float64,
	}
	for _, name := range o.Streams {
		h.streams[name] = true
	}
	h.onlyData = true
	for _, format := range o.StreamFormats {
		h.onlyData = h.onlyData && (format == "" || format == FormatData)
	}
	for _, format := range []string{"", FormatData, FormatEnvelope, FormatBase64} {
		for _, noNames := range []bool{false, true} {
			h.encoders[form{format, noNames}] = NewEncoder(EncoderOptions{Format: format, Names: !noNames, StreamFormats: o.StreamFormats})
		}
	}
	h.metrics = newMetrics(o.Meter, h)
	return h
}

const allowedMethods = "GET, HEAD, OPTIONS"

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setHeaders(w.Header(), r)
	stream, route := h.route(r.URL.Path)
	ctx, span := h.startRequest(r, route)
	defer span.End()
	if span.IsRecording() {
		r = r.WithContext(ctx)
	}
	switch {
	case route == "":
		h.refuse(w, r, newProblem(codeNotFound, "", "nothing is served at this path"))
	case r.Method == http.MethodOptions:
		h.answerOptions(w, r)
		endRequest(span, http.StatusNoContent)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", allowedMethods)
		h.refuse(w, r, newProblem(codeMethod, "", "streams are read with GET"))
	default:
		h.answerGet(w, r, stream)
	}
}

// route tells by which of its routes a path is served, "" for none, and the stream
// that it names, if any.
func (h *Handler) route(path string) (stream, route string) {
	if path == h.opt.Path {
		return "", h.opt.Path
	}
	stream, found := strings.CutPrefix(path, h.path+"/")
	if !found || stream == "" || strings.Contains(stream, "/") {
		return "", ""
	}
	return stream, h.path + "/{stream}"
}

func (h *Handler) answerGet(w http.ResponseWriter, r *http.Request, stream string) {
	if !acceptsEventStream(r.Header.Values("Accept")) {
		h.refuse(w, r, newProblem(codeNotAcceptable, "", "the Accept header leaves out text/event-stream, and that is what streams are"))
		return
	}
	sub, err := h.subscription(r, stream)
	if err != nil {
		h.refuse(w, r, problemOf(err))
		return
	}
	out := &response{
		w: w, control: http.NewResponseController(w), timeout: h.opt.WriteTimeout, shared: r.ProtoMajor > 1,
		metrics: h.metrics, request: trace.SpanFromContext(r.Context()), since: time.Now(),
	}
	if r.Method == http.MethodHead {
		out.begin()
		endRequest(out.request, http.StatusOK)
		return
	}
	defer out.finish()
	h.serve(out, r, sub)
}

// refuse answers a request by a problem.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, p *problem.Problem) {
	h.metrics.refuse(p.Code, 1)
	p.Write(w)
	endRequest(trace.SpanFromContext(r.Context()), p.Status)
}

// setHeaders sets what every response carries, whatever its status.
func (h *Handler) setHeaders(header http.Header, r *http.Request) {
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Vary", "Accept, Origin")
	h.allowOrigin(header, r)
}

// serve is the life of one client:
//
//	entering ──► following ──► ended by the client, or by the bridge with closing
//	    └──► closing at once: overload, drain
func (h *Handler) serve(out *response, r *http.Request, sub bridge.Subscription) {
	ctx, stop := context.WithCancelCause(r.Context())
	defer stop(nil)
	c := &client{who: peerOf(r), sub: sub, out: out, stop: stop}
	if refused := h.clients.enter(c, time.Now()); refused != "" {
		if r.ProtoMajor == 1 && refused == closingDrain {
			out.w.Header().Set("Connection", "close")
		}
		h.metrics.refuse(string(refused), 1)
		h.log.Debug("client refused", "address", c.who.address, "reason", string(refused))
		h.sayClosing(out, sub, idText(sub.From), refused)
		return
	}
	h.metrics.opened.Add(ctx, 1)
	defer h.clients.leave(c)
	h.logConnected(c, r)
	if h.opt.MaxAge > 0 {
		age := time.AfterFunc(h.jitter(h.opt.MaxAge, 0.1), func() { c.close(closingMaxAge) })
		defer age.Stop()
	}

	f, err := h.opt.Open(ctx, sub)
	if err != nil {
		h.end(c, r, idText(sub.From), err)
		return
	}
	defer f.Close()
	if told, ok := f.(Reporter); ok {
		c.follower.Store(&told)
	}
	err = follow(ctx, f, out)
	h.end(c, r, f.ID(), err)
}

// end finishes a client's response in the way that its reason asks for, and tells
// the reason to those who count.
func (h *Handler) end(c *client, r *http.Request, id string, err error) {
	reason := leftBecause(err, r.Context().Err())
	h.finish(c.out, r, c.sub, id, err)
	h.metrics.leave(reason, 1)
	h.traceClose(c.out.request.SpanContext(), reason, time.Since(c.since), c.out.events.Load(), c.out.bytes.Load())
	h.logLeft(c, r, reason, err)
}

func (h *Handler) finish(out *response, r *http.Request, sub bridge.Subscription, id string, err error) {
	if errors.Is(err, errClientGone) {
		return
	}
	if reason, ok := errors.AsType[closing](err); ok {
		h.sayClosing(out, sub, id, reason)
		return
	}
	if r.Context().Err() != nil {
		return
	}
	p := problemOf(err)
	if p.Code == codeNoStream {
		p = newProblem(codeNoStream, "", noStreamDetail(sub))
	}
	if p.Code == codeInternal {
		h.log.Error("client could not be served", "error", err)
	}
	switch {
	case p.Status == http.StatusOK:
		h.sayClosing(out, sub, id, closingOverload)
	case !out.begun:
		h.refuse(out.w, r, p)
	}
}

// sayClosing tells a client why its response ends and when to come back, and
// which id to come back with.
func (h *Handler) sayClosing(out *response, sub bridge.Subscription, id string, reason closing) {
	retry := h.opt.Retry
	if reason == closingOverload {
		retry *= 2 // there is more than enough to do
	}
	block := sub.Form.Encoder.AppendEvent(nil, bridge.Event{
		Kind: bridge.ClosingEvent, ID: id, Closing: string(reason), Retry: h.jitter(retry, retrySpread),
	})
	_ = out.write([][]byte{block}) // if it does not arrive, the client has its last id
}

// retrySpread is how far, as a part of it, a retry may be from the configured one.
const retrySpread = 0.5

// jitter returns a time up to the given part of d away from it.
func (h *Handler) jitter(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 - part + 2*part*h.random()))
}

// idText is the text of an id, empty if there is none.
func idText(id bridge.ID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

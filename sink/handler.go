package sink

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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
	// Next returns the next blocks to write, waiting for them; now and then there are
	// none. Everything that a client is told comes this way, heartbeats included.
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

// An Opener begins to follow a subscription, which both share from then on. It
// returns soon, as Next does the waiting. The caller closes the follower. ctx
// carries the span of the request.
type Opener func(ctx context.Context, sub *bridge.Subscription) (Follower, error)

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
	// Codings are the content codings that clients are offered, those liked most
	// first; none by default. Requests with an Authorization header get none, as
	// whoever sees how well a secret is compressed beside a text of his own can
	// guess it.
	Codings []Coding
	// CompressionBytes bounds the memory for compressing; what has none is sent
	// stored.
	CompressionBytes int64
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
	sweeper  atomic.Pointer[sweeper] // nil unless Run runs
	squeeze  *compressors
	newLine  func() (line, error) // tests have other ones
	vary     string               // the header
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
		squeeze: newCompressors(o.Codings, o.CompressionBytes),
		newLine: newEpollLine, log: o.Logger, random: rand.Float64,
	}
	for _, name := range o.Streams {
		h.streams[name] = true
	}
	h.vary = "Accept, Origin"
	if len(o.Codings) > 0 {
		h.vary = "Accept, Accept-Encoding, Origin"
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
		h.refuse(w, trace.SpanFromContext(r.Context()), newProblem(codeNotFound, "", "nothing is served at this path"))
	case r.Method == http.MethodOptions:
		h.answerOptions(w, r)
		endRequest(span, http.StatusNoContent)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", allowedMethods)
		h.refuse(w, trace.SpanFromContext(r.Context()), newProblem(codeMethod, "", "streams are read with GET"))
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
		h.refuse(w, trace.SpanFromContext(r.Context()), newProblem(codeNotAcceptable, "", "the Accept header leaves out text/event-stream, and that is what streams are"))
		return
	}
	sub, err := h.subscription(r, stream)
	if err != nil {
		h.refuse(w, trace.SpanFromContext(r.Context()), problemOf(err))
		return
	}
	c := &client{who: peerOf(r), sub: &sub, out: response{
		w: w, control: http.NewResponseController(w), timeout: h.opt.WriteTimeout, shared: r.ProtoMajor > 1,
		metrics: h.metrics, request: trace.SpanFromContext(r.Context()), since: time.Now(),
	}}
	if coding := h.coding(r); coding != identity {
		c.out.body = &body{coding: coding, control: sub.Control, all: h.squeeze}
	}
	if r.Method == http.MethodHead {
		c.out.begin()
		endRequest(c.out.request, http.StatusOK)
		return
	}
	h.serve(c, r)
}

// coding returns the content coding for the stream that a request asks for.
func (h *Handler) coding(r *http.Request) Coding {
	if len(h.opt.Codings) == 0 || r.Header.Get("Authorization") != "" {
		return identity
	}
	return negotiate(h.opt.Codings, r.Header.Values("Accept-Encoding"))
}

// refuse answers a request, which has this span, by a problem.
func (h *Handler) refuse(w http.ResponseWriter, span trace.Span, p *problem.Problem) {
	h.metrics.refuse(p.Code, 1)
	p.Write(w)
	endRequest(span, p.Status)
}

// setHeaders sets what every response carries, whatever its status.
func (h *Handler) setHeaders(header http.Header, r *http.Request) {
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Vary", h.vary)
	h.allowOrigin(header, r)
}

// serve is the life of one client:
//
//	entering ──► following ──► ended by the client, or by the bridge with closing
//	    │            ▲ │
//	    │            │ ▼ level, over a connection that was taken over
//	    │          seated: a shard writes, and this returns
//	    └──► closing at once: overload, drain
func (h *Handler) serve(c *client, r *http.Request) {
	// Until the connection is taken over, net/http tells that the client has gone.
	unhook := context.AfterFunc(r.Context(), func() { c.stop(errClientGone) })
	if refused := h.clients.enter(c, c.out.since); refused != "" {
		if r.ProtoMajor == 1 && refused == closingDrain {
			c.out.w.Header().Set("Connection", "close")
		}
		h.metrics.refuse(string(refused), 1)
		h.log.Debug("client refused", "address", c.who.address, "reason", string(refused))
		h.sayClosing(&c.out, c.sub, idText(c.sub.From), refused, h.retry(refused))
		c.out.finish(true)
		unhook()
		return
	}
	// Not below the request's context, which would be kept for as long.
	ctx := trace.ContextWithSpanContext(context.Background(), c.out.request.SpanContext())
	h.metrics.opened.Add(ctx, 1)
	h.logConnected(c)
	if s := h.sweeper.Load(); s != nil && r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.TLS == nil {
		c.out.take = func() bool { return h.takeOver(c, s, unhook) }
	}
	if h.opt.MaxAge > 0 {
		c.age = time.AfterFunc(h.jitter(h.opt.MaxAge, 0.1), func() { c.close(closingMaxAge) })
	}
	f, err := h.opt.Open(ctx, c.sub)
	if err != nil {
		h.end(c, err)
	} else {
		c.f = f
		c.opened.Store(true)
		h.run(c)
	}
	unhook()
}

// takeOver takes a client's connection out of net/http's hands.
func (h *Handler) takeOver(c *client, s *sweeper, unhook func() bool) bool {
	if !s.enter() {
		return false
	}
	if !c.out.takeOver(c.out.w.Header()) {
		s.leave()
		return false
	}
	unhook()
	c.out.take = nil
	c.sweeper, c.out.socket = s, socketOf(c.out.conn, h.opt.WriteTimeout)
	sh := s.shardFor()
	c.shard.Store(sh)
	if c.watched = sh.line.watch(c); !c.watched {
		h.log.Debug("connection cannot be watched", "client", c.number)
	}
	return true
}

// run follows a client until it has ended, or the sweeper has it.
func (h *Handler) run(c *client) {
	var seat func() bool
	if f, ok := c.f.(sharer); ok {
		seat = func() bool { return h.seat(c, f) }
	}
	if err := follow(c.begin(), c.f, &c.out, seat); !errors.Is(err, errTaken) {
		h.end(c, err)
	}
}

// seat hands the client to its shard if it is level and its connection is ours.
// After that, only the shard has it.
func (h *Handler) seat(c *client, f sharer) bool {
	if !c.watched || f.Group() == nil {
		return false
	}
	f.Rest()
	c.rest()
	c.shard.Load().send(func(in *inbox) { in.seats = append(in.seats, seating{c, f, c.out.socket}) })
	return true
}

// end finishes a client's response in the way that its reason asks for, lets go
// of all it holds, and tells the reason to those who count.
func (h *Handler) end(c *client, err error) {
	id := idText(c.sub.From)
	if c.f != nil {
		id = c.f.ID()
	}
	reason := leftBecause(err)
	whole := h.finish(&c.out, c.sub, id, err)
	if c.watched {
		c.shard.Load().line.unwatch(c)
	}
	h.metrics.leave(reason, 1)
	h.traceClose(c.out.request.SpanContext(), reason, time.Since(c.out.since), c.out.events.Load(), c.out.bytes.Load())
	h.logLeft(c, reason, err)
	if c.age != nil {
		c.age.Stop()
	}
	if c.f != nil {
		c.f.Close()
	}
	h.clients.leave(c) // whoever waits for either finds all of it told
	c.rest()
	c.out.finish(whole)
	if c.out.body != nil {
		c.out.body.exit()
	}
	if c.sweeper != nil {
		c.sweeper.leave()
	}
}

// finish says to a client what its reason asks for. It returns whether the
// response is whole so far.
func (h *Handler) finish(out *response, sub *bridge.Subscription, id string, err error) (whole bool) {
	if errors.Is(err, errClientGone) || errors.Is(err, errForced) {
		return false
	}
	if reason, ok := errors.AsType[closing](err); ok {
		retry := h.retry(reason)
		if d, ok := errors.AsType[drained](err); ok {
			retry = d.retry
		}
		return h.sayClosing(out, sub, id, reason, retry)
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
		return h.sayClosing(out, sub, id, closingOverload, h.retry(closingOverload))
	case !out.begun:
		h.refuse(out.w, out.request, p)
	}
	return true
}

// sayClosing tells a client why its response ends and when to come back, and
// which id to come back with.
func (h *Handler) sayClosing(out *response, sub *bridge.Subscription, id string, reason closing, retry time.Duration) (whole bool) {
	block := sub.Form.Encoder.AppendEvent(nil, bridge.Event{
		Kind: bridge.ClosingEvent, ID: id, Closing: string(reason), Retry: retry,
	})
	return out.say([][]byte{block}) == nil // if it does not arrive, the client has its last id
}

// retry returns the time after which a client that is closed for a reason is to
// come back, another one for each.
func (h *Handler) retry(reason closing) time.Duration {
	retry := h.opt.Retry
	if reason == closingOverload {
		retry *= 2 // there is more than enough to do
	}
	return h.jitter(retry, retrySpread)
}

// retrySpread is how far, as a part of it, a retry may be from the configured one.
const retrySpread = 0.5

// jitter returns a time up to the given part of d away from it.
func (h *Handler) jitter(d time.Duration, part float64) time.Duration {
	return spread(d, part, h.random())
}

// spread returns a time between those a part of d below and above it: where the
// way from one to the other has come to at, from 0 to 1.
func spread(d time.Duration, part, at float64) time.Duration {
	return time.Duration(float64(d) * (1 - part + 2*part*at))
}

// idText is the text of an id, empty if there is none.
func idText(id bridge.ID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

// Package admin is the second listener: what operators and orchestrators ask,
// kept away from the port that clients can reach.
//
//	/livez /readyz /startupz ──────────────► probes, for everybody
//	/metrics ──────────────────────────────► for everybody
//	/streams ──► access: loopback, or token ──► how far each stream has been read
//	/clients ──►   │                        ──► who is connected, and how far each is
//	/clients/disconnect, /drain ──► POST    ──► sends one away, or all
//	/debug/pprof/, /openapi.json            ──► profiles; this list for programs
//	/inspector/ ──► the page; where a token is needed it asks for it, and gets a
//	                cookie that stands for it (login.go)
//	/events ──► access ──► what the page reads: the clients' own handler
//	everything else ───────────────────────► 404
//
// What streams there are, what they wait for and what they hold is nobody's
// business but the operator's; whom else to give records is for the clients'
// listener to say. On a loopback listener whoever is on the machine may ask, but not
// a web page that has had its name resolved to 127.0.0.1 (DNS rebinding): the
// Host has to be a loopback one. Anywhere else a bearer token is needed, and
// without one configured nothing but the probes and metrics is answered. Web pages
// of other origins can read nothing, and may change nothing either.
//
// Errors are problems (RFC 9457) with a stable code:
//
//	400 bad-query            the query is not percent-encoded pairs
//	400 unknown-parameter    no parameter has this name
//	400 duplicate-parameter  no parameter may be repeated
//	400 bad-parameter        the value is none of those expected
//	400 bad-body             the body is not the JSON that is expected
//	401 unauthorized         the token or login is missing, or does not fit
//	403 foreign-host         no token is set, and the Host is not a loopback one
//	403 cross-origin         a page of another origin would change something
//	403 admin-off            no token is set, and other machines reach the listener
//	404 unknown-stream       no stream of this name is configured
//	404 unknown-client       no client of this id is connected
//	404 no-token             a login where no token is set
//	404 not-found            nothing is at the path
//	405 method-not-allowed   Allow tells which are
//	415 not-json             the Content-Type of a login is not JSON
package admin

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ssebridge/ssebridge/sink"
)

// Options configure the handler of the second listener.
type Options struct {
	Probes http.Handler // as made by [sink.NewProbes]
	// Metrics answers /metrics. nil: there is no such path.
	Metrics http.Handler
	// Streams are those to tell about, in this order.
	Streams []Stream
	// Clients are the connections that are served.
	Clients Clients
	// Drain begins what ends the process in good order. It returns at once, how
	// many clients there are to say goodbye to and over which time that is spread.
	// It may be called again, which changes nothing.
	Drain func() (clients int, over time.Duration)
	// Loopback says that the listener can be reached from this machine only.
	Loopback bool
	// Token returns the present bearer token. It is called for each request that
	// brings one, from any goroutine. nil, or one that returns "": no token fits.
	Token func() string
	// Inspector says whether the inspector is served, at /inspector/, with the
	// events that it reads.
	Inspector bool
	// Events serves the streams at EventsPath of the listener for clients. Here
	// they are at /events, for whoever may ask for the rest. nil: not at all.
	Events     http.Handler
	EventsPath string
	// Version is what the inspector says of the program.
	Version string
}

// NewHandler returns the handler of the second listener.
func NewHandler(o Options) http.Handler {
	mux := http.NewServeMux()
	paths := map[string]methods{}
	for _, r := range routes(o) {
		if paths[r.path] == nil {
			paths[r.path] = methods{}
		}
		paths[r.path][r.method] = r.handler
	}
	for path, m := range paths {
		mux.Handle(path, m)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		kinds.New(codeNotFound, "", "nothing is served at this path").Write(w)
	})
	if o.Inspector {
		o.mountInspector(mux)
	}
	// Browsers send cookies, and reach a loopback address, from pages of anybody.
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		kinds.New(codeCrossOrigin, "", "Sec-Fetch-Site or Origin say that a page of another origin sends this").Write(w)
	}))
	return sink.WithProbes(o.Probes, origins.Handler(mux))
}

// route is one method at one path. A path that ends with a slash is that of
// everything below it.
type route struct {
	method, path string
	handler      http.Handler
}

// routes lists all that is served to programs besides the probes and events.
func routes(o Options) []route {
	may := access{o.Loopback, o.Token}
	guard := may.guard
	list := []route{
		{http.MethodGet, "/streams", guard(streamsHandler(o.Streams))},
		{http.MethodGet, "/clients", guard(clientsHandler(o.Clients, o.Streams))},
		{http.MethodPost, "/clients/disconnect", guard(disconnectHandler(o.Clients))},
		{http.MethodPost, "/drain", guard(drainHandler(o.Drain))},
		{http.MethodGet, "/openapi.json", guard(http.HandlerFunc(serveOpenAPI))},
	}
	for _, p := range profiles() {
		p.handler = guard(p.handler)
		list = append(list, p)
	}
	if o.Inspector {
		list = append(list,
			route{http.MethodGet, inspectorPath + "config.json", guard(o.config(true, may.loggedIn))},
			route{http.MethodPost, inspectorPath + "login", may.front(http.HandlerFunc(may.login))},
			route{http.MethodPost, inspectorPath + "logout", may.front(http.HandlerFunc(may.logout))},
		)
	}
	if o.Metrics != nil {
		list = append(list, route{http.MethodGet, "/metrics", o.Metrics})
	}
	return list
}

// methods is what a path answers, by method.
type methods map[string]http.Handler

// ServeHTTP answers HEAD as GET; net/http leaves out the body.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if h := m[method]; h != nil {
		h.ServeHTTP(w, r)
		return
	}
	allowed := slices.Sorted(maps.Keys(m))
	if m[http.MethodGet] != nil {
		allowed = append(allowed, http.MethodHead)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	kinds.New(codeMethod, "", "want "+strings.Join(allowed, " or ")).Write(w)
}

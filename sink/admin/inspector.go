package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// inspectorPath is where the inspector is, on either listener.
const inspectorPath = "/inspector/"

// eventsPath is where the admin listener serves events, wherever the other one
// does: nothing else here has that path.
const eventsPath = "/events"

// inspectorPolicy lets the page load and ask nothing but what is served beside
// it, run no code that is not in its files, and be framed by nobody.
const inspectorPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mountInspector adds the page and the events that it reads to the admin listener.
func (o Options) mountInspector(mux *http.ServeMux) {
	may := access{o.Loopback, o.Token}
	mux.Handle(inspectorPath, methods{http.MethodGet: may.front(inspectorFiles())})
	mux.Handle("/{$}", methods{http.MethodGet: http.RedirectHandler(inspectorPath, http.StatusFound)})
	if o.Events != nil {
		events := may.guard(movedFrom(o.EventsPath, o.Events))
		mux.Handle(eventsPath, events)
		mux.Handle(eventsPath+"/", events)
	}
}

// WithInspector returns the handler of the listener for clients when the
// inspector is public: it is at /inspector/ beside the events, and knows as much
// as they tell.
func WithInspector(o Options, events http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(inspectorPath, methods{http.MethodGet: inspectorFiles()})
	mux.Handle(inspectorPath+"config.json", methods{http.MethodGet: o.config(false, func(*http.Request) bool { return false })})
	root := strings.TrimSuffix(inspectorPath, "/")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == root || strings.HasPrefix(r.URL.Path, inspectorPath) {
			mux.ServeHTTP(w, r)
		} else {
			events.ServeHTTP(w, r)
		}
	})
}

// InspectorClaims reports whether the inspector would be served at a path.
func InspectorClaims(path string) bool { return strings.HasPrefix(path+"/", inspectorPath) }

// movedFrom serves at /events what h serves at from.
func movedFrom(from string, h http.Handler) http.Handler {
	if from == "" || from == eventsPath {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		moved := r.Clone(r.Context())
		moved.URL.Path = from + strings.TrimPrefix(r.URL.Path, eventsPath)
		moved.URL.RawPath = ""
		h.ServeHTTP(w, moved)
	})
}

// inspectorConfig is the answer of config.json: what the page has to know.
type inspectorConfig struct {
	Admin   bool              `json:"admin"`   // it is on the admin listener
	Session bool              `json:"session"` // a login let the request in, so it can be ended
	Version string            `json:"version"`
	Events  string            `json:"events"` // path of the events on the same listener
	Streams []inspectorStream `json:"streams"`
}

type inspectorStream struct {
	Name     string   `json:"name"`
	Broker   string   `json:"broker"`
	Subjects []string `json:"subjects"` // its subject space, as patterns; null until the broker has told it
	Recent   []string `json:"recent"`   // subjects of real records, see [bridge.Stream.Recent]
}

// config answers config.json. session says whether a request was let in by a login.
func (o Options) config(admin bool, session func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := inspectorConfig{Admin: admin, Session: session(r), Version: o.Version, Events: eventsPath, Streams: []inspectorStream{}}
		if !admin && o.EventsPath != "" {
			answer.Events = o.EventsPath
		}
		for _, s := range o.Streams {
			info := inspectorStream{Name: s.Name(), Broker: s.kind(), Recent: s.Recent()}
			if st := s.Status(); st.SpaceKnown {
				info.Subjects = make([]string, 0, len(st.Space))
				for _, p := range st.Space {
					info.Subjects = append(info.Subjects, string(p))
				}
			}
			answer.Streams = append(answer.Streams, info)
		}
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		writeJSON(w, http.StatusOK, answer)
	})
}

// kind is the kind of the broker, without the cluster, which is the operator's.
func (s Stream) kind() string {
	kind, _, _ := strings.Cut(s.Broker, "@")
	return kind
}

// contentTypes are those of the files there are; no other kind is served.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is one of the inspector's files, as it is sent.
type file struct {
	contentType, etag string
	body              []byte
}

// inspectorFiles serves the page. A new build may have another one, so browsers
// ask each time, and are told when it is still the same.
func inspectorFiles() http.Handler {
	files := map[string]file{}
	root := Static()
	for kind, contentType := range contentTypes {
		names, err := fs.Glob(root, "*"+kind)
		if err != nil {
			continue // cannot be: the pattern is valid
		}
		for _, name := range names {
			if body, err := fs.ReadFile(root, name); err == nil {
				sum := sha256.Sum256(body)
				files[inspectorPath+name] = file{contentType, `"` + hex.EncodeToString(sum[:12]) + `"`, body}
			}
		}
	}
	files[inspectorPath] = files[inspectorPath+"index.html"]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.URL.Path]
		if !ok {
			kinds.New(codeNotFound, "", "the inspector has no such file").Write(w)
			return
		}
		header := w.Header()
		header.Set("Content-Type", f.contentType)
		header.Set("Content-Security-Policy", inspectorPolicy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-cache")
		header.Set("ETag", f.etag)
		http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(f.body))
	})
}

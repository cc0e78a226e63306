package sink

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// Origins are the web origins whose pages may read responses. The zero value
// has none.
type Origins struct {
	texts   []string
	exact   map[string]bool
	anyPort map[string]bool
}

// ParseOrigins reads origins as browsers send them, such as
// https://app.example or http://localhost:5173. The only wildcard is a port, as
// in http://localhost:*, which includes none at all. The error has every problem
// that was found.
func ParseOrigins(texts []string) (Origins, error) {
	o := Origins{texts: slices.Clone(texts), exact: map[string]bool{}, anyPort: map[string]bool{}}
	var errs []error
	for _, text := range texts {
		base, wild := strings.CutSuffix(text, ":*")
		if err := checkOrigin(base, wild); err != nil {
			errs = append(errs, fmt.Errorf("origin %.100q: %w", text, err))
			continue
		}
		if wild {
			o.anyPort[base] = true
		} else {
			o.exact[base] = true
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Origins{}, err
	}
	return o, nil
}

// checkOrigin says what is wrong with an origin. wild: a port wildcard follows.
func checkOrigin(text string, wild bool) error {
	if strings.Contains(text, "*") {
		return errors.New("want an exact origin; the only wildcard is a port, as in http://localhost:*")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Hostname() == "" {
		return errors.New("want scheme://host or scheme://host:port")
	}
	defaultPort := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	exact := u.Scheme + "://" + strings.ToLower(u.Host)
	switch {
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }):
		return errors.New("browsers send the host in ASCII, as xn--…: write it so")
	case wild && u.Port() != "":
		return errors.New("want one port or *, not both")
	case u.Port() != "" && u.Port() == defaultPort:
		return fmt.Errorf("browsers leave out the port %s: write %s://%s", defaultPort, u.Scheme, u.Hostname())
	case strings.HasSuffix(u.Host, ":"):
		return errors.New("want a port behind the colon")
	case text != exact:
		return fmt.Errorf("browsers send %.100s: write it so", exact)
	}
	return nil
}

// Allows reports whether an origin, as a browser sent it, is one of them.
func (o Origins) Allows(origin string) bool {
	if o.exact[origin] || o.anyPort[origin] {
		return true
	}
	i := strings.LastIndexByte(origin, ':')
	if i < 0 {
		return false
	}
	base, port := origin[:i], origin[i+1:]
	return port != "" && len(port) <= 5 && strings.Trim(port, "0123456789") == "" && o.anyPort[base]
}

// allowOrigin lets the page that asks read the response if it may. Otherwise
// the browser keeps the response from it.
func (h *Handler) allowOrigin(header http.Header, r *http.Request) {
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
	case h.opt.Origins.Allows(origin):
		header.Set("Access-Control-Allow-Origin", origin)
	case strings.HasSuffix(origin, "://"+r.Host): // the same origin needs no leave
	case checkOrigin(origin, false) == nil:
		h.refusedOrigin.Do(func() {
			h.log.Warn("a page of another origin was refused; later ones are not logged", "origin", problem.Shorten(origin, 200),
				"to_allow_it", "SSEBRIDGE_CORS_ORIGINS="+strings.Join(append(slices.Clone(h.opt.Origins.texts), problem.Shorten(origin, 200)), ","))
		})
	}
}

// answerOptions answers a browser that asks before a request, and whoever else
// asks for the methods.
func (h *Handler) answerOptions(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Allow", allowedMethods)
	if header.Get("Access-Control-Allow-Origin") != "" && r.Header.Get("Access-Control-Request-Method") != "" {
		header.Set("Access-Control-Allow-Methods", "GET, HEAD")
		header.Set("Access-Control-Allow-Headers", "last-event-id, authorization, cache-control, content-type")
		header.Set("Access-Control-Max-Age", "7200") // the most that Chromium keeps
	}
	w.WriteHeader(http.StatusNoContent)
}

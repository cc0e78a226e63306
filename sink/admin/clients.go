package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink"
	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// Clients are the connections that are served, as [sink.Handler] has them.
type Clients interface {
	ClientList(after uint64, limit int, stream string) sink.ClientPage
	Disconnect(number uint64) bool
}

// Bounds of what is asked for at once.
const (
	defaultClients = 100
	maxClients     = 1000
	maxBodyBytes   = 4 << 10
)

// clientsInfo is the answer of /clients.
type clientsInfo struct {
	Total   int          `json:"total"` // clients on all pages
	Clients []clientInfo `json:"clients"`
	Next    string       `json:"next,omitempty"` // the parameter after of the next page
}

// clientInfo is a client in the answer of /clients. Ids are text, as numbers in
// JSON lose digits.
type clientInfo struct {
	ID        string           `json:"id"`
	Address   string           `json:"address"`
	Since     time.Time        `json:"since"`
	State     string           `json:"state"`
	Streams   []string         `json:"streams"`          // empty until it is known which they are
	Subjects  []bridge.Pattern `json:"subjects"`         // empty: everything
	Format    string           `json:"format,omitempty"` // left out: what each stream is configured for
	Protocol  string           `json:"protocol"`
	UserAgent string           `json:"userAgent,omitempty"`
	Position  string           `json:"position,omitempty"`
	Lag       *bridge.Offset   `json:"lag,omitempty"` // the most records that it has still to get
	Events    uint64           `json:"events"`
	Bytes     uint64           `json:"bytes"`
}

// clientsHandler tells who is connected as JSON, page by page.
func clientsHandler(clients Clients, streams []Stream) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, p := readClientsQuery(r.URL.RawQuery, streams)
		if p != nil {
			p.Write(w)
			return
		}
		page := clients.ClientList(q.after, q.limit, q.stream)
		answer := clientsInfo{Total: page.Total, Clients: make([]clientInfo, 0, len(page.Clients))}
		for _, c := range page.Clients {
			answer.Clients = append(answer.Clients, infoOf(c))
		}
		if page.More {
			answer.Next = answer.Clients[len(answer.Clients)-1].ID
		}
		writeJSON(w, http.StatusOK, answer)
	})
}

func infoOf(c sink.ClientInfo) clientInfo {
	info := clientInfo{
		ID: clientID(c.Number), Address: c.Address, Since: c.Since.UTC(), State: c.State, Streams: c.Streams, Subjects: c.Subjects, Format: c.Format,
		Protocol: c.Protocol, UserAgent: c.UserAgent, Position: c.Position, Events: c.Events, Bytes: c.Bytes,
	}
	if c.LagKnown {
		info.Lag = &c.Lag
	}
	if info.Streams == nil {
		info.Streams = []string{}
	}
	if info.Subjects == nil {
		info.Subjects = []bridge.Pattern{}
	}
	return info
}

func clientID(number uint64) string { return strconv.FormatUint(number, 10) }

// clientsQuery is what the parameters of /clients ask for.
type clientsQuery struct {
	after  uint64
	limit  int
	stream string
}

func readClientsQuery(raw string, streams []Stream) (clientsQuery, *problem.Problem) {
	q := clientsQuery{limit: defaultClients}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return q, kinds.New(codeBadQuery, "", "want name=value pairs with & between them, percent-encoded")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		value := query[name][0]
		var err error
		switch name {
		case "after":
			if q.after, err = strconv.ParseUint(value, 10, 64); err != nil {
				return q, kinds.New(codeBadParameter, name, "parameter after: want the id of a client, as next has it")
			}
		case "limit":
			if q.limit, err = strconv.Atoi(value); err != nil || q.limit < 1 || q.limit > maxClients {
				return q, kinds.New(codeBadParameter, name, fmt.Sprintf("parameter limit: want a number from 1 to %d", maxClients))
			}
		case "stream":
			if !slices.ContainsFunc(streams, func(s Stream) bool { return s.Name() == value }) {
				return q, kinds.New(codeUnknownStream, name, fmt.Sprintf("stream %q is not configured", problem.Shorten(value, 64)))
			}
			q.stream = value
		default:
			return q, kinds.New(codeUnknownParameter, name, fmt.Sprintf("parameter %q is not known: want after, limit or stream", problem.Shorten(name, 64)))
		}
		if len(query[name]) > 1 {
			return q, kinds.New(codeDuplicateParameter, name, fmt.Sprintf("parameter %s is given %d times", name, len(query[name])))
		}
	}
	return q, nil
}

// disconnectHandler sends one client away.
func disconnectHandler(clients Clients) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			ID string `json:"id"`
		}
		if err := readJSON(w, r, &body); err != nil {
			kinds.New(codeBadBody, "", `want {"id":"17"}, with an id of /clients`).Write(w)
			return
		}
		number, err := strconv.ParseUint(body.ID, 10, 64)
		if err != nil {
			kinds.New(codeBadBody, "id", "id: want the id of a client, as /clients has it").Write(w)
			return
		}
		if !clients.Disconnect(number) {
			kinds.New(codeUnknownClient, "id", fmt.Sprintf("client %d is not connected", number)).Write(w)
			return
		}
		writeJSON(w, http.StatusOK, disconnectInfo{1})
	})
}

// disconnectInfo is the answer of /clients/disconnect.
type disconnectInfo struct {
	Disconnected int `json:"disconnected"`
}

// readJSON reads the one JSON value that a short body holds.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

// writeJSON answers for people and programs alike.
func writeJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(answer) // whoever asked may have gone
}

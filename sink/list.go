package sink

import (
	"net/http"
	"slices"
	"time"
	"unique"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// A Reporter is a [Follower] that tells operators how far it is. It is found by
// type assertion. Its methods may be called at any time and by any goroutine,
// also after Close, and return at once.
type Reporter interface {
	Status() bridge.FollowerStatus
	// Streams returns the names of the streams that are followed; none while it is
	// not known which they are.
	Streams() []string
}

// maxUserAgentBytes and maxPathBytes bound what is kept of how a client calls
// itself, and of the path that it asked for.
const (
	maxUserAgentBytes = 200
	maxPathBytes      = 200
)

// peer is who sent a request, in the client's words but for the address.
type peer struct {
	address string
	agent   unique.Handle[agent] // most clients are like others
}

type agent struct{ protocol, userAgent, path string }

func peerOf(r *http.Request) peer {
	return peer{r.RemoteAddr, unique.Make(agent{
		r.Proto, problem.Shorten(r.UserAgent(), maxUserAgentBytes), problem.Shorten(r.URL.Path, maxPathBytes),
	})}
}

// ClientInfo tells an operator about one client.
type ClientInfo struct {
	Number    uint64 // in the order in which they came; never given twice
	Address   string // that the connection comes from, with its port
	Since     time.Time
	State     string           // entering, catching-up, level or closing
	Streams   []string         // that it follows; none while that is not known
	Subjects  []bridge.Pattern // that it asked for; none: everything
	Format    string           // that it asked for; empty: what each stream is configured for
	Protocol  string           // as HTTP/1.1
	UserAgent string           // shortened, and whatever the client says
	// Position, Lag and LagKnown are as in [bridge.FollowerStatus].
	Position string
	Lag      bridge.Offset
	LagKnown bool
	Events   uint64 // written, without heartbeats
	Bytes    uint64 // written, without heads and framing
}

// ClientPage is a part of the list of clients.
type ClientPage struct {
	Clients []ClientInfo // by number
	Total   int          // how many there are in all
	More    bool         // there are clients behind the last one of this page
}

// ClientList returns up to limit clients behind number after, 0 for the first
// ones. stream chooses those that follow it, empty all.
func (h *Handler) ClientList(after uint64, limit int, stream string) ClientPage {
	list := h.clients.inside()
	if stream != "" {
		list = slices.DeleteFunc(list, func(c *client) bool { return !slices.Contains(c.streams(), stream) })
	}
	page := ClientPage{Total: len(list)}
	list = slices.DeleteFunc(list, func(c *client) bool { return c.number <= after })
	sortClients(list)
	if page.More = len(list) > limit; page.More {
		list = list[:limit]
	}
	for _, c := range list {
		info := c.info()
		if info.Format == "" && h.onlyData {
			info.Format = FormatData
		}
		page.Clients = append(page.Clients, info)
	}
	return page
}

// Disconnect tells a client, by its number, to come back, and ends its response:
// closing, reason disconnect, with a retry and the id to go on from. It returns
// at once, and false if there is no such client. One that takes no bytes is gone
// when its write timeout has passed.
func (h *Handler) Disconnect(number uint64) bool {
	c := h.clients.find(number)
	if c == nil {
		return false
	}
	c.close(closingDisconnect)
	return true
}

// streams returns the names of the streams that the client follows.
func (c *client) streams() []string {
	if f := c.reporter(); f != nil {
		return f.Streams()
	}
	return nil
}

// reporter returns the client's follower, nil if it does not report, or is not open
// yet.
func (c *client) reporter() Reporter {
	if !c.opened.Load() {
		return nil
	}
	r, _ := c.f.(Reporter)
	return r
}

func (c *client) info() ClientInfo {
	agent := c.who.agent.Value()
	info := ClientInfo{
		Number: c.number, Address: c.who.address, Since: c.out.since, State: "entering", Streams: c.streams(), Subjects: c.sub.Filter.Patterns(),
		Format: c.sub.Form.Format, Protocol: agent.protocol, UserAgent: agent.userAgent,
		Position: idText(c.sub.From), Events: c.out.events.Load(), Bytes: c.out.bytes.Load(),
	}
	if f := c.reporter(); f != nil {
		st := f.Status()
		info.State, info.Position, info.Lag, info.LagKnown = st.State, st.ID, st.Lag, st.LagKnown
	}
	if c.closing.Load() {
		info.State = "closing"
	}
	return info
}

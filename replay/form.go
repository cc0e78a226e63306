package replay

import (
	"sync"

	"github.com/ssebridge/ssebridge/bridge"
)

// formBytes is what a form of a chunk costs besides its units, unitSlotBytes what it
// costs for each record of the chunk, and unitRoundBytes what is lost to rounding
// for each unit.
const (
	formBytes      = 256
	unitSlotBytes  = 24
	unitRoundBytes = 16
)

// formKey names the form of a chunk's records.
type formKey struct {
	bridge.Form
	// alone: the subscription is over this one partition and nothing else, so that
	// a record's event id is the same for everybody and part of its unit. Else a
	// unit has no end, and each client adds one with its own id.
	alone bool
}

// encoded is the records of a chunk in one form: each is encoded when the first
// client is shown it, and shared.
type encoded struct {
	key  formKey
	name string // of the stream
	at   bridge.Incarnation
	end  int // length of the end without an id

	mu    sync.RWMutex
	units [][]byte // by record; nil: not yet
	fresh int64    // bytes that the cache has not been told of
}

// form returns the records of a chunk in one form. The chunk's stream is called
// name.
func (c *Cache) form(h *held, name string, at bridge.Incarnation, key formKey) *encoded {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := h.forms[key]
	if e == nil {
		e = &encoded{
			key: key, name: name, at: at, end: len(key.Encoder.AppendEnd(nil, "")),
			units: make([][]byte, len(h.Records)),
		}
		if h.forms == nil {
			h.forms = map[formKey]*encoded{}
		}
		h.forms[key] = e
		c.grow(h, formBytes+unitSlotBytes*int64(len(h.Records)))
	}
	return e
}

// settle counts what a form has grown by since it was counted last.
func (c *Cache) settle(h *held, e *encoded) {
	e.mu.Lock()
	n := e.fresh
	e.fresh = 0
	e.mu.Unlock()
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.forms[e.key] == e {
		c.grow(h, n)
	}
}

// grow counts bytes that a chunk holds more. Where that is too much even when
// everything else is let go of, the chunk's forms are: whoever reads them has them.
// The caller holds mu.
func (c *Cache) grow(h *held, n int64) {
	if h.run == nil {
		return // whoever has it is the last one
	}
	h.bytes += n
	h.formed += n
	c.take(h.run, n)
	c.makeRoom(h)
	if c.stats.Bytes > c.limit {
		c.take(h.run, -h.formed)
		h.bytes -= h.formed
		h.formed, h.forms = 0, nil
	}
}

// unit returns a record of the chunk encoded: a complete unit if the key says
// alone, else one without its end; empty if nobody is shown the record. It is shared
// and must not be changed.
func (e *encoded) unit(n int, r *bridge.Record) []byte {
	e.mu.RLock()
	u := e.units[n]
	e.mu.RUnlock()
	if u == nil {
		u = e.encode(n, r)
	}
	return u
}

func (e *encoded) encode(n int, r *bridge.Record) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.units[n] != nil {
		return e.units[n] // somebody was faster
	}
	ev := bridge.Event{Kind: bridge.RecordEvent, Stream: e.name, Record: r}
	if e.key.alone {
		id := bridge.ID{{Stream: e.name, Position: bridge.Position{Incarnation: e.at, Places: []bridge.Place{r.Next()}}}}
		ev.ID = id.String()
	}
	made := e.key.Encoder.AppendEvent(nil, ev)
	if !e.key.alone && len(made) > 0 {
		made = made[:len(made)-e.end]
	}
	u := append(make([]byte, 0, len(made)), made...) // it is kept: without room to grow
	e.units[n] = u
	e.fresh += int64(len(u)) + int64(len(u))/8 + unitRoundBytes
	return u
}

package sink

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/internal/problem"
)

// subscription reads what a request asks for. pathStream is the stream that its
// path names, if any. The error is a *problem.Problem.
func (h *Handler) subscription(r *http.Request, pathStream string) (bridge.Subscription, error) {
	sub := bridge.Subscription{
		Control: true, Heartbeat: h.opt.Heartbeat, Retry: h.jitter(h.opt.Retry, retrySpread),
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return sub, newProblem(codeBadQuery, "", "want name=value pairs with & between them, percent-encoded")
	}
	streams := query["stream"]
	if pathStream != "" {
		streams = append([]string{pathStream}, streams...)
	}
	if sub.Names, err = h.streamNames(streams); err != nil {
		return sub, err
	}
	if sub.Filter, err = h.filter(query["subject"]); err != nil {
		return sub, err
	}
	idName := ""
	for _, name := range slices.Sorted(maps.Keys(query)) {
		value := query[name][0]
		switch name {
		case "subject", "stream":
			continue
		case "lastEventId", "last-event-id", "lastEventID", "last_event_id":
			if idName != "" {
				return sub, newProblem(codeDuplicateParameter, name, fmt.Sprintf("%s and %s are the same parameter", idName, name))
			}
			idName = name
		case "start":
			sub.Start, err = parseStart(value, time.Now())
		case "format":
			sub.Form.Format, err = value, CheckFormat(value)
		case "on-reset":
			sub.OnReset, err = parseOnReset(value)
		case "names":
			sub.Form.NoNames, err = parseOff(value)
		case "control":
			var off bool
			off, err = parseOff(value)
			sub.Control = !off
		default:
			return sub, newProblem(codeUnknownParameter, name, fmt.Sprintf("parameter %q is not known", problem.Shorten(name, 64)))
		}
		if len(query[name]) > 1 {
			return sub, newProblem(codeDuplicateParameter, name, fmt.Sprintf("parameter %s is given %d times", name, len(query[name])))
		}
		if err != nil {
			return sub, newProblem(codeBadParameter, name, fmt.Sprintf("parameter %s: %v", name, err))
		}
	}
	if sub.Form.Format == FormatData && h.onlyData {
		sub.Form.Format = "" // the same bytes, so the same feed
	}
	sub.Form.Encoder = h.encoders[form{sub.Form.Format, sub.Form.NoNames}]
	err = readID(&sub, r.Header.Values("Last-Event-ID"), idName, query.Get(idName))
	return sub, err
}

// readID takes the event id from the header, or else from the query. Nobody can
// mend what a client library sends by itself, so an unreadable header is
// answered in the stream; a query was written by somebody who is told.
func readID(sub *bridge.Subscription, header []string, parameter, value string) error {
	header = slices.DeleteFunc(slices.Clone(header), func(line string) bool { return line == "" })
	var err error
	switch {
	case len(header) > 0:
		sub.From, err = bridge.ParseID(strings.Join(header, ", "))
		sub.Unreadable = err != nil
	case value != "":
		if sub.From, err = bridge.ParseID(value); err != nil {
			return newProblem(codeUnreadableID, parameter, fmt.Sprintf("parameter %s: %v", parameter, err))
		}
	}
	return nil
}

// streamNames checks the names of streams and returns them without doubles.
func (h *Handler) streamNames(names []string) ([]string, error) {
	for _, name := range names {
		if !h.streams[name] {
			return nil, newProblem(codeUnknownStream, "stream", fmt.Sprintf("stream %q is not configured", problem.Shorten(name, 64)))
		}
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// filter makes the filter of the subjects asked for.
func (h *Handler) filter(subjects []string) (bridge.Filter, error) {
	if limit := h.opt.MaxPatterns; limit > 0 && len(subjects) > limit {
		return bridge.Filter{}, newProblem(codeTooManySubjects, "subject", fmt.Sprintf("parameter subject is given %d times, want at most %d", len(subjects), limit))
	}
	patterns := make([]bridge.Pattern, 0, len(subjects))
	for _, subject := range subjects {
		p, err := bridge.ParsePattern(subject)
		if err != nil {
			return bridge.Filter{}, newProblem(codeBadSubject, "subject", fmt.Sprintf("parameter subject: %v", err))
		}
		patterns = append(patterns, p)
	}
	return bridge.NewFilter(patterns...), nil
}

var errStart = errors.New("want new, all, a time such as 2026-01-31T12:00:00Z, or a duration back from now such as 15m")

// parseStart reads where a client without an event id begins.
func parseStart(value string, now time.Time) (*bridge.Start, error) {
	switch value {
	case "new":
		return &bridge.Start{Kind: bridge.StartNew}, nil
	case "all":
		return &bridge.Start{Kind: bridge.StartAll}, nil
	}
	if d, err := time.ParseDuration(value); err == nil {
		if d <= 0 {
			return nil, errStart
		}
		return &bridge.Start{Kind: bridge.StartAt, At: now.Add(-d)}, nil
	}
	// A plus that was not percent-encoded, as in 12:00:00+02:00, arrives as a blank.
	at, err := time.Parse(time.RFC3339, strings.Replace(value, " ", "+", 1))
	if err != nil {
		return nil, errStart
	}
	return &bridge.Start{Kind: bridge.StartAt, At: at}, nil
}

func parseOnReset(value string) (bridge.OnReset, error) {
	switch o := bridge.OnReset(value); o {
	case bridge.ResetSince, bridge.ResetAll, bridge.ResetNew, bridge.ResetFail:
		return o, nil
	}
	return "", errors.New("want since, all, new or fail")
}

// parseOff reads a switch that is on unless it is turned off.
func parseOff(value string) (off bool, err error) {
	switch value {
	case "off":
		return true, nil
	case "on":
		return false, nil
	}
	return false, errors.New("want on or off")
}

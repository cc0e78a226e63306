package sink

import (
	"errors"
	"mime"
	"strconv"
	"strings"
)

// acceptsEventStream reports whether an Accept header, given as its lines, lets
// text/event-stream through (RFC 9110, section 12.5.1): the most specific range
// that matches decides. No header, and an empty one, accept everything.
func acceptsEventStream(lines []string) bool {
	header := strings.TrimSpace(strings.Join(lines, ","))
	if header == "" {
		return true
	}
	best, quality := 0, 0.0
	for item := range strings.SplitSeq(header, ",") {
		media, parameters, err := mime.ParseMediaType(item)
		if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
			continue
		}
		specific := map[string]int{"*/*": 1, "text/*": 2, "text/event-stream": 3}[media]
		if specific == 0 || specific < best {
			continue
		}
		q := 1.0
		if v, err := strconv.ParseFloat(parameters["q"], 64); err == nil {
			q = v
		}
		if specific > best {
			best, quality = specific, 0
		}
		quality = max(quality, q)
	}
	return quality > 0
}

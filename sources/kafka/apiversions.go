package kafka

import "fmt"

// API keys of the protocol guide.
const (
	keyFetch       int16 = 1
	keyListOffsets int16 = 2
	keyMetadata    int16 = 3
	keyAPIVersions int16 = 18
	keyEpochEnd    int16 = 23
)

// api is what this package can speak of one API: versions from oldest to
// newest, of which those from flexible on have the compact encoding.
type api struct {
	key, oldest, newest, flexible int16
	name                          string
}

// The APIs in use, with the reason for the newest version of each.
var (
	apiFetch       = api{keyFetch, 11, 13, 12, "Fetch"}                // 12: last fetched epoch; 13: topic ids (KIP-516)
	apiListOffsets = api{keyListOffsets, 4, 7, 6, "ListOffsets"}       // 4: leader epochs
	apiMetadata    = api{keyMetadata, 8, 12, 9, "Metadata"}            // 10: topic ids
	apiEpochEnd    = api{keyEpochEnd, 3, 4, 4, "OffsetForLeaderEpoch"} // 3: open to consumers
	apiAPIVersions = api{keyAPIVersions, 0, 0, 3, "ApiVersions"}       // any broker answers 0
)

// versions are the newest versions that a broker and this package have in common.
type versions struct{ fetch, listOffsets, metadata, epochEnd int16 }

// decodeVersions reads an answer to ApiVersions (key 18) version 0.
func decodeVersions(d *decoder) (map[int16][2]int16, error) {
	if c := code(d.int16()); c != codeNone {
		return nil, fmt.Errorf("ApiVersions: %v", c)
	}
	ranges := map[int16][2]int16{}
	d.array(func() {
		key := d.int16()
		ranges[key] = [2]int16{d.int16(), d.int16()}
	})
	return ranges, d.err()
}

// choose picks the versions to speak with a broker. fetchCap bounds that of
// Fetch; 0 means no bound.
func choose(ranges map[int16][2]int16, fetchCap int16) (v versions, err error) {
	for _, c := range []struct {
		api api
		to  *int16
	}{{apiFetch, &v.fetch}, {apiListOffsets, &v.listOffsets}, {apiMetadata, &v.metadata}, {apiEpochEnd, &v.epochEnd}} {
		r, ok := ranges[c.api.key]
		*c.to = min(c.api.newest, r[1])
		if c.api.key == keyFetch && fetchCap > 0 {
			*c.to = min(*c.to, fetchCap)
		}
		if !ok || *c.to < max(c.api.oldest, r[0]) {
			return v, fmt.Errorf("the broker speaks %s %d to %d, want %d to %d: Kafka 2.4 or later", c.api.name, r[0], r[1], c.api.oldest, c.api.newest)
		}
	}
	if v.metadata < 10 { // without topic ids there is nothing to fetch by
		v.fetch = min(v.fetch, 12)
	}
	return v, nil
}

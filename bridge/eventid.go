package bridge

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strconv"
	"strings"
)

// MaxIDBytes is the length of the longest text that [ParseID] looks at. It is
// room for some 190 Kafka partitions, and half of what the strictest common
// proxy accepts as one header line (nginx, large_client_header_buffers: 8 KB).
const MaxIDBytes = 4096

// The fixed parts of an id, see [ID].
const (
	idVersion    = "1"
	idCheckBytes = 4
	idCheckMod   = 36 * 36 * 36 * 36
	idMaxProof   = 1 << 62
)

// ID is what an event id says: for every stream of a subscription, where to
// read next. It is sorted by stream name, and each name is there once. The
// stream's state is all in it, so any replica can go on from any id.
//
// Its text, made by [ID.Append] and read by [ParseID], is
//
//	id     = "1" 1*( "~" stream ) "." check
//	stream = name "." incarnation "." place *( "-" place )
//	place  = offset [ "=" proof ]
//	check  = 4 characters: CRC-32 (IEEE) of all before them, modulo 36^4
//
// with numbers in base 36, lower case and without leading zeros; places stand
// in the order of their partitions. Each position has exactly one text.
//
// Some clients keep an id that was cut in the middle. No beginning of an id is
// an id: the check follows the third '.' of the last stream, and what is cut
// there is short of its four characters, while a stream that is cut has at most
// two. Changes elsewhere are what the check is for.
type ID []IDPart

// IDPart is one stream's part of an [ID].
type IDPart struct {
	Stream   string
	Position Position
}

// IDReason says what is wrong with the text of an event id.
type IDReason string

// Reasons why an event id cannot be read. The first that applies is told.
const (
	IDEmpty    IDReason = "empty"    // there is no text
	IDTooLong  IDReason = "too long" // more than MaxIDBytes
	IDAlphabet IDReason = "alphabet" // a byte that no id has
	IDVersion  IDReason = "version"  // an id of a version that this program does not know
	IDCheck    IDReason = "check"    // cut short or changed on its way
	IDGrammar  IDReason = "grammar"  // not built like an id
	IDRange    IDReason = "range"    // a number larger than any id has
)

// ErrUnreadableID is what every [IDError] unwraps to.
var ErrUnreadableID = errors.New("unreadable event id")

// IDError says why the text of an event id could not be read. It does not quote
// the text, which comes from outside.
type IDError struct {
	Reason IDReason
	At     int // byte at which the reason was found
}

func (e *IDError) Error() string {
	switch e.Reason {
	case IDEmpty:
		return "unreadable event id: it is empty"
	case IDTooLong:
		return fmt.Sprintf("unreadable event id: longer than %d bytes", MaxIDBytes)
	case IDAlphabet:
		return fmt.Sprintf("unreadable event id: byte %d is not one of A-Z a-z 0-9 . _ ~ - , ; =", e.At)
	case IDVersion:
		return "unreadable event id: its version is not known here, want " + idVersion
	case IDCheck:
		return "unreadable event id: its check characters do not fit, it was cut short or changed"
	case IDRange:
		return fmt.Sprintf("unreadable event id: number at byte %d is too large", e.At)
	case IDGrammar:
	}
	return fmt.Sprintf("unreadable event id: not built like one, see byte %d", e.At)
}

// Unwrap returns [ErrUnreadableID].
func (e *IDError) Unwrap() error { return ErrUnreadableID }

// ParseID reads the text of an event id. It is total: any string gives an ID or
// an [*IDError]. An ID that it returns has exactly that text.
func ParseID(s string) (ID, error) {
	if s == "" {
		return nil, &IDError{IDEmpty, 0}
	}
	if len(s) > MaxIDBytes {
		return nil, &IDError{IDTooLong, MaxIDBytes}
	}
	for i := range len(s) {
		if !isIDByte(s[i]) {
			return nil, &IDError{IDAlphabet, i}
		}
	}
	if len(s) > 1 && s[1] == '~' && s[:1] != idVersion {
		return nil, &IDError{IDVersion, 0}
	}
	if !strings.HasPrefix(s, idVersion+"~") {
		return nil, &IDError{IDGrammar, 0}
	}
	dot := len(s) - idCheckBytes - 1
	if dot <= 0 || s[dot] != '.' || !idCheckFits(s[:dot+1], s[dot+1:]) {
		return nil, &IDError{IDCheck, max(dot, 0)}
	}
	at := len(idVersion) + 1
	streams := s[at:dot]
	id := make(ID, 0, 1+strings.Count(streams, "~"))
	for text := range strings.SplitSeq(streams, "~") {
		part, err := parseIDPart(text, at)
		if err != nil {
			return nil, err
		}
		if len(id) > 0 && id[len(id)-1].Stream >= part.Stream {
			return nil, &IDError{IDGrammar, at}
		}
		id = append(id, part)
		at += len(text) + 1
	}
	return id, nil
}

// parseIDPart reads one stream's part, which begins at byte at of the id.
func parseIDPart(text string, at int) (IDPart, error) {
	name, rest, ok := strings.Cut(text, ".")
	if !ok || ValidStreamName(name) != nil {
		return IDPart{}, &IDError{IDGrammar, at}
	}
	at += len(name) + 1
	number, places, ok := strings.Cut(rest, ".")
	if !ok {
		return IDPart{}, &IDError{IDGrammar, at}
	}
	incarnation, err := parseIDNumber(number, math.MaxUint32, at)
	if err != nil {
		return IDPart{}, err
	}
	at += len(number) + 1
	pos := Position{Incarnation(incarnation), make([]Place, 0, 1+strings.Count(places, "-"))}
	for text := range strings.SplitSeq(places, "-") {
		place, err := parseIDPlace(text, at)
		if err != nil {
			return IDPart{}, err
		}
		pos.Places = append(pos.Places, place)
		at += len(text) + 1
	}
	return IDPart{name, pos}, nil
}

func parseIDPlace(text string, at int) (Place, error) {
	number, proof, proven := strings.Cut(text, "=")
	offset, err := parseIDNumber(number, math.MaxInt64, at)
	if err != nil || !proven {
		return Place{Offset: Offset(offset)}, err
	}
	value, err := parseIDNumber(proof, idMaxProof, at+len(number)+1)
	return Place{Offset(offset), ProofOf(int64(value))}, err
}

// parseIDNumber reads a number in the one form that Append writes.
func parseIDNumber(s string, most uint64, at int) (uint64, error) {
	if s == "" || s[0] == '0' && len(s) > 1 {
		return 0, &IDError{IDGrammar, at}
	}
	var n uint64
	for i := range len(s) {
		var digit uint64
		switch c := s[i]; {
		case isDigit(c):
			digit = uint64(c - '0')
		case isLower(c):
			digit = uint64(c-'a') + 10
		default:
			return 0, &IDError{IDGrammar, at + i}
		}
		if n > (most-digit)/36 {
			return 0, &IDError{IDRange, at}
		}
		n = n*36 + digit
	}
	return n, nil
}

// Append appends the text of the id to dst. An ID without streams has none. A
// position without places is written with the zero place of partition 0, which
// is equal. An offset below 0 and a proof above 2^62, which no source makes,
// are written as 0 and as no proof. Text longer than [MaxIDBytes] is no id any
// more: who opens a subscription sees to it that its ids stay shorter.
func (id ID) Append(dst []byte) []byte {
	if len(id) == 0 {
		return dst
	}
	start := len(dst)
	dst = append(dst, idVersion...)
	for i := range id {
		dst = id[i].append(dst)
	}
	dst = append(dst, '.')
	return appendIDCheck(dst, crc32.ChecksumIEEE(dst[start:]))
}

func (p *IDPart) append(dst []byte) []byte {
	dst = p.appendName(dst)
	if len(p.Position.Places) == 0 {
		return append(dst, ".0"...)
	}
	return appendIDPlaces(dst, p.Position.Places, '.')
}

// appendName appends what comes before the places.
func (p *IDPart) appendName(dst []byte) []byte {
	dst = append(dst, '~')
	dst = append(dst, p.Stream...)
	dst = append(dst, '.')
	return strconv.AppendUint(dst, uint64(p.Position.Incarnation), 36)
}

// appendIDPlaces appends places, each with a separator before it, the first with
// this one.
func appendIDPlaces(dst []byte, places []Place, separator byte) []byte {
	for _, p := range places {
		dst = append(dst, separator)
		dst = appendIDPlace(dst, p)
		separator = '-'
	}
	return dst
}

func appendIDPlace(dst []byte, p Place) []byte {
	dst = strconv.AppendInt(dst, max(int64(p.Offset), 0), 36)
	if value, ok := p.Proof.Value(); ok && value <= idMaxProof {
		dst = append(dst, '=')
		dst = strconv.AppendInt(dst, value, 36)
	}
	return dst
}

// ExpectedBytes is the length that the text of the id may come to: every offset
// a digit longer than now, which is 36 times as many records, and every proof a
// digit longer, or one digit where there is none yet.
func (id ID) ExpectedBytes() int {
	n := len(id.Append(nil))
	for i := range id {
		for _, p := range id[i].Position.Places {
			n += len("0") + len("0")
			if _, ok := p.Proof.Value(); !ok {
				n += len("=")
			}
		}
	}
	return n
}

// String returns the text of the id.
func (id ID) String() string { return string(id.Append(nil)) }

// Lookup returns the position of a stream, and whether the id has one. The
// places are the id's own.
func (id ID) Lookup(stream string) (Position, bool) {
	i, ok := slices.BinarySearchFunc(id, stream, func(p IDPart, name string) int { return strings.Compare(p.Stream, name) })
	if !ok {
		return Position{}, false
	}
	return id[i].Position, true
}

// isIDByte reports whether c may be in an id of any version: the bytes that
// keep a Last-Event-ID header free of a CORS preflight, should browsers come to
// ask for one (https://github.com/whatwg/fetch/pull/1788).
func isIDByte(c byte) bool {
	return isLower(c) || isUpper(c) || isDigit(c) || strings.IndexByte("._~-,;=", c) >= 0
}

func appendIDCheck(dst []byte, crc uint32) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	n := crc % idCheckMod
	return append(dst, digits[n/(36*36*36)], digits[n/(36*36)%36], digits[n/36%36], digits[n%36])
}

func idCheckFits(text, check string) bool {
	var room [idCheckBytes]byte
	return string(appendIDCheck(room[:0], crc32.ChecksumIEEE([]byte(text)))) == check
}

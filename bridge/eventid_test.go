package bridge

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Browsers hold ids for days while releases come and go. Every id that a version
// 1 program wrote must mean the same to all later ones, so lines are only ever
// added to the file, and this test stays when version 2 comes: then without the
// last check, because later versions may write the position in another way.
func TestLaterVersionsReadIDsOfVersion1(t *testing.T) {
	f, err := os.Open("testdata/ids-v1.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for scan := bufio.NewScanner(f); scan.Scan(); {
		line := scan.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		text, want, _ := strings.Cut(line, " ")
		id, err := ParseID(text)
		if err != nil {
			t.Errorf("ParseID(%q): %v", text, err)
			continue
		}
		if got := spell(id); got != want {
			t.Errorf("ParseID(%q)\n got %s\nwant %s", text, got, want)
		}
		if got := id.String(); got != text {
			t.Errorf("id %q is written as %q", text, got)
		}
		lines++
	}
	if lines < 10 {
		t.Errorf("read %d ids, want at least 10", lines)
	}
}

// spell writes an id in decimal numbers: for each stream its name, incarnation
// and places, each place an offset and, in parentheses, what its proof carries.
func spell(id ID) string {
	var b strings.Builder
	for i, part := range id {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s life %d at", part.Stream, part.Position.Incarnation)
		for _, p := range part.Position.Places {
			fmt.Fprintf(&b, " %d", p.Offset)
			if v, ok := p.Proof.Value(); ok {
				fmt.Fprintf(&b, "(%d)", v)
			}
		}
	}
	return b.String()
}

// drawID draws any ID that a subscription can have.
func drawID(t *rapid.T) ID {
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9_-]{0,20}`), 1, 5, rapid.ID[string]).Draw(t, "names")
	slices.Sort(names)
	var id ID
	for _, name := range names {
		pos := Position{Incarnation: Incarnation(rapid.Uint32().Draw(t, "incarnation"))}
		for range rapid.IntRange(1, 8).Draw(t, "partitions") {
			p := Place{Offset: Offset(rapid.Int64Range(0, math.MaxInt64).Draw(t, "offset"))}
			if rapid.Bool().Draw(t, "proven") {
				p.Proof = ProofOf(rapid.Int64Range(0, idMaxProof).Draw(t, "proof"))
			}
			pos.Places = append(pos.Places, p)
		}
		id = append(id, IDPart{name, pos})
	}
	return id
}

// The id is all that a client brings to another replica: what it says must be
// what was put in, place by place.
func TestIDCarriesPositionsUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := drawID(t)
		text := id.String()
		got, err := ParseID(text)
		if err != nil {
			t.Fatalf("ParseID(%q): %v", text, err)
		}
		if spell(got) != spell(id) {
			t.Fatalf("id %q\n got %s\nwant %s", text, spell(got), spell(id))
		}
	})
}

// Several common clients keep an id that a cut connection left half written. Read
// as another position it would repeat or skip records, so no beginning of an id
// may be one.
func TestEveryTruncatedIDIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawID(t).String()
		for n := range len(text) {
			if id, err := ParseID(text[:n]); err == nil {
				t.Fatalf("beginning %q of %q was read as %s", text[:n], text, spell(id))
			}
		}
	})
}

// Whatever else happens to an id on its way, such as a changed case or a bad
// copy by hand, must not lead to another position.
func TestOneChangedCharacterIsRefused(t *testing.T) {
	const alphabet = "ABZabcdefghijklmnopqrstuvwxyz0123456789._~-,;=+ %\x00\xff"
	for _, text := range []string{
		ID{{"orders", Position{1220703229, []Place{{3971, ProofOf(5)}, {97, ProofOf(5)}}}}}.String(),
		ID{{"a", Position{0, []Place{{}}}}, {"b-2", Position{math.MaxUint32, []Place{{math.MaxInt64, ProofOf(idMaxProof)}}}}}.String(),
	} {
		for i := range len(text) {
			for _, c := range []byte(alphabet) {
				changed := text[:i] + string([]byte{c}) + text[i+1:]
				if id, err := ParseID(changed); err == nil && changed != text {
					t.Errorf("%q with byte %d changed to %q was read as %s", text, i, c, spell(id))
				}
			}
			if id, err := ParseID(text[:i] + text[i+1:]); err == nil {
				t.Errorf("%q without byte %d was read as %s", text, i, spell(id))
			}
		}
	}
}

// sign completes an id with the check that belongs to it.
func sign(text string) string {
	return string(appendIDCheck([]byte(text+"."), crc32.ChecksumIEEE([]byte(text+"."))))
}

// Operators look up why an id was refused, and an unknown version is another
// story than a damaged one: it says that a newer release wrote it.
func TestUnreadableIDsTellTheReason(t *testing.T) {
	for _, c := range []struct {
		text string
		want IDReason
	}{
		{"", IDEmpty},
		{strings.Repeat("1", MaxIDBytes+1), IDTooLong},
		{sign("1~" + strings.Repeat("a", MaxIDBytes) + ".0.0"), IDTooLong},
		{"1~orders.0.0 .0000", IDAlphabet},
		{"1~örders.0.0.0000", IDAlphabet},
		{"{\"offset\":3}", IDAlphabet},
		{sign("2~orders.0.0"), IDVersion},
		{"z~anything,else", IDVersion},
		{sign("1~orders.0.0")[1:], IDGrammar},
		{"42", IDGrammar},
		{"11~orders.0.0.0000", IDGrammar},
		{"1", IDGrammar},
		{"1~", IDCheck},
		{"1~orders.0.0", IDCheck},
		{sign("1~orders.0.0") + "0", IDCheck},
		{strings.ToUpper(sign("1~orders.a.0")), IDCheck},
		{sign("1~"), IDGrammar},
		{sign("1~orders"), IDGrammar},
		{sign("1~orders.0"), IDGrammar},
		{sign("1~orders.0."), IDGrammar},
		{sign("1~orders..0"), IDGrammar},
		{sign("1~.0.0"), IDGrammar},
		{sign("1~Orders.0.0"), IDGrammar},
		{sign("1~2nd.0.0"), IDGrammar},
		{sign("1~orders.00.0"), IDGrammar},
		{sign("1~orders.0.01"), IDGrammar},
		{sign("1~orders.0.-0"), IDGrammar},
		{sign("1~orders.0.0-"), IDGrammar},
		{sign("1~orders.0.0="), IDGrammar},
		{sign("1~orders.0.0=01"), IDGrammar},
		{sign("1~orders.0.0=1=1"), IDGrammar},
		{sign("1~orders.0.A"), IDGrammar},
		{sign("1~orders.0.0.0"), IDGrammar},
		{sign("1~b.0.0~a.0.0"), IDGrammar},
		{sign("1~a.0.0~a.0.0"), IDGrammar},
		{sign("1~a.0.0~"), IDGrammar},
		{sign("1~~a.0.0"), IDGrammar},
		{sign("1~a." + strconv.FormatUint(math.MaxUint32+1, 36) + ".0"), IDRange},
		{sign("1~a.0." + strconv.FormatUint(math.MaxInt64+1, 36)), IDRange},
		{sign("1~a.0.0=" + strconv.FormatUint(idMaxProof+1, 36)), IDRange},
		{sign("1~a.0.0=" + strings.Repeat("z", 100)), IDRange},
	} {
		id, err := ParseID(c.text)
		e, ok := errors.AsType[*IDError](err)
		if !ok || id != nil {
			t.Errorf("ParseID(%.80q) = %s, %v, want reason %q", c.text, spell(id), err, c.want)
			continue
		}
		if e.Reason != c.want || !errors.Is(err, ErrUnreadableID) {
			t.Errorf("ParseID(%.80q): %v, want reason %q", c.text, err, c.want)
		}
	}
}

// Who looks into an id by hand is led to the byte.
func TestUnreadableIDsTellThePlace(t *testing.T) {
	for _, c := range []struct {
		text string
		at   int
	}{
		{"1~orders.0.0 .0000", 12},
		{"x", 0},
		{sign("1~orders.0.0") + "0", 13},
		{sign("1~orders.0.5~Prices.0.0"), 13},
		{sign("1~orders.0.5~eu.0.0"), 13},
		{sign("1~orders.0.5~prices.00.0"), 20},
		{sign("1~orders.0.5~prices.0.7-01"), 24},
		{sign("1~orders.0.5~prices.0.7=3-1=02"), 28},
		{sign("1~orders.0.5~prices.0.7-1A"), 25},
	} {
		_, err := ParseID(c.text)
		if e, ok := errors.AsType[*IDError](err); !ok || e.At != c.at {
			t.Errorf("ParseID(%q): %v, want byte %d", c.text, err, c.at)
		}
	}
}

// Ids are written into buffers that already hold the event.
func TestAppendKeepsWhatIsThere(t *testing.T) {
	id := ID{{"orders", Position{7, []Place{{3, 0}}}}}
	if got := string(id.Append([]byte("id: "))); got != "id: "+id.String() {
		t.Errorf("Append gives %q, want %q", got, "id: "+id.String())
	}
}

// The largest numbers that brokers have must fit, and so must the longest text.
func TestIDReachesItsBounds(t *testing.T) {
	long := strings.Repeat("a", MaxIDBytes-len(sign("1~.0.0")))
	for _, text := range []string{
		sign("1~" + long + ".0.0"),
		sign("1~a." + strconv.FormatUint(math.MaxUint32, 36) + "." + strconv.FormatUint(math.MaxInt64, 36) + "=" + strconv.FormatUint(idMaxProof, 36)),
	} {
		id, err := ParseID(text)
		if err != nil || id.String() != text {
			t.Errorf("ParseID(%.80q) = %.80q, %v", text, id, err)
		}
	}
}

// An event must never end with an id that no replica reads. Positions that no
// source makes still give one that is.
func TestAppendAlwaysWritesAReadableID(t *testing.T) {
	for _, c := range []struct{ pos, want Position }{
		{Position{}, Position{0, []Place{{}}}},
		{Position{7, nil}, Position{7, []Place{{}}}},
		{Position{7, []Place{{-3, 0}}}, Position{7, []Place{{}}}},
		{Position{7, []Place{{3, -1}}}, Position{7, []Place{{3, 0}}}},
		{Position{7, []Place{{3, math.MaxInt64}}}, Position{7, []Place{{3, 0}}}},
	} {
		id, err := ParseID(ID{{"orders", c.pos}}.String())
		if got, _ := id.Lookup("orders"); err != nil || !got.Equal(c.want) {
			t.Errorf("position %v was read back as %v, %v, want %v", c.pos, got, err, c.want)
		}
	}
	if text := (ID{}).String(); text != "" {
		t.Errorf("ID without streams is written as %q, want nothing", text)
	}
}

// A feed asks for a stream's position on every resume.
func TestLookupFindsEveryStreamOfAnID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := drawID(t)
		for _, part := range id {
			if pos, ok := id.Lookup(part.Stream); !ok || !pos.Equal(part.Position) {
				t.Fatalf("Lookup(%q) = %v, %v in %s", part.Stream, pos, ok, spell(id))
			}
		}
		if pos, ok := id.Lookup("!"); ok {
			t.Fatalf("Lookup of a stream that is not there = %v in %s", pos, spell(id))
		}
	})
}

// Anybody may send any bytes as an id: they must be refused or be the one text of
// a position.
func FuzzParseID(f *testing.F) {
	f.Add("")
	f.Add("1~orders.k3x9z1.32a=5-2p=5-jr=4.7c0q")
	f.Add(sign("1~orders.k3x9z1.32a=5-2p=5-jr=4"))
	f.Add(sign("1~a.0.0~b_1-x.1z141z3.1y2p0ij32e8e7=zik0zj"))
	f.Fuzz(func(t *testing.T, text string) {
		for _, text := range []string{text, sign(text)} { // random text hardly ever has its check
			id, err := ParseID(text)
			if err == nil && id.String() != text {
				t.Errorf("ParseID(%q) is written as %q", text, id)
			}
			if err != nil && (id != nil || !errors.Is(err, ErrUnreadableID)) {
				t.Errorf("ParseID(%q) = %v, %v", text, id, err)
			}
		}
	})
}

// Every event ends with an id, so writing one must cost no memory.
func TestAppendIDDoesNotAllocate(t *testing.T) {
	id, dst := benchID(), make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { dst = id.Append(dst[:0]) }); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
}

func benchID() ID {
	return ID{
		{"orders", Position{1220703229, []Place{{3971, ProofOf(5)}, {97, ProofOf(5)}, {711, ProofOf(4)}}}},
		{"prices", Position{99, []Place{{1_000_000_000, ProofOf(1_795_243_442_000)}}}},
	}
}

func BenchmarkAppendID(b *testing.B) {
	id, dst := benchID(), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		dst = id.Append(dst[:0])
	}
}

func BenchmarkParseID(b *testing.B) {
	text := benchID().String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseID(text); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleParseID() {
	id, err := ParseID("1~orders.k6rwn1.32a=5-2p.vk54")
	if err != nil {
		fmt.Println(err)
		return
	}
	pos, _ := id.Lookup("orders")
	fmt.Println("partition 0 goes on at", pos.Place(0).Offset, "behind a record with proof", pos.Place(0).Proof)
	fmt.Println("partition 1 goes on at", pos.Place(1).Offset)

	_, err = ParseID("1~orders.k6rwn1.32a=5-2")
	fmt.Println(err)
	// Output:
	// partition 0 goes on at 3970 behind a record with proof 5
	// partition 1 goes on at 97
	// unreadable event id: its check characters do not fit, it was cut short or changed
}

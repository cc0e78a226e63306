package bridge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func testRecord() *Record {
	return &Record{
		Partition: 3,
		Origin:    "ORDERS.eu.4711",
		Key:       []byte("k.1"),
		Headers: []Header{
			{"region", []byte("old")},
			{"region", []byte("eu west")},
			{"empty", nil},
			{"X.Type", []byte("gap")},
			{"evil", []byte("a\r\ndata: b\x00\xff")},
			{"long", bytes.Repeat([]byte("é"), 200)},
		},
		Data: []byte(`{"order":{"id":12345678901234567890,"paid":true,"note":"a.b","none":null,"list":[1]}}`),
	}
}

func TestSubjectTemplateRendersTokens(t *testing.T) {
	for _, c := range []struct{ template, want string }{
		{"orders", "orders"},
		{"{stream}.{key}", "shop.k%2E1"},
		{"{topic}", "ORDERS%2Eeu%2E4711"},
		{"{subject}", "ORDERS.eu.4711"},
		{"a.{subject}.z", "a.ORDERS.eu.4711.z"},
		{"{subject.3}.{subject.1}", "4711.ORDERS"},
		{"{subject.4}", "_"},
		{"p{partition}", "p3"},
		{"orders.{header.region}", "orders.eu%20west"},
		{"orders.{header.Region}", "orders._"},
		{"orders.{header.empty}.x", "orders._.x"},
		{"{header.X.Type}", "gap"}, // names of events are reserved, subjects are not
		{"{header.evil}", "a%0D%0Adata:%20b%00%FF"},
		{"{json.order.id}.{json.order.paid}.{json.order.note}", "12345678901234567890.true.a%2Eb"},
		{"{json.order}.{json.order.none}.{json.order.list}.{json.x}", "_._._._"},
		{"eu-{key}-{partition}", "eu-k%2E1-3"},
	} {
		tmpl, err := ParseSubjectTemplate(c.template)
		if err != nil {
			t.Errorf("ParseSubjectTemplate(%q): %v", c.template, err)
			continue
		}
		if got := string(tmpl.Append([]byte("before "), "shop", testRecord())); got != "before "+c.want {
			t.Errorf("template %q gives %q, want %q", c.template, got, "before "+c.want)
		}
		if tmpl.String() != c.template {
			t.Errorf("template %q says that it is %q", c.template, tmpl)
		}
	}
}

// A record without anything still has a subject that is one.
func TestSubjectTemplateGivesEveryRecordASubject(t *testing.T) {
	for _, c := range []struct{ template, origin, want string }{
		{"{subject}", "", "_"},
		{"{subject}", "a..b", "a._.b"}, // a Kafka topic may have this name
		{"{subject.2}", "a..b", "_"},
		{"{topic}.{key}.{json.a}.{header.b}", "", "_._._._"},
	} {
		tmpl, err := ParseSubjectTemplate(c.template)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(tmpl.Append(nil, "shop", &Record{Origin: c.origin})); got != c.want {
			t.Errorf("template %q of a record from %q gives %q, want %q", c.template, c.origin, got, c.want)
		}
	}
}

// A mapping is typed into an environment variable: what is wrong must be said so
// that it can be mended without reading the manual.
func TestTemplateFaultsAreNamed(t *testing.T) {
	both := []struct{ template, want string }{
		{"{strem}", "{strem} is not known, want one of {stream}, {topic}"},
		{"{}", "{} is not known"},
		{"{key.x}", "{key.x} is not known"},
		{"{Key}", "{Key} is not known"},
		{"{key", "{key has no '}'"},
		{"{ke{y}", "{ke{y has no '}'"},
		{"key}", "'}' without '{'"},
		{"{key}}", "'}' without '{'"},
		{"{header}", "{header}: want the name of a header"},
		{"{header.}", "{header.}: want the name of a header"},
		{"{json}", "{json}: want member names"},
		{"{json.}", "{json.}: want member names"},
		{"{json.a..b}", "{json.a..b}: want member names"},
		{"{subject.0}", "{subject.0}: want the number of a token"},
		{"{subject.01}", "{subject.01}: want the number of a token"},
		{"{subject.x}", "{subject.x}: want the number of a token"},
		{"{subject.65}", "{subject.65}: want the number of a token"},
		{strings.Repeat("a", 1025), "at most 1024 bytes"},
	}
	subject := []struct{ template, want string }{
		{"", "want a token"},
		{"a..{key}", "at byte 2: want a token"},
		{"{key}.", "want a token"},
		{"a b", "white space"},
		{"a\n", "white space"},
		{"a\xff", "UTF-8"},
		{"a.*", "wildcards"},
		{"a.>", "wildcards"},
		{"x{subject}", "between dots"},
		{"{subject}{key}", "between dots"},
		{"{header.x.}{subject}", "between dots"},
		{"{subject}.{subject}", "once"},
		{strings.Repeat("{key}.", 64) + "x", "at most 64 tokens"},
	}
	name := []struct{ template, want string }{
		{"", "empty"},
		{"gap", "the name gap is reserved"},
		{"message", "the name message is reserved"},
		{"a\nb{key}", "without control characters"},
		{"a\xff{key}", "UTF-8"},
		{strings.Repeat("a", 257), "at most 256 bytes"},
	}
	for _, c := range append(both, subject...) {
		if tmpl, err := ParseSubjectTemplate(c.template); err == nil || tmpl != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseSubjectTemplate(%.80q): %v, want %q in it", c.template, err, c.want)
		}
	}
	for _, c := range append(both, name...) {
		if tmpl, err := ParseNameTemplate(c.template); err == nil || tmpl != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseNameTemplate(%.80q): %v, want %q in it", c.template, err, c.want)
		}
	}
}

// A name goes into a line of the response: no record may end that line, and none
// may pass for an event of the bridge.
func TestNameTemplateRendersSafeNames(t *testing.T) {
	for _, c := range []struct {
		template, want string
		renamed        uint64
	}{
		{"order", "order", 0},
		{"order placed", "order placed", 0},
		{"{subject}", "ORDERS.eu.4711", 0},
		{"{subject.2} {key}%", "eu k.1%", 0},
		{"{topic}/{stream}/{partition}", "ORDERS.eu.4711/shop/3", 0},
		{"{header.none}", "", 0},
		{"x{header.none}", "x", 0},
		{"{json.order.note}", "a.b", 0},
		{"{header.evil}", "a%0D%0Adata: b%00%FF", 0},
		{"{header.X.Type}", "x-gap", 1},
		{"{header.X.Type}s", "gaps", 0},
		{"c{header.long}", "c" + strings.Repeat("é", 127), 0},
	} {
		tmpl, err := ParseNameTemplate(c.template)
		if err != nil {
			t.Errorf("ParseNameTemplate(%q): %v", c.template, err)
			continue
		}
		if got := string(tmpl.Append([]byte("event: "), "shop", testRecord())); got != "event: "+c.want {
			t.Errorf("template %q gives %q, want %q", c.template, got, "event: "+c.want)
		}
		if tmpl.Renamed() != c.renamed {
			t.Errorf("template %q: %d names were renamed, want %d", c.template, tmpl.Renamed(), c.renamed)
		}
	}
}

// A name that is cut must not end in half an escape: clients would see %0.
func TestNamesAreCutBetweenCharacters(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{strings.Repeat("a", 254) + "\n", strings.Repeat("a", 254)},
		{strings.Repeat("a", 253) + "\n", strings.Repeat("a", 253) + "%0A"},
		{strings.Repeat("a", 255) + "\n", strings.Repeat("a", 255)},
		{strings.Repeat("a", 255) + "é", strings.Repeat("a", 255)},
		{strings.Repeat("a", 254) + "é", strings.Repeat("a", 254) + "é"},
		{strings.Repeat("a", 1<<20), strings.Repeat("a", 256)},
	} {
		tmpl, err := ParseNameTemplate("{key}")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(tmpl.Append(nil, "shop", &Record{Key: []byte(c.value)})); got != c.want {
			t.Errorf("name of %.300q is %q (%d bytes), want %q", c.value, got, len(got), c.want)
		}
	}
}

// The subject space decides which streams a request reaches.
func TestSpaceHasAWildcardForEachPlaceholder(t *testing.T) {
	for _, c := range []struct {
		template string
		subjects []Pattern
		want     []Pattern
	}{
		{"{stream}.{key}", nil, []Pattern{"shop.*"}},
		{"{stream}-{key}.x", nil, []Pattern{"*.x"}},
		{"orders.{header.region}.{json.a.b}", nil, []Pattern{"orders.*.*"}},
		{"{topic}.{partition}.{subject.2}", []Pattern{"a.b"}, []Pattern{"*.*.*"}},
		{"{subject}", nil, []Pattern{">"}},
		{"{subject}", []Pattern{"b.*", "a.>", "a.x"}, []Pattern{"a.>", "b.*"}},
		{"nats.{subject}", []Pattern{"a.>", "b"}, []Pattern{"nats.a.>", "nats.b"}},
		{"nats.{subject}.{key}", nil, []Pattern{"nats.*.>"}},
		{"{subject}.x.y", []Pattern{"a.>", "b.*"}, []Pattern{"a.*.*.>", "b.*.x.y"}},
	} {
		tmpl, err := ParseSubjectTemplate(c.template)
		if err != nil {
			t.Errorf("ParseSubjectTemplate(%q): %v", c.template, err)
			continue
		}
		if got := tmpl.Space("shop", c.subjects); !slices.Equal(got, c.want) {
			t.Errorf("space of %q over %q is %q, want %q", c.template, c.subjects, got, c.want)
		}
		if got, want := tmpl.UsesSubject(), strings.Contains(c.template, "{subject}"); got != want {
			t.Errorf("UsesSubject of %q is %v, want %v", c.template, got, want)
		}
	}
}

// Grants are given on subjects, so a writer who chooses one value must not be
// able to make a record look as if it had others.
func TestEqualSubjectsHaveEqualValues(t *testing.T) {
	tmpl, err := ParseSubjectTemplate("{key}.{header.a}.x-{json.b}")
	if err != nil {
		t.Fatal(err)
	}
	value := rapid.SliceOfN(rapid.SampledFrom([]byte("a_.%*25EF \xff")), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (subject, values string) {
			key, header := value.Draw(t, label+" key"), value.Draw(t, label+" header")
			b := rapid.SampledFrom([]string{"", "a", "_", ".", "%2E"}).Draw(t, label+" member")
			r := &Record{Key: key, Headers: []Header{{"a", header}}, Data: fmt.Appendf(nil, `{"b":%q}`, b)}
			return string(tmpl.Append(nil, "s", r)), fmt.Sprintf("%q %q %q", key, header, b)
		}
		subjectA, valuesA := draw("first")
		subjectB, valuesB := draw("second")
		if (subjectA == subjectB) != (valuesA == valuesB) {
			t.Fatalf("values %s give %q, values %s give %q", valuesA, subjectA, valuesB, subjectB)
		}
	})
}

// Whatever a record holds, its subject is one and lies in the space; otherwise a
// request might not reach the stream that has it.
func FuzzSubjectTemplate(f *testing.F) {
	f.Add("{stream}.{key}", "T", "k", "", []byte(nil))
	f.Add("a.{subject}.{subject.2}.{topic}", "A.b..c", "_", "v", []byte(nil))
	f.Add("x-{header.h}.{json.a.b}-{partition}", "", "\xff", "a.*", []byte(`{"a":{"b":"\u0000>"}}`))
	f.Fuzz(func(t *testing.T, template, origin, key, header string, data []byte) {
		tmpl, err := ParseSubjectTemplate(template)
		if err != nil {
			return
		}
		r := &Record{Partition: 1, Origin: origin, Key: []byte(key), Headers: []Header{{"h", []byte(header)}}, Data: data}
		subject := string(tmpl.Append(nil, "stream", r))
		if slices.Contains(strings.Split(subject, "."), "") {
			t.Errorf("template %q gives %q, which has an empty token", template, subject)
		}
		if !NewFilter(tmpl.Space("stream", nil)...).Match(subject) {
			t.Errorf("template %q gives %q, outside of its space %q", template, subject, tmpl.Space("stream", nil))
		}
		from, err := ParsePattern(origin)
		if err != nil {
			return // what such tokens look like is the broker's affair
		}
		if space := tmpl.Space("stream", []Pattern{from}); !NewFilter(space...).Match(subject) {
			t.Errorf("template %q gives %q for %q, outside of its space %q", template, subject, origin, space)
		}
		if strings.ContainsAny(origin, "*>") {
			return
		}
		for at, r := range subject {
			if !plainRune(r, utf8.RuneLen(r)) || r == '*' || r == '>' {
				t.Errorf("template %q gives %q, which is no subject at byte %d", template, subject, at)
			}
		}
	})
}

func FuzzNameTemplate(f *testing.F) {
	f.Add("{key}", "gap", "", []byte(nil))
	f.Add("{header.h}-{json.a}", "", "a\r\nb", []byte(`{"a":"x"}`))
	f.Add("{subject.1}", strings.Repeat("%0D", 100), strings.Repeat("é", 300), []byte(nil))
	f.Fuzz(func(t *testing.T, template, key, header string, data []byte) {
		tmpl, err := ParseNameTemplate(template)
		if err != nil {
			return
		}
		r := &Record{Origin: key, Key: []byte(key), Headers: []Header{{"h", []byte(header)}}, Data: data}
		name := string(tmpl.Append(nil, "stream", r))
		if strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name) || len(name) > 256 || ReservedName(name) {
			t.Errorf("template %q gives the name %q (%d bytes)", template, name, len(name))
		}
	})
}

func BenchmarkSubjectTemplate(b *testing.B) {
	for _, template := range []string{"{subject}", "orders.{header.region}.{key}", "orders.{json.order.paid}"} {
		b.Run(template, func(b *testing.B) {
			tmpl, err := ParseSubjectTemplate(template)
			if err != nil {
				b.Fatal(err)
			}
			r, dst := testRecord(), []byte(nil)
			b.ReportAllocs()
			for b.Loop() {
				dst = tmpl.Append(dst[:0], "shop", r)
			}
		})
	}
}

func ExampleParseSubjectTemplate() {
	tmpl, err := ParseSubjectTemplate("orders.{header.region}.{json.id}")
	if err != nil {
		fmt.Println(err)
		return
	}
	r := &Record{Headers: []Header{{"region", []byte("eu.north")}}, Data: []byte(`{"id":4711}`)}
	fmt.Printf("%s in %s\n", tmpl.Append(nil, "orders", r), tmpl.Space("orders", nil))

	_, err = ParseSubjectTemplate("orders.{header}")
	fmt.Println(err)
	// Output:
	// orders.eu%2Enorth.4711 in [orders.*.*]
	// subject template "orders.{header}": placeholder {header}: want the name of a header, as in {header.region}
}

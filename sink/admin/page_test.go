package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// node runs a script of testdata among the inspector's files, with these lines as
// its input, and returns what it prints.
func node(t *testing.T, input []byte, arguments ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		required := strings.FieldsFunc(os.Getenv("SSEBRIDGE_TEST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
		if slices.Contains(required, "browser") {
			t.Fatal("node is not installed (SSEBRIDGE_TEST_REQUIRE asks for browser)")
		}
		t.Skip("node is not installed; apt-get install nodejs (20 or later)")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, Static()); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir), os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type":"module"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, arguments...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %q: %v\n%s%s", arguments, err, out, &stderr)
	}
	return out
}

// answers asks the inspector's code each question and returns its answers.
func answers(t *testing.T, questions []any) [][]byte {
	t.Helper()
	var input bytes.Buffer
	enc := json.NewEncoder(&input)
	for _, q := range questions {
		if err := enc.Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	var lines [][]byte
	scan := bufio.NewScanner(bytes.NewReader(node(t, input.Bytes(), "answer.mjs")))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		lines = append(lines, bytes.Clone(scan.Bytes()))
	}
	if len(lines) != len(questions) {
		t.Fatalf("%d answers to %d questions", len(lines), len(questions))
	}
	return lines
}

// The modules that need no browser, by node's own test runner.
func TestInspectorModules(t *testing.T) {
	t.Logf("%s", node(t, nil, "--test", "units.mjs"))
}

// What the page shows is what the stream says: its parser and the one that judges
// the server agree on every stream, however it is cut into pieces.
func TestInspectorParsesStreamsAsTheStandardSays(t *testing.T) {
	words := []string{
		"data: a", "data:  b", "data", "data:", "data: \u00e9\u20ac\U0001f600", "event: x", "event", "id: 7", "id", "id: 8\x00", "retry: 1500",
		"retry: 1s", "retry:", ": c", ":", "foo: bar", "Data: x", "data: a:b", " data: a", "\ufeffdata: m", "data: \ufeff", "\n", "\n", "\n", "\n", "\n", "\r", "\r\n", "\r\n", "\r\r",
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same streams each time
	var questions []any
	var want []*ssetest.Parser
	var events [][]ssetest.Event
	var texts []string
	for range 3000 {
		var stream []byte
		if random.IntN(5) == 0 {
			stream = append(stream, "\ufeff"...)
		}
		for range random.IntN(14) {
			stream = append(stream, words[random.IntN(len(words))]...)
			if random.IntN(4) > 0 {
				stream = append(stream, '\n')
			}
		}
		p := new(ssetest.Parser)
		want, texts = append(want, p), append(texts, string(stream))
		events = append(events, p.Feed(stream))
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 9))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if pieces == nil {
			pieces = [][]byte{}
		}
		questions = append(questions, map[string]any{"parse": pieces})
	}
	for i, line := range answers(t, questions) {
		var got struct {
			Events   []ssetest.Event
			Comments int
			Retry    int64
			LastID   string
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		p := want[i]
		if !slices.Equal(got.Events, events[i]) || got.Comments != p.Comments() || got.Retry != p.Retry().Milliseconds() || got.LastID != p.LastID() {
			t.Fatalf("%q:\ngot  %q, %d comments, retry %d, id %q\nwant %q, %d, %d, %q",
				texts[i], got.Events, got.Comments, got.Retry, got.LastID, events[i], p.Comments(), p.Retry().Milliseconds(), p.LastID())
		}
	}
}

// The page decodes ids by itself, as the bridge does: of every released version,
// and none that is not one.
func TestInspectorDecodesEventIDs(t *testing.T) {
	file, err := os.ReadFile(filepath.Join("..", "..", "bridge", "testdata", "ids-v1.txt"))
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{"", "1", "1~", "2~a.0.0.qej5", "x", "1~a.0.0.qej", "1~a.0.0.qej5\n", "1~A.0.0.qej5", strings.Repeat("1", bridge.MaxIDBytes+1)}
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same ids each time
	for line := range strings.Lines(string(file)) {
		id, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id == "" || id[0] == '#' {
			continue
		}
		ids = append(ids, id, id[:len(id)-1], id+"0", strings.ToUpper(id))
		for range 200 {
			b := []byte(id)
			b[random.IntN(len(b))] = "01az~.-="[random.IntN(8)]
			ids = append(ids, string(b), withCheck(string(b)))
		}
	}
	var questions []any
	for _, id := range ids {
		questions = append(questions, map[string]any{"id": id})
	}
	good := 0
	for i, line := range answers(t, questions) {
		want, err := bridge.ParseID(ids[i])
		var got struct {
			Problem string
			Streams []struct {
				Name, Incarnation string
				Places            []struct {
					Offset string
					Proof  *string
				}
			}
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		if (got.Problem != "") != (err != nil) {
			t.Errorf("%q: got problem %q, want %v", ids[i], got.Problem, err)
			continue
		}
		if err != nil {
			if !errors.Is(err, bridge.ErrUnreadableID) {
				t.Error(err)
			}
			continue
		}
		good++
		var text, wanted strings.Builder
		for _, s := range got.Streams {
			fmt.Fprint(&text, s.Name, " ", s.Incarnation)
			for _, p := range s.Places {
				fmt.Fprint(&text, " ", p.Offset)
				if p.Proof != nil {
					fmt.Fprint(&text, "=", *p.Proof)
				}
			}
			text.WriteByte(';')
		}
		for _, part := range want {
			fmt.Fprint(&wanted, part.Stream, " ", strconv.FormatUint(uint64(part.Position.Incarnation), 36))
			for _, p := range part.Position.Places {
				fmt.Fprint(&wanted, " ", int64(p.Offset))
				if v, ok := p.Proof.Value(); ok {
					fmt.Fprint(&wanted, "=", v)
				}
			}
			wanted.WriteByte(';')
		}
		if text.String() != wanted.String() {
			t.Errorf("%q: got %s, want %s", ids[i], &text, &wanted)
		}
	}
	if good < 30 {
		t.Errorf("only %d of %d ids could be read", good, len(ids))
	}
}

// withCheck gives a changed id check characters that fit, where it has a place for
// them: what is wrong with it then is something else.
func withCheck(id string) string {
	dot := len(id) - 5
	if dot < 1 || id[dot] != '.' {
		return id
	}
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	n := crc32.ChecksumIEEE([]byte(id[:dot+1])) % (36 * 36 * 36 * 36)
	return id[:dot+1] + string([]byte{digits[n/(36*36*36)], digits[n/(36*36)%36], digits[n/36%36], digits[n%36]})
}

// Of a long id people want to see what the event itself moved.
func TestInspectorTellsWhatAnEventMoved(t *testing.T) {
	place := func(offset bridge.Offset, proof int64) bridge.Place {
		return bridge.Place{Offset: offset, Proof: bridge.ProofOf(proof)}
	}
	id := func(orders, prices []bridge.Place) string {
		return bridge.ID{{Stream: "orders", Position: bridge.Position{Incarnation: 7, Places: orders}}, {Stream: "prices", Position: bridge.Position{Incarnation: 8, Places: prices}}}.String()
	}
	before := id([]bridge.Place{place(5, 1), place(9, 1)}, []bridge.Place{place(100, 77)})
	for after, want := range map[string]string{
		id([]bridge.Place{place(5, 1), place(11, 2)}, []bridge.Place{place(100, 77)}):             `{"stream":"orders","partition":1,"offset":"10","proof":"2"}`,
		id([]bridge.Place{place(5, 1), place(9, 1)}, []bridge.Place{place(101, 78)}):              `{"stream":"prices","partition":0,"offset":"100","proof":"78"}`,
		id([]bridge.Place{place(5, 1), place(9, 1), place(1, 3)}, []bridge.Place{place(100, 77)}): `{"stream":"orders","partition":2,"offset":"0","proof":"3"}`,
		id([]bridge.Place{place(6, 1), place(10, 2)}, []bridge.Place{place(100, 77)}):             `null`,
		before: `null`,
		"":     `null`,
	} {
		if got := answers(t, []any{map[string]any{"moved": []string{after, before}}})[0]; string(got) != want {
			t.Errorf("%s: got %s, want %s", after, got, want)
		}
	}
}

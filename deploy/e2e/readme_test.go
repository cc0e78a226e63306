package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// A newcomer copies the README's block "See it continue": what it claims has to
// happen. The block runs as it stands, but for what a person does by hand: make
// is bounded to the built programs, Ctrl-C is a time limit, and the ports are
// free ones.
func TestReadmeBlockContinuesOnAnotherReplica(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "<!-- continue:begin -->\n```sh\n")
	block, _, ok := strings.Cut(block, "```\n<!-- continue:end -->")
	if !ok {
		t.Fatal("README.md has no block between continue:begin and continue:end")
	}
	if n := strings.Count(block, "\n"); n != 9 {
		t.Errorf("the block has %d lines, the README speaks of nine", n)
	}
	dir := t.TempDir()
	for _, program := range []string{"ssebridge", "ssebridge-demo"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin", program), "../../cmd/"+program)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	nats, first, second, admin, page := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	script := strings.NewReplacer(
		"make run &", "bin/ssebridge-demo -listen "+page+" -bridge-listen "+first+" -nats-listen "+nats+" &",
		"curl -sN ", "curl -sN -m 3 ", // Ctrl-C
		"127.0.0.1:8422", nats, "127.0.0.1:8480", first, "127.0.0.1:8580", second, "127.0.0.1:8581", admin,
	).Replace(block)
	if strings.Contains(script, "127.0.0.1:84") || strings.Contains(script, "127.0.0.1:85") {
		t.Fatalf("a port is left that may not be free:\n%s", script)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// -m: jobs, as in a terminal. The trap ends what is left when the block fails.
	sh := exec.CommandContext(ctx, "bash", "-m", "-c", "trap 'kill $(jobs -p) 2>/dev/null' EXIT\n"+script+"wait\n")
	sh.Cancel = func() error { return sh.Process.Signal(syscall.SIGTERM) }
	sh.Dir = dir
	sh.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SSEBRIDGE_") })
	sh.WaitDelay = 5 * time.Second
	sh.Env = append(sh.Env, "SSEBRIDGE_ADMIN_TOKEN="+secrettest.New("admin"))
	out, err := sh.CombinedOutput()
	for _, file := range []string{"replica.log", "first.txt", "second.txt"} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			secrettest.Check(t, file, string(text))
		}
	}
	secrettest.Check(t, "what the block prints", string(out))
	if err != nil {
		t.Fatalf("the block fails: %v\n%s", err, secrettest.Hide(string(out)))
	}
	a, b := numbersBySymbol(t, filepath.Join(dir, "first.txt")), numbersBySymbol(t, filepath.Join(dir, "second.txt"))
	if len(a) == 0 || len(b) == 0 {
		t.Fatalf("symbols seen at first %d, then %d, want some", len(a), len(b))
	}
	for symbol, got := range b {
		if before := a[symbol]; len(before) > 0 && got[0] != before[len(before)-1]+1 {
			t.Errorf("%s: the second replica goes on with %d after %d, want the very next", symbol, got[0], before[len(before)-1])
		}
		for i := 1; i < len(got); i++ {
			if got[i] != got[i-1]+1 {
				t.Errorf("%s: %d follows %d", symbol, got[i], got[i-1])
			}
		}
	}
}

// numbersBySymbol reads the running numbers of the events in a file of curl's,
// those whose id has arrived as well.
func numbersBySymbol(t *testing.T, file string) map[string][]int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string][]int{}
	symbol, number := "", 0
	for line := range strings.Lines(string(text)) {
		if _, rest, ok := strings.Cut(line, `data: {"n":`); ok {
			n, rest, _ := strings.Cut(rest, `,"symbol":"`)
			symbol, _, _ = strings.Cut(rest, `"`)
			if number, err = strconv.Atoi(n); err != nil {
				t.Fatalf("%s: number in %q: %v", file, line, err)
			}
		}
		if strings.HasPrefix(line, "id: ") && strings.HasSuffix(line, "\n") && symbol != "" {
			seen[symbol] = append(seen[symbol], number)
			symbol = ""
		}
	}
	return seen
}

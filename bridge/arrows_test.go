package bridge

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/ssebridge/ssebridge"

// Adapters stay exchangeable, and the production binary stays without a broker in
// it, only as long as imports point one way. Test files may import anything.
func TestCoreImportsNoAdapter(t *testing.T) {
	root := ".."
	if mod, err := os.ReadFile(filepath.Join(root, "go.mod")); err != nil || !strings.HasPrefix(string(mod), "module "+module+"\n") {
		t.Fatalf("%s is not the module's folder: %v", root, err)
	}
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipFolder(root, file)
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		folder := path.Dir(filepath.ToSlash(rel))
		seen[area(folder)] = true
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range syntax.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if why := forbidden(folder, to); why != "" {
				t.Errorf("%s imports %s: %s", rel, to, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bridge", "replay", "sink", "sources/nats", "sources/sourcetest", "cmd"} {
		if !seen[want] {
			t.Errorf("no Go file was found in %s", want)
		}
	}
	for at := range seen {
		if top, _, _ := strings.Cut(at, "/"); !slices.Contains([]string{"bridge", "replay", "sink", "sources", "cmd", "deploy"}, top) {
			t.Errorf("folder %q is not part of the layout", at)
		}
	}
}

// skipFolder leaves out what the go command leaves out: other modules, testdata,
// and folders that begin with '.' or '_'.
func skipFolder(root, folder string) error {
	if folder == root {
		return nil
	}
	name := filepath.Base(folder)
	if name == "testdata" || name == "node_modules" || name[0] == '.' || name[0] == '_' {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

// area is the part of the module that a folder belongs to: its first name, and
// for sources the adapter.
func area(folder string) string {
	top, rest, _ := strings.Cut(folder, "/")
	if top != "sources" {
		return top
	}
	adapter, _, _ := strings.Cut(rest, "/")
	return path.Join(top, adapter)
}

// forTests reports whether a package is made for tests, as sources/sourcetest is.
func forTests(folder string) bool { return strings.HasSuffix(path.Base(folder), "test") }

// forbidden says why a file in the given folder may not import a package, empty
// if it may.
func forbidden(from, to string) string {
	if ours, ok := strings.CutPrefix(to, module+"/"); ok {
		switch {
		case forTests(ours) && !forTests(from):
			return "packages for tests are for tests"
		case area(from) == "cmd":
			return ""
		case area(from) == "bridge":
			return "bridge imports nothing of ours"
		case area(ours) == "sources/internal" && strings.HasPrefix(from, "sources/"):
			return "" // what adapters would otherwise write twice
		case ours != "bridge" && area(ours) != area(from):
			return "parts import bridge and never each other"
		}
		return ""
	}
	if first, _, _ := strings.Cut(to, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	const server, otel = "github.com/nats-io/nats-server/", "go.opentelemetry.io/otel"
	switch {
	case strings.HasPrefix(to, server) && from != "cmd/ssebridge-demo" && !forTests(from):
		return "only the demo and tests have a NATS server"
	case area(from) != "bridge":
		return ""
	case (to == otel || strings.HasPrefix(to, otel+"/")) && !strings.HasPrefix(to, otel+"/sdk") && !strings.HasPrefix(to, otel+"/exporters"):
		return ""
	}
	return "bridge imports the standard library and the API of OpenTelemetry only"
}

// The rules above are only worth something if they find what they forbid.
func TestForbiddenImportsAreFound(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"bridge", "strings", true},
		{"bridge", "go/parser", true},
		{"bridge", "go.opentelemetry.io/otel", true},
		{"bridge", "go.opentelemetry.io/otel/trace", true},
		{"bridge", "go.opentelemetry.io/otel/sdk/trace", false},
		{"bridge", "go.opentelemetry.io/otel/exporters/stdout/stdouttrace", false},
		{"bridge", "go.opentelemetry.io/otelx", false},
		{"bridge", "github.com/nats-io/nats.go", false},
		{"bridge", module + "/replay", false},
		{"replay", module + "/bridge", true},
		{"replay", module + "/sink", false},
		{"replay", module + "/sources/nats", false},
		{"sink", module + "/bridge", true},
		{"sink", module + "/replay", false},
		{"sink", module + "/sink/ssetest", false},
		{"sink/admin", module + "/sink", true},
		{"sink/admin", module + "/cmd/ssebridge", false},
		{"sources/nats", module + "/bridge", true},
		{"sources/nats", "github.com/nats-io/nats.go", true},
		{"sources/nats", module + "/sources/kafka", false},
		{"sources/nats", module + "/sources/internal/flight", true},
		{"sink", module + "/sources/internal/flight", false},
		{"sources/internal/flight", module + "/sources/nats", false},
		{"sources/nats", module + "/sources/nats/natstest", false},
		{"sources/nats", "github.com/nats-io/nats-server/v2/server", false},
		{"sources/nats/natstest", "github.com/nats-io/nats-server/v2/server", true},
		{"sources/sourcetest", module + "/bridge", true},
		{"sources/sourcetest", module + "/sources/nats", false},
		{"cmd/ssebridge", module + "/sources/nats", true},
		{"cmd/ssebridge", "github.com/nats-io/nats-server/v2/server", false},
		{"cmd/ssebridge", module + "/sources/sourcetest", false},
		{"cmd/ssebridge-demo", "github.com/nats-io/nats-server/v2/server", true},
	} {
		if why := forbidden(c.from, c.to); (why == "") != c.ok {
			t.Errorf("%s imports %s: allowed %v, want %v (%s)", c.from, c.to, why == "", c.ok, why)
		}
	}
}

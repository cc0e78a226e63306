package main_test

import (
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

// The production binary is a bridge and no broker: a server linked by accident
// doubles its size and what may be wrong in it.
func TestBinaryLinksNoServer(t *testing.T) {
	info, err := buildinfo.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for _, m := range info.Deps {
		linked[m.Path] = true
	}
	if !linked["github.com/nats-io/nats.go"] {
		t.Errorf("the build information names no client, so it proves nothing: %v", linked)
	}
	for _, path := range []string{"github.com/nats-io/nats-server/v2", "pgregory.net/rapid", "go.uber.org/goleak"} {
		if linked[path] {
			t.Errorf("the binary links %s", path)
		}
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.Lines(string(out)) {
		if path = strings.TrimSpace(path); strings.Contains(path, "nats-server") || path == "testing" || strings.HasSuffix(path, "test") && strings.Contains(path, "ssebridge") {
			t.Errorf("the binary depends on %s", path)
		}
	}
}

// The image holds nothing but the binary: no loader, no C library.
func TestBinaryIsStatic(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skipf("images are built for linux; this is %s", runtime.GOOS)
	}
	f, err := elf.Open(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a %v segment: it is linked dynamically", p.Type)
		}
	}
}

// A supervisor tells by the exit code whether to try again, a person by what is
// printed.
func TestWrongConfigurationStopsTheStart(t *testing.T) {
	cmd := exec.Command(binary(t))
	cmd.Env = []string{"SSEBRIDGE_STREAMS=orders=nats-kv:orders", "SSEBRIDGE_AUTH=jwt", "SSEBRIDGE_HEARTBEATS=1s", "SSEBRIDGE_NATS_TOKEN=" + secrettest.New("token")}
	out, err := cmd.Output()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 2 {
		t.Fatalf("ended with %v, want exit code 2", err)
	}
	if len(out) > 0 {
		t.Errorf("standard output holds %q", secrettest.Hide(string(out)))
	}
	printed := secrettest.Hide(string(exit.Stderr))
	for _, want := range []string{"broker nats-kv is not available in this version", `SSEBRIDGE_AUTH="jwt": is not available in this version`, "did you mean SSEBRIDGE_HEARTBEAT?"} {
		if !strings.Contains(printed, want) {
			t.Errorf("standard error does not say %q:\n%s", want, printed)
		}
	}
	secrettest.Check(t, "standard error", string(exit.Stderr))
}

// A port that is taken is a problem that passes: exit code 1, so that a
// supervisor tries again.
func TestTakenAddressIsToldByItsVariable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, name := range []string{"SSEBRIDGE_HTTP_LISTEN", "SSEBRIDGE_ADMIN_LISTEN"} {
		out, code := command(t, environ("STREAMS=orders=nats:ORDERS", "NATS_URL=nats://127.0.0.1:1", strings.TrimPrefix(name, "SSEBRIDGE_")+"="+l.Addr().String()))
		if code != 1 || !strings.Contains(out, name) {
			t.Errorf("%s is taken: ended with %d: %s", name, code, out)
		}
	}
}

package deploy

import (
	"debug/elf"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// imageTag names the image in the test's own storage.
const imageTag = "ssebridge:test"

// buildah builds images without a daemon, in a storage that ends with the test,
// and downloads nothing.
type buildah struct {
	t       *testing.T
	path    string
	storage string
}

func newBuildah(t *testing.T) *buildah {
	t.Helper()
	b := &buildah{t, need(t, "image", "apt-get install buildah", "buildah"), t.TempDir()}
	if os.Geteuid() != 0 {
		missing(t, "image", "buildah is run by root here; sudo go test ./deploy -run Image")
	}
	return b
}

// do runs a command of buildah and returns what it prints on standard output.
func (b *buildah) do(args ...string) string {
	b.t.Helper()
	all := append([]string{"--root", b.storage + "/root", "--runroot", b.storage + "/run", "--storage-driver", "vfs"}, args...)
	var log strings.Builder
	cmd := exec.CommandContext(b.t.Context(), b.path, all...)
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("buildah %s: %v\n%s%s", strings.Join(args, " "), err, out, log.String())
	}
	return strings.TrimSpace(string(out))
}

// goImage makes what stands for golang:1.26: a shell and certificates, and the
// Go of this machine, which is mounted at the build.
func (b *buildah) goImage() {
	b.t.Helper()
	root := b.t.TempDir()
	for _, dir := range []string{"bin", "tmp", "go", "root", "usr/local/go", "etc/ssl/certs"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	copyFile(b.t, staticShell(b.t), filepath.Join(root, "bin/busybox"))
	copyFile(b.t, "/etc/ssl/certs/ca-certificates.crt", filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	for _, tool := range []string{"sh", "mkdir"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", tool)); err != nil {
			b.t.Fatal(err)
		}
	}
	file := filepath.Join(b.t.TempDir(), "Dockerfile")
	text := `FROM scratch
COPY . /
ENV PATH=/usr/local/go/bin:/bin HOME=/root GOPATH=/go GOCACHE=/go/build-cache GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.do("bud", "--isolation", "chroot", "--pull-never", "-q", "-f", file, "-t", "docker.io/library/golang:1.26", root)
}

// staticShell returns the path of a shell that needs no other file.
func staticShell(t *testing.T) string {
	t.Helper()
	const get = "apt-get install busybox-static"
	path := need(t, "image", get, "busybox")
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		missing(t, "image", path+" is linked dynamically; "+get)
	}
	return path
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// Whoever breaks into the bridge must find nothing to go on with: one file that
// runs, no shell, no root. It is checked as built, by the Dockerfile itself.
func TestImageHoldsTheBinaryAlone(t *testing.T) {
	b := newBuildah(t)
	b.goImage()
	if out, err := exec.CommandContext(t.Context(), "go", "mod", "download").CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	// Modules and compiled packages are those of this machine.
	b.do("bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "-q", "-t", imageTag,
		"--volume", goEnv(t, "GOROOT")+":/usr/local/go:ro",
		"--volume", goEnv(t, "GOMODCACHE")+":/go/pkg/mod",
		"--volume", goEnv(t, "GOCACHE")+":/go/build-cache",
		"..")

	var image struct {
		Docker struct {
			Config struct {
				User         string
				Entrypoint   []string
				Cmd          []string
				ExposedPorts map[string]any
				Healthcheck  struct{ Test []string }
			} `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(b.do("inspect", "--type", "image", imageTag)), &image); err != nil {
		t.Fatal(err)
	}
	c := image.Docker.Config
	if c.User != "65532:65532" {
		t.Errorf("user %q, want 65532:65532", c.User)
	}
	if !slices.Equal(c.Entrypoint, []string{"/ssebridge"}) || !slices.Equal(c.Cmd, []string{"serve"}) {
		t.Errorf("it starts %v %v, want /ssebridge serve", c.Entrypoint, c.Cmd)
	}
	if _, ok := c.ExposedPorts["8480/tcp"]; !ok || len(c.ExposedPorts) != 1 {
		t.Errorf("ports %v, want 8480 alone", c.ExposedPorts)
	}
	if want := []string{"CMD", "/ssebridge", "healthcheck"}; !slices.Equal(c.Healthcheck.Test, want) {
		t.Errorf("health check %v, want %v", c.Healthcheck.Test, want)
	}

	container := b.do("from", "--pull-never", imageTag)
	if got, want := files(t, b.do("mount", container)), []string{"etc/passwd", "etc/ssl/certs/ca-certificates.crt", "ssebridge"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	run := func(args ...string) string { return b.do(append([]string{"run", "--isolation", "chroot"}, args...)...) }
	if got := run(container, "--", "/ssebridge", "version"); !strings.HasPrefix(got, "ssebridge ") {
		t.Errorf("version: %q", got)
	}
	alive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, "ok\n")
	}))
	defer alive.Close()
	if got := run("--env", "SSEBRIDGE_HTTP_LISTEN="+strings.TrimPrefix(alive.URL, "http://"), container, "--", "/ssebridge", "healthcheck"); got != "alive" {
		t.Errorf("health check: %q, want alive", got)
	}
}

// files lists the files below root that hold something, sorted.
func files(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			path, err = filepath.Rel(root, path)
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

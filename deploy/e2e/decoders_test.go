package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ssebridge/ssebridge/sink/ssetest"
)

// decoderKind is a client that undoes a coding by what its language or tool has
// for that. run writes the text to out as it comes, until the response ends, and
// returns an error unless that was a proper end of the coding.
type decoderKind struct {
	name   string
	coding string
	run    func(ctx context.Context, url string, out io.Writer) error
}

// decoderKinds returns those that there are on this machine.
func decoderKinds(t *testing.T) []decoderKind {
	t.Helper()
	all := []decoderKind{
		{"Go", "gzip", readByGo("gzip", rawHTTP)},
		{"Go by hand", "zstd", readByGo("zstd", rawHTTP)},
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		missing(t, "curl", "curl is not installed; apt-get install curl")
	}
	all = append(all, decoderKind{"curl", "gzip", readByCurl(t, curl, "gzip")})
	if version, err := exec.Command(curl, "--version").Output(); err == nil && bytes.Contains(version, []byte(" zstd")) {
		all = append(all, decoderKind{"curl", "zstd", readByCurl(t, curl, "zstd")})
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "browser", "node is not installed; apt-get install nodejs")
	}
	all = append(all,
		decoderKind{"Node's zlib", "gzip", readByCommand(node, "-e", nodeZlib)},
		decoderKind{"Node's fetch", "gzip", readByCommand(node, "-e", nodeFetch)})
	python, err := exec.LookPath("python3")
	if err != nil {
		missing(t, "python", "python3 is not installed; apt-get install python3")
	}
	all = append(all, decoderKind{"Python's zlib", "gzip", readByCommand(python, "-c", pythonZlib)})
	if exec.Command(python, "-c", "import urllib3").Run() == nil {
		all = append(all, decoderKind{"Python's urllib3", "gzip", readByCommand(python, "-c", pythonURLLib3)})
	}
	return all
}

const nodeZlib = `
const gunzip = require("zlib").createGunzip();
require("http").get(process.argv[1], { headers: { "accept-encoding": "gzip" } }, (response) => {
  if (response.headers["content-encoding"] !== "gzip") throw new Error(JSON.stringify(response.headers));
  response.pipe(gunzip).pipe(process.stdout);
});`

const nodeFetch = `
(async () => {
  const response = await fetch(process.argv[1], { headers: { "accept-encoding": "gzip, deflate" } });
  if (response.headers.get("content-encoding") !== "gzip") throw new Error([...response.headers].join());
  for await (const text of response.body) process.stdout.write(text);
})();`

const pythonZlib = `
import http.client, sys, urllib.parse, zlib
url = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.netloc)
connection.request("GET", url.path + "?" + url.query, headers={"Accept-Encoding": "gzip"})
response = connection.getresponse()
assert response.getheader("Content-Encoding") == "gzip", response.getheaders()
unzip = zlib.decompressobj(31)
while coded := response.read1():
    sys.stdout.buffer.write(unzip.decompress(coded))
    sys.stdout.buffer.flush()
assert unzip.eof and not unzip.unused_data and not unzip.unconsumed_tail, "no end"
`

const pythonURLLib3 = `
import sys, urllib3
response = urllib3.PoolManager().request("GET", sys.argv[1], headers={"Accept-Encoding": "gzip"}, preload_content=False)
assert response.headers["Content-Encoding"] == "gzip", response.headers
for text in response.stream(decode_content=True):
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
`

// readByCommand runs a command that prints the text of the URL at its end.
func readByCommand(command ...string) func(context.Context, string, io.Writer) error {
	return func(ctx context.Context, url string, out io.Writer) error {
		cmd := exec.CommandContext(ctx, command[0], append(slices.Clone(command[1:]), url)...)
		cmd.SysProcAttr = dieWithTest()
		var complaints bytes.Buffer
		cmd.Stdout, cmd.Stderr = out, &complaints
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w: %s", err, complaints.String())
		}
		return nil
	}
}

func readByCurl(t *testing.T, curl, coding string) func(context.Context, string, io.Writer) error {
	return func(ctx context.Context, url string, out io.Writer) error {
		head := filepath.Join(t.TempDir(), "head")
		err := readByCommand(curl, "-sSN", "--compressed", "-H", "Accept-Encoding: "+coding, "-D", head)(ctx, url, out)
		text, _ := os.ReadFile(head) // without it there is no coding either
		if err == nil && !strings.Contains(strings.ToLower(string(text)), "content-encoding: "+coding+"\r\n") {
			err = fmt.Errorf("not in %s: %s", coding, text)
		}
		return err
	}
}

// rawHTTP is net/http without its own decompression.
var rawHTTP http.RoundTripper = &http.Transport{DisableCompression: true, DisableKeepAlives: true}

func readByGo(coding string, transport http.RoundTripper) func(context.Context, string, io.Writer) error {
	return func(ctx context.Context, url string, out io.Writer) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		r.Header.Set("Accept-Encoding", coding)
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if got := resp.Header.Get("Content-Encoding"); got != coding {
			return fmt.Errorf("coding %q", got)
		}
		return decode(coding, resp.Body, out)
	}
}

// decode undoes a coding as it comes.
func decode(coding string, from io.Reader, to io.Writer) error {
	text := from
	switch coding {
	case "gzip":
		z, err := gzip.NewReader(from)
		if err != nil {
			return err
		}
		text = z
	case "zstd":
		z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
		defer z.Close()
		text = z
	}
	_, err := io.Copy(to, text)
	return err
}

// decoded is one client that undoes a coding, and what it has read.
type decoded struct {
	kind decoderKind
	t    *testing.T
	stop context.CancelFunc
	done chan struct{} // closed when it has ended

	mu     sync.Mutex
	parser ssetest.Parser
	events history
	err    error // with which it ended
}

// startDecoding connects a client. It ends with the test.
func startDecoding(t *testing.T, kind decoderKind, url string) *decoded {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	d := &decoded{kind: kind, t: t, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		err := kind.run(ctx, url, d)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.err = err
	}()
	t.Cleanup(func() {
		stop()
		<-d.done
	})
	return d
}

// Write takes text as it is decoded.
func (d *decoded) Write(text []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, d.parser.Feed(text)...)
	return len(text), nil
}

// seen returns what has been read so far, and the heartbeats among it.
func (d *decoded) seen() (h history, heartbeats int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.events, d.parser.Comments()
}

// await waits until what was read is ok.
func (d *decoded) await(what string, ok func(h history, heartbeats int) bool) {
	d.t.Helper()
	until(d.t, fmt.Sprintf("%s by %s (%s)", what, d.kind.name, d.kind.coding), func() bool {
		h, heartbeats := d.seen()
		if ok(h, heartbeats) {
			return true
		}
		select {
		case <-d.done:
			d.t.Fatalf("%s (%s) has ended: %v; it read\n%s", d.kind.name, d.kind.coding, d.err, h)
		default:
		}
		return false
	})
}

// awaitType waits for the nth event of a type.
func (d *decoded) awaitType(name string, n int) {
	d.t.Helper()
	d.await(name, func(h history, _ int) bool { return len(h.only(name)) >= n })
}

// awaitData waits for a record, which has to be the newest event.
func (d *decoded) awaitData(data string) {
	d.t.Helper()
	d.await("the record "+data, func(h history, _ int) bool {
		return slices.ContainsFunc(h[max(0, len(h)-3):], func(e ssetest.Event) bool { return e.Data == data })
	})
}

// end waits for the end of the response, which must be a proper one.
func (d *decoded) end() history {
	d.t.Helper()
	until(d.t, fmt.Sprintf("the end of %s (%s)", d.kind.name, d.kind.coding), func() bool {
		select {
		case <-d.done:
			return true
		default:
			return false
		}
	})
	if d.err != nil {
		d.t.Errorf("%s (%s) does not take the end for one: %v", d.kind.name, d.kind.coding, d.err)
	}
	if d.parser.Pending() {
		d.t.Errorf("%s (%s) ended within an event", d.kind.name, d.kind.coding)
	}
	return d.events
}

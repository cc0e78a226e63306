//go:build unix

package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
	"github.com/ssebridge/ssebridge/sources/nats/natstest"
)

// ask sends a request with headers and reads the answer, in which no planted
// secret may be either.
func ask(t *testing.T, method, url string, header ...string) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(url, "?") { // a problem quotes the query to who wrote it
		secrettest.Check(t, method+" "+url, string(body))
	}
	return res.StatusCode
}

// secretFile returns a file with a text.
func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// wayIn is a way to log in to NATS: how the server wants it, and the settings
// that bring a secret.
type wayIn struct {
	name     string
	server   func(o *server.Options, secret string)
	admin    func(secret string) natsgo.Option
	settings func(t *testing.T, address, secret string) []string
}

func waysIn() []wayIn {
	user := func(o *server.Options, secret string) { o.Username, o.Password = "bridge", secret }
	userOption := func(secret string) natsgo.Option { return natsgo.UserInfo("bridge", secret) }
	token := func(o *server.Options, secret string) { o.Authorization = secret }
	return []wayIn{
		{"password", user, userOption, func(_ *testing.T, address, secret string) []string {
			return []string{"NATS_URL=nats://" + address, "NATS_USER=bridge", "NATS_PASSWORD=" + secret}
		}},
		{"password of a file", user, userOption, func(t *testing.T, address, secret string) []string {
			return []string{"NATS_URL=nats://" + address, "NATS_USER=bridge", "NATS_PASSWORD_FILE=" + secretFile(t, secret)}
		}},
		{"password in the URL", user, userOption, func(_ *testing.T, address, secret string) []string {
			return []string{"NATS_URL=nats://bridge:" + secret + "@" + address}
		}},
		{"token", token, natsgo.Token, func(_ *testing.T, address, secret string) []string {
			return []string{"NATS_URL=nats://" + address, "NATS_TOKEN=" + secret}
		}},
		{"token in the URL", token, natsgo.Token, func(_ *testing.T, address, secret string) []string {
			return []string{"NATS_URL=nats://" + secret + "@" + address}
		}},
	}
}

// Logs are kept for years and read by many. Whatever secret a bridge is given or
// a client sends, and whether it fits or not, none of it may come out again: not
// at any level, in any form, nor when the process is shot down.
func TestSecretsNeverComeOut(t *testing.T) {
	for i, way := range waysIn() {
		format := []string{"LOG_FORMAT=json", "LOG_FORMAT=text"}[i%2]
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			secret := secrettest.New("right")
			srv := natstest.Embedded(t, func(o *server.Options) { way.server(o, secret) })
			js := srv.JS(way.admin(secret))
			addStream(t, js, "ORDERS")
			address := strings.TrimPrefix(srv.URL, "nats://")
			common := []string{"STREAMS=orders=nats:ORDERS", "LOG_LEVEL=debug", format, "DRAIN=0", "HEARTBEAT=1s"}
			settings := append(way.settings(t, address, secret), common...)
			for _, args := range []string{"config", "check"} {
				if out, code := command(t, environ(settings...), args); code != 0 {
					t.Errorf("%s ended with %d: %s", args, code, out)
				}
			}
			p := launch(t, settings...)
			p.waitLog("stream is read")
			query := "token=" + secrettest.New("query")
			private := []string{"Authorization", "Bearer " + secrettest.New("admin"), "Cookie", "session=" + secrettest.New("cookie")}
			for target, want := range map[string]int{
				p.public + "/events?" + query: 400, p.public + "/events?lastEventId=" + secrettest.New("id"): 400, p.public + "/nowhere?" + query: 404,
				p.public + "/events/none?" + query: 400, p.admin + "/clients?" + query: 400, p.admin + "/nowhere?" + query: 404, p.admin + "/streams": 200, p.admin + "/clients": 200,
				p.admin + "/metrics": 200, p.admin + "/debug/pprof/cmdline": 200, p.admin + "/debug/pprof/goroutine?debug=2": 200, p.admin + "/openapi.json": 200,
			} {
				if got := ask(t, http.MethodGet, target, private...); got != want && got != 404 {
					t.Errorf("%s: got %d, want %d", secrettest.Hide(target), got, want)
				}
			}
			held := p.open("?subject=orders." + secrettest.New("subject"))
			held.next("connected")
			ask(t, http.MethodGet, p.admin+"/streams", "Authorization", "Bearer "+secrettest.New("wrong"))
			p.signal(syscall.SIGQUIT) // the runtime prints every goroutine, as it does after a panic
			_ = p.wait()
			if dump := strings.Join(p.raw, "\n"); !strings.Contains(dump, "goroutine ") || !strings.Contains(dump, "client connected") {
				t.Error("the output lacks the dump or the client, so little was tried")
			}

			wrong := append(way.settings(t, address, secrettest.New("wrong")), common...)
			if out, code := command(t, environ(wrong...), "check"); code != 1 {
				t.Errorf("check by a wrong secret ended with %d: %s", code, out)
			}
			p = launch(t, wrong...)
			p.waitLog("stream waits")
			ask(t, http.MethodGet, p.admin+"/streams")
			p.signal(syscall.SIGTERM)
			_ = p.wait()
		})
	}
}

// A secret that cannot be used stops the start, and the reason is told without it.
func TestSecretsThatCannotBeUsedAreNotShown(t *testing.T) {
	nats := []string{"STREAMS=orders=nats:ORDERS", "NATS_URL=nats://127.0.0.1:1"}
	kafka := []string{"STREAMS=orders=kafka:orders", "KAFKA_BROKERS=127.0.0.1:1"}
	secret := secrettest.New("unusable")
	pem := "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n"
	for name, settings := range map[string][]string{
		"creds":              append(nats, "NATS_CREDS="+secret),
		"creds of a file":    append(nats, "NATS_CREDS_FILE="+secretFile(t, secret)),
		"nkey":               append(nats, "NATS_NKEY="+secret),
		"certificate":        append(nats, "NATS_TLS_CERT="+secret, "NATS_TLS_KEY="+secret),
		"key":                append(nats, "NATS_TLS_CERT="+pem, "NATS_TLS_KEY_FILE="+secretFile(t, pem)),
		"authority":          append(nats, "NATS_TLS_CA="+secret),
		"two ways":           append(nats, "NATS_TOKEN="+secret, "NATS_PASSWORD="+secret),
		"URL":                append(nats, "NATS_URL=http://u:"+secret+"@127.0.0.1"),
		"URL that is none":   append(nats, "NATS_URL=nats://u:"+secret+"@127.0.0.1:port"),
		"admin token":        append(nats, "ADMIN_TOKEN="+secret+" with blanks"),
		"password alone":     append(kafka, "KAFKA_SASL_PASSWORD="+secret),
		"Kafka certificate":  append(kafka, "KAFKA_TLS=true", "KAFKA_TLS_CERT="+pem, "KAFKA_TLS_KEY="+pem),
		"Kafka address":      append(kafka, "KAFKA_BROKERS=u:"+secret+"@127.0.0.1"),
		"misspelt":           append(nats, "NATS_PASWORD="+secret),
		"collector's URL":    append(nats, "OTEL_EXPORTER_OTLP_ENDPOINT=u:"+secret+"@collector"),
		"collector's header": append(nats, "OTEL_EXPORTER_OTLP_ENDPOINT=ftp://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS="+secret),
	} {
		for _, args := range [][]string{nil, {"config"}, {"check"}} {
			if strings.HasPrefix(name, "collector") && args != nil {
				continue // only what serves exports
			}
			if out, code := command(t, environ(slices.Clone(settings)...), args...); code != 2 && (code != 1 || !slices.Contains(args, "check")) {
				t.Errorf("%s: %v ended with %d: %s", name, args, code, out)
			}
		}
	}
	if out, code := command(t, environ(append(nats, "NATS_PASSWORD="+secret)...), "env"); code != 0 {
		t.Errorf("env ended with %d: %s", code, out)
	}
}

// A collector that is away is told again and again; its URL and headers hold
// passwords.
func TestCollectorsSecretsNeverComeOut(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL=nats://127.0.0.1:1", "LOG_LEVEL=debug", "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol, "OTEL_METRIC_EXPORT_INTERVAL=50",
			"OTEL_EXPORTER_OTLP_TIMEOUT=200", "OTEL_EXPORTER_OTLP_ENDPOINT=http://u:"+secrettest.New("collector")+"@"+freeAddress(t).String())
		p.waitLog("telemetry failed")
		p.signal(syscall.SIGTERM)
		if err := p.wait(); err != nil {
			t.Errorf("ended with %v", err)
		}
	}
}

// Whoever reads a log in a terminal must not run what a stranger put into it,
// and a program that reads it must find one record in each line.
func TestHostileBytesDoNotReachTheLog(t *testing.T) {
	srv := natstest.Embedded(t)
	addStream(t, srv.JS(), "ORDERS")
	for _, format := range []string{"json", "text"} {
		p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL="+srv.URL, "LOG_LEVEL=debug", "LOG_FORMAT="+format, "DRAIN=0")
		p.waitLog("stream is read")
		// Percent-encoded, and as they are, as far as net/http lets them through.
		const encoded = "%1b%5b31m%00%7f%c2%9b2J%e2%80%ae%0a%0d%22level%22:%22ERROR%22%20level=ERROR%ff"
		const raw = "\u009b2J\u202e\" level=ERROR msg=\"forged\xff"
		for _, request := range []string{
			"GET /events/orders HTTP/1.1\r\nHost: x\r\nUser-Agent: " + raw + "\r\nOrigin: http://evil.example\r\nLast-Event-ID: " + raw + "\r\n\r\n",
			"GET /events/orders?subject=" + encoded + " HTTP/1.0\r\nHost: x\r\nOrigin: http://" + raw + "\r\n\r\n",
			"GET /" + encoded + " HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /events/orders HTTP/1.1\r\nHost: " + raw + "\r\nOrigin: http://x" + raw + "\r\n\r\n",
			"G\x1b[31mT /events HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /events HTTP/1.1\r\nHost: x\r\nX: \x1b[31m\r\n\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x1b[31m\x00\x00\x00\x00\x00\x00\x00\x00",
			"\x16\x03\x01\x1b[31m\n\n",
		} {
			answerOf(t, p.public, request)
			answerOf(t, p.admin, request)
		}
		p.waitLog("client left")
		p.waitLog("a page of another origin was refused; later ones are not logged")
		p.signal(syscall.SIGTERM)
		_ = p.wait()
		for _, line := range p.raw {
			fields, err := parseLine(line)
			if err != nil || fields["msg"] == nil || fields["msg"] == "forged" || fields["level"] == "ERROR" {
				t.Errorf("%s: not one record: %v: %q", format, err, line)
			}
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%s: byte %d does not print: %q", format, i, line)
			}
		}
	}
}

// answerOf sends bytes to a listener and reads what it answers first.
func answerOf(t *testing.T, base, request string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && !strings.Contains(request, "/events/orders") {
		_ = tcp.CloseWrite() // so that half a request has an end
	}
	if _, err := conn.Read(make([]byte, 4096)); err != nil {
		return // no answer is one, too
	}
}

// The words of a signal are for people who ask why a process ended.
func TestDrainingSaysWhy(t *testing.T) {
	p := launch(t, "STREAMS=orders=nats:ORDERS", "NATS_URL=nats://127.0.0.1:1", "LOG_FORMAT=text")
	p.signal(syscall.SIGTERM)
	if line := p.waitLog("draining"); fmt.Sprint(line["reason"]) != "terminated signal received" {
		t.Errorf("got %v", line)
	}
	if err := p.wait(); err != nil {
		t.Error(err)
	}
}

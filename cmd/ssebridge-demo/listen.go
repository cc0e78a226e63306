package main

import (
	"context"
	"fmt"
	"net"
)

// Where things listen unless a flag says otherwise; if one of these is taken, a
// free port is used instead.
const (
	defaultListen       = "127.0.0.1:8400"
	defaultNATSListen   = "127.0.0.1:8422"
	defaultBridgeListen = "127.0.0.1:8480"
)

// listen listens at addr, or, if that is empty, at fallback or a free port of
// its host. Only loopback will do: whoever reaches the demo may read this
// machine's counters, and end its bridge. And only IPv4, as everything that is
// printed and shown names 127.0.0.1.
func listen(ctx context.Context, addr, fallback string) (net.Listener, error) {
	chosen := addr
	if chosen == "" {
		chosen = fallback
	}
	host, _, err := net.SplitHostPort(chosen)
	if err != nil {
		return nil, fmt.Errorf("%q: want host:port", chosen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip.To4() == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%q: the demo has no access control, so it only listens on loopback (IPv4), such as %s", chosen, fallback)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", chosen)
	if err != nil && addr == "" {
		return lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	return l, err
}

// freeAddress returns an address that nobody listens at, chosen as [listen]
// does. Another process could take it until its user does, who then says so.
func freeAddress(ctx context.Context, addr, fallback string) (string, error) {
	l, err := listen(ctx, addr, fallback)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// origins are the names under which a browser of this machine knows the page.
func origins(addr net.Addr) []string {
	origins := []string{"http://" + addr.String()}
	if host, port, err := net.SplitHostPort(addr.String()); err == nil && host != "localhost" {
		origins = append(origins, "http://"+net.JoinHostPort("localhost", port))
	}
	return origins
}

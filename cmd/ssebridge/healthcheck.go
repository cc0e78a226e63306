package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// healthcheckTimeout is below the timeout of a container's health check, so that
// the reason is still printed.
const healthcheckTimeout = 3 * time.Second

// healthcheck asks the process that runs with the same settings whether it is
// alive, for images without a shell. It reads only the address it needs: other
// settings are the serving process' business.
func healthcheck(ctx context.Context, _ []string, stdout, _ io.Writer) error {
	var needed struct {
		HTTPListen Address `split_words:"true" default:":8480"`
	}
	if err := problemsError(readSettings(prefix, &needed)); err != nil {
		return err
	}
	url := "http://" + dialable(string(needed.HTTPListen)) + "/livez"
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	// Proxies of the environment are for other hosts than this one.
	client := http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("health check: GET %s: %s", url, res.Status)
	}
	p := printer{w: stdout}
	p.printf("alive\n")
	return p.err
}

// dialable returns the address at which a listener of this host is reached.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

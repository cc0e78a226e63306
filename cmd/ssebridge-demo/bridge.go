package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// bridgeStart bounds how long the bridge may take to answer for the first time.
const bridgeStart = 15 * time.Second

// findBridge returns the path of the ssebridge binary: the one that is asked
// for, or the one in this executable's own directory.
func findBridge(path string) (string, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find ssebridge: %w", err)
		}
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		path = filepath.Join(filepath.Dir(self), "ssebridge")
		if runtime.GOOS == "windows" {
			path += ".exe"
		}
	}
	// Absolute, so that a bare name is a file here and not a search in PATH.
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find ssebridge: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find ssebridge: %w (`make run` builds both programs; or name the binary with -bridge)", err)
	}
	return path, nil
}

// bridgeEnv is all of the bridge's environment: nothing that is set around the
// demo can change what it shows.
func bridgeEnv(b broker, listen, admin string, origins []string) []string {
	return append(b.Settings(),
		"SSEBRIDGE_AUTH=none",
		"SSEBRIDGE_CORS_ORIGINS="+strings.Join(origins, ","),
		"SSEBRIDGE_HTTP_LISTEN="+listen,
		"SSEBRIDGE_ADMIN_LISTEN="+admin,
		"SSEBRIDGE_READY=sources", // so that the page has events when it is announced
		"SSEBRIDGE_RETRY=1s",
		"SSEBRIDGE_DRAIN=1s",
		"SSEBRIDGE_LOG_FORMAT=text",
	)
}

// waitFor waits until the bridge at addr is ready.
func waitFor(ctx context.Context, addr string) error {
	within, cancel := context.WithTimeout(ctx, bridgeStart)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ready(within, client, addr) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-within.Done():
			return fmt.Errorf("start the bridge: not ready at http://%s/readyz within %s", addr, bridgeStart)
		case <-tick.C:
		}
	}
}

func ready(ctx context.Context, client *http.Client, addr string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

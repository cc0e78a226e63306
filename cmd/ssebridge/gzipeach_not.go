//go:build !gzipeach || !nosweep

package main

import "net/http"

// gzipEach does nothing: a compressor for each client takes more than all else
// that is done for it.
func gzipEach(h http.Handler) http.Handler { return h }

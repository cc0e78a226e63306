package main

import (
	"context"
	"io"
	"runtime/debug"
)

// build says what the binary was built from. Unknown parts are "unknown".
type build struct {
	version, revision, golang string
	modified                  bool
}

func buildOf(info *debug.BuildInfo) build {
	b := build{version: "unknown", revision: "unknown", golang: "unknown"}
	if info == nil {
		return b
	}
	b.golang = info.GoVersion
	if info.Main.Version != "" {
		b.version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.revision = s.Value
		case "vcs.modified":
			b.modified = s.Value == "true"
		}
	}
	return b
}

// currentBuild returns the build of the running binary.
func currentBuild() build {
	info, _ := debug.ReadBuildInfo()
	return buildOf(info)
}

func printVersion(_ context.Context, _ []string, stdout, _ io.Writer) error {
	b, p := currentBuild(), printer{w: stdout}
	p.printf("ssebridge %s\nrevision %s", b.version, b.revision)
	if b.modified {
		p.printf(" (modified)")
	}
	p.printf("\n%s\n", b.golang)
	return p.err
}

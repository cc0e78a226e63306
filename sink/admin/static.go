package admin

import (
	"embed"
	"io/fs"
)

// static is the inspector: plain HTML, CSS and JavaScript, nothing from
// elsewhere and nothing to build.
//
//go:embed static
var static embed.FS

// Static returns the inspector's files. look.css and chart.js are made for other
// pages too; what they offer stands at their top.
func Static() fs.FS {
	files, err := fs.Sub(static, "static")
	if err != nil {
		return static // cannot be: the name is valid
	}
	return files
}

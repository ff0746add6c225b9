//go:build tools

// Package tools names the programs that the tests run, so that go.mod keeps their versions.
package tools

import (
	_ "github.com/hugelgupf/p9/cmd/p9ufs"
	_ "honnef.co/go/tools/cmd/staticcheck"
)

// Package shcheck runs checks written as shell functions and reports each as a
// test.
//
// A script reads Library in, sets WORK to a directory, and calls the function
// check for each; Read finds there what they came to. The script may run
// anywhere that can write to the directory: on the host, in a guest.
package shcheck

import (
	_ "embed"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Library is shell text: the functions check, same, wait_port.
//
//go:embed library.sh
var Library string

// Check is what one check came to.
type Check struct {
	Name   string
	OK     bool
	Took   time.Duration
	Output string
}

// Read gives the checks that were made with WORK being dir, in their order.
func Read(dir string) []Check {
	text, err := os.ReadFile(filepath.Join(dir, "results"))
	if err != nil {
		return nil // none was made
	}
	var list []Check
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		ms, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		out, err := os.ReadFile(filepath.Join(dir, "checks", f[1]))
		if err != nil {
			out = []byte(err.Error())
		}
		list = append(list, Check{Name: f[1], OK: f[0] == "ok", Took: time.Duration(ms) * time.Millisecond, Output: string(out)})
	}
	return list
}

// Report makes each check a subtest, and fails where fewer were made than expected.
func Report(t *testing.T, checks []Check, least int) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.Name, func(t *testing.T) {
			if !c.OK {
				t.Errorf("failed after %v:\n%s", c.Took, c.Output)
			}
		})
	}
	if len(checks) < least {
		t.Errorf("%d checks were made, %d expected", len(checks), least)
	}
}

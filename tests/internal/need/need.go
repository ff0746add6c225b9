// Package need says what a test cannot do without.
//
// Where a tool is missing a test is skipped on a developer's machine, and the
// run names it at its end; on CI (CI=true) it fails. Nothing is skipped silently.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Tools skips or fails the test unless all the programs are there.
func Tools(t testing.TB, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			Missing(t, "the program "+n+" is not installed; tests/run installs what the tests need")
		}
	}
}

// Path skips or fails the test unless the file is there.
func Path(t testing.TB, name, why string) {
	t.Helper()
	if _, err := os.Stat(name); err != nil {
		Missing(t, why+": "+err.Error())
	}
}

// Root skips or fails the test unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs to be root")
	}
}

// Missing skips the test, or fails it on CI.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("on CI nothing may be missing: ", why)
	}
	t.Skip(why)
}

// Full says whether the long versions of the tests are asked for (tests/run -full).
func Full() bool { return os.Getenv("ECHO9_FULL") != "" }

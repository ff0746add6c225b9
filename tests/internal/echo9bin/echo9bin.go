// Package echo9bin builds the echo9 command, and others, for tests that run
// them as processes.
package echo9bin

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var (
	mu    sync.Mutex
	built = make(map[string]string)
	dir   string
)

// Echo9 gives the path of the echo9 command, built once for a test process.
func Echo9(t testing.TB) string { return Build(t, "echo9/cli", "echo9") }

// Build gives the path of the program made from a main package. The binary is
// static, so that it runs wherever its file is seen. TestMain must be Main.
func Build(t testing.TB, pkg, name string) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if p, ok := built[pkg]; ok {
		return p
	}
	if dir == "" {
		d, err := os.MkdirTemp("", "echo9-bin-")
		if err != nil {
			t.Fatal(err)
		}
		dir = d
	}
	p := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-o", p, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	built[pkg] = p
	return p
}

// Main runs a package's tests and removes what was built: for TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// Package v9fs has the tests with the Linux kernel's own 9P client.
package v9fs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/suite"
	"echo9/tests/internal/uml"
)

func TestMain(m *testing.M) { echo9bin.Main(m) }

// TestApplications serves a tree over TCP inside a guest, and does to it what
// applications do, on mounts with the kernel's client: of the server itself, and
// of a cache of it.
//
// Everyday runs have every pair of face, way to cache and message size; full runs have
// every one of the ways and sizes on the server.
func TestApplications(t *testing.T) {
	guests := []guest{
		{"through a cache", "cache", []string{"cache=none,msize=1048576", "cache=mmap,msize=65536"}},
		{"server", "server", []string{"cache=none,msize=65536", "cache=mmap,msize=1048576"}},
	}
	if need.Full() {
		guests = append(guests, guest{"server with the other sizes", "server", []string{"cache=none,msize=1048576", "cache=mmap,msize=65536"}})
	}
	for _, g := range guests {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			g.run(t)
		})
	}
}

// guest says what is mounted in a guest: a face of the server, with these options one after the other.
type guest struct {
	name, face string
	mounts     []string
}

func (g guest) run(t *testing.T) {
	uml.Need(t)
	need.Path(t, "/sbin/mkfs.ext4", "no mkfs.ext4 (package e2fsprogs)")
	dir := t.TempDir()
	script, err := os.ReadFile("testdata/guest.sh")
	if err != nil {
		t.Fatal(err)
	}
	limit := 10 * time.Minute
	halves := "y" // the mounts share the tree
	if need.Full() {
		limit, halves = time.Hour, ""
	}
	env := suite.Env(t, dir)
	env["ECHO9"] = echo9bin.Echo9(t)
	env["HALVES"] = halves
	env["FACE"] = g.face
	env["MOUNTS"] = strings.Join(g.mounts, " ")
	env["SUITE"] = filepath.Join(dir, "suite.sh")
	if err := os.WriteFile(env["SUITE"], []byte(suite.Script), 0o644); err != nil {
		t.Fatal(err)
	}
	r := uml.Run(t, uml.Guest{Script: string(script), Limit: limit, Disks: []string{disk(t, dir)}, Env: env})
	t.Logf("guest took %v", r.Took)
	for _, c := range r.Checks {
		t.Logf("%-40s %v", c.Name, c.Took)
	}
	r.Report(t, (suite.Least+2)*len(g.mounts)+1)
}

// disk makes an ext4 image, with a journal.
func disk(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "disk")
	f, err := os.Create(name)
	if err == nil {
		err = f.Truncate(1 << 30)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", name).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	return name
}

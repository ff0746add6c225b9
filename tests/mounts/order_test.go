package mounts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"echo9/cachefs"
	"echo9/p9srv"
)

// fsync makes a file of a mount durable, and what comes before what was done to it.
func fsync(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.Mkdir(n, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// echo9 pending lists what is not at the server, by name.
func TestPending(t *testing.T) {
	dir, mnt := setUp(t)
	up := start(t, "up", slow, dir, mnt)
	up.says("is mounted on")
	mkdir(t, filepath.Join(mnt, "d"))
	write(t, filepath.Join(mnt, "d/f.tmp"), "hello")
	if err := os.Rename(filepath.Join(mnt, "d/f.tmp"), filepath.Join(mnt, "d/f")); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(ok(t, "pending", mnt)), "\n")
	for i, want := range [][]string{
		{"1", "mkdir /d", "may go"},
		{"2", "create /d/f.tmp", "waits for 1"},
		{"3", "write 5 bytes at 0 of /d/f", "waits for 2"},
		{"4", "rename /d/f.tmp to /d/f", "waits for 2, 3"},
	} {
		if i >= len(lines) || slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(lines[i], s) }) {
			t.Fatalf("line %d has not %q:\n%s", i+1, want, strings.Join(lines, "\n"))
		}
	}
	var names []string
	for dec := json.NewDecoder(strings.NewReader(ok(t, "pending", "--json", mnt))); dec.More(); {
		var p cachefs.Pending
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		names = append(names, p.What+" "+strings.Join(p.Names, " "))
	}
	if want := []string{"mkdir /d", "create /d/f.tmp", "write /d/f", "rename /d/f.tmp /d/f"}; !slices.Equal(names, want) {
		t.Errorf("as JSON: %q", names)
	}
	ok(t, "sync", mnt)
	if out := ok(t, "pending", mnt); out != "" {
		t.Errorf("after a sync: %s", out)
	}
}

// A barrier by command, by extended attribute and by a line to ctl: what comes later is not at the server without what was before.
func TestBarriers(t *testing.T) {
	dir, mnt := setUp(t)
	up := start(t, "up", slow, dir, mnt)
	up.says("is mounted on")
	for name, ask := range map[string]func(path string) error{
		"command": func(path string) error { ok(t, "barrier", path); return nil },
		"xattr":   func(path string) error { return unix.Setxattr(path, p9srv.BarrierXattr, []byte("1"), 0) },
		"ctl": func(path string) error {
			return os.WriteFile(filepath.Join(mnt, ".echo9/ctl"), []byte("barrier "+strings.TrimPrefix(path, mnt)+"\n"), 0)
		},
		"none": func(string) error { return nil }, // the mutant
	} {
		t.Run(name, func(t *testing.T) {
			at := func(p ...string) string { return filepath.Join(append([]string{mnt, name}, p...)...) }
			mkdir(t, at(), at("a"), at("b"))
			ok(t, "sync", mnt)
			write(t, at("a/data"), "x")
			if err := ask(at("a/data")); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, name, "a/data")); err == nil {
				t.Error("the barrier sent something")
			}
			write(t, at("b/flag"), "")
			fsync(t, at("b/flag"))
			_, err := os.Stat(filepath.Join(dir, name, "a/data"))
			if ordered := err == nil; ordered != (name != "none") {
				t.Errorf("b/flag is at the server; a/data: %v", err)
			}
			if list, err := unix.Listxattr(filepath.Join(dir, name, "b/flag"), nil); err == nil && list > 0 {
				t.Error("the attribute is stored")
			}
		})
	}
	elsewhere := filepath.Join(t.TempDir(), "f")
	write(t, elsewhere, "")
	if out, code := echo9(t, "barrier", elsewhere); code != 1 || !strings.Contains(out, "in no mount of echo9") {
		t.Errorf("outside a mount: exit code %d: %s", code, out)
	}
	if out, code := echo9(t, "barrier", filepath.Join(mnt, "absent")); code != 1 || !strings.Contains(out, "no such file") {
		t.Errorf("of what is not there: exit code %d: %s", code, out)
	}
}

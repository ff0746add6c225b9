package fusefs

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// ramDir gives a directory of a file system in memory, where there is one: tests are not about the disk.
func ramDir(t testing.TB) string {
	t.Helper()
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		if d, err := os.MkdirTemp("/dev/shm", "fusefs-test-"); err == nil {
			t.Cleanup(func() { _ = os.RemoveAll(d) })
			return d
		}
	}
	return t.TempDir()
}

func exportDir(t testing.TB) (p9srv.Backend, string) {
	t.Helper()
	dir := filepath.Join(ramDir(t), "export")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fs, err := dirfs.Open(dir, dirfs.Options{Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fs.Close() })
	return fs, dir
}

// mounted mounts backend, and unmounts it when the test ends.
func mounted(t testing.TB, b p9srv.Backend, o Options) *Mounted {
	t.Helper()
	if o.Logf == nil {
		o.Logf = func(f string, a ...any) { logTo(t, f, a...) }
	}
	m, err := Mount(context.Background(), b, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.Unmount(ctx); err != nil {
			all := make([]byte, 1<<20)
			t.Errorf("at the end: %v\n%s", err, all[:runtime.Stack(all, true)])
			_ = detach(m.Path(), true)
		}
	})
	return m
}

// logTo logs while the test runs: what a mount says afterwards is dropped by its cleanup order.
func logTo(t testing.TB, format string, args ...any) { t.Helper(); t.Logf(format, args...) }

func TestSmoke(t *testing.T) {
	b, _ := exportDir(t)
	m := mounted(t, b, Options{Debug: os.Getenv("FUSE_DEBUG") != ""})
	p := filepath.Join(m.Path(), "f")
	if err := os.WriteFile(p, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(p)
	if err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

package dirfs

import (
	"os"
	"path/filepath"
	"testing"
)

// An object's path is the one that it has now, also after it was moved, and none when it has no name.
func TestPathOf(t *testing.T) {
	dir := t.TempDir()
	fs := openFS(t, dir, Options{})
	if err := os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "d/sub/f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root := fs.root
	f := walkPath(t, root, "d", "sub", "f")
	is := func(id uint64, want string) {
		t.Helper()
		if got := fs.PathOf(ctx, id); got != want {
			t.Errorf("object %d: %q, want %q", id, got, want)
		}
	}
	is(root.ID(), "/")
	is(f.ID(), "/d/sub/f")
	if err := os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "e")); err != nil {
		t.Fatal(err)
	}
	is(f.ID(), "/e/sub/f")
	if err := os.Remove(filepath.Join(dir, "e/sub/f")); err != nil {
		t.Fatal(err)
	}
	is(f.ID(), "")
	is(1<<40, "")
}

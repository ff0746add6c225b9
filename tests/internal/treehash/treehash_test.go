package treehash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func build(t *testing.T) string {
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "d"), 0o750),
		os.WriteFile(filepath.Join(dir, "d/a"), []byte("hello"), 0o640),
		os.Link(filepath.Join(dir, "d/a"), filepath.Join(dir, "b")),
		os.Symlink("d/a", filepath.Join(dir, "l")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Every kind of difference is seen.
func TestDifferencesAreSeen(t *testing.T) {
	fields := Fields{Owner: true, Links: true, Xattrs: true}
	for _, c := range []struct {
		name, want string
		change     func(dir string) error
	}{
		{"nothing", "", func(string) error { return nil }},
		{"content", "d/a:", func(d string) error { return os.WriteFile(filepath.Join(d, "d/a"), []byte("hellO"), 0o640) }},
		{"mode", "d:", func(d string) error { return os.Chmod(filepath.Join(d, "d"), 0o755) }},
		{"missing", "l: only in the first", func(d string) error { return os.Remove(filepath.Join(d, "l")) }},
		{"more", "x: only in the second", func(d string) error { return os.Mkdir(filepath.Join(d, "x"), 0o755) }},
		{"link becomes copy", "b:", func(d string) error {
			if err := os.Remove(filepath.Join(d, "b")); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "b"), []byte("hello"), 0o640)
		}},
		{"target", "l:", func(d string) error {
			if err := os.Remove(filepath.Join(d, "l")); err != nil {
				return err
			}
			return os.Symlink("b", filepath.Join(d, "l"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, second := build(t), build(t)
			if err := c.change(second); err != nil {
				t.Fatal(err)
			}
			a, err := Tree(first, fields)
			if err != nil {
				t.Fatal(err)
			}
			b, err := Tree(second, fields)
			if err != nil {
				t.Fatal(err)
			}
			if d := Diff(a, b, 0); d != "" && c.want == "" || !strings.Contains(d, c.want) {
				t.Errorf("difference %q, want %q", d, c.want)
			}
		})
	}
}

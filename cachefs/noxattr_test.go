package cachefs

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestNoXattrsAreKnown: that an object has no extended attributes comes along with its token, so that the
// question which FUSE asks before every write costs no message; one that has some is asked for.
func TestNoXattrsAreKnown(t *testing.T) {
	w := newWorld(t)
	ok(t, os.WriteFile(filepath.Join(w.dir, "bare"), nil, 0o644))
	ok(t, os.WriteFile(filepath.Join(w.dir, "dressed"), nil, 0o644))
	ok(t, syscall.Setxattr(filepath.Join(w.dir, "dressed"), "user.coat", []byte("red"), 0))
	f := w.cache()
	_, err := f.ReadDir(bg, "")
	ok(t, err)
	get := func(file, attr string) ([]byte, error) {
		o, _, err := f.walk(bg, []string{file}, true)
		ok(t, err)
		defer o.Release()
		return o.GetXattr(bg, &f.opt.Cred, attr)
	}
	before := f.Status().Messages
	if _, err := get("bare", "security.capability"); !errors.Is(err, syscall.ENODATA) {
		t.Errorf("of a file without attributes: %v", err)
	}
	if n := f.Status().Messages - before; n != 0 {
		t.Errorf("the question took %d messages", n)
	}
	if v, err := get("dressed", "user.coat"); err != nil || string(v) != "red" {
		t.Errorf("user.coat is %q, %v", v, err)
	}
}

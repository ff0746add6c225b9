package cachefs

import (
	"syscall"
	"testing"
)

// TestGoneUnderANewName: that somebody has removed what is to get another name, or the directory that it is to come from, is known
// after a few messages, whatever is known of the new name.
func TestGoneUnderANewName(t *testing.T) {
	w := newWorld(t)
	a, b := w.cache(), w.cache()
	ok(t, a.Mkdir(bg, "d", 0o755))
	ok(t, a.WriteFile(bg, "other", nil, 0o644))
	ok(t, a.WriteFile(bg, "f", nil, 0o644))
	ok(t, a.Sync(bg))
	f, d, root := object(t, a, "f"), object(t, a, "d"), object(t, a, "")
	ok(t, b.Remove(bg, "f"))
	ok(t, b.Remove(bg, "d"))
	ok(t, b.Sync(bg))
	few := func(what string, do func() error) {
		t.Helper()
		before := a.Status().Messages
		fails(t, do(), syscall.ESTALE)
		if n := a.Status().Messages - before; n > 10 {
			t.Errorf("%s took %d messages", what, n)
		}
	}
	for _, listed := range []bool{false, true} {
		if listed {
			same(t, "names", names(t, a, ""), "other")
		}
		for _, name := range []string{"new", "other"} {
			few("a link of what is gone", func() error { return root.Link(bg, &a.opt.Cred, f, name) })
			few("a rename from what is gone", func() error { return d.Rename(bg, &a.opt.Cred, "x", root, name, 0) })
		}
	}
}

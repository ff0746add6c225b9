package cachefs

import (
	"testing"

	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// TestBaseVersion: of everything that is held a cache knows which version the server tells, whatever was done to
// it here; else it could not reclaim after a restart what it has changed.
func TestBaseVersion(t *testing.T) {
	w := newWorld(t)
	d := w.direct()
	ok(t, d.Mkdir(bg, "old", 0o755))
	ok(t, d.WriteFile(bg, "old/f", []byte("content"), 0o644))
	ok(t, d.Symlink(bg, "f", "old/s"))
	a := w.cache()
	check := func(what string) {
		t.Helper()
		ok(t, a.Sync(bg))
		a.mu.Lock()
		defer a.mu.Unlock()
		checked := 0
		for id, n := range a.nodes {
			if a.holder.Mode(id) == tokens.None || n.gone || !n.attrOK || n.attr.Nlink == 0 {
				continue
			}
			o, err := w.backend.Lookup(bg, id)
			ok(t, err)
			attr, err := o.GetAttr(bg, &p9srv.Cred{})
			ok(t, err)
			o.Release()
			checked++
			if n.version() != attr.DataVersion {
				t.Errorf("after %s: object %d (%o) has version %x here, %x at the server; ctime %d, %d, size %d, %d",
					what, id, attr.Mode, n.version(), attr.DataVersion, n.base.ctime, attr.Ctime, n.base.size, attr.Size)
			}
		}
		if checked == 0 {
			t.Errorf("after %s: nothing is held", what)
		}
	}
	hasContent(t, a, "old/f", "content")
	_ = names(t, a, "old")
	check("reading")
	steps := []struct {
		what string
		do   func() error
	}{
		{"create", func() error { return a.WriteFile(bg, "new", []byte("x"), 0o600) }},
		{"write", func() error { return a.WriteFile(bg, "old/f", []byte("more content"), 0o644) }},
		{"truncate", func() error { return a.Truncate(bg, "old/f", 3) }},
		{"grow", func() error { return a.Truncate(bg, "new", 30000) }},
		{"mkdir", func() error { return a.Mkdir(bg, "dir", 0o755) }},
		{"rename", func() error { return a.Rename(bg, "new", "dir/new") }},
		{"rename over", func() error { return a.Rename(bg, "dir/new", "old/f") }},
		{"move a directory", func() error { return a.Rename(bg, "dir", "old/dir") }},
		{"symlink", func() error { return a.Symlink(bg, "old/f", "sym") }},
		{"link", func() error { return a.Link(bg, "old/f", "link") }},
		{"unlink", func() error { return a.Remove(bg, "link") }},
		{"rmdir", func() error { return a.Remove(bg, "old/dir") }},
		{"chmod", func() error { return a.Chmod(bg, "old/f", 0o600) }},
		{"chmod of a directory", func() error { return a.Chmod(bg, "old", 0o700) }},
		{"utimes", func() error { return a.Chtimes(bg, "old/f", 1e9, 2e9) }},
		{"utimes of a symlink's directory", func() error { return a.Chtimes(bg, "old", 1e9, 2e9) }},
		{"allocate", func() error {
			h := open(t, a, "old/f", wire.ORdwr)
			if err := h.Allocate(bg, 0, 0, 100000); err != nil {
				return err
			}
			return h.Close(bg)
		}},
		{"punch", func() error {
			h := open(t, a, "old/f", wire.ORdwr)
			if err := h.Allocate(bg, fallocPunchHole|fallocKeepSize, 0, 4096); err != nil {
				return err
			}
			return h.Close(bg)
		}},
		{"xattr", func() error {
			o, err := a.Root(bg, nil, "")
			ok(t, err)
			defer o.Release()
			f, _, err := o.Walk(bg, &a.opt.Cred, "sym")
			ok(t, err)
			f.Release()
			f, _, err = o.Walk(bg, &a.opt.Cred, "old")
			ok(t, err)
			defer f.Release()
			return f.SetXattr(bg, &a.opt.Cred, "user.x", []byte("v"), 0)
		}},
	}
	for _, s := range steps {
		ok(t, s.do())
		check(s.what)
	}
	for _, s := range steps[:1] { // and several in one cut
		ok(t, s.do())
	}
	ok(t, a.Rename(bg, "new", "newer"))
	ok(t, a.Remove(bg, "newer"))
	check("a file that never was at the server")
}

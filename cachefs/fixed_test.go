package cachefs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// updates are calls that change what is at a path, or what is in a directory.
func updates(f *FS, file, dir string) map[string]func() error {
	at := func(name string, do func(n *node, cred *p9srv.Cred) error) func() error {
		return func() error {
			return f.onPath(bg, "update", name, true, func(o p9srv.Object, _ wire.Attr) error { return do(o.(*node), &f.opt.Cred) })
		}
	}
	open := func(flags uint32) func() error {
		return func() error {
			h, err := f.OpenFile(bg, file, flags, 0)
			if err == nil {
				h.Close(bg)
			}
			return err
		}
	}
	return map[string]func() error{
		"open for writing": open(wire.OWronly),
		"open and append":  open(wire.ORdwr | wire.OAppend),
		"open and cut":     open(wire.ORdonly | wire.OTrunc),
		"truncate": at(file, func(n *node, cred *p9srv.Cred) error {
			return n.SetAttr(bg, cred, nil, wire.SetAttr{Valid: wire.SetSize, Size: 1})
		}),
		"chmod": at(file, func(n *node, cred *p9srv.Cred) error {
			return n.SetAttr(bg, cred, nil, wire.SetAttr{Valid: wire.SetMode, Mode: 0o600})
		}),
		"set an attribute": at(file, func(n *node, cred *p9srv.Cred) error {
			return n.SetXattr(bg, cred, "user.x", []byte("v"), 0)
		}),
		"create": func() error { return f.WriteFile(bg, dir+"/new", []byte("x"), 0o644) },
		"mkdir":  func() error { return f.Mkdir(bg, dir+"/newdir", 0o755) },
		"link": at("", func(n *node, cred *p9srv.Cred) error {
			return f.onPath(context.Background(), "link", file, true, func(o p9srv.Object, _ wire.Attr) error { return n.Link(bg, cred, o, "link") })
		}),
		"rename": func() error { return f.Rename(bg, file, "elsewhere") },
		"remove": func() error { return f.Remove(bg, file) },
	}
}

// refusedAtOnce checks that all these fail, and nothing is taken on.
func refusedAtOnce(t *testing.T, f *FS, want syscall.Errno, calls map[string]func() error) {
	t.Helper()
	for what, call := range calls {
		if err := call(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	s := f.Status()
	if s.Updates != 0 || s.Lost != 0 {
		t.Errorf("%d updates were taken on, %d lost: %v", s.Updates, s.Lost, s.Events)
	}
}

// TestReadOnlyExport: what is served read-only can be cached, and each update is refused at once.
func TestReadOnlyExport(t *testing.T) {
	dir := t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(dir, "d"), 0o777))
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o666))
	w := newWorldIn(t, t.TempDir(), func(c *p9srv.AuthorityConfig) {
		ro, err := dirfs.Open(dir, dirfs.Options{ReadOnly: true, Logf: t.Logf, Groups: groupsOf})
		ok(t, err)
		t.Cleanup(func() { ro.Close() })
		c.Backend = ro
	})
	f := w.cache()
	hasContent(t, f, "f", "text")
	refusedAtOnce(t, f, syscall.EROFS, updates(f, "f", "d"))
	hasContent(t, f, "f", "text")
	ok(t, f.Sync(bg))
	ok(t, f.Close(bg))
}

// chattr sets or clears flags of a file on the host.
func chattr(t *testing.T, path string, flag uint32, on bool) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	ok(t, err)
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil {
		flags &^= flag
		if on {
			flags |= flag
		}
		err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags))
	}
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTTY) || errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("needs a user and a file system that can make files immutable")
	}
	ok(t, err)
}

const (
	immutable  = 0x10
	appendOnly = 0x20
)

// TestFixedFiles: what the host lets nobody change is refused at once, and is not any more as soon as the host allows it again.
// A cache that takes such updates on loses them.
func TestFixedFiles(t *testing.T) {
	w := newWorld(t)
	file, dir := filepath.Join(w.dir, "f"), filepath.Join(w.dir, "d")
	ok(t, os.Mkdir(dir, 0o777))
	ok(t, os.WriteFile(file, []byte("text"), 0o666))
	ok(t, os.WriteFile(filepath.Join(dir, "below"), []byte("text"), 0o666))
	for _, flag := range []uint32{immutable, appendOnly} {
		for _, path := range []string{file, dir} {
			chattr(t, path, flag, true)
			t.Cleanup(func() { chattr(t, path, flag, false) })
		}
		f := w.cache()
		hasContent(t, f, "f", "text")
		refusedAtOnce(t, f, syscall.EPERM, updates(f, "f", "d"))
		fails(t, f.Remove(bg, "d/below"), syscall.EPERM)
		fails(t, f.Rename(bg, "d/below", "elsewhere"), syscall.EPERM)
		fails(t, f.Remove(bg, "d"), syscall.EPERM)
		broken := w.cache(func(o *Options) { o.Mutant = mutantTakeAll })
		ok(t, broken.Mkdir(bg, "d/lost", 0o755))
		fails(t, broken.Sync(bg), syscall.EIO)
		same(t, "lost by the mutant", broken.Status().Lost, 1)
		for _, path := range []string{file, dir} {
			chattr(t, path, flag, false)
		}
		ok(t, f.WriteFile(bg, "f", []byte("text"), 0o644)) // it still has what it was told then
		ok(t, f.WriteFile(bg, "d/below", []byte("text"), 0o644))
		ok(t, f.Sync(bg))
		same(t, "lost", f.Status().Lost, 0)
	}
}

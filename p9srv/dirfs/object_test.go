package dirfs

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"echo9/internal/wire"

	"golang.org/x/sys/unix"
)

func TestFileLife(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		d, attr, err := root.Mkdir(ctx, nil, "d", 0o751, noGID)
		must(t, err)
		defer d.Release()
		if attr.Mode != unix.S_IFDIR|0o751 || attr.QID.Type != wire.QTDir {
			t.Errorf("mkdir: %+v", attr)
		}
		o, f, attr, err := d.Create(ctx, nil, "f", wire.ORdwr, 0o640, noGID)
		must(t, err)
		defer o.Release()
		if attr.Mode != unix.S_IFREG|0o640 || attr.Size != 0 || attr.Nlink != 1 {
			t.Errorf("create: %+v", attr)
		}
		k, err := f.WriteAt(ctx, []byte("hello, world"), 0)
		must(t, err)
		if k != 12 {
			t.Errorf("wrote %d bytes", k)
		}
		must(t, f.Fsync(ctx, false))
		buf := make([]byte, 100)
		k, err = f.ReadAt(ctx, buf, 7)
		must(t, err)
		if string(buf[:k]) != "world" {
			t.Errorf("read %q", buf[:k])
		}
		host, err := os.ReadFile(filepath.Join(dir, "d/f"))
		must(t, err)
		if string(host) != "hello, world" {
			t.Errorf("the host has %q", host)
		}
		// The same object by another way has the same identity.
		o2, attr2, err := d.Walk(ctx, nil, "f")
		must(t, err)
		if o2.ID() != o.ID() || attr2.QID != o.QID() || attr2.Size != 12 {
			t.Errorf("walk: %d %+v, want %d", o2.ID(), attr2, o.ID())
		}
		o2.Release()
		up, _, err := d.Walk(ctx, nil, "..")
		must(t, err)
		if up.ID() != root.ID() {
			t.Errorf(".. is %d, want %d", up.ID(), root.ID())
		}
		up.Release()

		// Renamed and unlinked while open, it goes on working.
		must(t, d.Rename(ctx, nil, "f", root, "g", 0))
		if a, err := o.GetAttr(ctx, nil); err != nil || a.Nlink != 1 {
			t.Errorf("after rename: %+v, %v", a, err)
		}
		must(t, root.Unlink(ctx, nil, "g", 0))
		if _, err := f.WriteAt(ctx, []byte("HELLO"), 0); err != nil {
			t.Error(err)
		}
		must(t, o.SetAttr(ctx, nil, f, wire.SetAttr{Valid: wire.SetMode, Mode: 0o400}))
		must(t, o.SetAttr(ctx, nil, f, wire.SetAttr{Valid: wire.SetSize, Size: 7}))
		a, err := o.GetAttr(ctx, nil)
		must(t, err)
		if a.Nlink != 0 || a.Size != 7 || a.Mode&0o777 != 0o400 {
			t.Errorf("unlinked: %+v", a)
		}
		k, err = f.ReadAt(ctx, buf, 0)
		must(t, err)
		if string(buf[:k]) != "HELLO, " {
			t.Errorf("read %q of an unlinked file", buf[:k])
		}
		must(t, f.Close(ctx))
		_, _, err = root.Walk(ctx, nil, "g")
		wantErrno(t, err, syscall.ENOENT)
		must(t, root.Unlink(ctx, nil, "d", wire.AtRemoveDir))
	})
}

func TestNames(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
		for _, name := range []string{"", ".", "a/b", "/", "a\x00b", "d/..", "../x"} {
			_, _, err := root.Walk(ctx, nil, name)
			wantErrno(t, err, syscall.EINVAL)
		}
		for _, name := range []string{"", ".", "..", "a/b", "/etc", "a\x00b"} {
			_, _, err := root.Mkdir(ctx, nil, name, 0o755, noGID)
			wantErrno(t, err, syscall.EINVAL)
			_, _, _, err = root.Create(ctx, nil, name, wire.ORdwr, 0o644, noGID)
			wantErrno(t, err, syscall.EINVAL)
			_, _, err = root.Symlink(ctx, nil, name, "x", noGID)
			wantErrno(t, err, syscall.EINVAL)
			_, _, err = root.Mknod(ctx, nil, name, unix.S_IFIFO|0o644, 0, 0, noGID)
			wantErrno(t, err, syscall.EINVAL)
			wantErrno(t, root.Unlink(ctx, nil, name, 0), syscall.EINVAL)
			wantErrno(t, root.Rename(ctx, nil, name, root, "x", 0), syscall.EINVAL)
			wantErrno(t, root.Rename(ctx, nil, "d", root, name, 0), syscall.EINVAL)
		}
		_, _, err := root.Walk(ctx, nil, ".echo9")
		wantErrno(t, err, syscall.ENOENT)
		_, _, err = root.Mkdir(ctx, nil, ".echo9", 0o755, noGID)
		wantErrno(t, err, syscall.EPERM)
		wantErrno(t, root.Unlink(ctx, nil, ".echo9", wire.AtRemoveDir), syscall.EPERM)
		wantErrno(t, root.Rename(ctx, nil, ".echo9", root, "x", 0), syscall.EPERM)
		wantErrno(t, root.Rename(ctx, nil, "d", root, ".echo9", wire.RenameExchange), syscall.EPERM)
		_, err = fs.Root(ctx, nil, "/.echo9")
		wantErrno(t, err, syscall.ENOENT)
		// Elsewhere it is a name like any other.
		d := walkPath(t, root, "d")
		o, _, err := d.Mkdir(ctx, nil, ".echo9", 0o755, noGID)
		must(t, err)
		o.Release()
		long := string(bytes.Repeat([]byte{'x'}, 256))
		_, _, err = d.Mkdir(ctx, nil, long, 0o755, noGID)
		wantErrno(t, err, syscall.ENAMETOOLONG)
		sub, err := fs.Root(ctx, nil, "/d/.echo9")
		must(t, err)
		if sub.ID() != walkPath(t, d, ".echo9").ID() {
			t.Error("attach to a subdirectory gives another object")
		}
		sub.Release()
	})
}

func TestReaddir(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		d, _, err := root.Mkdir(ctx, nil, "d", 0o755, noGID)
		must(t, err)
		defer d.Release()
		for _, name := range []string{"a", "b", "c"} {
			must(t, os.WriteFile(filepath.Join(dir, "d", name), nil, 0o644))
		}
		must(t, os.Mkdir(filepath.Join(dir, "d/dir"), 0o755))
		must(t, os.Symlink("a", filepath.Join(dir, "d/link")))
		must(t, unix.Mkfifo(filepath.Join(dir, "d/fifo"), 0o644))
		f, err := d.Open(ctx, nil, wire.ORdonly)
		must(t, err)
		defer f.Close(ctx)
		types := map[string]uint8{"a": unix.DT_REG, "b": unix.DT_REG, "c": unix.DT_REG, "dir": unix.DT_DIR, "link": unix.DT_LNK, "fifo": unix.DT_FIFO, ".": unix.DT_DIR, "..": unix.DT_DIR}
		// One entry a call, going on by its cookie.
		var cookie uint64
		seen := map[string]int{}
		for {
			n := 0
			must(t, f.ReadDir(ctx, cookie, func(e wire.Dirent) bool {
				if n++; n == 2 {
					return false
				}
				cookie = e.Offset
				seen[e.Name]++
				if e.Type != types[e.Name] {
					t.Errorf("%s has type %d", e.Name, e.Type)
				}
				if e.Name != "." {
					o, _, err := d.Walk(ctx, nil, e.Name)
					must(t, err)
					if o.ID() != e.QID.Path || o.QID().Type != e.QID.Type {
						t.Errorf("%s is listed as %+v, walked to as %+v", e.Name, e.QID, o.QID())
					}
					o.Release()
				}
				return true
			}))
			if n == 0 {
				break
			}
		}
		if len(seen) != len(types) {
			t.Errorf("listed %v", seen)
		}
		for name, k := range seen {
			if k != 1 {
				t.Errorf("%s listed %d times", name, k)
			}
		}
		// From the start again, and the root without the private directory.
		n := 0
		must(t, f.ReadDir(ctx, 0, func(wire.Dirent) bool { n++; return true }))
		if n != len(types) {
			t.Errorf("second listing has %d entries", n)
		}
		r, err := root.Open(ctx, nil, wire.ORdonly)
		must(t, err)
		defer r.Close(ctx)
		must(t, r.ReadDir(ctx, 0, func(e wire.Dirent) bool {
			if e.Name == ".echo9" {
				t.Error("the private directory is listed")
			}
			if (e.Name == "." || e.Name == "..") && e.QID.Path != root.ID() {
				t.Errorf("%s of the root is %d, want %d", e.Name, e.QID.Path, root.ID())
			}
			return true
		}))
	})
}

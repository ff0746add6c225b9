package cachefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/wire"
	"echo9/p9srv"
)

var bg = context.Background()

// conformance is what any Backend does, seen through the conveniences of an FS: the cache must not be visible.
var conformance = []struct {
	name string
	test func(t *testing.T, f *FS)
}{
	{"ReadWrite", conformReadWrite},
	{"Holes", conformHoles},
	{"Append", conformAppend},
	{"Large", conformLarge},
	{"OpenFlags", conformOpenFlags},
	{"Names", conformNames},
	{"Directories", conformDirectories},
	{"Listing", conformListing},
	{"Rename", conformRename},
	{"RenameFlags", conformRenameFlags},
	{"Loops", conformLoops},
	{"HardLinks", conformHardLinks},
	{"UnlinkOpen", conformUnlinkOpen},
	{"ReplaceOpen", conformReplaceOpen},
	{"Symlinks", conformSymlinks},
	{"Special", conformSpecial},
	{"Attributes", conformAttributes},
	{"Times", conformTimes},
	{"Permissions", conformPermissions},
	{"Sticky", conformSticky},
	{"SetgidDirectory", conformSetgidDirectory},
	{"StripSetuid", conformStripSetuid},
	{"Xattrs", conformXattrs},
	{"DefaultACL", conformDefaultACL},
	{"Locks", conformLocks},
	{"Allocate", conformAllocate},
	{"Parents", conformParents},
	{"Lookup", conformLookup},
	{"Reobtained", conformReobtained},
	{"Cancelled", conformCancelled},
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks that err wraps one of the errnos.
func fails(t *testing.T, err error, want ...syscall.Errno) {
	t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	t.Fatalf("error %v, want %v", err, want)
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}

func hasContent(t *testing.T, f *FS, name, want string) {
	t.Helper()
	b, err := f.ReadFile(bg, name)
	ok(t, err)
	if string(b) != want {
		if len(b)+len(want) > 200 {
			t.Fatalf("%s has %d bytes, not the %d expected", name, len(b), len(want))
		}
		t.Fatalf("%s has %q, want %q", name, b, want)
	}
	a, err := f.Stat(bg, name)
	ok(t, err)
	same(t, "size of "+name, a.Size, uint64(len(want)))
}

func names(t *testing.T, f *FS, dir string) string {
	t.Helper()
	list, err := f.ReadDir(bg, dir)
	ok(t, err)
	var out []string
	for _, d := range list {
		if d.Name != ".echo9" {
			out = append(out, d.Name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// object gives the object at a path.
func object(t *testing.T, f *FS, name string) p9srv.Object {
	t.Helper()
	o, _, err := f.walk(bg, split(name), false)
	ok(t, err)
	t.Cleanup(o.Release)
	return o
}

func open(t *testing.T, f *FS, name string, flags uint32) *File {
	t.Helper()
	h, err := f.OpenFile(bg, name, flags, 0o644)
	ok(t, err)
	return h
}

// user gives the same FS as somebody else.
func asUser(uid, gid uint32, groups ...uint32) *p9srv.Cred {
	return &p9srv.Cred{UID: uid, GID: gid, Groups: groups}
}

func conformReadWrite(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "a", []byte("hello"), 0o644))
	hasContent(t, f, "a", "hello")
	h := open(t, f, "a", wire.ORdwr)
	n, err := h.WriteAt(bg, []byte("J"), 0)
	ok(t, err)
	same(t, "written", n, 1)
	_, err = h.WriteAt(bg, []byte(" world"), 5)
	ok(t, err)
	p := make([]byte, 100)
	n, err = h.ReadAt(bg, p, 3)
	ok(t, err)
	same(t, "read", string(p[:n]), "lo world")
	n, err = h.ReadAt(bg, p, 11)
	ok(t, err)
	same(t, "read at the end", n, 0)
	ok(t, h.Close(bg))
	hasContent(t, f, "a", "Jello world")
	ok(t, f.Truncate(bg, "a", 3))
	hasContent(t, f, "a", "Jel")
	ok(t, f.WriteFile(bg, "a", []byte("x"), 0o644))
	hasContent(t, f, "a", "x")
	ok(t, f.WriteFile(bg, "empty", nil, 0o644))
	hasContent(t, f, "empty", "")
}

func conformHoles(t *testing.T, f *FS) {
	h := open(t, f, "h", wire.ORdwr|wire.OCreat)
	_, err := h.WriteAt(bg, []byte("end"), 10000)
	ok(t, err)
	want := strings.Repeat("\x00", 10000) + "end"
	ok(t, h.Close(bg))
	hasContent(t, f, "h", want)
	ok(t, f.Truncate(bg, "h", 5))
	ok(t, f.Truncate(bg, "h", 8))
	hasContent(t, f, "h", strings.Repeat("\x00", 8))
	ok(t, f.WriteFile(bg, "g", []byte("0123456789"), 0o644))
	ok(t, f.Truncate(bg, "g", 4))
	ok(t, f.Truncate(bg, "g", 8))
	hasContent(t, f, "g", "0123\x00\x00\x00\x00")
}

func conformAppend(t *testing.T, f *FS) {
	h := open(t, f, "log", wire.OWronly|wire.OCreat|wire.OAppend)
	want := ""
	for i := range 50 {
		line := fmt.Sprintf("line %d\n", i)
		_, err := h.WriteAt(bg, []byte(line), 0)
		ok(t, err)
		want += line
	}
	_, err := h.ReadAt(bg, make([]byte, 1), 0)
	fails(t, err, syscall.EBADF)
	ok(t, h.Close(bg))
	hasContent(t, f, "log", want)
}

func conformLarge(t *testing.T, f *FS) {
	data := make([]byte, 5<<20+12345)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	ok(t, f.WriteFile(bg, "big", data, 0o644))
	hasContent(t, f, "big", string(data))
	h := open(t, f, "big", wire.ORdwr)
	defer h.Close(bg)
	for _, off := range []int64{0, 1, 4095, 1<<20 - 3, 3<<20 + 17, int64(len(data)) - 5} {
		p := make([]byte, 70_000)
		n, err := h.ReadAt(bg, p, off)
		ok(t, err)
		want := data[off:min(off+70_000, int64(len(data)))]
		if !bytes.Equal(p[:n], want) {
			t.Fatalf("read at %d differs", off)
		}
	}
	_, err := h.WriteAt(bg, []byte("patch"), 2<<20-2)
	ok(t, err)
	copy(data[2<<20-2:], "patch")
	ok(t, h.Fsync(bg, false))
	hasContent(t, f, "big", string(data))
}

func conformOpenFlags(t *testing.T, f *FS) {
	ok(t, f.Mkdir(bg, "d", 0o755))
	_, err := f.OpenFile(bg, "none", wire.ORdonly, 0)
	fails(t, err, syscall.ENOENT)
	_, err = f.OpenFile(bg, "d", wire.OWronly, 0)
	fails(t, err, syscall.EISDIR)
	ok(t, f.WriteFile(bg, "f", []byte("1"), 0o644))
	_, err = f.OpenFile(bg, "f", wire.ORdonly|wire.ODirectory, 0)
	fails(t, err, syscall.ENOTDIR)
	_, err = f.OpenFile(bg, "f", wire.OWronly|wire.OCreat|wire.OExcl, 0o644)
	fails(t, err, syscall.EEXIST)
	_, err = f.OpenFile(bg, "f/x", wire.ORdonly, 0)
	fails(t, err, syscall.ENOTDIR)
	var h p9srv.File = open(t, f, "f", wire.ORdonly)
	_, err = h.WriteAt(bg, []byte("x"), 0)
	fails(t, err, syscall.EBADF)
	ok(t, h.Close(bg))
	h = open(t, f, "f", wire.ORdwr|wire.OTrunc)
	ok(t, h.Close(bg))
	hasContent(t, f, "f", "")
	root := object(t, f, "")
	o, h, a, err := root.Create(bg, &f.opt.Cred, "f", wire.ORdwr|wire.OCreat, 0o600, 0)
	ok(t, err)
	same(t, "mode of what was there", a.Mode, modeRegular|0o644)
	ok(t, h.Close(bg))
	o.Release()
	_, _, _, err = root.Create(bg, &f.opt.Cred, "d", wire.ORdwr|wire.OCreat, 0o600, 0)
	fails(t, err, syscall.EISDIR, syscall.EEXIST)
}

func conformNames(t *testing.T, f *FS) {
	root := object(t, f, "")
	cred := &f.opt.Cred
	long := strings.Repeat("n", 255)
	ok(t, f.WriteFile(bg, long, []byte("x"), 0o644))
	hasContent(t, f, long, "x")
	for name, want := range map[string]syscall.Errno{
		long + "n": syscall.ENAMETOOLONG, "a/b": syscall.EINVAL, "a\x00b": syscall.EINVAL,
	} {
		_, _, err := root.Mkdir(bg, cred, name, 0o755, 0)
		fails(t, err, want)
	}
	for _, name := range []string{"", ".", ".."} {
		if _, _, err := root.Mkdir(bg, cred, name, 0o755, 0); err == nil {
			t.Fatalf("mkdir %q succeeded", name)
		}
		if err := root.Unlink(bg, cred, name, 0); err == nil {
			t.Fatalf("unlink %q succeeded", name)
		}
	}
	odd := "smile \U0001f600 \xff\n"
	ok(t, f.WriteFile(bg, odd, []byte("y"), 0o644))
	hasContent(t, f, odd, "y")
	_, err := f.Stat(bg, "missing")
	fails(t, err, syscall.ENOENT)
	_, err = f.Stat(bg, "missing")
	fails(t, err, syscall.ENOENT)
	ok(t, f.WriteFile(bg, "missing", nil, 0o644))
	hasContent(t, f, "missing", "")
	ok(t, f.Remove(bg, "missing"))
	_, err = f.Stat(bg, "missing")
	fails(t, err, syscall.ENOENT)
	_, _, err = root.Mkdir(bg, cred, ".echo9", 0o755, 0)
	fails(t, err, syscall.EPERM, syscall.EEXIST)
}

func conformDirectories(t *testing.T, f *FS) {
	ok(t, f.MkdirAll(bg, "a/b/c", 0o755))
	fails(t, f.Mkdir(bg, "a/b", 0o755), syscall.EEXIST)
	fails(t, f.Remove(bg, "a/b"), syscall.ENOTEMPTY)
	a, err := f.Stat(bg, "a")
	ok(t, err)
	same(t, "links of a", a.Nlink, 3)
	ok(t, f.WriteFile(bg, "a/f", nil, 0o644))
	same(t, "a", names(t, f, "a"), "b f")
	root := object(t, f, "")
	fails(t, root.Unlink(bg, &f.opt.Cred, "a", 0), syscall.EISDIR)
	dir := object(t, f, "a")
	fails(t, dir.Unlink(bg, &f.opt.Cred, "f", wire.AtRemoveDir), syscall.ENOTDIR)
	ok(t, f.Remove(bg, "a/b/c"))
	ok(t, f.Remove(bg, "a/b"))
	a, err = f.Stat(bg, "a")
	ok(t, err)
	same(t, "links of a", a.Nlink, 2)
	ok(t, f.RemoveAll(bg, "a"))
	_, err = f.Stat(bg, "a")
	fails(t, err, syscall.ENOENT)
	// A directory that is gone takes nothing.
	if _, _, err := dir.Mkdir(bg, &f.opt.Cred, "x", 0o755, 0); err == nil {
		t.Fatal("a removed directory took a new entry")
	}
}

func conformListing(t *testing.T, f *FS) {
	ok(t, f.Mkdir(bg, "d", 0o755))
	var want []string
	for i := range 300 {
		name := fmt.Sprintf("file%03d", i)
		want = append(want, name)
		ok(t, f.WriteFile(bg, "d/"+name, []byte(name), 0o644))
	}
	same(t, "listing", names(t, f, "d"), strings.Join(want, " "))
	// In pieces, with removals meanwhile: what stays is listed once.
	h := open(t, f, "d", wire.ORdonly|wire.ODirectory)
	seen := map[string]int{}
	var cookie uint64
	for {
		n := 0
		err := h.ReadDir(bg, cookie, func(d wire.Dirent) bool {
			if n == 17 {
				return false
			}
			n++
			seen[d.Name]++
			cookie = d.Offset
			return true
		})
		ok(t, err)
		if n == 0 {
			break
		}
		if len(seen) == 17 {
			ok(t, f.Remove(bg, "d/file000"))
			ok(t, f.Remove(bg, "d/file299"))
		}
	}
	ok(t, h.Close(bg))
	for _, name := range append(want[1:299], ".", "..") {
		same(t, "times that "+name+" was listed", seen[name], 1)
	}
	ok(t, f.WriteFile(bg, "d/new", nil, 0o644))
	same(t, "listing", names(t, f, "d"), strings.Join(append(want[1:299:299], "new"), " "))
	list, err := f.ReadDir(bg, "d")
	ok(t, err)
	for _, d := range list {
		a, err := f.Stat(bg, "d/"+d.Name)
		ok(t, err)
		same(t, "id of "+d.Name, a.QID.Path, d.QID.Path)
		same(t, "type of "+d.Name, d.Type, direntType(a.Mode))
	}
	_, err = f.ReadDir(bg, "d/new")
	fails(t, err, syscall.ENOTDIR)
}

func conformRename(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "a", []byte("A"), 0o644))
	ok(t, f.WriteFile(bg, "b", []byte("B"), 0o644))
	before, err := f.Stat(bg, "a")
	ok(t, err)
	ok(t, f.Rename(bg, "a", "b"))
	hasContent(t, f, "b", "A")
	after, err := f.Stat(bg, "b")
	ok(t, err)
	same(t, "id", after.QID.Path, before.QID.Path)
	_, err = f.Stat(bg, "a")
	fails(t, err, syscall.ENOENT)
	fails(t, f.Rename(bg, "a", "c"), syscall.ENOENT)
	ok(t, f.MkdirAll(bg, "d1/sub", 0o755))
	ok(t, f.Mkdir(bg, "d2", 0o755))
	ok(t, f.WriteFile(bg, "d1/sub/f", []byte("deep"), 0o644))
	ok(t, f.Rename(bg, "d1/sub", "d2/moved"))
	hasContent(t, f, "d2/moved/f", "deep")
	a, err := f.Stat(bg, "d1")
	ok(t, err)
	same(t, "links of d1", a.Nlink, 2)
	a, err = f.Stat(bg, "d2")
	ok(t, err)
	same(t, "links of d2", a.Nlink, 3)
	fails(t, f.Rename(bg, "b", "d2"), syscall.EISDIR)
	fails(t, f.Rename(bg, "d1", "b"), syscall.ENOTDIR)
	fails(t, f.Rename(bg, "d1", "d2"), syscall.ENOTEMPTY)
	ok(t, f.Rename(bg, "d2/moved", "d1")) // an empty directory is replaced
	hasContent(t, f, "d1/f", "deep")
	ok(t, f.Rename(bg, "b", "b"))
	hasContent(t, f, "b", "A")
	same(t, "root", names(t, f, ""), "b d1 d2")
}

func conformRenameFlags(t *testing.T, f *FS) {
	root := object(t, f, "")
	cred := &f.opt.Cred
	ok(t, f.WriteFile(bg, "a", []byte("A"), 0o644))
	ok(t, f.WriteFile(bg, "b", []byte("B"), 0o644))
	ok(t, f.MkdirAll(bg, "d/e", 0o755))
	fails(t, root.Rename(bg, cred, "a", root, "b", wire.RenameNoReplace), syscall.EEXIST)
	ok(t, root.Rename(bg, cred, "a", root, "c", wire.RenameNoReplace))
	ok(t, root.Rename(bg, cred, "c", root, "b", wire.RenameExchange))
	hasContent(t, f, "b", "A")
	hasContent(t, f, "c", "B")
	fails(t, root.Rename(bg, cred, "b", root, "none", wire.RenameExchange), syscall.ENOENT)
	fails(t, root.Rename(bg, cred, "b", root, "c", wire.RenameExchange|wire.RenameNoReplace), syscall.EINVAL)
	d := object(t, f, "d")
	ok(t, root.Rename(bg, cred, "b", d, "e", wire.RenameExchange))
	hasContent(t, f, "d/e", "A")
	a, err := f.Stat(bg, "b")
	ok(t, err)
	same(t, "b is a directory", isDir(a.Mode), true)
	a, err = f.Stat(bg, "d")
	ok(t, err)
	same(t, "links of d", a.Nlink, 2)
}

func conformLoops(t *testing.T, f *FS) {
	ok(t, f.MkdirAll(bg, "a/b/c", 0o755))
	ok(t, f.Mkdir(bg, "z", 0o755))
	fails(t, f.Rename(bg, "a", "a/b/c/d"), syscall.EINVAL)
	fails(t, f.Rename(bg, "a", "a/x"), syscall.EINVAL)
	fails(t, f.Rename(bg, "a/b", "a/b/c/b"), syscall.EINVAL)
	ok(t, f.Rename(bg, "a/b", "z/b"))
	fails(t, f.Rename(bg, "z", "z/b/c/z"), syscall.EINVAL)
	ok(t, f.Rename(bg, "a", "z/b/c/a"))
	a, err := f.Stat(bg, "z/b/c/a")
	ok(t, err)
	same(t, "links", a.Nlink, 2)
	root := object(t, f, "")
	c := object(t, f, "z/b/c")
	fails(t, root.Rename(bg, &f.opt.Cred, "z", c, "a", wire.RenameExchange), syscall.EINVAL)
}

func conformHardLinks(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "a", []byte("one"), 0o644))
	ok(t, f.Mkdir(bg, "d", 0o755))
	ok(t, f.Link(bg, "a", "d/b"))
	fails(t, f.Link(bg, "a", "d/b"), syscall.EEXIST)
	fails(t, f.Link(bg, "d", "d2"), syscall.EPERM)
	a, err := f.Stat(bg, "a")
	ok(t, err)
	b, err := f.Stat(bg, "d/b")
	ok(t, err)
	same(t, "id", b.QID.Path, a.QID.Path)
	same(t, "links", b.Nlink, 2)
	ok(t, f.WriteFile(bg, "d/b", []byte("two"), 0o644))
	hasContent(t, f, "a", "two")
	ok(t, f.Rename(bg, "a", "d/b")) // the same file: nothing happens
	same(t, "root", names(t, f, ""), "a d")
	ok(t, f.Remove(bg, "a"))
	hasContent(t, f, "d/b", "two")
	b, err = f.Stat(bg, "d/b")
	ok(t, err)
	same(t, "links", b.Nlink, 1)
}

func conformUnlinkOpen(t *testing.T, f *FS) {
	for _, settled := range []bool{false, true} {
		ok(t, f.WriteFile(bg, "f", []byte("before"), 0o644))
		h := open(t, f, "f", wire.ORdwr)
		o := object(t, f, "f")
		if settled {
			ok(t, f.Sync(bg))
		}
		ok(t, f.Remove(bg, "f"))
		if settled {
			ok(t, f.Sync(bg))
		}
		_, err := f.Stat(bg, "f")
		fails(t, err, syscall.ENOENT)
		_, err = h.WriteAt(bg, []byte("after!"), 6)
		ok(t, err)
		ok(t, h.Fsync(bg, false))
		p := make([]byte, 20)
		n, err := h.ReadAt(bg, p, 0)
		ok(t, err)
		same(t, "read of an unlinked file", string(p[:n]), "beforeafter!")
		a, err := o.GetAttr(bg, &f.opt.Cred)
		ok(t, err)
		same(t, "links", a.Nlink, 0)
		ok(t, o.SetAttr(bg, &f.opt.Cred, h, wire.SetAttr{Valid: wire.SetSize, Size: 3}))
		ok(t, o.SetAttr(bg, &f.opt.Cred, h, wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}))
		n, err = h.ReadAt(bg, p, 0)
		ok(t, err)
		same(t, "read after ftruncate", string(p[:n]), "bef")
		ok(t, h.Close(bg))
		ok(t, f.Sync(bg))
	}
}

func conformReplaceOpen(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "f", []byte("old"), 0o644))
	h := open(t, f, "f", wire.ORdonly)
	ok(t, f.WriteFile(bg, "tmp", []byte("new"), 0o644))
	ok(t, f.Rename(bg, "tmp", "f"))
	ok(t, f.Sync(bg))
	p := make([]byte, 20)
	n, err := h.ReadAt(bg, p, 0)
	ok(t, err)
	same(t, "the open file", string(p[:n]), "old")
	hasContent(t, f, "f", "new")
	ok(t, h.Close(bg))
}

func conformSymlinks(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "target", []byte("T"), 0o644))
	ok(t, f.Symlink(bg, "target", "link"))
	got, err := f.Readlink(bg, "link")
	ok(t, err)
	same(t, "link", got, "target")
	hasContent(t, f, "link", "T")
	a, err := f.Lstat(bg, "link")
	ok(t, err)
	same(t, "type", a.Mode&modeType, modeSymlink)
	same(t, "size", a.Size, 6)
	fails(t, f.Symlink(bg, "x", "link"), syscall.EEXIST)
	_, err = f.Readlink(bg, "target")
	fails(t, err, syscall.EINVAL)
	ok(t, f.Symlink(bg, "loop", "loop"))
	_, err = f.ReadFile(bg, "loop")
	fails(t, err, syscall.ELOOP)
	ok(t, f.Remove(bg, "link"))
	hasContent(t, f, "target", "T")
}

func conformSpecial(t *testing.T, f *FS) {
	root := object(t, f, "")
	cred := &f.opt.Cred
	o, a, err := root.Mknod(bg, cred, "fifo", modeFifo|0o640, 0, 0, 0)
	ok(t, err)
	o.Release()
	same(t, "mode", a.Mode, modeFifo|0o640)
	o, a, err = root.Mknod(bg, cred, "plain", modeRegular|0o600, 0, 0, 0)
	ok(t, err)
	o.Release()
	same(t, "mode", a.Mode, modeRegular|0o600)
	ok(t, f.Sync(bg))
	a, err = f.Lstat(bg, "fifo")
	ok(t, err)
	same(t, "mode", a.Mode, modeFifo|0o640)
	ok(t, f.Remove(bg, "fifo"))
}

func conformAttributes(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "f", []byte("x"), 0o640))
	a, err := f.Stat(bg, "f")
	ok(t, err)
	same(t, "mode", a.Mode, modeRegular|0o640)
	same(t, "owner", a.UID, f.opt.Cred.UID)
	same(t, "group", a.GID, f.opt.Cred.GID)
	same(t, "links", a.Nlink, 1)
	ok(t, f.Chmod(bg, "f", 0o4711))
	a, err = f.Stat(bg, "f")
	ok(t, err)
	same(t, "mode", a.Mode, modeRegular|0o4711)
	ok(t, f.Mkdir(bg, "d", 0o1777))
	a, err = f.Stat(bg, "d")
	ok(t, err)
	same(t, "mode", a.Mode, modeDir|0o1777)
	fails(t, f.Truncate(bg, "d", 1), syscall.EISDIR, syscall.EINVAL)
	if f.opt.Cred.UID != 0 {
		return
	}
	o := object(t, f, "f")
	ok(t, o.SetAttr(bg, &f.opt.Cred, nil, wire.SetAttr{Valid: wire.SetUID | wire.SetGID, UID: 1234, GID: 4321}))
	a, err = f.Stat(bg, "f")
	ok(t, err)
	same(t, "owner", a.UID, 1234)
	same(t, "group", a.GID, 4321)
	same(t, "mode after chown", a.Mode, modeRegular|0o711)
}

func conformTimes(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "f", []byte("x"), 0o644))
	ok(t, f.Chtimes(bg, "f", 1_000_000_007, 2_000_000_011_000_000_003))
	a, err := f.Stat(bg, "f")
	ok(t, err)
	same(t, "atime", a.Atime, 1_000_000_007)
	same(t, "mtime", a.Mtime, 2_000_000_011_000_000_003)
	ok(t, f.Sync(bg))
	b, err := f.Stat(bg, "f")
	ok(t, err)
	same(t, "mtime", b.Mtime, a.Mtime)
	h := open(t, f, "f", wire.OWronly)
	_, err = h.WriteAt(bg, []byte("y"), 0)
	ok(t, err)
	ok(t, h.Close(bg))
	c, err := f.Stat(bg, "f")
	ok(t, err)
	if c.Mtime == a.Mtime || c.Ctime < a.Ctime {
		t.Fatalf("a write changed mtime %d to %d, ctime %d to %d", a.Mtime, c.Mtime, a.Ctime, c.Ctime)
	}
	before, err := f.Stat(bg, "")
	ok(t, err)
	ok(t, f.WriteFile(bg, "g", nil, 0o644))
	after, err := f.Stat(bg, "")
	ok(t, err)
	if after.Mtime <= before.Mtime {
		t.Fatal("a create did not change its directory's mtime")
	}
}

func conformPermissions(t *testing.T, f *FS) {
	if f.opt.Cred.UID != 0 {
		t.Log("only the superuser can be somebody else")
		return
	}
	bob, eve := asUser(1000, 1000, 2000), asUser(1001, 1001)
	root := object(t, f, "")
	ok(t, f.Mkdir(bg, "open", 0o777))
	dir := object(t, f, "open")
	o, h, a, err := dir.Create(bg, bob, "bobs", wire.ORdwr|wire.OCreat, 0o640, 1000)
	ok(t, err)
	defer o.Release()
	same(t, "owner", a.UID, 1000)
	same(t, "group", a.GID, 1000)
	ok(t, h.Close(bg))
	_, err = o.Open(bg, eve, wire.ORdonly)
	fails(t, err, syscall.EACCES)
	h, err = o.Open(bg, asUser(1002, 1000), wire.ORdonly)
	ok(t, err)
	ok(t, h.Close(bg))
	_, err = o.Open(bg, asUser(1002, 1000), wire.OWronly)
	fails(t, err, syscall.EACCES)
	fails(t, o.SetAttr(bg, eve, nil, wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}), syscall.EPERM)
	fails(t, o.SetAttr(bg, bob, nil, wire.SetAttr{Valid: wire.SetUID, UID: 1001}), syscall.EPERM)
	fails(t, o.SetAttr(bg, bob, nil, wire.SetAttr{Valid: wire.SetGID, GID: 3000}), syscall.EPERM)
	ok(t, o.SetAttr(bg, bob, nil, wire.SetAttr{Valid: wire.SetGID, GID: 2000}))
	_, _, err = root.Mkdir(bg, eve, "no", 0o755, 1001)
	fails(t, err, syscall.EACCES)
	ok(t, f.Mkdir(bg, "closed", 0o700))
	ok(t, f.WriteFile(bg, "closed/f", nil, 0o666))
	_, _, err = object(t, f, "closed").Walk(bg, eve, "f")
	fails(t, err, syscall.EACCES)
	// What is open stays usable, whatever its mode is now.
	h, err = o.Open(bg, bob, wire.ORdwr)
	ok(t, err)
	ok(t, o.SetAttr(bg, bob, nil, wire.SetAttr{Valid: wire.SetMode, Mode: 0}))
	_, err = h.WriteAt(bg, []byte("still"), 0)
	ok(t, err)
	ok(t, o.SetAttr(bg, bob, h, wire.SetAttr{Valid: wire.SetSize, Size: 2}))
	ok(t, h.Fsync(bg, false))
	ok(t, h.Close(bg))
	_, err = o.Open(bg, bob, wire.ORdonly)
	fails(t, err, syscall.EACCES)
	hasContent(t, f, "open/bobs", "st")
}

func conformSticky(t *testing.T, f *FS) {
	if f.opt.Cred.UID != 0 {
		t.Log("only the superuser can be somebody else")
		return
	}
	bob, eve := asUser(1000, 1000), asUser(1001, 1001)
	ok(t, f.Mkdir(bg, "tmp", 0o1777))
	dir := object(t, f, "tmp")
	for _, name := range []string{"a", "b"} {
		o, h, _, err := dir.Create(bg, bob, name, wire.ORdwr|wire.OCreat, 0o666, 1000)
		ok(t, err)
		ok(t, h.Close(bg))
		o.Release()
	}
	fails(t, dir.Unlink(bg, eve, "a", 0), syscall.EPERM)
	fails(t, dir.Rename(bg, eve, "a", dir, "c", 0), syscall.EPERM)
	ok(t, dir.Unlink(bg, bob, "a", 0))
	ok(t, dir.Unlink(bg, &f.opt.Cred, "b", 0))
}

func conformSetgidDirectory(t *testing.T, f *FS) {
	if f.opt.Cred.UID != 0 {
		t.Log("only the superuser can be somebody else")
		return
	}
	ok(t, f.Mkdir(bg, "d", 0o777))
	d := object(t, f, "d")
	ok(t, d.SetAttr(bg, &f.opt.Cred, nil, wire.SetAttr{Valid: wire.SetGID, GID: 1234}))
	ok(t, f.Chmod(bg, "d", 0o2777))
	o, a, err := d.Mkdir(bg, asUser(1000, 1000), "sub", 0o755, 1000)
	ok(t, err)
	o.Release()
	same(t, "mode", a.Mode, modeDir|0o2755)
	same(t, "group", a.GID, 1234)
	o, h, a, err := d.Create(bg, asUser(1000, 1000), "f", wire.ORdwr|wire.OCreat, 0o644, 1000)
	ok(t, err)
	ok(t, h.Close(bg))
	o.Release()
	same(t, "group", a.GID, 1234)
	ok(t, f.Sync(bg))
	a, err = f.Stat(bg, "d/f")
	ok(t, err)
	same(t, "group at the server", a.GID, 1234)
}

func conformStripSetuid(t *testing.T, f *FS) {
	if f.opt.Cred.UID != 0 {
		t.Log("only the superuser can be somebody else")
		return
	}
	bob := asUser(1000, 1000)
	ok(t, f.WriteFile(bg, "f", []byte("x"), 0o666))
	ok(t, f.Chmod(bg, "f", 0o6777))
	h, err := object(t, f, "f").Open(bg, bob, wire.ORdwr)
	ok(t, err)
	_, err = h.WriteAt(bg, []byte("y"), 0)
	ok(t, err)
	ok(t, h.Close(bg))
	a, err := f.Stat(bg, "f")
	ok(t, err)
	same(t, "mode after a write", a.Mode, modeRegular|0o777)
	ok(t, f.Sync(bg))
	a, err = f.Stat(bg, "f")
	ok(t, err)
	same(t, "mode", a.Mode, modeRegular|0o777)
}

func conformXattrs(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "f", []byte("x"), 0o644))
	o := object(t, f, "f")
	cred := &f.opt.Cred
	_, err := o.GetXattr(bg, cred, "user.none")
	fails(t, err, syscall.ENODATA)
	ok(t, o.SetXattr(bg, cred, "user.a", []byte("1"), 0))
	ok(t, o.SetXattr(bg, cred, "user.b", []byte("2"), wire.XattrCreate))
	fails(t, o.SetXattr(bg, cred, "user.b", []byte("3"), wire.XattrCreate), syscall.EEXIST)
	fails(t, o.SetXattr(bg, cred, "user.c", []byte("3"), wire.XattrReplace), syscall.ENODATA)
	ok(t, o.SetXattr(bg, cred, "user.empty", nil, 0))
	v, err := o.GetXattr(bg, cred, "user.b")
	ok(t, err)
	same(t, "value", string(v), "2")
	ok(t, o.RemoveXattr(bg, cred, "user.a"))
	fails(t, o.RemoveXattr(bg, cred, "user.a"), syscall.ENODATA)
	ok(t, f.Sync(bg))
	list, err := o.ListXattr(bg, cred)
	ok(t, err)
	slices.Sort(list)
	same(t, "names", strings.Join(list, " "), "user.b user.empty")
	fails(t, o.SetXattr(bg, cred, "bogus.x", []byte("1"), 0), syscall.EOPNOTSUPP)
}

func conformDefaultACL(t *testing.T, f *FS) {
	ok(t, f.Mkdir(bg, "d", 0o755))
	d := object(t, f, "d")
	cred := &f.opt.Cred
	entry := func(tag uint16, perm byte, id uint32) []byte {
		return []byte{byte(tag), byte(tag >> 8), perm, 0, byte(id), byte(id >> 8), byte(id >> 16), byte(id >> 24)}
	}
	const none = 0xffffffff
	acl := slices.Concat([]byte{aclVersion, 0, 0, 0}, entry(aclUserObj, 7, none), entry(0x02, 7, 1234),
		entry(aclGroupObj, 5, none), entry(aclMask, 7, none), entry(aclOther, 0, none))
	err := d.SetXattr(bg, cred, aclDefault, acl, 0)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		t.Log("the host has no ACLs")
		return
	}
	ok(t, err)
	ok(t, f.WriteFile(bg, "d/f", nil, 0o666))
	ok(t, f.Mkdir(bg, "d/sub", 0o777))
	for range 2 {
		a, err := f.Stat(bg, "d/f")
		ok(t, err)
		same(t, "mode of a file", a.Mode, modeRegular|0o660)
		a, err = f.Stat(bg, "d/sub")
		ok(t, err)
		same(t, "mode of a directory", a.Mode, modeDir|0o770)
		got, err := object(t, f, "d/f").GetXattr(bg, cred, aclAccess)
		ok(t, err)
		want := slices.Concat([]byte{aclVersion, 0, 0, 0}, entry(aclUserObj, 6, none), entry(0x02, 7, 1234),
			entry(aclGroupObj, 5, none), entry(aclMask, 6, none), entry(aclOther, 0, none))
		if !bytes.Equal(got, want) {
			t.Fatalf("access ACL\n%x, want\n%x", got, want)
		}
		got, err = object(t, f, "d/sub").GetXattr(bg, cred, aclDefault)
		ok(t, err)
		if !bytes.Equal(got, acl) {
			t.Fatalf("default ACL\n%x, want\n%x", got, acl)
		}
		ok(t, f.Sync(bg))
		ok(t, f.Drop(bg))
	}
}

func conformLocks(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "f", []byte("x"), 0o644))
	o := object(t, f, "f")
	cred := &f.opt.Cred
	a := wire.Lock{Type: wire.LockWrite, Start: 0, Length: 10, ProcID: 1, ClientID: "a"}
	b := wire.Lock{Type: wire.LockWrite, Start: 5, Length: 10, ProcID: 2, ClientID: "b"}
	s, err := o.Lock(bg, cred, a)
	ok(t, err)
	same(t, "first lock", s, wire.LockSuccess)
	s, err = o.Lock(bg, cred, b)
	ok(t, err)
	same(t, "second lock", s, wire.LockBlocked)
	got, err := o.GetLock(bg, cred, b)
	ok(t, err)
	same(t, "the one in the way", got.ProcID, 1)
	a.Type = wire.LockUnlock
	s, err = o.Lock(bg, cred, a)
	ok(t, err)
	same(t, "unlock", s, wire.LockSuccess)
	s, err = o.Lock(bg, cred, b)
	ok(t, err)
	same(t, "second lock", s, wire.LockSuccess)
}

func conformAllocate(t *testing.T, f *FS) {
	h := open(t, f, "f", wire.ORdwr|wire.OCreat)
	_, err := h.WriteAt(bg, []byte("0123456789"), 0)
	ok(t, err)
	if err := h.Allocate(bg, 0, 0, 20); errors.Is(err, syscall.EOPNOTSUPP) {
		t.Log("the host cannot allocate")
		return
	} else {
		ok(t, err)
	}
	hasContent(t, f, "f", "0123456789"+strings.Repeat("\x00", 10))
	ok(t, h.Allocate(bg, fallocPunchHole|fallocKeepSize, 2, 3))
	hasContent(t, f, "f", "01\x00\x00\x0056789"+strings.Repeat("\x00", 10))
	ok(t, h.Allocate(bg, fallocKeepSize, 0, 4096))
	ok(t, h.Close(bg))
	ok(t, f.Sync(bg))
	ok(t, f.Drop(bg))
	hasContent(t, f, "f", "01\x00\x00\x0056789"+strings.Repeat("\x00", 10))
}

func conformParents(t *testing.T, f *FS) {
	ok(t, f.MkdirAll(bg, "a/b", 0o755))
	ok(t, f.Mkdir(bg, "c", 0o755))
	parent := func(o p9srv.Object) uint64 {
		up, _, err := o.Walk(bg, &f.opt.Cred, "..")
		ok(t, err)
		defer up.Release()
		return up.ID()
	}
	root, a, b, c := object(t, f, ""), object(t, f, "a"), object(t, f, "a/b"), object(t, f, "c")
	same(t, "parent of b", parent(b), a.ID())
	same(t, "parent of a", parent(a), root.ID())
	same(t, "parent of the root", parent(root), root.ID())
	ok(t, f.Rename(bg, "a/b", "c/b"))
	same(t, "parent of b", parent(b), c.ID())
	ok(t, f.Drop(bg))
	same(t, "parent of b", parent(b), c.ID())
}

func conformLookup(t *testing.T, f *FS) {
	ok(t, f.WriteFile(bg, "f", []byte("x"), 0o644))
	id := object(t, f, "f").ID()
	o, err := f.Lookup(bg, id)
	ok(t, err)
	same(t, "id", o.ID(), id)
	o.Release()
	if _, err := f.Lookup(bg, 1<<52+12345); err == nil {
		t.Fatal("an object that never was is found")
	}
	st, err := f.StatFS(bg)
	ok(t, err)
	if st.Blocks == 0 || st.NameLen < 100 {
		t.Fatalf("statfs says %+v", st)
	}
}

func conformCancelled(t *testing.T, f *FS) {
	ctx, cancel := context.WithCancel(bg)
	cancel()
	ok(t, f.Mkdir(bg, "d", 0o755))
	_, err := f.Lookup(ctx, 1<<52+54321)
	if err == nil {
		t.Fatal("an object that never was is found")
	}
	ok(t, f.WriteFile(bg, "d/f", []byte("x"), 0o644))
	hasContent(t, f, "d/f", "x")
}

// conformReobtained: objects stay usable when everything cached of them was given up.
func conformReobtained(t *testing.T, f *FS) {
	ok(t, f.MkdirAll(bg, "d/sub", 0o755))
	ok(t, f.WriteFile(bg, "d/f", []byte("x"), 0o644))
	d, sub, file := object(t, f, "d"), object(t, f, "d/sub"), object(t, f, "d/f")
	qids := []wire.QID{d.QID(), sub.QID(), file.QID()}
	h := open(t, f, "d/f", wire.ORdwr)
	for range 3 {
		ok(t, f.Sync(bg))
		ok(t, f.Drop(bg))
		for i, o := range []p9srv.Object{d, sub, file} {
			a, err := o.GetAttr(bg, &f.opt.Cred)
			ok(t, err)
			same(t, "qid", a.QID, qids[i])
		}
		_, err := h.WriteAt(bg, []byte("y"), 0)
		ok(t, err)
		ok(t, d.Rename(bg, &f.opt.Cred, "f", sub, "f", 0))
		ok(t, sub.Rename(bg, &f.opt.Cred, "f", d, "f", 0))
	}
	ok(t, h.Close(bg))
	hasContent(t, f, "d/f", "y")
}

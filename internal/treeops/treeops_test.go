package treeops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// newTree serves a fresh directory of the host. The Backend counts references.
func newTree(t *testing.T, opt Options) (*Tree, string, *counting) {
	t.Helper()
	dir := t.TempDir()
	b, err := dirfs.Open(dir, dirfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{Backend: b}
	cred := &p9srv.Cred{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	tree, err := New(t.Context(), c, cred, "", opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tree.Close()
		if n := c.refs.Load(); n != 0 {
			t.Errorf("%d objects were not released", n)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree, dir, c
}

// counting is a Backend that counts what is not released, and whose reads and writes can be held.
type counting struct {
	p9srv.Backend
	refs          atomic.Int64
	reads, writes gate
	failWrite     error
}

func (c *counting) Root(ctx context.Context, cred *p9srv.Cred, aname string) (p9srv.Object, error) {
	o, err := c.Backend.Root(ctx, cred, aname)
	return c.wrap(o, err), err
}

func (c *counting) wrap(o p9srv.Object, err error) p9srv.Object {
	if err != nil {
		return nil
	}
	c.refs.Add(1)
	return &countedObject{o, c}
}

type countedObject struct {
	p9srv.Object
	c *counting
}

func (o *countedObject) Release() { o.Object.Release(); o.c.refs.Add(-1) }

func (o *countedObject) Walk(ctx context.Context, cred *p9srv.Cred, name string) (p9srv.Object, wire.Attr, error) {
	obj, a, err := o.Object.Walk(ctx, cred, name)
	return o.c.wrap(obj, err), a, err
}

func (o *countedObject) Mkdir(ctx context.Context, cred *p9srv.Cred, name string, mode, gid uint32) (p9srv.Object, wire.Attr, error) {
	obj, a, err := o.Object.Mkdir(ctx, cred, name, mode, gid)
	return o.c.wrap(obj, err), a, err
}

func (o *countedObject) Symlink(ctx context.Context, cred *p9srv.Cred, name, target string, gid uint32) (p9srv.Object, wire.Attr, error) {
	obj, a, err := o.Object.Symlink(ctx, cred, name, target, gid)
	return o.c.wrap(obj, err), a, err
}

func (o *countedObject) Create(ctx context.Context, cred *p9srv.Cred, name string, flags, mode, gid uint32) (p9srv.Object, p9srv.File, wire.Attr, error) {
	obj, f, a, err := o.Object.Create(ctx, cred, name, flags, mode, gid)
	if err != nil {
		return nil, nil, a, err
	}
	return o.c.wrap(obj, nil), &countedFile{f, o.c}, a, nil
}

func (o *countedObject) Open(ctx context.Context, cred *p9srv.Cred, flags uint32) (p9srv.File, error) {
	f, err := o.Object.Open(ctx, cred, flags)
	if err != nil {
		return nil, err
	}
	return &countedFile{f, o.c}, nil
}

// The operands of these must be the inner Backend's own.
func (o *countedObject) Rename(ctx context.Context, cred *p9srv.Cred, oldName string, dir p9srv.Object, newName string, flags uint32) error {
	return o.Object.Rename(ctx, cred, oldName, dir.(*countedObject).Object, newName, flags)
}

func (o *countedObject) Link(ctx context.Context, cred *p9srv.Cred, target p9srv.Object, name string) error {
	return o.Object.Link(ctx, cred, target.(*countedObject).Object, name)
}

func (o *countedObject) SetAttr(ctx context.Context, cred *p9srv.Cred, f p9srv.File, set wire.SetAttr) error {
	if cf, ok := f.(*countedFile); ok {
		f = cf.File
	}
	return o.Object.SetAttr(ctx, cred, f, set)
}

type countedFile struct {
	p9srv.File
	c *counting
}

func (f *countedFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	defer f.c.reads.enter(f)()
	return f.File.ReadAt(ctx, p, off)
}

func (f *countedFile) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	defer f.c.writes.enter(f)()
	if f.c.failWrite != nil {
		return 0, f.c.failWrite
	}
	return f.File.WriteAt(ctx, p, off)
}

// localTree makes a tree of all that is copied.
func localTree(t *testing.T, dir string) {
	t.Helper()
	for i := range 3 {
		sub := filepath.Join(dir, fmt.Sprintf("d%d/e", i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range 20 {
			p := filepath.Join(sub, fmt.Sprintf("f%d", j))
			if err := os.WriteFile(p, bytes.Repeat([]byte{byte(i), byte(j)}, j*100), 0o640); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(p, time.Unix(1e9, 5), time.Unix(1e9+int64(j), 7)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, err := range []error{
		os.Symlink("d0/e/f1", filepath.Join(dir, "link")),
		os.Symlink("/nowhere", filepath.Join(dir, "d1/dangling")),
		os.Mkdir(filepath.Join(dir, "empty"), 0o755),
		os.Chmod(filepath.Join(dir, "d2/e"), 0o555), // read-only, and yet with files in it
		os.Chtimes(filepath.Join(dir, "d2"), time.Unix(2e9, 0), time.Unix(2e9, 0)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "d2/e"), 0o755) })
}

// describe maps names to what a copy must keep.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		what := fmt.Sprint(fi.Mode())
		switch {
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %x %v", b, fi.ModTime())
		case fi.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			what += " " + target
		default:
			what += fmt.Sprint(fi.ModTime())
		}
		out[rel] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(out, ".echo9")
	return out
}

func sameTrees(t *testing.T, a, b string) {
	t.Helper()
	da, db := describe(t, a), describe(t, b)
	for n, w := range da {
		if db[n] != w {
			t.Errorf("%s: %.80q and %.80q", n, w, db[n])
		}
	}
	if len(da) != len(db) {
		t.Errorf("%d and %d names", len(da), len(db))
	}
}

func TestPutAndGetATree(t *testing.T) {
	var files atomic.Int64
	tree, dir, c := newTree(t, Options{Chunk: 64, Workers: 12, Progress: func(f, _ int64) { files.Add(f) }})
	local := filepath.Join(t.TempDir(), "local")
	localTree(t, local)
	copyOpt := CopyOptions{Recursive: true, Times: true}
	c.writes.hold(t, 12, true)
	if err := tree.Put(t.Context(), local, "/copy", copyOpt); err != nil {
		t.Fatal(err)
	}
	sameTrees(t, local, filepath.Join(dir, "copy"))
	if n := files.Load(); n != 62 {
		t.Errorf("progress told of %d files, not 62", n)
	}
	back := filepath.Join(t.TempDir(), "back")
	c.reads.hold(t, 12, true)
	if err := tree.Get(t.Context(), "copy", back, copyOpt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(back, "d2/e"), 0o755) })
	sameTrees(t, local, back)
	if w, r := c.writes.was(), c.reads.was(); w != 12 || r != 12 {
		t.Errorf("at most %d files were written and %d read at a time, with 12 workers", w, r)
	}
	// Once more over what is there already.
	if err := os.Chmod(filepath.Join(back, "d2/e"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tree.Get(t.Context(), "copy", back, copyOpt); err != nil {
		t.Fatal(err)
	}
	sameTrees(t, local, back)
	if err := os.Chmod(filepath.Join(dir, "copy/d2/e"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tree.Remove(t.Context(), "/copy", true); err != nil {
		t.Fatal(err)
	}
	if left, err := tree.List(t.Context(), "/", false); err != nil || len(left) != 0 {
		t.Errorf("left after rm -r: %v, %v", left, err)
	}
}

func TestFilesLargerThanAChunk(t *testing.T) {
	tree, _, c := newTree(t, Options{Chunk: 1000, Ahead: 5})
	for _, size := range []int{0, 1, 999, 1000, 1001, 5000, 123_456} {
		want := bytes.Repeat([]byte("0123456789abcdefg"), size/17+1)[:size]
		if size > 5*1000 {
			c.writes.hold(t, 5, false)
			c.reads.hold(t, 5, false)
		}
		if err := tree.PutStream(t.Context(), bytes.NewReader(want), "/f", 0o644); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := tree.Cat(t.Context(), "/f", &got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("size %d: %d bytes came back, %v", size, got.Len(), err)
		}
	}
	if w, r := c.writes.was(), c.reads.was(); w != 5 || r != 5 {
		t.Errorf("at most %d writes and %d reads were in flight, not 5 as asked for", w, r)
	}
}

// A copy that fails or is cancelled leaves the old file, and nothing else.
func TestNoHalfFileIsLeft(t *testing.T) {
	tree, dir, c := newTree(t, Options{Chunk: 100})
	if err := tree.PutStream(t.Context(), strings.NewReader("old"), "/f", 0o644); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil || string(got) != "old" {
			t.Errorf("the file is %q, %v", got, err)
		}
		if list, err := tree.List(context.WithoutCancel(t.Context()), "/", false); err != nil || len(list) != 1 {
			t.Errorf("left: %+v, %v", list, err)
		}
	}
	t.Run("the source fails", func(t *testing.T) {
		boom := errors.New("boom")
		r := io.MultiReader(strings.NewReader(strings.Repeat("x", 950)), failing{boom})
		if err := tree.PutStream(t.Context(), r, "/f", 0o644); !errors.Is(err, boom) {
			t.Errorf("error %v", err)
		}
		check(t)
	})
	t.Run("a write fails", func(t *testing.T) {
		c.failWrite = syscall.ENOSPC
		defer func() { c.failWrite = nil }()
		if err := tree.PutStream(t.Context(), strings.NewReader(strings.Repeat("x", 950)), "/f", 0o644); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v", err)
		}
		check(t)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := io.MultiReader(strings.NewReader(strings.Repeat("x", 950)), cancelling(cancel), strings.NewReader(strings.Repeat("y", 950)))
		if err := tree.PutStream(ctx, r, "/f", 0o644); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		check(t)
	})
	t.Run("get is cancelled", func(t *testing.T) {
		local := t.TempDir()
		target := filepath.Join(local, "f")
		if err := os.WriteFile(target, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopping := tree.With(Options{Progress: func(int64, int64) { cancel() }, Chunk: 1})
		if err := stopping.Get(ctx, "/f", target, CopyOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		got, _ := os.ReadFile(target)
		list, _ := os.ReadDir(local)
		if string(got) != "mine" || len(list) != 1 {
			t.Errorf("the local file is %q, beside %d", got, len(list)-1)
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type cancelling context.CancelFunc

func (c cancelling) Read([]byte) (int, error) { c(); return 0, io.EOF }

// A get stays below the directory that was named, whatever is there and whatever
// links the server sends.
func TestGetStaysInside(t *testing.T) {
	tree, dir, _ := newTree(t, Options{})
	outside := filepath.Join(t.TempDir(), "outside")
	local := t.TempDir()
	for _, err := range []error{
		os.Mkdir(outside, 0o755),
		os.MkdirAll(filepath.Join(dir, "top/sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "top/sub/f"), []byte("x"), 0o644),
		os.Symlink(outside, filepath.Join(local, "sub")), // as a server could have sent it before
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Get(t.Context(), "/top", local, CopyOptions{Recursive: true}); err == nil {
		t.Error("no error")
	}
	if list, _ := os.ReadDir(outside); len(list) != 0 {
		t.Errorf("written outside: %v", list)
	}
}

func TestPathsAndLinks(t *testing.T) {
	tree, dir, _ := newTree(t, Options{})
	ctx := t.Context()
	for _, err := range []error{
		tree.Mkdir(ctx, "/a/b/c", 0o755, true),
		tree.Mkdir(ctx, "a/b/c/", 0o755, true),
		tree.PutStream(ctx, strings.NewReader("deep"), "/a/b/c/f", 0o644),
		tree.Symlink(ctx, "/a/b", "/abs"),
		tree.Symlink(ctx, "../a/b/c/f", "/a/rel"),
		tree.Symlink(ctx, "loop", "/loop"),
		tree.Symlink(ctx, "missing", "/dangling"),
		tree.Symlink(ctx, "/../../../etc", "/out"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]string{
		"/a/b/c/f": "deep", "a//b/./c/../c/f": "deep", "/abs/c/f": "deep", "/a/rel": "deep",
		"/abs/../b/c/f": "deep", "../../a/b/c/f": "deep",
	} {
		var got bytes.Buffer
		if err := tree.Cat(ctx, p, &got); err != nil || got.String() != want {
			t.Errorf("cat %s: %q, %v", p, got.String(), err)
		}
	}
	for p, want := range map[string]error{
		"/a/b/c/f/g": syscall.ENOTDIR, "/nope": syscall.ENOENT, "/loop": syscall.ELOOP,
		"/dangling": syscall.ENOENT, "/a": syscall.EISDIR, "/out/passwd": syscall.ENOENT,
	} {
		if err := tree.Cat(ctx, p, io.Discard); !errors.Is(err, want) {
			t.Errorf("cat %s: %v, not %v", p, err, want)
		}
	}
	if e, err := tree.Stat(ctx, "/a/rel", false); err != nil || e.Target != "../a/b/c/f" {
		t.Errorf("stat of a link: %+v, %v", e, err)
	}
	if e, err := tree.Stat(ctx, "/", false); err != nil || e.Type != TypeDir {
		t.Errorf("stat of the root: %+v, %v", e, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "a/b/c/f")); err != nil {
		t.Error(err)
	}
}

func TestChanges(t *testing.T) {
	tree, dir, _ := newTree(t, Options{Umask: 0o027})
	ctx := t.Context()
	at := func(p string) string { return filepath.Join(dir, p) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(tree.Touch(ctx, "/f", true))
	if fi, err := os.Stat(at("f")); err != nil || fi.Mode() != 0o640 {
		t.Errorf("touched: %v, %v", fi, err)
	}
	must(tree.Touch(ctx, "/none", false))
	must(tree.Truncate(ctx, "/f", 10, true))
	must(tree.Chmod(ctx, "/f", func(m uint32) uint32 { return m | 0o111 }))
	if fi, _ := os.Stat(at("f")); fi.Mode() != 0o751 || fi.Size() != 10 {
		t.Errorf("changed: %v %d", fi.Mode(), fi.Size())
	}
	must(tree.Mkdir(ctx, "/d", 0o755, false))
	must(tree.Rename(ctx, "/f", "/d"))
	must(tree.Rename(ctx, "/d/f", "/g"))
	must(tree.Link(ctx, "/g", "/d"))
	a, _ := os.Stat(at("g"))
	if b, err := os.Stat(at("d/g")); err != nil || !os.SameFile(a, b) {
		t.Errorf("hard link: %v", err)
	}
	for name, c := range map[string]struct{ got, want error }{
		"mkdir of what is there": {tree.Mkdir(ctx, "/d", 0o755, false), syscall.EEXIST},
		"mkdir -p over a file":   {tree.Mkdir(ctx, "/g/x", 0o755, true), syscall.EEXIST},
		"rm of a directory":      {tree.Remove(ctx, "/d", false), syscall.EISDIR},
		"rm of nothing":          {tree.Remove(ctx, "/nope", true), syscall.ENOENT},
		"rm of the root":         {tree.Remove(ctx, "/", true), syscall.EBUSY},
		"mv of nothing":          {tree.Rename(ctx, "/nope", "/x"), syscall.ENOENT},
		"ln over a file":         {tree.Link(ctx, "/g", "/d/g"), syscall.EEXIST},
		"get of a directory":     {tree.Get(ctx, "/d", at("z"), CopyOptions{}), syscall.EISDIR},
		"put of a directory":     {tree.Put(ctx, at("d"), "/z", CopyOptions{}), syscall.EISDIR},
		"put below nothing":      {tree.PutStream(ctx, strings.NewReader(""), "/no/f", 0o644), syscall.ENOENT},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, not %v", name, c.got, c.want)
		}
	}
	must(tree.Remove(ctx, "/d", true))
	must(tree.Remove(ctx, "/g", true))
	if st, err := tree.StatFS(ctx); err != nil || st.Blocks == 0 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
}

func TestReadTree(t *testing.T) {
	tree, dir, _ := newTree(t, Options{})
	localTree(t, filepath.Join(dir, "top"))
	list, err := tree.ReadTree(t.Context(), "/", 0, true)
	if err != nil {
		t.Fatal(err)
	}
	var count func(l []Entry) int
	count = func(l []Entry) int {
		n := len(l)
		for _, e := range l {
			n += count(e.Sub)
		}
		return n
	}
	if n := count(list); n != 1+3*2+60+3 {
		t.Errorf("%d entries", n)
	}
	top := list[0]
	if top.Name != "top" || top.Sub[0].Sub[0].Sub[1].Path != "/top/d0/e/f1" || top.Sub[0].Sub[0].Sub[1].Attr.Size != 200 {
		t.Errorf("tree: %+v", top.Sub[0].Sub[0].Sub[1])
	}
	list, err = tree.ReadTree(t.Context(), "/top", 1, false)
	if err != nil || count(list) != 5 {
		t.Errorf("one level: %d, %v", count(list), err)
	}
}

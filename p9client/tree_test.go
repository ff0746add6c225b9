package p9client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// must stops the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants checks that err wraps one of those.
func wants(t testing.TB, what string, err error, want ...syscall.Errno) {
	t.Helper()
	for _, e := range want {
		if errors.Is(err, e) {
			return
		}
	}
	t.Errorf("%s: %v, not %v", what, err, want)
}

// put makes a file.
func put(t testing.TB, dir p9srv.Object, name, content string) p9srv.Object {
	t.Helper()
	o, f, _, err := dir.Create(t.Context(), nil, name, wire.ORdwr|wire.OExcl, 0o644, wire.NoUID)
	must(t, err)
	_, err = f.WriteAt(t.Context(), []byte(content), 0)
	must(t, err)
	must(t, f.Close(t.Context()))
	return o
}

// get reads a file.
func get(t testing.TB, dir p9srv.Object, name string) string {
	t.Helper()
	o, a, err := dir.Walk(t.Context(), nil, name)
	must(t, err)
	defer o.Release()
	f, err := o.Open(t.Context(), nil, wire.ORdonly)
	must(t, err)
	p := make([]byte, a.Size+10)
	n, err := f.ReadAt(t.Context(), p, 0)
	must(t, err)
	must(t, f.Close(t.Context()))
	return string(p[:n])
}

// list reads a directory, without "." and "..".
func list(t testing.TB, dir p9srv.Object) []string {
	t.Helper()
	f, err := dir.Open(t.Context(), nil, wire.ORdonly|wire.ODirectory)
	must(t, err)
	var names []string
	must(t, f.ReadDir(t.Context(), 0, func(e wire.Dirent) bool {
		if e.Name != "." && e.Name != ".." && e.Name != ".echo9" {
			names = append(names, e.Name)
		}
		return true
	}))
	must(t, f.Close(t.Context()))
	slices.Sort(names)
	return names
}

// checkFids waits until all fids but the tree's root are given up.
func checkFids(t testing.TB, tree *Tree) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		tree.c.fids.mu.Lock()
		used := int(tree.c.fids.next) - len(tree.c.fids.free)
		for _, back := range tree.c.fids.kept {
			if back {
				used--
			}
		}
		tree.c.fids.mu.Unlock()
		if used == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d fids are in use besides the root", used-1)
			return
		}
		time.Sleep(time.Millisecond)
	}
	tree.mu.Lock()
	defer tree.mu.Unlock()
	if len(tree.live) != 1 {
		t.Errorf("%d objects are in the table", len(tree.live))
	}
}

func TestEveryServerIsAskedForTheExtensionAndUsedWithoutIt(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		tree := s.dial(t, Options{Extension: true})
		if c := tree.Conn(); c.Ext() || c.Version() != wire.Version9P || c.Msize() < wire.MinMsize {
			t.Errorf("%q, msize %d", c.Version(), c.Msize())
		}
		put(t, root(t, tree), "f", "through plain 9P")
		if got := get(t, root(t, tree), "f"); got != "through plain 9P" {
			t.Errorf("read %q", got)
		}
	})
}

func TestFileLife(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{})
		r := root(t, tree)
		o, f, a, err := r.Create(ctx, nil, "f", wire.ORdwr|wire.OExcl, 0o640, wire.NoUID)
		must(t, err)
		if a.Mode != 0o100640 || a.Size != 0 || a.QID != o.QID() || o.ID() != a.QID.Path {
			t.Errorf("created %+v with %v", a, o.QID())
		}
		_, err = f.WriteAt(ctx, []byte("hello, world"), 0)
		must(t, err)
		must(t, f.Fsync(ctx, false))
		must(t, f.Fsync(ctx, true))
		if got, err := os.ReadFile(filepath.Join(s.dir, "f")); err != nil || string(got) != "hello, world" {
			t.Errorf("the host has %q, %v", got, err)
		}
		must(t, o.SetAttr(ctx, nil, f, wire.SetAttr{Valid: wire.SetSize, Size: 5}))
		a, err = o.GetAttr(ctx, nil)
		if err != nil || a.Size != 5 {
			t.Errorf("after truncating: %d bytes, %v", a.Size, err)
		}
		p := make([]byte, 10)
		if n, err := f.ReadAt(ctx, p, 0); err != nil || string(p[:n]) != "hello" {
			t.Errorf("read %q, %v", p[:n], err)
		}
		if n, err := f.ReadAt(ctx, p, 100); err != nil || n != 0 {
			t.Errorf("beyond the end: %d, %v", n, err)
		}
		wants(t, "negative offset", func() error { _, err := f.ReadAt(ctx, p, -1); return err }(), syscall.EINVAL)
		wants(t, "Allocate", f.Allocate(ctx, 0, 0, 1), syscall.EOPNOTSUPP)
		must(t, f.Close(ctx))
		wants(t, "closing twice", f.Close(ctx), syscall.EBADF)

		_, _, _, err = r.Create(ctx, nil, "f", wire.ORdwr|wire.OExcl, 0o640, wire.NoUID)
		wants(t, "O_EXCL", err, syscall.EEXIST)
		o2, f, _, err := r.Create(ctx, nil, "f", wire.ORdwr, 0o600, wire.NoUID)
		must(t, err)
		if n, err := f.ReadAt(ctx, p, 0); err != nil || string(p[:n]) != "hello" || o2.ID() != o.ID() {
			t.Errorf("create without O_EXCL opened %q, %v", p[:n], err)
		}
		must(t, f.Close(ctx))
		o2.Release()
		o2, f, a, err = r.Create(ctx, nil, "f", wire.ORdwr|wire.OTrunc, 0o600, wire.NoUID)
		if err != nil || a.Size != 0 {
			t.Fatalf("create with O_TRUNC: %d bytes, %v", a.Size, err)
		}
		must(t, f.Close(ctx))
		o2.Release()
		o.Release()
		r.Release()
		checkFids(t, tree)
	})
}

func TestLargeReadsAndWrites(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{Msize: 128 << 10})
		r := root(t, tree)
		want := make([]byte, 3<<20+123)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		o, f, _, err := r.Create(ctx, nil, "big", wire.ORdwr|wire.OExcl, 0o644, wire.NoUID)
		must(t, err)
		if n, err := f.WriteAt(ctx, want, 77); err != nil || n != len(want) {
			t.Fatalf("wrote %d, %v", n, err)
		}
		p := make([]byte, len(want)+500_000)
		if n, err := f.ReadAt(ctx, p, 77); err != nil || !bytes.Equal(p[:n], want) {
			t.Errorf("read %d bytes of %d, %v", n, len(want), err)
		}
		if got, err := os.ReadFile(filepath.Join(s.dir, "big")); err != nil || !bytes.Equal(got[77:], want) {
			t.Errorf("the host has %d bytes, %v", len(got), err)
		}
		must(t, f.Close(ctx))
		o.Release()
		r.Release()
		checkFids(t, tree)
	})
}

func TestAppend(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		if s.name == "p9ufs" {
			return // its WriteAt refuses files that were opened to append
		}
		ctx, tree := t.Context(), s.dial(t, Options{Msize: 8192})
		r := root(t, tree)
		put(t, r, "log", "first\n").Release()
		o, _, err := r.Walk(ctx, nil, "log")
		must(t, err)
		f, err := o.Open(ctx, nil, wire.OWronly|wire.OAppend)
		must(t, err)
		long := strings.Repeat("0123456789", 5000)
		if n, err := f.WriteAt(ctx, []byte(long), 0); err != nil || n != len(long) {
			t.Errorf("appended %d, %v", n, err)
		}
		must(t, f.Close(ctx))
		if got := get(t, r, "log"); got != "first\n"+long {
			t.Errorf("%d bytes, not in order", len(got))
		}
	})
}

func TestNames(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{})
		r := root(t, tree)
		_, _, err := r.Walk(ctx, nil, "nothing")
		wants(t, "a name that is not there", err, syscall.ENOENT)
		for _, name := range []string{"", ".", "a/b", "a\x00b", "/"} {
			_, _, err := r.Walk(ctx, nil, name)
			wants(t, fmt.Sprintf("walk %q", name), err, syscall.EINVAL)
		}
		for _, name := range []string{"", ".", "..", "a/b"} {
			_, _, err = r.Mkdir(ctx, nil, name, 0o755, wire.NoUID)
			wants(t, fmt.Sprintf("mkdir %q", name), err, syscall.EINVAL)
			wants(t, "unlink", r.Unlink(ctx, nil, name, 0), syscall.EINVAL)
			wants(t, "rename", r.Rename(ctx, nil, "x", r, name, 0), syscall.EINVAL)
		}
		_, _, err = r.Mkdir(ctx, nil, strings.Repeat("x", 256), 0o755, wire.NoUID)
		wants(t, "a long name", err, syscall.ENAMETOOLONG)
		_, _, err = r.Symlink(ctx, nil, "l", strings.Repeat("x", 1<<17), wire.NoUID)
		wants(t, "a long target", err, syscall.ENAMETOOLONG)

		d, _, err := r.Mkdir(ctx, nil, "d", 0o755, wire.NoUID)
		must(t, err)
		up, a, err := r.Walk(ctx, nil, "..")
		if err != nil || up.ID() != r.ID() || a.QID.Path != r.ID() {
			t.Errorf("above the root: %v", err)
		}
		up.Release()
		if !s.noDotDot {
			up, _, err := d.Walk(ctx, nil, "..")
			if err != nil || up.ID() != r.ID() {
				t.Errorf("..: %v", err)
			}
			up.Release()
		}
		sub, err := tree.Root(ctx, nil, "/d/")
		if err != nil || sub.ID() != d.ID() {
			t.Errorf("Root: %v", err)
		}
		sub.Release()
		put(t, d, "f", "").Release()
		_, err = tree.Root(ctx, nil, "d/f")
		wants(t, "a file as root", err, syscall.ENOTDIR)
		_, err = tree.Root(ctx, nil, "d/nothing")
		wants(t, "nothing as root", err, syscall.ENOENT)
		d.Release()
		r.Release()
		checkFids(t, tree)
	})
}

func TestLookupKnowsWhatIsReferred(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{})
		r := root(t, tree)
		o := put(t, r, "f", "x")
		same, err := tree.Lookup(ctx, o.ID())
		if err != nil || same.ID() != o.ID() {
			t.Fatal(err)
		}
		o.Release()
		if a, err := same.GetAttr(ctx, nil); err != nil || a.Size != 1 {
			t.Errorf("after one of two references went: %v", err)
		}
		id := o.ID()
		same.Release()
		_, err = tree.Lookup(ctx, id)
		wants(t, "without a reference", err, syscall.ESTALE)
		r.Release()
		checkFids(t, tree)
	})
}

func TestDirectories(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{Msize: 8192})
		r := root(t, tree)
		d, a, err := r.Mkdir(ctx, nil, "dir", 0o755, wire.NoUID)
		if err != nil || a.Mode != 0o40755 || d.QID().Type&wire.QTDir == 0 {
			t.Fatalf("%o, %v", a.Mode, err)
		}
		n := 400
		if s.name == "p9ufs" {
			n = 60 // its listings of several replies are wrong
		}
		var want []string
		for i := range n {
			name := fmt.Sprintf("file-%03d-%s", i, strings.Repeat("x", i%50))
			must(t, os.WriteFile(filepath.Join(s.dir, "dir", name), nil, 0o644))
			want = append(want, name)
		}
		if got := list(t, d); !slices.Equal(got, want) {
			t.Errorf("%d of %d names", len(got), len(want))
		}
		if s.name != "p9ufs" {
			resume(t, d, n)
		}
		d.Release()
		r.Release()
		checkFids(t, tree)
	})
}

// resume leaves a listing after each 7 entries and goes on with the cookie.
func resume(t *testing.T, d p9srv.Object, n int) {
	f, err := d.Open(t.Context(), nil, wire.ODirectory)
	must(t, err)
	seen := map[string]int{}
	for cookie, more := uint64(0), true; more; {
		more = false
		left := 7
		must(t, f.ReadDir(t.Context(), cookie, func(e wire.Dirent) bool {
			seen[e.Name]++
			cookie, more = e.Offset, true
			left--
			return left > 0
		}))
	}
	must(t, f.Close(t.Context()))
	if len(seen) != n+2 || slices.Max(slices.Collect(maps.Values(seen))) != 1 {
		t.Errorf("%d names with . and .., one up to %d times", len(seen), slices.Max(slices.Collect(maps.Values(seen))))
	}
}

func TestRenameAndUnlink(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{})
		r := root(t, tree)
		d, _, err := r.Mkdir(ctx, nil, "d", 0o755, wire.NoUID)
		must(t, err)
		put(t, r, "a", "A").Release()
		put(t, r, "b", "B").Release()
		must(t, r.Rename(ctx, nil, "a", r, "b", 0))
		must(t, r.Rename(ctx, nil, "b", d, "c", 0))
		if got := get(t, d, "c"); got != "A" {
			t.Errorf("read %q", got)
		}
		if got := list(t, r); !slices.Equal(got, []string{"d"}) {
			t.Errorf("in the root: %v", got)
		}
		wants(t, "rename of nothing", r.Rename(ctx, nil, "a", r, "x", 0), syscall.ENOENT)
		wants(t, "rename with a flag", r.Rename(ctx, nil, "d", r, "x", wire.RenameNoReplace), syscall.EINVAL)
		if !s.looseUnlink {
			wants(t, "unlink of a directory", r.Unlink(ctx, nil, "d", 0), syscall.EISDIR, syscall.EPERM)
			wants(t, "rmdir of a file", d.Unlink(ctx, nil, "c", wire.AtRemoveDir), syscall.ENOTDIR)
		}
		wants(t, "rmdir of what is not empty", r.Unlink(ctx, nil, "d", wire.AtRemoveDir), syscall.ENOTEMPTY, syscall.EEXIST)
		wants(t, "unlink of nothing", r.Unlink(ctx, nil, "zz", 0), syscall.ENOENT)
		must(t, d.Unlink(ctx, nil, "c", 0))
		must(t, r.Unlink(ctx, nil, "d", wire.AtRemoveDir))
		if got := list(t, r); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
		if tree.noUnlinkat.Load() == s.unlinkat || tree.noRenameat.Load() == s.unlinkat {
			t.Errorf("Tunlinkat is unknown: %v, Trenameat: %v", tree.noUnlinkat.Load(), tree.noRenameat.Load())
		}
		d.Release()
		r.Release()
		checkFids(t, tree)
	})
}

func TestLinks(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{})
		r := root(t, tree)
		l, a, err := r.Symlink(ctx, nil, "l", "somewhere/else", wire.NoUID)
		must(t, err)
		if a.Mode&syscall.S_IFMT != syscall.S_IFLNK {
			t.Errorf("mode %o", a.Mode)
		}
		if to, err := l.Readlink(ctx, nil); err != nil || to != "somewhere/else" {
			t.Errorf("%q, %v", to, err)
		}
		f := put(t, r, "f", "x")
		must(t, r.Link(ctx, nil, f, "g"))
		g, a, err := r.Walk(ctx, nil, "g")
		if err != nil || a.Nlink != 2 || g.ID() != f.ID() {
			t.Errorf("%d links, %v", a.Nlink, err)
		}
		other := s.dial(t, Options{})
		wants(t, "a link to another tree", r.Link(ctx, nil, root(t, other), "h"), syscall.EXDEV)
		for _, o := range []p9srv.Object{l, f, g, r} {
			o.Release()
		}
		checkFids(t, tree)
	})
}

func TestAttributes(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{})
		r := root(t, tree)
		f := put(t, r, "f", "x")
		if !s.noSetattr {
			must(t, f.SetAttr(ctx, nil, nil, wire.SetAttr{
				Valid: wire.SetMode | wire.SetAtime | wire.SetAtimeSet | wire.SetMtime | wire.SetMtimeSet,
				Mode:  0o4711, Atime: 1_000_000_001, Mtime: -5_000_000_000 + 7,
			}))
			a, err := f.GetAttr(ctx, nil)
			if err != nil || a.Mode != 0o104711 || a.Atime != 1_000_000_001 || a.Mtime != -5_000_000_000+7 {
				t.Errorf("%+v, %v", a, err)
			}
		}
		st, err := tree.StatFS(ctx)
		if s.name != "p9ufs" && (err != nil || st.Blocks == 0 || st.NameLen == 0) {
			t.Errorf("%+v, %v", st, err)
		}
		f.Release()
		r.Release()
		checkFids(t, tree)
	})
}

func TestXattrs(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		ctx, tree := t.Context(), s.dial(t, Options{Msize: 4096})
		r := root(t, tree)
		f := put(t, r, "f", "x")
		if s.noXattr {
			_, err := f.GetXattr(ctx, nil, "user.a")
			wants(t, "a server without xattrs", err, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EINVAL)
			f.Release()
			r.Release()
			checkFids(t, tree)
			return
		}
		_, err := f.GetXattr(ctx, nil, "user.a")
		wants(t, "one that is not there", err, syscall.ENODATA)
		if names, err := f.ListXattr(ctx, nil); err != nil || len(names) != 0 {
			t.Errorf("%v, %v", names, err)
		}
		long := bytes.Repeat([]byte("v"), 3000)
		must(t, f.SetXattr(ctx, nil, "user.a", []byte("1"), 0))
		must(t, f.SetXattr(ctx, nil, "user.long", long, wire.XattrCreate))
		wants(t, "create twice", f.SetXattr(ctx, nil, "user.a", []byte("2"), wire.XattrCreate), syscall.EEXIST)
		if v, err := f.GetXattr(ctx, nil, "user.long"); err != nil || !bytes.Equal(v, long) {
			t.Errorf("%d bytes, %v", len(v), err)
		}
		names, err := f.ListXattr(ctx, nil)
		slices.Sort(names)
		if err != nil || !slices.Equal(names, []string{"user.a", "user.long"}) {
			t.Errorf("%v, %v", names, err)
		}
		must(t, f.RemoveXattr(ctx, nil, "user.long"))
		_, err = f.GetXattr(ctx, nil, "user.long")
		wants(t, "one that was removed", err, syscall.ENODATA)
		wants(t, "a name that is none", f.SetXattr(ctx, nil, "", nil, 0), syscall.EINVAL)
		wants(t, "too much", f.SetXattr(ctx, nil, "user.x", make([]byte, 70_000), 0), syscall.E2BIG)
		f.Release()
		r.Release()
		checkFids(t, tree)
	})
}

func TestLocks(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		if s.noLock {
			return
		}
		ctx := t.Context()
		a, b := s.dial(t, Options{}), s.dial(t, Options{})
		put(t, root(t, a), "l", "0123456789").Release()
		open := func(tree *Tree) p9srv.Object {
			o, _, err := root(t, tree).Walk(ctx, nil, "l")
			must(t, err)
			_, err = o.Open(ctx, nil, wire.ORdwr)
			must(t, err)
			return o
		}
		oa, ob := open(a), open(b)
		lock := func(o p9srv.Object, typ uint8, who uint32) wire.LockStatus {
			st, err := o.Lock(ctx, nil, wire.Lock{Type: typ, Start: 2, Length: 3, ProcID: who, ClientID: fmt.Sprint("client", who)})
			must(t, err)
			return st
		}
		if st := lock(oa, wire.LockWrite, 1); st != wire.LockSuccess {
			t.Errorf("the first lock: %d", st)
		}
		if st := lock(ob, wire.LockWrite, 2); st != wire.LockBlocked {
			t.Errorf("a lock that is in the way: %d", st)
		}
		l, err := ob.GetLock(ctx, nil, wire.Lock{Type: wire.LockWrite, Start: 0, Length: 0, ProcID: 2, ClientID: "client2"})
		if err != nil || l.Type != wire.LockWrite || s.name != "diod" && (l.Start != 2 || l.Length != 3) { // diod locks whole files
			t.Errorf("who is in the way: %+v, %v", l, err)
		}
		if st := lock(oa, wire.LockUnlock, 1); st != wire.LockSuccess {
			t.Errorf("unlock: %d", st)
		}
		if st := lock(ob, wire.LockWrite, 2); st != wire.LockSuccess {
			t.Errorf("after the unlock: %d", st)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		tree := s.dial(t, Options{})
		r := root(t, tree)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 25 {
					name, content := fmt.Sprintf("f%d-%d", g, i), strings.Repeat(fmt.Sprint(g, i), 5000)
					put(t, r, name, content).Release()
					if got := get(t, r, name); got != content {
						t.Errorf("%s: %d bytes", name, len(got))
					}
					if err := r.Unlink(t.Context(), nil, name, 0); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		r.Release()
		checkFids(t, tree)
	})
}

func TestAnotherUserAndTree(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		must(t, os.Mkdir(filepath.Join(s.dir, "sub"), 0o755))
		if s.name == "echo9" {
			tree, err := Dial(t.Context(), s.addr, Options{Aname: "/sub"})
			must(t, err)
			defer tree.Close()
			put(t, root(t, tree), "x", "in sub")
			if _, err := os.Stat(filepath.Join(s.dir, "sub", "x")); err != nil {
				t.Error(err)
			}
			_, err = Dial(t.Context(), s.addr, Options{Aname: "/nothing"})
			wants(t, "a tree that is not there", err, syscall.ENOENT)
		}
		if s.name == "diod" {
			_, err := Dial(t.Context(), s.addr, Options{})
			wants(t, "no aname", err, syscall.EPERM)
			if !strings.Contains(err.Error(), "want an export's path as aname") {
				t.Error(err)
			}
			if os.Geteuid() == 0 {
				tree, err := Dial(t.Context(), s.addr, Options{Aname: s.aname, UID: new(uint32(65534)), Uname: "nobody"})
				must(t, err)
				defer tree.Close()
				_, _, err = root(t, tree).Mkdir(t.Context(), nil, "d", 0o755, wire.NoUID)
				wants(t, "mkdir as nobody", err, syscall.EACCES)
			}
		}
	})
}

func TestCancelledContext(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		tree := s.dial(t, Options{})
		r := root(t, tree)
		put(t, r, "f", "x").Release()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := r.Walk(ctx, nil, "f"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		// Cancelled at any moment: nothing leaks, and the tree goes on working.
		for i := range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				for range i * 50 {
				}
				cancel()
			}()
			if o, _, err := r.Walk(ctx, nil, "f"); err == nil {
				o.Release()
			} else if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			cancel()
		}
		if got := get(t, r, "f"); got != "x" {
			t.Errorf("read %q", got)
		}
		r.Release()
		checkFids(t, tree)
	})
}

package dirfs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// TestTwoServers: one tree, one server, whatever the way to it.
func TestTwoServers(t *testing.T) {
	dir := openDir(t, os.TempDir())
	must(t, os.MkdirAll(filepath.Join(dir, "sub/below"), 0o755))
	state := openDir(t, os.TempDir())
	fs := openFS(t, filepath.Join(dir, "sub"), Options{Logf: t.Logf})
	for _, c := range []struct {
		dir string
		opt Options
	}{
		{filepath.Join(dir, "sub"), Options{}},
		{filepath.Join(dir, "sub"), Options{State: state}},
		{filepath.Join(dir, "sub/below"), Options{}},
		{filepath.Join(dir, "sub/below"), Options{State: state}},
	} {
		other, err := Open(c.dir, c.opt)
		if err == nil {
			other.Close()
			t.Errorf("%s is served twice", c.dir)
		} else if !strings.Contains(err.Error(), "being served") {
			t.Errorf("%s: unclear: %v", c.dir, err)
		}
	}
	// A server above is not refused, but does not reach into the tree below.
	above := openFS(t, dir, Options{Logf: t.Logf})
	root := rootOf(t, above)
	_, _, err := root.Walk(ctx, nil, "sub")
	wantErrno(t, err, syscall.EBUSY)
	// Reading needs no lock and no private directory.
	ro := openFS(t, filepath.Join(dir, "sub"), Options{ReadOnly: true})
	r := rootOf(t, ro)
	_, _, err = r.Mkdir(ctx, nil, "x", 0o755, noGID)
	wantErrno(t, err, syscall.EROFS)
	wantErrno(t, r.Unlink(ctx, nil, "below", wire.AtRemoveDir), syscall.EROFS)
	wantErrno(t, ro.Apply(ctx, nil, &cut.Cut{}), syscall.EROFS)
	_, err = ro.AllocIDs(1)
	wantErrno(t, err, syscall.EROFS)
	if len(fs.Capabilities()) == 0 {
		t.Error("no capabilities are told")
	}
}

func TestBadExports(t *testing.T) {
	dir := openDir(t, os.TempDir())
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
	tree := filepath.Join(dir, "tree")
	elsewhere := filepath.Join("/dev/shm", filepath.Base(dir)+"-state")
	defer os.RemoveAll(elsewhere)
	for _, c := range []struct {
		dir, want string
		opt       Options
	}{
		{filepath.Join(dir, "none"), "no such file", Options{}},
		{filepath.Join(dir, "file"), "not a directory", Options{}},
		{tree, "inside the export", Options{State: filepath.Join(tree, "state")}},
		{tree, "another file system", Options{State: elsewhere}},
	} {
		fs, err := Open(c.dir, c.opt)
		if err == nil {
			fs.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c, err, c.want)
		}
	}
	for _, c := range []struct {
		path string
		want bool
	}{{tree, true}, {filepath.Join(tree, "not/yet"), true}, {dir, false}, {filepath.Join(dir, "tree2"), false}, {"/", false}} {
		if got, err := Contains(tree, c.path); err != nil || got != c.want {
			t.Errorf("Contains(tree, %s) = %v, %v", c.path, got, err)
		}
	}
}

// TestRestart: ids and versions are the same after a restart of the server, and no id is given out twice.
func TestRestart(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			dir := p.dir(t)
			fs, err := Open(dir, p.opt)
			must(t, err)
			first, err := fs.AllocIDs(3)
			must(t, err)
			cred := &p9srv.Cred{UID: fs.uid, GID: fs.gid, Session: 1}
			mode := uint32(unix.S_IFREG | 0o644)
			must(t, fs.Apply(ctx, cred, &cut.Cut{Records: []cut.Record{
				{Kind: cut.Create, UID: fs.uid, ID: first, Mode: unix.S_IFDIR | 0o755, UserID: fs.uid, GroupID: fs.gid},
				{Kind: cut.Create, UID: fs.uid, ID: first + 1, Mode: mode, UserID: fs.uid, GroupID: fs.gid},
				{Kind: cut.Create, UID: fs.uid, ID: first + 2, Mode: mode, UserID: fs.uid, GroupID: fs.gid},
				{Kind: cut.Bind, UID: fs.uid, Dir: fs.root.id, Name: "d", ID: first},
				{Kind: cut.Bind, UID: fs.uid, Dir: first, Name: "f", ID: first + 1},
				{Kind: cut.Bind, UID: fs.uid, Dir: first, Name: "gone", ID: first + 2},
			}}))
			must(t, os.WriteFile(filepath.Join(dir, "host"), nil, 0o644))
			qids := func(fs *FS) (out []wire.QID) {
				for _, path := range [][]string{{"d"}, {"d", "f"}, {"host"}} {
					n := fs.root
					n.ref()
					for _, name := range path {
						next, err := n.walk(ctx, nil, name, nil)
						must(t, err)
						n.Release()
						n = next
					}
					out = append(out, n.QID())
					n.Release()
				}
				return out
			}
			was := qids(fs)
			if was[0].Path != first || was[1].Path != first+1 {
				t.Errorf("%v, want ids from %d on", was, first)
			}
			last, err := fs.AllocIDs(1)
			must(t, err)
			must(t, fs.Close())
			// A log that was torn at its end is read up to there.
			log, err := os.OpenFile(filepath.Join(dir, ".echo9/ids"), os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			log.Write([]byte("torn"))
			log.Close()
			// On the host a new file takes the place, and likely the inode, of one with a row.
			must(t, os.Remove(filepath.Join(dir, "d/gone")))
			must(t, os.WriteFile(filepath.Join(dir, "d/gone"), nil, 0o644))

			fs = openFS(t, dir, p.opt)
			if now := qids(fs); !slices.Equal(now, was) {
				t.Errorf("%v before, %v after the restart", was, now)
			}
			again, err := fs.AllocIDs(1)
			must(t, err)
			if again <= last {
				t.Errorf("id %d after %d", again, last)
			}
			if fs.openHandles {
				o, err := fs.Lookup(ctx, first+1)
				must(t, err)
				o.Release()
			}
			root := rootOf(t, fs)
			if o := walkPath(t, root, "d", "gone"); o.ID() == first+2 {
				t.Error("a new file has the id of one that is gone")
			}
		})
	}
}

// TestKeepOpen: what a session has open outlives its names, by plain operations of others too.
func TestKeepOpen(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		for _, name := range []string{"unlinked", "replaced", "new", "linked"} {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
		}
		must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
		var ids []uint64
		for _, name := range []string{"unlinked", "replaced", "dir", "linked"} {
			o, _, err := root.Walk(ctx, nil, name)
			must(t, err)
			ids = append(ids, o.ID())
			o.Release()
			must(t, fs.KeepOpen(5, ids[len(ids)-1]))
			must(t, fs.KeepOpen(6, ids[len(ids)-1]))
		}
		must(t, os.Link(filepath.Join(dir, "linked"), filepath.Join(dir, "linked2")))
		must(t, root.Unlink(ctx, nil, "unlinked", 0))
		must(t, root.Unlink(ctx, nil, "linked", 0))
		must(t, root.Rename(ctx, nil, "new", root, "replaced", 0))
		wantErrno(t, root.Unlink(ctx, nil, "dir", 0), syscall.EISDIR)
		must(t, root.Unlink(ctx, nil, "dir", wire.AtRemoveDir))
		for _, name := range []string{"unlinked", "new", "dir", "linked"} {
			_, _, err := root.Walk(ctx, nil, name)
			wantErrno(t, err, syscall.ENOENT)
		}
		// Much else comes and goes meanwhile.
		for range 30 {
			o, f, _, err := root.Create(ctx, nil, "x", wire.OWronly, 0o644, noGID)
			must(t, err)
			must(t, f.Close(ctx))
			o.Release()
			must(t, root.Unlink(ctx, nil, "x", 0))
		}
		fs.EndSession(5)
		for i, want := range []string{"unlinked", "replaced", "", "linked"} {
			o, err := fs.Lookup(ctx, ids[i])
			must(t, err)
			a, err := o.GetAttr(ctx, nil)
			must(t, err)
			if links := a.Nlink; links != 0 && want != "linked" {
				t.Errorf("%s has %d links", want, links)
			}
			if want == "" {
				_, _, err := o.Mkdir(ctx, nil, "x", 0o755, noGID)
				wantErrno(t, err, syscall.ENOENT)
			} else {
				f, err := o.Open(ctx, nil, wire.ORdonly)
				must(t, err)
				buf := make([]byte, 100)
				k, err := f.ReadAt(ctx, buf, 0)
				must(t, err)
				if string(buf[:k]) != want {
					t.Errorf("%q in %s", buf[:k], want)
				}
				must(t, f.Close(ctx))
			}
			o.Release()
		}
		fs.DropOpen(6, ids[0])
		_, err := fs.Lookup(ctx, ids[0])
		wantErrno(t, err, syscall.ESTALE)
		fs.EndSession(6)
		entries, err := os.ReadDir(filepath.Join(dir, ".echo9/orphans"))
		must(t, err)
		if len(entries) != 0 {
			t.Errorf("%d orphans are left", len(entries))
		}
		if _, err := os.Stat(filepath.Join(dir, "linked2")); err != nil {
			t.Error(err)
		}
	})
}

// TestOperations goes through what the other tests leave out, and compares with what the host says.
func TestOperations(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		o, f, _, err := root.Create(ctx, nil, "f", wire.ORdwr|wire.OAppend, 0o600, noGID)
		must(t, err)
		defer o.Release()
		for range 2 {
			_, err = f.WriteAt(ctx, []byte("abc"), 0)
			must(t, err)
		}
		wantErrno(t, f.ReadDir(ctx, 0, nil), syscall.ENOTDIR)
		must(t, f.Allocate(ctx, unix.FALLOC_FL_KEEP_SIZE, 0, 100_000))
		must(t, f.Close(ctx))
		if err := f.Close(ctx); err == nil {
			t.Error("closed twice")
		}
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		must(t, err)
		if string(got) != "abcabc" {
			t.Errorf("appended: %q", got)
		}
		_, _, _, err = root.Create(ctx, nil, "f", wire.ORdwr|wire.OExcl, 0o600, noGID)
		wantErrno(t, err, syscall.EEXIST)
		o2, f, attr, err := root.Create(ctx, nil, "f", wire.ORdwr|wire.OTrunc, 0o600, noGID)
		must(t, err)
		if o2.ID() != o.ID() || attr.Size != 0 {
			t.Errorf("create over: %d, want %d; %+v", o2.ID(), o.ID(), attr)
		}
		o2.Release()
		must(t, o.SetAttr(ctx, nil, f, wire.SetAttr{
			Valid: wire.SetSize | wire.SetMode | wire.SetAtime | wire.SetAtimeSet | wire.SetMtime | wire.SetMtimeSet,
			Size:  10, Mode: 0o4711, Atime: 5e9 + 7, Mtime: -3e9 + 5,
		}))
		must(t, f.Close(ctx))
		var st unix.Statx_t
		must(t, statAt(unix.AT_FDCWD, filepath.Join(dir, "f"), &st))
		a, err := o.GetAttr(ctx, nil)
		must(t, err)
		if a.Size != st.Size || a.Size != 10 || a.Mode != uint32(st.Mode) || a.Mode&0o7777 != 0o4711 || a.Atime != 5e9+7 || a.Mtime != -3e9+5 ||
			a.Ctime != nanos(st.Ctime) || a.Btime != nanos(st.Btime) || a.Blocks != st.Blocks || a.UID != st.Uid || a.GID != st.Gid {
			t.Errorf("%+v\nhost: %+v", a, st)
		}
		must(t, o.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetMtime | wire.SetSize, Size: 3}))
		if b, err := o.GetAttr(ctx, nil); err != nil || b.Size != 3 || b.Mtime < 1e18 || b.Atime != a.Atime {
			t.Errorf("%+v %v", b, err)
		}
		// Extended attributes.
		_, err = o.GetXattr(ctx, nil, "user.none")
		wantErrno(t, err, syscall.ENODATA)
		big := bytes.Repeat([]byte{7}, 2000)
		must(t, o.SetXattr(ctx, nil, "user.big", big, 1))
		wantErrno(t, o.SetXattr(ctx, nil, "user.big", big, 1), syscall.EEXIST)
		wantErrno(t, o.SetXattr(ctx, nil, "user.other", big, 2), syscall.ENODATA)
		v, err := o.GetXattr(ctx, nil, "user.big")
		must(t, err)
		names, err := o.ListXattr(ctx, nil)
		must(t, err)
		if !bytes.Equal(v, big) || !slices.Equal(names, []string{"user.big"}) {
			t.Errorf("%d bytes, %v", len(v), names)
		}
		must(t, o.RemoveXattr(ctx, nil, "user.big"))
		wantErrno(t, o.RemoveXattr(ctx, nil, "user.big"), syscall.ENODATA)
		// Links and renames.
		must(t, root.Link(ctx, nil, o, "g"))
		if a, err := o.GetAttr(ctx, nil); err != nil || a.Nlink != 2 {
			t.Errorf("%+v %v", a, err)
		}
		if id := walkPath(t, root, "g").ID(); id != o.ID() {
			t.Errorf("link is %d, want %d", id, o.ID())
		}
		d, _, err := root.Mkdir(ctx, nil, "d", 0o755, noGID)
		must(t, err)
		defer d.Release()
		wantErrno(t, root.Link(ctx, nil, d, "dd"), syscall.EPERM)
		wantErrno(t, root.Rename(ctx, nil, "f", root, "d", wire.RenameNoReplace), syscall.EEXIST)
		wantErrno(t, root.Rename(ctx, nil, "f", root, "d", 0), syscall.EISDIR)
		wantErrno(t, root.Rename(ctx, nil, "d", d, "x", 0), syscall.EINVAL)
		wantErrno(t, root.Rename(ctx, nil, "none", d, "x", 0), syscall.ENOENT)
		must(t, root.Rename(ctx, nil, "f", root, "d", wire.RenameExchange))
		if walkPath(t, root, "d").ID() != o.ID() || walkPath(t, root, "f").ID() != d.ID() {
			t.Error("exchange did not")
		}
		must(t, root.Rename(ctx, nil, "g", d, "h", 0))
		wantErrno(t, root.Unlink(ctx, nil, "f", wire.AtRemoveDir), syscall.ENOTEMPTY)
		wantErrno(t, root.Unlink(ctx, nil, "f", 0), syscall.EISDIR)
		wantErrno(t, root.Unlink(ctx, nil, "d", wire.AtRemoveDir), syscall.ENOTDIR)
		must(t, root.Unlink(ctx, nil, "d", 0))
		// Found again by its other name, however many descriptors were needed meanwhile.
		if a, err := o.GetAttr(ctx, nil); err != nil || a.Nlink != 1 {
			t.Errorf("%+v %v", a, err)
		}
		sfs, err := fs.StatFS(ctx)
		must(t, err)
		if sfs.NameLen != 255 || sfs.BlockSize == 0 || sfs.Blocks == 0 {
			t.Errorf("%+v", sfs)
		}
		// Locks.
		l := wire.Lock{Type: wire.LockWrite, Start: 5, Length: 5, ProcID: 1, ClientID: "a"}
		one, two := &p9srv.Cred{UID: fs.uid, Owner: 1}, &p9srv.Cred{UID: fs.uid, Owner: 2}
		if s, err := o.Lock(ctx, one, l); err != nil || s != wire.LockSuccess {
			t.Errorf("%v %v", s, err)
		}
		if s, err := o.Lock(ctx, two, l); err != nil || s != wire.LockBlocked {
			t.Errorf("%v %v", s, err)
		}
		if got, err := o.GetLock(ctx, two, wire.Lock{Type: wire.LockUnlock, Length: 0}); err != nil || got != l {
			t.Errorf("%+v %v", got, err)
		}
		fs.DropLocks(1)
		if s, err := o.Lock(ctx, two, l); err != nil || s != wire.LockSuccess {
			t.Errorf("%v %v", s, err)
		}
	})
}

// TestBigTruncation: what is too much to be saved is cut off last.
func TestBigTruncation(t *testing.T) {
	dir := openDir(t, "/dev/shm")
	fs := openFS(t, dir, Options{bigTail: 1000, Logf: t.Logf})
	old := bytes.Repeat([]byte("0123456789"), 1000)
	must(t, os.WriteFile(filepath.Join(dir, "f"), old, 0o644))
	root := rootOf(t, fs)
	id := walkPath(t, root, "f").ID()
	cred := &p9srv.Cred{UID: fs.uid, GID: fs.gid}
	records := []cut.Record{
		{Kind: cut.Truncate, UID: fs.uid, ID: id, Size: 5},
		{Kind: cut.Data, UID: fs.uid, ID: id, Off: 20, Bytes: []byte("written")},
		{Kind: cut.Zero, UID: fs.uid, ID: id, Off: 22, Len: 2},
		{Kind: cut.Data, UID: fs.uid, ID: id, Off: 3000, Bytes: []byte("end")},
		{Kind: cut.Truncate, UID: fs.uid, ID: id, Size: 3002},
		{Kind: cut.Attr, UID: fs.uid, ID: id, Valid: cut.AttrSize, Size: 4000},
	}
	want := make([]byte, 4000)
	copy(want, "01234")
	copy(want[20:], "wr\x00\x00ten")
	copy(want[3000:], "en")
	before := snapshot(t, dir, true)
	for n := 1; ; n++ {
		hit := false
		fs.fail = func(_ string, k int) error {
			if k == n {
				hit = true
				return syscall.EIO
			}
			return nil
		}
		err := fs.Apply(ctx, cred, &cut.Cut{Records: records})
		if !hit {
			must(t, err)
			break
		}
		wantErrno(t, err, syscall.EIO)
		if after := snapshot(t, dir, true); after != before {
			t.Fatalf("step %d left a trace", n)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "f"))
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got[:30], want[:30])
	}
}

// TestCopy: a copy record brings the bytes of a file that was there before.
func TestCopy(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		must(t, os.WriteFile(filepath.Join(dir, "src"), []byte("0123456789"), 0o644))
		root := rootOf(t, fs)
		src := walkPath(t, root, "src").ID()
		id, err := fs.AllocIDs(1)
		must(t, err)
		cred := &p9srv.Cred{UID: fs.uid, GID: fs.gid}
		copyTo := func(length uint64) error {
			return fs.Apply(ctx, cred, &cut.Cut{Records: []cut.Record{
				{Kind: cut.Create, UID: fs.uid, ID: id, Mode: unix.S_IFREG | 0o600, UserID: fs.uid, GroupID: fs.gid},
				{Kind: cut.Bind, UID: fs.uid, Dir: root.ID(), Name: "dst", ID: id},
				{Kind: cut.Copy, UID: fs.uid, ID: id, Off: 2, Len: length, Source: src, SourceOff: 3},
			}})
		}
		wantErrno(t, copyTo(100), syscall.EINVAL)
		if _, err := os.Stat(filepath.Join(dir, "dst")); !os.IsNotExist(err) {
			t.Fatalf("a refused cut left a file: %v", err)
		}
		must(t, copyTo(4))
		got, err := os.ReadFile(filepath.Join(dir, "dst"))
		must(t, err)
		if string(got) != "\x00\x003456" {
			t.Errorf("%q", got)
		}
	})
}

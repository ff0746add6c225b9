package dirfs

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

var (
	alice = &p9srv.Cred{UID: 3001, GID: 3001, Groups: []uint32{3001, 3100}, Session: 1}
	bob   = &p9srv.Cred{UID: 3002, GID: 3002, Groups: []uint32{3002}, Session: 2}
)

// TestUsers: the host decides what other users than the server's own may do.
func TestUsers(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "acting as other users needs root")
	}
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		must(t, unix.Chmod(dir, 0o1777))
		d, attr, err := root.Mkdir(ctx, alice, "d", 0o750, noGID)
		must(t, err)
		defer d.Release()
		if attr.UID != alice.UID || attr.GID != alice.GID {
			t.Errorf("%+v", attr)
		}
		o, f, attr, err := d.Create(ctx, alice, "f", wire.ORdwr, 0o4750, 3100)
		must(t, err)
		defer o.Release()
		if attr.UID != alice.UID || attr.GID != 3100 || attr.Mode != unix.S_IFREG|0o4750 {
			t.Errorf("%+v", attr)
		}
		// A group that she is not in is not given.
		p, g, attr, err := d.Create(ctx, alice, "p", wire.ORdwr, 0o640, 0)
		must(t, err)
		must(t, g.Close(ctx))
		p.Release()
		if attr.GID != alice.GID {
			t.Errorf("group %d", attr.GID)
		}
		// A write takes the setuid bit away, as it does for her on the host.
		_, err = f.WriteAt(ctx, []byte("text"), 0)
		must(t, err)
		if a, err := o.GetAttr(ctx, alice); err != nil || a.Mode&unix.S_ISUID != 0 {
			t.Errorf("mode %o after a write, %v", a.Mode, err)
		}
		must(t, f.Close(ctx))

		_, _, err = d.Walk(ctx, bob, "f")
		wantErrno(t, err, syscall.EACCES)
		_, err = o.Open(ctx, bob, wire.ORdonly)
		wantErrno(t, err, syscall.EACCES)
		_, err = d.Open(ctx, bob, wire.ORdonly)
		wantErrno(t, err, syscall.EACCES)
		_, _, err = d.Mkdir(ctx, bob, "x", 0o755, noGID)
		wantErrno(t, err, syscall.EACCES)
		wantErrno(t, root.Unlink(ctx, bob, "d", wire.AtRemoveDir), syscall.EPERM) // sticky
		wantErrno(t, d.Unlink(ctx, bob, "f", 0), syscall.EACCES)
		wantErrno(t, o.SetAttr(ctx, bob, nil, wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}), syscall.EPERM)
		wantErrno(t, o.SetAttr(ctx, bob, nil, wire.SetAttr{Valid: wire.SetSize}), syscall.EACCES)
		wantErrno(t, o.SetAttr(ctx, alice, nil, wire.SetAttr{Valid: wire.SetUID, UID: bob.UID}), syscall.EPERM)
		wantErrno(t, o.SetXattr(ctx, bob, "user.x", []byte("x"), 0), syscall.EACCES)
		if err := o.SetXattr(ctx, alice, "trusted.x", []byte("x"), 0); err == nil {
			t.Error("an ordinary user has set a trusted attribute")
		}
		if err := o.SetXattr(ctx, alice, "security.capability", []byte("x"), 0); err == nil {
			t.Error("an ordinary user has set a capability")
		}
		_, _, err = d.Mknod(ctx, alice, "dev", unix.S_IFCHR|0o666, 1, 3, noGID)
		wantErrno(t, err, syscall.EPERM)
		must(t, o.SetAttr(ctx, alice, nil, wire.SetAttr{Valid: wire.SetMode | wire.SetMtime, Mode: 0o644}))
		must(t, d.Rename(ctx, alice, "f", root, "g", 0))
		wantErrno(t, root.Rename(ctx, bob, "g", root, "h", 0), syscall.EPERM)

		// A directory with the setgid bit gives its group, to everybody.
		must(t, d.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetMode | wire.SetGID, Mode: 0o2777, GID: 4000}))
		s, attr, err := d.Mkdir(ctx, bob, "sub", 0o755, bob.GID)
		must(t, err)
		s.Release()
		if attr.GID != 4000 || attr.Mode&unix.S_ISGID == 0 {
			t.Errorf("in a setgid directory: %+v", attr)
		}
	})
}

// TestRefusedUnlink: an object whose name could not be removed is found by its id as before,
// though nobody held it.
func TestRefusedUnlink(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "acting as other users needs root")
	}
	for _, opt := range []Options{{maxFDs: 1}, {maxFDs: 1, noHandles: true}} {
		dir := openDir(t, "/dev/shm")
		fs := openFS(t, dir, opt)
		root := rootOf(t, fs)
		for _, name := range []string{"a", "b", "c"} {
			must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
			o, _, err := root.Walk(ctx, nil, name)
			must(t, err)
			o.Release()
		}
		id, err := fs.ResolveName(ctx, root.ID(), "a")
		must(t, err)
		o, _, err := root.Walk(ctx, nil, "c")
		must(t, err)
		o.Release()
		wantErrno(t, root.Unlink(ctx, bob, "a", 0), syscall.EACCES)
		wantErrno(t, root.Rename(ctx, bob, "b", root, "a", 0), syscall.EACCES)
		again, err := fs.Lookup(ctx, id)
		must(t, err)
		again.Release()
		must(t, root.Unlink(ctx, nil, "a", 0))
		_, err = fs.Lookup(ctx, id)
		wantErrno(t, err, syscall.ESTALE)
	}
}

// TestThreadsComeBack: after operations of others the server is itself again, on every thread.
func TestThreadsComeBack(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "acting as other users needs root")
	}
	dir := openDir(t, "/dev/shm")
	fs := openFS(t, dir, Options{})
	must(t, unix.Chmod(dir, 0o777))
	must(t, os.WriteFile(filepath.Join(dir, "private"), nil, 0o600))
	root := rootOf(t, fs)
	o := walkPath(t, root, "private")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 300 {
				if i%2 == 0 {
					if _, err := o.Open(ctx, bob, wire.ORdonly); !errors.Is(err, syscall.EACCES) {
						t.Errorf("bob: %v", err)
						return
					}
					continue
				}
				f, err := o.Open(ctx, nil, wire.ORdwr)
				if err != nil {
					t.Errorf("the server itself: %v", err)
					return
				}
				f.Close(ctx)
			}
		}()
	}
	wg.Wait()
}

// TestCutRights: a cut of a user may do what that user may, and a refusal names the record.
func TestCutRights(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "acting as other users needs root")
	}
	dir := openDir(t, "/dev/shm")
	fs := openFS(t, dir, Options{Logf: t.Logf})
	must(t, unix.Chmod(dir, 0o755))
	for _, d := range []string{"hers", "sticky"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(t, os.Chown(filepath.Join(dir, "hers"), 3001, 3001))
	must(t, unix.Chmod(filepath.Join(dir, "sticky"), 0o1777))
	must(t, os.WriteFile(filepath.Join(dir, "sticky/roots"), []byte("text"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "hers/roots"), []byte("text"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "hers/suid"), []byte("text"), 0o644))
	must(t, os.Chown(filepath.Join(dir, "hers/suid"), 3001, 3001))
	must(t, unix.Chmod(filepath.Join(dir, "hers/suid"), 0o4444))
	root := rootOf(t, fs)
	hers, sticky := walkPath(t, root, "hers").ID(), walkPath(t, root, "sticky").ID()
	roots, stuck, suid := walkPath(t, root, "hers", "roots").ID(), walkPath(t, root, "sticky", "roots").ID(), walkPath(t, root, "hers", "suid").ID()
	first, err := fs.AllocIDs(100)
	must(t, err)
	create := func(id uint64, mode, uid, gid uint32) cut.Record {
		return cut.Record{Kind: cut.Create, UID: 3001, ID: id, Mode: mode, UserID: uid, GroupID: gid}
	}
	file := uint32(unix.S_IFREG | 0o600)
	before := snapshot(t, dir, true)
	for _, c := range []struct {
		what    string
		records []cut.Record
		record  int
		errno   syscall.Errno
	}{
		{"name in root's directory", []cut.Record{create(first, file, 3001, 3001), {Kind: cut.Bind, UID: 3001, Dir: root.ID(), Name: "x", ID: first}}, 1, syscall.EACCES},
		{"for another user", []cut.Record{create(first, file, 0, 3001)}, 0, syscall.EPERM},
		{"for another group", []cut.Record{create(first, file, 3001, 0)}, 0, syscall.EPERM},
		{"device", []cut.Record{{Kind: cut.Create, UID: 3001, ID: first, Mode: unix.S_IFCHR | 0o666, UserID: 3001, GroupID: 3001, Rdev: 0x103}}, 0, syscall.EPERM},
		{"id never given out", []cut.Record{create(first+1<<30, file, 3001, 3001)}, 0, syscall.EINVAL},
		{"id of another object", []cut.Record{create(roots, file, 3001, 3001)}, 0, syscall.EEXIST},
		{"write to root's file", []cut.Record{{Kind: cut.Data, UID: 3001, ID: roots, Bytes: []byte("x")}}, 0, syscall.EACCES},
		{"truncate root's file", []cut.Record{{Kind: cut.Truncate, UID: 3001, ID: roots}}, 0, syscall.EACCES},
		{"chown to another", []cut.Record{{Kind: cut.Attr, UID: 3001, ID: suid, Valid: cut.AttrUID, UserID: 0}}, 0, syscall.EPERM},
		{"chmod root's file", []cut.Record{{Kind: cut.Attr, UID: 3001, ID: roots, Valid: cut.AttrMode, Mode: 0o666}}, 0, syscall.EPERM},
		{"sticky", []cut.Record{{Kind: cut.Bind, UID: 3001, Dir: sticky, Name: "roots", Before: stuck}}, 0, syscall.EPERM},
		{"link to root's file", []cut.Record{{Kind: cut.Bind, UID: 3001, Dir: hers, Name: "l", ID: stuck}}, 0, syscall.EPERM},
		{"trusted attribute", []cut.Record{{Kind: cut.SetXattr, UID: 3001, ID: suid, Name: "trusted.x"}}, 0, syscall.EPERM},
		{"reserved name", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: root.ID(), Name: ".echo9", ID: roots}}, 0, syscall.EPERM},
		{"a name that is two", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: root.ID(), Name: "a/b", ID: roots}}, 0, syscall.EINVAL},
		{"bound already", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: hers, Name: "roots", ID: stuck}}, 0, syscall.EEXIST},
		{"created where one is", []cut.Record{create(first, file, 3001, 3001), {Kind: cut.Bind, UID: 3001, Dir: hers, Name: "roots", ID: first}}, 1, syscall.EEXIST},
		{"not bound", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: hers, Name: "none", Before: roots}}, 0, syscall.ENOENT},
		{"bound to another", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: hers, Name: "suid", Before: roots}}, 0, syscall.ESTALE},
		{"no such object", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: hers, Name: "y", ID: first + 50}}, 0, syscall.ESTALE},
		{"in a file", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: roots, Name: "y", ID: stuck}}, 0, syscall.ENOTDIR},
		{"directory that is not empty", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: root.ID(), Name: "hers", Before: hers}}, 0, syscall.ENOTEMPTY},
		{"loop", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: root.ID(), Name: "hers", Before: hers}, {Kind: cut.Bind, UID: 0, Dir: hers, Name: "hers", ID: hers}}, 1, syscall.EINVAL},
		{"second name of a directory", []cut.Record{{Kind: cut.Bind, UID: 0, Dir: sticky, Name: "hers", ID: hers}}, 0, syscall.EPERM},
		{"new directories in each other", []cut.Record{
			create(first, unix.S_IFDIR|0o755, 3001, 3001), create(first+1, unix.S_IFDIR|0o755, 3001, 3001),
			{Kind: cut.Bind, UID: 3001, Dir: first, Name: "a", ID: first + 1}, {Kind: cut.Bind, UID: 3001, Dir: first + 1, Name: "b", ID: first},
		}, 3, syscall.EINVAL},
	} {
		err := fs.Apply(ctx, alice, &cut.Cut{Number: 1, Records: c.records})
		var refusal *cut.Refusal
		if !errors.As(err, &refusal) || !errors.Is(err, c.errno) || refusal.Record != c.record {
			t.Errorf("%s: %+v, want record %d and %v", c.what, err, c.record, c.errno)
			if refusal != nil {
				t.Errorf("  record %d", refusal.Record)
			}
		}
		if after := snapshot(t, dir, true); after != before {
			t.Errorf("%s left a trace:\n%s", c.what, diffText(before, after))
			before = after
		}
	}
	// What she may: a file of her own, though its mode forbids it; her new tree.
	must(t, fs.Apply(ctx, alice, &cut.Cut{Number: 1, Records: []cut.Record{
		{Kind: cut.Data, UID: 3001, ID: suid, Bytes: []byte("x")},
		create(first+2, unix.S_IFDIR|0o555, 3001, 3001), create(first+3, unix.S_IFREG|0o400, 3001, 3100),
		{Kind: cut.Bind, UID: 3001, Dir: hers, Name: "tree", ID: first + 2},
		{Kind: cut.Bind, UID: 3001, Dir: first + 2, Name: "f", ID: first + 3},
		{Kind: cut.Data, UID: 3001, ID: first + 3, Bytes: []byte("in a tree")},
		{Kind: cut.Attr, UID: 3001, ID: first + 3, Valid: cut.AttrCtime | cut.AttrMtime, Ctime: 1e18, Mtime: 2e18},
	}}))
	a, err := attrOf(fs, first+3)
	must(t, err)
	if a.UID != 3001 || a.GID != 3100 || a.Mode != unix.S_IFREG|0o400 || a.Size != 9 || a.Ctime != 1e18 || a.Mtime != 2e18 {
		t.Errorf("%+v", a)
	}
	must(t, unix.Chmod(filepath.Join(dir, "hers/tree/f"), 0o440))
	if a, err := attrOf(fs, first+3); err != nil || a.Ctime == 1e18 {
		t.Errorf("the host has changed the file, but its ctime is still the client's: %v", err)
	}
}

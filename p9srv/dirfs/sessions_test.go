package dirfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/p9srv/stable"

	"golang.org/x/sys/unix"
)

// known makes session 7 one that is to be there after a restart.
func known(t *testing.T, fs *FS) *p9srv.Cred {
	t.Helper()
	must(t, fs.sessions.record(true, stable.Record{Kind: stable.Open, Session: 7, Name: "n"}))
	return &p9srv.Cred{UID: fs.uid, GID: fs.gid, Session: 7}
}

// TestSessionsAreKept: what was noted durably is there after a restart; what the host refused is not, and
// what comes after it is.
func TestSessionsAreKept(t *testing.T) {
	dir := openDir(t, os.TempDir())
	var fail atomic.Value // the log has goroutines of its own
	opt := Options{Logf: t.Logf, hook: func(step string) error {
		if step == fail.Load() {
			return fmt.Errorf("the host says no: %w", syscall.ENOSPC)
		}
		return nil
	}}
	fs, err := Open(dir, opt)
	must(t, err)
	known(t, fs)
	pending := stable.Record{Kind: stable.Pending, Session: 7}
	for _, step := range []string{"write sessions", "sync sessions"} {
		fail.Store(step)
		done := make(chan error, 1)
		fs.Sessions().Note(func(err error) { done <- err }, pending)
		wantErrno(t, <-done, syscall.ENOSPC)
		fail.Store("")
		if fs.Sessions().Known().Sessions[7].Pending {
			t.Errorf("%s failed, and it is believed all the same", step)
		}
		// Even a server that is killed now must not know of it.
		b, err := os.ReadFile(fs.sessions.path)
		must(t, err)
		if s, _ := stable.Read(b); s.Sessions[7] == nil || s.Sessions[7].Pending {
			t.Errorf("%s failed, and the file has it all the same: %+v", step, s.Sessions[7])
		}
	}
	must(t, fs.sessions.record(true, stable.Record{Kind: stable.Revoked, Session: 7, Lost: []stable.Lost{{ID: 5, Left: 1}}}))
	path := fs.sessions.path
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(b, "torn"...), 0o600))
	must(t, fs.Close())
	fs, err = Open(dir, opt)
	must(t, err)
	if s := fs.Sessions().Known().Sessions[7]; s == nil || s.Name != "n" || s.Pending || s.Lost[5] != 1 {
		t.Errorf("after a restart: %+v", s)
	}
	// What is out of date does not stay in the file.
	for range 100 {
		must(t, fs.sessions.record(false, pending, stable.Record{Kind: stable.Idle, Session: 7}))
	}
	must(t, fs.Close())
	fs, err = Open(dir, opt)
	must(t, err)
	if info, err := os.Stat(fs.sessions.path); err != nil || info.Size() > 500 {
		t.Errorf("the file was not written anew: %v, %v", info.Size(), err)
	}
	must(t, fs.Close())
	fail.Store("rewrite sessions") // a disk that has no room for another file
	fs, err = Open(dir, opt)
	must(t, err)
	must(t, fs.sessions.record(true, pending))
	fail.Store("")
	must(t, fs.Close())
	fs, err = Open(dir, opt)
	must(t, err)
	if s := fs.Sessions().Known().Sessions[7]; s == nil || !s.Pending {
		t.Errorf("after a start without room: %+v", s)
	}
	must(t, fs.Close())
	ro := openFS(t, dir, Options{ReadOnly: true})
	if ro.Sessions() != nil {
		t.Error("a read-only export keeps sessions")
	}
}

// keptFile makes a file that session 7 keeps, loses its name in the way that how says, and gives its id.
func keptFile(t *testing.T, fs *FS, dir string, cred *p9srv.Cred, how string) (uint64, error) {
	t.Helper()
	name := filepath.Join(dir, "f")
	if how == "created without a name" {
		id, err := fs.AllocIDs(1)
		if err != nil {
			return 0, err
		}
		return id, fs.Apply(ctx, cred, &cut.Cut{Number: 1, Records: []cut.Record{
			{Kind: cut.Create, UID: fs.uid, ID: id, Mode: unix.S_IFREG | 0o644, UserID: fs.uid, GroupID: fs.gid},
			{Kind: cut.Data, UID: fs.uid, ID: id, Bytes: []byte("kept")}}})
	}
	must(t, os.WriteFile(name, []byte("kept"), 0o644))
	root := rootOf(t, fs)
	o, _, err := root.Walk(ctx, nil, "f")
	must(t, err)
	defer o.Release()
	if err := fs.KeepOpen(7, o.ID()); err != nil {
		return o.ID(), err
	}
	switch how {
	case "unlink":
		return o.ID(), root.Unlink(ctx, nil, "f", 0)
	case "rename over it":
		must(t, os.WriteFile(name+"2", []byte("other"), 0o644))
		return o.ID(), root.Rename(ctx, nil, "f2", root, "f", 0)
	case "cut":
		return o.ID(), fs.Apply(ctx, cred, &cut.Cut{Number: 1, Records: []cut.Record{
			{Kind: cut.Bind, UID: fs.uid, Dir: fs.root.id, Name: "f", Before: o.ID()}}})
	}
	return o.ID(), nil
}

// content reads a kept file by its id, and tells how many names it shows.
func content(fs *FS, id uint64) (string, uint64, error) {
	o, err := fs.Lookup(ctx, id)
	if err != nil {
		return "", 0, err
	}
	defer o.Release()
	a, err := o.GetAttr(ctx, nil)
	if err != nil {
		return "", 0, err
	}
	f, err := o.Open(ctx, nil, wire.ORdonly)
	if err != nil {
		return "", 0, err
	}
	defer f.Close(ctx)
	p := make([]byte, 10)
	n, err := f.ReadAt(ctx, p, 0)
	return string(p[:n]), a.Nlink, err
}

var waysToLose = []string{"unlink", "rename over it", "cut", "created without a name"}

// TestKeptSurvivesRestarts: an object that a session keeps lives on without a name, over restarts, until the session ends.
func TestKeptSurvivesRestarts(t *testing.T) {
	for _, p := range places {
		for _, how := range waysToLose {
			t.Run(p.name+"/"+how, func(t *testing.T) {
				dir := p.dir(t)
				opt := p.opt
				opt.Logf = t.Logf
				reopen := func(fs *FS) *FS {
					must(t, fs.Close())
					fs, err := Open(dir, opt)
					must(t, err)
					return fs
				}
				fs, err := Open(dir, opt)
				must(t, err)
				var id uint64
				t.Run("lose", func(t *testing.T) { // releases what it refers to
					id, err = keptFile(t, fs, dir, known(t, fs), how)
					must(t, err)
				})
				for range 2 {
					fs = reopen(fs)
					if got, nlink, err := content(fs, id); err != nil || got != "kept" || nlink != 0 {
						t.Fatalf("after a restart: %q, %d names, %v", got, nlink, err)
					}
				}
				if i := inspectHeld(t, fs, dir, opt); len(i.Garbage) != 0 || i.Sessions != 1 || i.Kept != 1 || !i.Clean() {
					t.Errorf("inspection: %+v", i)
				}
				fs, err = Open(dir, opt)
				must(t, err)
				must(t, fs.sessions.record(true, stable.Record{Kind: stable.End, Session: 7}))
				fs.EndSession(7)
				if _, _, err := content(fs, id); !errors.Is(err, syscall.ESTALE) {
					t.Errorf("after the session's end: %v", err)
				}
				if left, err := os.ReadDir(fs.state.path("orphans")); err != nil || len(left) > 0 {
					t.Errorf("left in the private directory: %v, %v", left, err)
				}
				fs = reopen(fs)
				must(t, fs.Close())
			})
		}
	}
}

func inspectHeld(t *testing.T, fs *FS, dir string, opt Options) *Inspection {
	t.Helper()
	must(t, fs.Close())
	i, err := Inspect(dir, opt)
	must(t, err)
	return i
}

// TestKeptOverKills kills the server at every step at which an object loses its last name: afterwards
// whoever keeps it still has it.
func TestKeptOverKills(t *testing.T) {
	for _, how := range waysToLose {
		t.Run(how, func(t *testing.T) {
			if lost, kills := keptOverKills(t, how, noMutant); len(lost) > 0 || kills < 3 {
				t.Errorf("killed at %d steps; lost when killed at: %v", kills, lost)
			}
			if how == "created without a name" {
				return // it is lost with the cut, or there
			}
			if lost, _ := keptOverKills(t, how, forgetKept); len(lost) == 0 {
				t.Error("that nothing is written does not show")
			}
		})
	}
}

func keptOverKills(t *testing.T, how string, mutant recoveryMutant) (lost []string, kills int) {
	for k := 0; ; k++ {
		dir := openDir(t, os.TempDir())
		death := &fuse{left: k, out: true}
		fs, err := Open(dir, Options{mutant: mutant, hook: death.hook})
		must(t, err)
		cred := known(t, fs)
		death.light()
		var id uint64
		t.Run(fmt.Sprint(k), func(t *testing.T) { id, err = keptFile(t, fs, dir, cred, how) })
		died := death.burnt()
		_ = fs.Close()
		if !died {
			must(t, err)
		}
		fs, err2 := Open(dir, Options{mutant: mutant})
		must(t, err2)
		got, _, cerr := content(fs, id)
		if (how != "created without a name" || err == nil) && (cerr != nil || got != "kept") {
			lost = append(lost, fmt.Sprintf("%d %q (%q, %v)", k, death.at, got, cerr))
		}
		must(t, fs.Close())
		if !died {
			return lost, kills
		}
		kills++
	}
}

// TestKeptWithAName: that a session has an object open is known after a restart though the object had a
// name all the time, and loses it only then.
func TestKeptWithAName(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			dir := p.dir(t)
			fs, err := Open(dir, p.opt)
			must(t, err)
			var id uint64
			t.Run("keep", func(t *testing.T) {
				id, err = keptFile(t, fs, dir, known(t, fs), "nothing")
				must(t, err)
			})
			must(t, fs.Close())
			fs = openFS(t, dir, p.opt)
			root := rootOf(t, fs)
			must(t, root.Unlink(ctx, nil, "f", 0))
			if got, nlink, err := content(fs, id); err != nil || got != "kept" || nlink != 0 {
				t.Errorf("it is gone: %q, %d, %v", got, nlink, err)
			}
			fs.EndSession(7)
			if _, _, err := content(fs, id); !errors.Is(err, syscall.ESTALE) {
				t.Errorf("after the session's end: %v", err)
			}
		})
	}
}

// TestFoundAgainByID: what a client knew before a restart is found by its id, wherever it is now.
func TestFoundAgainByID(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			dir := p.dir(t)
			fs, err := Open(dir, p.opt)
			must(t, err)
			known(t, fs)
			must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "a/b/c/f"), []byte("x"), 0o644))
			must(t, os.WriteFile(filepath.Join(dir, "g"), nil, 0o644))
			ids := map[string]wire.QID{}
			t.Run("walk", func(t *testing.T) {
				for _, path := range []string{"a/b", "a/b/c/f", "g"} {
					ids[path] = walkPath(t, rootOf(t, fs), strings.Split(path, "/")...).QID()
				}
			})
			must(t, fs.Close())
			must(t, os.Rename(filepath.Join(dir, "a/b"), filepath.Join(dir, "moved")))
			must(t, os.Remove(filepath.Join(dir, "g")))
			fs = openFS(t, dir, p.opt)
			for _, path := range []string{"a/b/c/f", "a/b"} {
				o, err := fs.Lookup(ctx, ids[path].Path)
				must(t, err)
				if o.QID() != ids[path] {
					t.Errorf("%s: %v, was %v", path, o.QID(), ids[path])
				}
				_, err = o.GetAttr(ctx, nil)
				must(t, err)
				o.Release()
			}
			if o, err := fs.Lookup(ctx, ids["g"].Path); err == nil {
				if o.QID() == ids["g"] {
					t.Error("what was removed is found")
				}
				o.Release()
			}
			// Something that comes later is not found by an index from before, and does not make one each time.
			fs.index.atStart.Wait()
			made := fs.index.made
			for range 10 {
				if _, err := fs.Lookup(ctx, 1<<47); !errors.Is(err, syscall.ESTALE) {
					t.Errorf("an id that nobody has: %v", err)
				}
			}
			if fs.index.made != made {
				t.Error("the index was made anew at once")
			}
		})
	}
}

// TestVersionsSurviveKills: the version of an object that a client's cut left is what the client computes, after a kill
// at any step as well, if the cut is there.
func TestVersionsSurviveKills(t *testing.T) {
	const ctime, size = 1_700_000_000_123_456_789, 5
	done := false
	for k := 0; !done; k++ {
		dir := openDir(t, os.TempDir())
		death := &fuse{left: k, out: true}
		fs, err := Open(dir, Options{hook: death.hook})
		must(t, err)
		cred := known(t, fs)
		id, err := fs.AllocIDs(2)
		must(t, err)
		death.light()
		client := [16]byte{1}
		times := func(id uint64) cut.Record {
			return cut.Record{Kind: cut.Attr, UID: fs.uid, ID: id, Valid: cut.AttrMtime | cut.AttrCtime, Mtime: ctime, Ctime: ctime}
		}
		root := fs.root.id
		err = fs.Apply(ctx, cred, &cut.Cut{Client: client, Number: 1, Records: []cut.Record{
			{Kind: cut.Create, UID: fs.uid, ID: id, Mode: unix.S_IFREG | 0o644, UserID: fs.uid, GroupID: fs.gid},
			{Kind: cut.Bind, UID: fs.uid, Dir: root, Name: "f", ID: id},
			{Kind: cut.Data, UID: fs.uid, ID: id, Bytes: []byte("12345")}, times(id), times(root),
		}})
		done = !death.burnt()
		if done {
			must(t, err)
		}
		_ = fs.Close()
		fs, err = Open(dir, Options{Logf: t.Logf})
		must(t, err)
		if fs.LastCut(client) == 1 {
			a, err := attrOf(fs, id)
			must(t, err)
			if want := wire.DataVersion(a.Mode, ctime, size); a.DataVersion != want {
				t.Errorf("killed at step %d: the file's version is %x (ctime %d), want %x", k, a.DataVersion, a.Ctime, want)
			}
			if a, err = attrOf(fs, root); err != nil || a.DataVersion != wire.DataVersion(a.Mode, ctime, 0) {
				t.Errorf("killed at step %d: the directory's version is %x (ctime %d), want that of %d (%v)", k, a.DataVersion, a.Ctime, int64(ctime), err)
			}
		}
		must(t, fs.Close())
	}
}

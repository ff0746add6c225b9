package dirfs

import (
	"echo9/internal/loopfs"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// crash ends fs as a kill does: nothing is written any more.
func crash(t *testing.T, fs *FS) {
	t.Helper()
	fs.killed.Store(true)
	fs.Close()
}

// reopen serves the directory again.
func reopen(t *testing.T, dir string, opt Options) *FS {
	t.Helper()
	fs, err := Open(dir, opt)
	must(t, err)
	t.Cleanup(func() { fs.Close() })
	return fs
}

// oneFile is a cut that makes root/name with some content; it gives the object's id.
func oneFile(t *testing.T, fs *FS, number uint64, name, content string) uint64 {
	t.Helper()
	id, err := fs.AllocIDs(1)
	must(t, err)
	must(t, fs.Apply(ctx, nil, &cut.Cut{Client: [16]byte{1}, Number: number, Records: []cut.Record{
		{Kind: cut.Create, UID: fs.uid, ID: id, Mode: unix.S_IFREG | 0o644, UserID: fs.uid, GroupID: fs.gid},
		{Kind: cut.Data, UID: fs.uid, ID: id, Bytes: []byte(content)},
		{Kind: cut.Bind, UID: fs.uid, Dir: fs.root.id, Name: name, ID: id},
	}}))
	return id
}

func overwrite(t *testing.T, fs *FS, number, id uint64, off uint64, content string) {
	t.Helper()
	must(t, fs.Apply(ctx, nil, &cut.Cut{Client: [16]byte{1}, Number: number, Records: []cut.Record{
		{Kind: cut.Data, UID: fs.uid, ID: id, Off: off, Bytes: []byte(content)},
	}}))
}

// TestPlainChangesSettle has a plain client change what a cut wrote before: a recovery does not lay the cut over it,
// not even where the host's clock is too coarse to tell the two apart by ctime.
func TestPlainChangesSettle(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, o p9srv.Object)
		want   string
	}{
		{"write", func(t *testing.T, o p9srv.Object) {
			f, err := o.Open(ctx, nil, wire.ORdwr)
			must(t, err)
			_, err = f.WriteAt(ctx, []byte("PLAIN"), 0)
			must(t, err)
			must(t, f.Close(ctx))
		}, "PLAINcut"},
		{"truncate", func(t *testing.T, o p9srv.Object) {
			must(t, o.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetSize, Size: 3}))
		}, "of "},
		{"open and truncate", func(t *testing.T, o p9srv.Object) {
			f, err := o.Open(ctx, nil, wire.ORdwr|wire.OTrunc)
			must(t, err)
			must(t, f.Close(ctx))
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := openDir(t, "/dev/shm")
			fs := reopen(t, dir, Options{})
			id := oneFile(t, fs, 1, "f", "of a cut")
			o, err := fs.Lookup(ctx, id)
			must(t, err)
			tt.change(t, o)
			o.Release()
			crash(t, fs)
			fs = reopen(t, dir, Options{})
			if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(got) != tt.want {
				t.Fatalf("after a recovery the file has %q, %v; want %q", got, err, tt.want)
			}
			if fs.LastCut([16]byte{1}) != 1 {
				t.Fatalf("the last cut is %d", fs.LastCut([16]byte{1}))
			}
		})
	}
}

// TestPlainNamesSettle has plain clients change names that cuts had bound.
func TestPlainNamesSettle(t *testing.T) {
	dir := openDir(t, "/dev/shm")
	fs := reopen(t, dir, Options{})
	oneFile(t, fs, 1, "removed", "x")
	oneFile(t, fs, 2, "renamed", "y")
	oneFile(t, fs, 3, "replaced", "z")
	must(t, fs.root.Unlink(ctx, nil, "removed", 0))
	must(t, fs.root.Rename(ctx, nil, "renamed", fs.root, "new", 0))
	_, f, _, err := fs.root.Create(ctx, nil, "other", wire.ORdwr|wire.OExcl, 0o644, noGID)
	must(t, err)
	must(t, f.Close(ctx))
	must(t, fs.root.Rename(ctx, nil, "other", fs.root, "replaced", 0))
	before := snapshot(t, dir, true)
	crash(t, fs)
	reopen(t, dir, Options{Logf: t.Logf})
	if after := snapshot(t, dir, true); after != before {
		t.Fatalf("a recovery undid what plain clients did:\n%s", diffText(before, after))
	}
}

// TestDisturbedBehindOurBack changes a file on the host between two cuts: the first is not laid over that.
func TestDisturbedBehindOurBack(t *testing.T) {
	dir := openDir(t, "/dev/shm")
	fs := reopen(t, dir, Options{})
	id := oneFile(t, fs, 1, "f", "0123456789")
	path := filepath.Join(dir, "f")
	host, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = host.WriteAt([]byte("host"), 0)
	must(t, err)
	must(t, host.Close())
	overwrite(t, fs, 2, id, 8, "CUT")
	crash(t, fs)
	reopen(t, dir, Options{Logf: t.Logf})
	if got, _ := os.ReadFile(path); string(got) != "host4567CUT" {
		t.Fatalf("after a recovery the file has %q", got)
	}
}

// TestCheckpoint has the log forget what is durable, and clients' last cuts outlive that.
func TestCheckpoint(t *testing.T) {
	dir := openDir(t, "/dev/shm")
	fs := reopen(t, dir, Options{})
	id := oneFile(t, fs, 41, "f", "content")
	must(t, fs.Checkpoint(ctx))
	n, err := fs.lookup(id)
	must(t, err)
	if fs.inLog(n) {
		t.Error("the object is still in the log")
	}
	n.Release()
	crash(t, fs)
	_, entries, err := readLog(dir)
	must(t, err)
	for _, e := range entries {
		if e.Cut != nil {
			t.Errorf("the log still has cut %d", e.Cut.Number)
		}
	}
	fs = reopen(t, dir, Options{})
	if fs.LastCut([16]byte{1}) != 41 {
		t.Fatalf("the last cut is %d", fs.LastCut([16]byte{1}))
	}
	// The object is found again, under its id.
	if got, err := fs.ResolveName(ctx, fs.root.id, "f"); err != nil || got != id {
		t.Errorf("f is object %d, %v; want %d", got, err, id)
	}
}

// TestRefusedCutIsNotTheLast: a cut that was logged, refused by the host and undone is not a client's last one after a crash.
func TestRefusedCutIsNotTheLast(t *testing.T) {
	dir := openDir(t, "/dev/shm")
	fs := reopen(t, dir, Options{})
	id := oneFile(t, fs, 1, "f", "content")
	fs.fail = func(step string, _ int) error {
		if step == "write" {
			return syscall.EIO
		}
		return nil
	}
	err := fs.Apply(ctx, nil, &cut.Cut{Client: [16]byte{1}, Number: 2, Records: []cut.Record{{Kind: cut.Data, UID: fs.uid, ID: id, Bytes: []byte("new")}}})
	wantErrno(t, err, syscall.EIO)
	crash(t, fs)
	fs = reopen(t, dir, Options{Logf: t.Logf})
	if got := fs.LastCut([16]byte{1}); got != 1 {
		t.Errorf("the last cut is %d, want 1", got)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "content" {
		t.Errorf("the file has %q", b)
	}
}

// TestShownTimesOutliveRestarts: the ctime that a client was shown is shown after a restart, a clean one and a crash.
func TestShownTimesOutliveRestarts(t *testing.T) {
	for _, clean := range []bool{true, false} {
		dir := openDir(t, "/dev/shm")
		fs := reopen(t, dir, Options{})
		id := oneFile(t, fs, 1, "f", "content")
		const shown = int64(1_234_567_890_123_456_789)
		must(t, fs.Apply(ctx, nil, &cut.Cut{Client: [16]byte{1}, Number: 2, Records: []cut.Record{
			{Kind: cut.Attr, UID: fs.uid, ID: id, Valid: cut.AttrMode | cut.AttrCtime, Mode: 0o600, Ctime: shown},
		}}))
		if clean {
			must(t, fs.Close())
		} else {
			crash(t, fs)
		}
		fs = reopen(t, dir, Options{})
		o, a, err := fs.root.Walk(ctx, nil, "f")
		must(t, err)
		o.Release()
		if o.ID() != id || a.Ctime != shown {
			t.Errorf("clean %v: ctime %d, want %d", clean, a.Ctime, shown)
		}
	}
}

// TestBrokenLogStopsCuts: when the log fails, no cut is taken on any more, and nothing of the one under way is left.
func TestBrokenLogStopsCuts(t *testing.T) {
	dir := openDir(t, "/dev/shm")
	fs := reopen(t, dir, Options{})
	oneFile(t, fs, 1, "f", "content")
	before := snapshot(t, dir, true)
	fs.setHook(func(step string) error {
		if step == "log fdatasync" {
			return syscall.EIO
		}
		return nil
	})
	id, err := fs.AllocIDs(1)
	must(t, err)
	c := &cut.Cut{Client: [16]byte{1}, Number: 2, Records: []cut.Record{
		{Kind: cut.Create, UID: fs.uid, ID: id, Mode: unix.S_IFREG | 0o644, UserID: fs.uid, GroupID: fs.gid},
		{Kind: cut.Bind, UID: fs.uid, Dir: fs.root.id, Name: "g", ID: id},
	}}
	wantErrno(t, fs.Apply(ctx, nil, c), syscall.EIO)
	fs.setHook(nil)
	wantErrno(t, fs.Apply(ctx, nil, c), syscall.EIO)
	if after := snapshot(t, dir, true); after != before {
		t.Fatalf("a cut that could not be logged left a trace:\n%s", diffText(before, after))
	}
}

// readLog reads the log of an export that nobody serves.
func readLog(dir string) (*journal.Log, []journal.Entry, error) {
	fd, err := unix.Open(filepath.Join(dir, privateName), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	log, entries, err := journal.Open(fd, journal.Options{Sync: true, Logf: func(string, ...any) {}})
	if err == nil {
		log.Close()
	}
	return log, entries, err
}

// TestApart makes files, directories and symlinks where a directory hands flags of chattr down (as it would a
// project or a policy): they have them, as if they had been made there; and a killed server leaves whole cuts.
func TestApart(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "mounting needs root")
	}
	base := loopfs.Ext4(t, 128)
	for _, flag := range []string{"flags", "none", "flags, and power fails"} {
		for n := 0; ; n++ {
			dir := filepath.Join(base, fmt.Sprintf("%d-%d", len(flag), n))
			must(t, os.MkdirAll(filepath.Join(dir, "d"), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "d", "old"), []byte("old"), 0o644))
			if flag != "none" {
				if out, err := exec.Command("chattr", "+dA", filepath.Join(dir, "d")).CombinedOutput(); err != nil {
					t.Fatalf("chattr: %v\n%s", err, out)
				}
			}
			fs := reopen(t, dir, Options{})
			d, err := fs.ResolveName(ctx, fs.root.id, "d")
			must(t, err)
			old, err := fs.ResolveName(ctx, d, "old")
			must(t, err)
			id, err := fs.AllocIDs(5)
			must(t, err)
			steps := 0
			fs.setHook(func(string) error {
				if steps++; steps > n {
					return errKilled
				}
				return nil
			})
			err = fs.Apply(ctx, nil, &cut.Cut{Client: [16]byte{1}, Number: 1, Records: []cut.Record{
				{Kind: cut.Create, ID: id, Mode: unix.S_IFREG | 0o644}, {Kind: cut.Data, ID: id, Bytes: []byte("new")},
				{Kind: cut.Create, ID: id + 1, Mode: unix.S_IFDIR | 0o755},
				{Kind: cut.Create, ID: id + 2, Mode: unix.S_IFREG | 0o644},
				{Kind: cut.Create, ID: id + 3, Mode: unix.S_IFLNK | 0o777, Target: "file"},
				{Kind: cut.Create, ID: id + 4, Mode: unix.S_IFREG | 0o644}, {Kind: cut.Data, ID: id + 4, Bytes: []byte("instead")},
				{Kind: cut.Bind, Dir: d, Name: "file", ID: id}, {Kind: cut.Bind, Dir: d, Name: "sub", ID: id + 1},
				{Kind: cut.Bind, Dir: id + 1, Name: "below", ID: id + 2}, {Kind: cut.Bind, Dir: d, Name: "link", ID: id + 3},
				{Kind: cut.Bind, Dir: d, Name: "old", ID: id + 4, Before: old},
			}})
			killed := fs.killed.Load()
			if !killed {
				must(t, err)
			}
			fs.setHook(nil)
			logged := killed && errors.Is(err, errKilled)
			crash(t, fs)
			if strings.Contains(flag, "power") {
				// Nothing of what was staged had reached the disk.
				staged, _ := filepath.Glob(filepath.Join(dir, "d", asidePrefix+"*"))
				for _, path := range staged {
					must(t, os.RemoveAll(path))
				}
			}
			must(t, openAgain(dir))
			_, ferr := os.Lstat(filepath.Join(dir, "d/file"))
			made := ferr == nil
			var names []string
			for _, name := range []string{"d/file", "d/sub", "d/sub/below", "d/link"} {
				if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != made {
					names = append(names, name)
				}
			}
			content, _ := os.ReadFile(filepath.Join(dir, "d/old"))
			if want := map[bool]string{true: "instead", false: "old"}[made]; string(content) != want {
				names = append(names, "d/old: "+string(content))
			}
			if content, _ := os.ReadFile(filepath.Join(dir, "d/file")); made && string(content) != "new" {
				names = append(names, "d/file: "+string(content))
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "d/.echo9*")); len(left) > 0 {
				names = append(names, left...)
			}
			for _, name := range map[bool][]string{true: {"d/file", "d/sub", "d/sub/below", "d/old"}}[made] {
				out, err := exec.Command("lsattr", "-d", filepath.Join(dir, name)).CombinedOutput()
				has := strings.ContainsAny(strings.Fields(string(out))[0], "dA")
				if err != nil || has != (flag != "none") {
					t.Errorf("%s: flags of %s: %s %v", flag, name, out, err)
				}
			}
			if len(names) > 0 {
				t.Errorf("%s: killed at step %d (%v): half a cut: file %v, but not so %v", flag, n, logged, made, names)
			}
			if killed {
				must(t, os.RemoveAll(dir))
				continue
			}
			if !made {
				t.Error("an acknowledged cut is gone")
			}
			if n < 15 {
				t.Errorf("only %d steps", n)
			}
			break
		}
	}
}

// TestReadOnlyAfterCrash: who only reads a tree that a server left behind by halves is told.
func TestReadOnlyAfterCrash(t *testing.T) {
	dir := openDir(t, "/dev/shm")
	warned := func() bool {
		said := ""
		fs, err := Open(dir, Options{ReadOnly: true, Logf: func(f string, args ...any) { said += fmt.Sprintf(f, args...) }})
		must(t, err)
		must(t, fs.Close())
		return strings.Contains(said, "fsck")
	}
	if warned() {
		t.Error("a warning about a tree that was never served")
	}
	fs := reopen(t, dir, Options{})
	oneFile(t, fs, 1, "f", "content")
	crash(t, fs)
	if !warned() {
		t.Error("no warning after a crash")
	}
	must(t, openAgain(dir))
	if warned() {
		t.Error("a warning after the recovery")
	}
}

// openAgain recovers a directory.
func openAgain(dir string) error {
	fs, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	return fs.Close()
}

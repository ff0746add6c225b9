package dirfs

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// TestUndoMutants leaves out one undo after the other: each must be missed.
func TestUndoMutants(t *testing.T) {
	for left := 0; ; left++ {
		dir := openDir(t, "/dev/shm")
		for _, d := range []string{"one", "two", "gone"} {
			must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
		}
		for _, f := range []string{"one/a", "one/b", "two/c", "two/d", "kept"} {
			must(t, os.WriteFile(filepath.Join(dir, f), []byte("the content of "+f), 0o644))
		}
		must(t, unix.Setxattr(filepath.Join(dir, "kept"), "user.x", []byte("old"), 0))
		var logs []string
		fs, err := Open(dir, Options{Logf: func(f string, args ...any) { logs = append(logs, f) }})
		must(t, err)
		id := func(names ...string) uint64 {
			o, err := fs.Root(ctx, nil, strings.Join(names, "/"))
			if err == nil {
				o.Release()
				return o.ID()
			}
			d, err := fs.Root(ctx, nil, strings.Join(names[:len(names)-1], "/"))
			must(t, err)
			defer d.Release()
			got, err := fs.ResolveName(ctx, d.ID(), names[len(names)-1])
			must(t, err)
			return got
		}
		first, err := fs.AllocIDs(10)
		must(t, err)
		root, one, two := id(), id("one"), id("two")
		a, b, c, d, kept, gone := id("one", "a"), id("one", "b"), id("two", "c"), id("two", "d"), id("kept"), id("gone")
		me := fs.uid
		records := []cut.Record{
			{Kind: cut.Create, ID: first, Mode: unix.S_IFREG | 0o644, UserID: me, GroupID: fs.gid},
			{Kind: cut.Data, ID: first, Bytes: []byte("new")},
			{Kind: cut.Bind, Dir: one, Name: "new", ID: first},
			{Kind: cut.Create, ID: first + 1, Mode: unix.S_IFDIR | 0o755, UserID: me, GroupID: fs.gid},
			{Kind: cut.Bind, Dir: root, Name: "dir", ID: first + 1},
			{Kind: cut.Create, ID: first + 2, Mode: unix.S_IFREG | 0o600, UserID: me, GroupID: fs.gid},
			{Kind: cut.Bind, Dir: one, Name: "b", Before: b, ID: first + 2},
			{Kind: cut.Bind, Dir: one, Name: "a", Before: a},
			{Kind: cut.Bind, Dir: two, Name: "e", ID: a},
			{Kind: cut.Bind, Dir: two, Name: "c", Before: c, ID: d},
			{Kind: cut.Bind, Dir: two, Name: "d", Before: d, ID: c},
			{Kind: cut.Bind, Dir: root, Name: "gone", Before: gone},
			{Kind: cut.Bind, Dir: root, Name: "link", ID: kept},
			{Kind: cut.Data, ID: kept, Off: 4, Bytes: []byte("CONTENT, AND MORE OF IT")},
			{Kind: cut.Truncate, ID: d, Size: 3},
			{Kind: cut.Attr, ID: d, Valid: cut.AttrMode | cut.AttrMtime | cut.AttrSize, Size: 100, Mode: 0o600, Mtime: 1e18},
			{Kind: cut.SetXattr, ID: kept, Name: "user.x", Bytes: []byte("new")},
			{Kind: cut.SetXattr, ID: kept, Name: "user.y", Bytes: []byte("new")},
		}
		if fs.switches {
			records = append(records, cut.Record{Kind: cut.Attr, ID: c, Valid: cut.AttrUID, UserID: 77})
		}
		for i := range records {
			records[i].UID = me
		}
		before := snapshot(t, dir, true)
		steps := 0
		// The last step fails: all but the rows of the table is to be undone.
		fs.fail = func(step string, n int) error {
			steps = n
			if step == "enter ids" {
				return syscall.EIO
			}
			return nil
		}
		skipped := false
		fs.skipUndo = func(i int) bool {
			if i == left {
				skipped = true
			}
			return i == left
		}
		err = fs.Apply(ctx, &p9srv.Cred{UID: me, GID: fs.gid, Session: 1}, &cut.Cut{Number: 1, Records: records})
		wantErrno(t, err, syscall.EIO)
		after := snapshot(t, dir, true)
		must(t, fs.Close())
		if !skipped {
			if after != before {
				t.Fatalf("nothing was left out, but:\n%s", diffText(before, after))
			}
			if left < 15 {
				t.Fatalf("the cut has only %d undos, %d steps", left, steps)
			}
			return
		}
		if after == before && len(logs) == 0 {
			t.Errorf("undo %d was left out and nobody noticed", left)
		}
	}
}

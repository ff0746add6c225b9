package dirfs

import (
	"os"
	"path/filepath"
	"testing"

	"echo9/internal/cut"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// TestSettledNameIsFound: a file got its name from a cut, then somebody changed the directory past the cuts, so that
// the log no longer tells of that name; and it lost all names that the log does tell of. On a host without
// handles recovery must still find it, or it would get another id.
func TestSettledNameIsFound(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			dir := p.dir(t)
			fs, err := Open(dir, p.opt)
			must(t, err)
			id, err := fs.AllocIDs(1)
			must(t, err)
			cred := &p9srv.Cred{UID: fs.uid, GID: fs.gid, Session: 7}
			number := uint64(0)
			apply := func(records ...cut.Record) {
				t.Helper()
				for i := range records {
					records[i].UID = fs.uid
				}
				number++
				must(t, fs.Apply(ctx, cred, &cut.Cut{Client: [16]byte{1}, Number: number, Records: records}))
			}
			root := fs.root.id
			apply(
				cut.Record{Kind: cut.Create, ID: id, Mode: unix.S_IFREG | 0o644, UserID: fs.uid, GroupID: fs.gid},
				cut.Record{Kind: cut.Bind, Dir: root, Name: "a", ID: id},
			)
			must(t, fs.disturb(fs.root))
			apply(cut.Record{Kind: cut.Bind, Dir: root, Name: "b", ID: id})
			apply(cut.Record{Kind: cut.Bind, Dir: root, Name: "b", Before: id})
			must(t, fs.ledger.log.Wait(fs.ledger.log.Last()))
			crash(t, fs)

			fs = reopen(t, dir, p.opt)
			if got, err := fs.ResolveName(ctx, fs.root.id, "a"); err != nil || got != id {
				t.Errorf("a is object %d, %v; want %d", got, err, id)
			}
			// One whose settled name goes, too, is gone for good.
			apply(cut.Record{Kind: cut.Bind, Dir: root, Name: "a", Before: id})
			if _, err := os.Lstat(filepath.Join(dir, "a")); !os.IsNotExist(err) {
				t.Errorf("a is still there: %v", err)
			}
			if _, ok := fs.ids.row(id); ok {
				t.Error("its row in the table of ids is still there")
			}
		})
	}
}

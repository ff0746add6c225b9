package journal

import (
	"testing"

	"echo9/internal/cut"
)

// TestReusedInode: an inode's number is an id, and a new file may get that of one that is gone. What
// the log has of the old one is not done to the new one.
func TestReusedInode(t *testing.T) {
	const id = 65551
	object := func(tag uint64) []Object {
		return []Object{{ID: id, Ident: Ident{Dev: 1, Ino: id, Tag: tag}, Before: Attrs{Mode: 0o100644, Ctime: int64(tag) * 9e9}}}
	}
	entries := []Entry{
		{LSN: 1, Cut: &Cut{Time: 10e9, Records: []cut.Record{{Kind: cut.SetXattr, ID: id, Name: "user.x", Bytes: []byte("old")}}, Objects: object(1)}},
		{LSN: 2, Note: &Note{Cut: 1, Ctimes: []Ctime{{ID: id, Host: 10e9}}}},
		{LSN: 3, Cut: &Cut{Time: 20e9, Records: []cut.Record{{Kind: cut.Attr, ID: id, Valid: cut.AttrMtime, Mtime: 5}}, Objects: object(2)}},
		{LSN: 4, Note: &Note{Cut: 3, Ctimes: []Ctime{{ID: id, Host: 20e9}}}},
	}
	g := Reduce(entries).Goal(id)
	if len(g.Xattrs) != 0 || g.Attr.Mtime != 5 {
		t.Errorf("the new file is to become %+v", g)
	}
	if g.Ours(10e9) {
		t.Error("a time of the old file is taken for one of the new")
	}
	if len(g.Idents) != 1 || g.Idents[0].Tag != 2 {
		t.Errorf("the new file is looked for as %+v", g.Idents)
	}
}

package order

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"echo9/internal/cut"
)

// inode is an object of the model file system. used has a bit of "space is set aside" for each byte.
type inode struct {
	mode                uint32
	uid, gid            uint32
	rdev                uint64
	target              string
	data                []byte
	used                []bool
	atime, mtime, ctime int64
	xattrs              map[string]string
	entries             map[string]uint64 // of directories
	kept                bool
}

const typeDir = 0o040000

func (n *inode) isDir() bool { return n.entries != nil }

// tree is a model file system: objects by id. It applies operations one by one, and
// records of cuts.
type tree map[uint64]*inode

const rootID = 1

func newTree() tree {
	return tree{rootID: {mode: typeDir | 0o755, xattrs: map[string]string{}, entries: map[string]uint64{}}}
}

func (t tree) clone() tree {
	c := tree{}
	for id, n := range t {
		m := *n
		m.data, m.used = bytes.Clone(n.data), slices.Clone(n.used)
		m.xattrs, m.entries = maps.Clone(n.xattrs), maps.Clone(n.entries)
		c[id] = &m
	}
	return c
}

func (t tree) nlink(id uint64) int {
	links := 0
	for _, n := range t {
		for _, e := range n.entries {
			if e == id {
				links++
			}
		}
	}
	return links
}

// parents gives the directories that have a name for id.
func (t tree) parents(id uint64) []uint64 {
	var ps []uint64
	for p, n := range t {
		for _, e := range n.entries {
			if e == id {
				ps = append(ps, p)
			}
		}
	}
	return ps
}

// isBelow says whether id is top or has a name somewhere below it.
func (t tree) isBelow(id, top uint64) bool {
	return id == top || slices.ContainsFunc(t.parents(id), func(p uint64) bool { return t.isBelow(p, top) })
}

// collect drops what has no name and is not kept.
func (t tree) collect() {
	for again := true; again; {
		again = false
		named := map[uint64]bool{rootID: true}
		for _, n := range t {
			for _, id := range n.entries {
				named[id] = true
			}
		}
		for id, n := range t {
			if !n.kept && !named[id] {
				delete(t, id)
				again = true
			}
		}
	}
}

func (n *inode) resize(size uint64) {
	for uint64(len(n.data)) < size {
		n.data, n.used = append(n.data, 0), append(n.used, false)
	}
	n.data, n.used = n.data[:size], n.used[:size]
}

func (n *inode) put(off uint64, b []byte) {
	if end := off + uint64(len(b)); end > uint64(len(n.data)) {
		n.resize(end)
	}
	copy(n.data[off:], b)
	n.mark(off, uint64(len(b)), true)
}

// mark sets or clears "space is set aside" up to the size.
func (n *inode) mark(off, length uint64, used bool) {
	for i := off; i < min(off+length, uint64(len(n.used))); i++ {
		n.used[i] = used
	}
}

func (n *inode) zero(off, length uint64) {
	for i := off; i < min(off+length, uint64(len(n.data))); i++ {
		n.data[i] = 0
	}
	n.mark(off, length, false)
}

func (n *inode) setAttr(a Attr) {
	if a.Valid&cut.AttrMode != 0 {
		n.mode = n.mode&^0o7777 | a.Mode
	}
	if a.Valid&cut.AttrUID != 0 {
		n.uid = a.UserID
	}
	if a.Valid&cut.AttrGID != 0 {
		n.gid = a.GroupID
	}
	if a.Valid&cut.AttrSize != 0 {
		n.resize(a.Size)
	}
	if a.Valid&cut.AttrAtime != 0 {
		n.atime = a.Atime
	}
	if a.Valid&cut.AttrMtime != 0 {
		n.mtime = a.Mtime
	}
	if a.Valid&cut.AttrCtime != 0 {
		n.ctime = a.Ctime
	}
}

func fresh(mode, uid, gid uint32, rdev uint64, target string) *inode {
	n := &inode{mode: mode, uid: uid, gid: gid, rdev: rdev, target: target, xattrs: map[string]string{}}
	if mode&0o170000 == typeDir {
		n.entries = map[string]uint64{}
	}
	return n
}

// bind changes a name, and tells what is wrong if it was not bound to before.
func (t tree) bind(dir uint64, name string, before, after uint64) error {
	d := t[dir]
	if d == nil || !d.isDir() {
		return fmt.Errorf("no directory %d for %q", dir, name)
	}
	if d.entries[name] != before {
		return fmt.Errorf("(%d, %q) is bound to %d, not to %d", dir, name, d.entries[name], before)
	}
	if after == 0 {
		delete(d.entries, name)
		return nil
	}
	d.entries[name] = after
	return nil
}

// do applies one operation.
func (t tree) do(op *Op) error {
	n := t[op.ID]
	if n == nil && !op.Kind.creates() && op.Kind != Release {
		return fmt.Errorf("%v: no object %d", op.Kind, op.ID)
	}
	var err error
	switch op.Kind {
	case Create, Mkdir, Symlink, Mknod, Tmpfile:
		if n != nil {
			return fmt.Errorf("object %d is there", op.ID)
		}
		n = fresh(op.Mode, op.UserID, op.GroupID, op.Rdev, op.Target)
		t[op.ID] = n
		if op.Kind == Tmpfile {
			n.kept = true
		} else {
			err = t.bind(op.Dir, op.Name, 0, op.ID)
		}
	case Link:
		err = t.bind(op.Dir, op.Name, 0, op.ID)
	case Unlink, Rmdir:
		if len(n.entries) > 0 {
			return fmt.Errorf("directory %d is not empty", op.ID)
		}
		err = t.bind(op.Dir, op.Name, op.ID, 0)
		n.kept = n.kept || op.Keep
	case Rename:
		if t.isBelow(op.Dir2, op.ID) || op.Exchange && t.isBelow(op.Dir, op.Replaced) {
			return fmt.Errorf("rename: directory %d would lie below itself", op.ID)
		}
		back := uint64(0)
		if op.Exchange {
			back = op.Replaced
		} else if g := t[op.Replaced]; g != nil {
			g.kept = g.kept || op.Keep
		}
		if err = t.bind(op.Dir, op.Name, op.ID, back); err == nil {
			err = t.bind(op.Dir2, op.Name2, op.Replaced, op.ID)
		}
	case Write:
		n.put(op.Off, op.Bytes)
	case Truncate:
		n.resize(op.Size)
	case Allocate:
		for _, a := range op.Attrs {
			n.setAttr(a)
		}
		n.mark(op.Off, op.Len, true)
	case Punch:
		n.zero(op.Off, op.Len)
	case SetXattr:
		n.xattrs[op.Name] = string(op.Bytes)
	case RemoveXattr:
		delete(n.xattrs, op.Name)
	case Copy:
		if s := t[op.Source]; s == nil || uint64(len(s.data)) < op.SourceOff+op.Len {
			return fmt.Errorf("copy: no %d bytes at %d of %d", op.Len, op.SourceOff, op.Source)
		}
		n.put(op.Off, bytes.Clone(t[op.Source].data[op.SourceOff:op.SourceOff+op.Len]))
	case Release:
		if n != nil {
			n.kept = false
		}
	}
	if err != nil {
		return fmt.Errorf("%v: %w", op.Kind, err)
	}
	if op.Kind.content() {
		delete(n.xattrs, capability)
	}
	for _, a := range op.Attrs {
		if t[a.ID] == nil {
			return fmt.Errorf("%v: attributes of %d, which is not there", op.Kind, a.ID)
		}
		t[a.ID].setAttr(a)
	}
	if op.Unnames() != 0 || op.Kind == Release {
		t.collect()
	}
	return nil
}

// apply applies the records of a cut as a server does: what it finds must be what
// the cut says was there before.
func (t tree) apply(recs []cut.Record) error {
	created := map[uint64]bool{}
	for _, r := range recs {
		if r.Kind == cut.Create {
			if t[r.ID] != nil {
				return fmt.Errorf("object %d is created twice", r.ID)
			}
			t[r.ID] = fresh(r.Mode, r.UserID, r.GroupID, r.Rdev, r.Target)
			created[r.ID] = true
		}
	}
	for _, r := range recs {
		if r.Kind != cut.Bind && t[r.ID] == nil {
			return fmt.Errorf("record %d: no object %d", r.Kind, r.ID)
		}
		if r.Kind == cut.Truncate && uint64(len(t[r.ID].data)) > r.Size {
			t[r.ID].resize(r.Size)
		}
	}
	// Content lies on a file of its final size.
	for _, r := range recs {
		if r.Kind == cut.Attr && r.Valid&cut.AttrSize != 0 && r.Size > uint64(len(t[r.ID].data)) {
			t[r.ID].resize(r.Size)
		}
	}
	before := t.clone()
	for _, r := range recs {
		n := t[r.ID]
		switch r.Kind {
		case cut.Data, cut.Zero, cut.Allocate, cut.Copy, cut.Truncate:
			delete(n.xattrs, capability)
		}
		switch r.Kind {
		case cut.Data:
			n.put(r.Off, r.Bytes)
		case cut.Zero:
			n.zero(r.Off, r.Len)
		case cut.Allocate:
			n.mark(r.Off, r.Len, true)
		case cut.Copy:
			s := before[r.Source]
			if s == nil || uint64(len(s.data)) < r.SourceOff+r.Len {
				return fmt.Errorf("copy of %d bytes at %d of %d, which are not there", r.Len, r.SourceOff, r.Source)
			}
			n.put(r.Off, s.data[r.SourceOff:r.SourceOff+r.Len])
		}
	}
	slots := map[slot]bool{}
	for _, r := range recs {
		if r.Kind != cut.Bind {
			continue
		}
		if r.ID == r.Before || slots[slot{r.Dir, r.Name}] {
			return fmt.Errorf("useless or second binding of (%d, %q)", r.Dir, r.Name)
		}
		slots[slot{r.Dir, r.Name}] = true
		if r.ID != 0 && t[r.ID] == nil {
			return fmt.Errorf("(%d, %q) is to be bound to %d, which is not there", r.Dir, r.Name, r.ID)
		}
		if err := t.bind(r.Dir, r.Name, r.Before, r.ID); err != nil {
			return err
		}
	}
	set := map[uint64]uint32{}
	for _, r := range recs {
		n := t[r.ID]
		switch r.Kind {
		case cut.Attr:
			if set[r.ID]&r.Valid != 0 {
				return fmt.Errorf("attributes %#x of %d come twice", set[r.ID]&r.Valid, r.ID)
			}
			set[r.ID] |= r.Valid
			n.setAttr(Attr{Valid: r.Valid, Mode: r.Mode, UserID: r.UserID, GroupID: r.GroupID, Size: r.Size,
				Atime: r.Atime, Mtime: r.Mtime, Ctime: r.Ctime})
		case cut.SetXattr:
			n.xattrs[r.Name] = string(r.Bytes)
		case cut.RemoveXattr:
			delete(n.xattrs, r.Name)
		case cut.Keep:
			n.kept = true
		case cut.Release:
			n.kept = false
		}
	}
	for id := range created {
		if t.nlink(id) == 0 {
			t[id].kept = true
		}
	}
	t.collect()
	for id, n := range t {
		if n.isDir() && len(n.entries) > 0 && id != rootID && t.nlink(id) == 0 {
			return fmt.Errorf("directory %d has entries and no name", id)
		}
	}
	return nil
}

// diff tells in what two trees differ; "" if in nothing.
func diff(a, b tree) string {
	for _, id := range sortedSet(append(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b))...)) {
		if a[id] == nil || b[id] == nil {
			return fmt.Sprintf("object %d: %+v, %+v", id, a[id], b[id])
		}
		x, y := *a[id], *b[id]
		// Whether a named file is kept as well does not show.
		x.kept, y.kept = x.kept && a.nlink(id) == 0, y.kept && b.nlink(id) == 0
		if len(x.data) == 0 && len(y.data) == 0 {
			x.data, y.data, x.used, y.used = nil, nil, nil, nil
		}
		if !reflect.DeepEqual(x, y) {
			return fmt.Sprintf("object %d:\n%+v\n%+v", id, x, y)
		}
	}
	return ""
}

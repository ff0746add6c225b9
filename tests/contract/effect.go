package contract

import (
	"maps"
	"slices"
)

// dirMove is the object that renames of directories between directories write.
const dirMove = -1

// effect is an update operation, resolved: what it does to which objects. It can be applied
// to any tree in which it makes sense.
type effect struct {
	step   int // its number in the story, and of the object that it makes
	client int
	verb   string

	id              int // the object made, linked, unlinked, moved or changed
	dir             int
	name            string
	dir2            int
	name2           string
	replaced        int // by a rename; -1: nothing
	exchange, isDir bool
	mode            uint32 // of what is made (with its type), or the new permission bits
	uid, gid        uint32
	off, size       int64
	data            []byte
	target          string
	value           string
	keepSize        bool
	mtime           int64
	strip           bool // setuid and setgid go

	// writes are the objects that it writes; reads those that it reads; below those
	// below a directory that is moved, which may have pending operations, and held those which certainly had: what is done to one
	// of these later comes after the move (history.hold).
	writes, reads, below, held []int
	// shows, of a symlink in causal order, are what it leads to and what is below that: as far as something is pending
	// there, it comes after that, and goes with it.
	shows []int

	// after holds the effects of the same client that precede it.
	after map[*effect]bool
	// there: it is known to be at the server. lost: it will never be.
	there, lost bool
}

// marker says whether the effect does nothing but order others.
func (e *effect) marker() bool { return e.verb == "barrier" }

// content says whether it changes what a file contains.
func (e *effect) content() bool {
	switch e.verb {
	case "write", "truncate", "alloc", "zero":
		return true
	}
	return false
}

// makes says whether it brings an object into being.
func (e *effect) makes() bool { return e.verb == "make" }

// slot is a name in a directory.
type slot struct {
	dir  int
	name string
}

func (e *effect) slots() []slot {
	switch e.verb {
	case "make", "link", "unlink", "rmdir":
		return []slot{{e.dir, e.name}}
	case "rename":
		return []slot{{e.dir, e.name}, {e.dir2, e.name2}}
	}
	return nil
}

// operands fills in writes, by the table in docs/semantics.md.
func (e *effect) operands() {
	w := []int{e.id}
	switch e.verb {
	case "make", "link", "unlink", "rmdir":
		w = append(w, e.dir)
	case "rename":
		w = append(w, e.dir, e.dir2)
		if e.replaced >= 0 {
			w = append(w, e.replaced)
		}
		if e.isDir && e.dir != e.dir2 {
			w = append(w, dirMove)
		}
	}
	slices.Sort(w)
	e.writes = slices.Compact(w)
}

func meet(a, b []int) bool {
	return slices.ContainsFunc(a, func(x int) bool { return slices.Contains(b, x) })
}

// apply does it; false: it makes no sense here, and nothing is changed.
func (t tree) apply(e *effect) bool {
	if e.marker() {
		return true
	}
	o, d := t[e.id], t[e.dir]
	if e.makes() {
		if d == nil || d.nlink == 0 {
			return false
		}
		if _, taken := d.names[e.name]; taken {
			return false
		}
		o = &inode{id: e.id, mode: e.mode, uid: e.uid, gid: e.gid, nlink: 1, target: e.target}
		if o.isDir() {
			o.nlink, o.names, o.parent = 2, map[string]int{}, d.id
			d.nlink++
		}
		t[e.id] = o
		d.names[e.name] = e.id
		d.mtime = 0
		return true
	}
	if o == nil {
		return false
	}
	switch e.verb {
	case "link":
		if _, taken := d.names[e.name]; taken || d.nlink == 0 {
			return false
		}
		d.names[e.name] = e.id
		o.nlink++
		d.mtime = 0
	case "unlink", "rmdir":
		if id, bound := d.names[e.name]; !bound || id != e.id || o.isDir() && len(o.names) > 0 {
			return false
		}
		delete(d.names, e.name)
		t.unnamed(o, d)
		d.mtime = 0
	case "rename":
		return t.rename(e)
	case "write":
		o.content = grow(slices.Clone(o.content), e.off+int64(len(e.data)))
		copy(o.content[e.off:], e.data)
		o.mtime = 0
	case "truncate":
		o.content = grow(slices.Clone(o.content), e.size)[:e.size]
		o.mtime = 0
	case "alloc", "zero":
		c := slices.Clone(o.content)
		if !e.keepSize {
			c = grow(c, e.off+e.size)
		}
		if end := min(e.off+e.size, int64(len(c))); e.verb == "zero" && e.off < end {
			clear(c[e.off:end])
		}
		o.content = c
		o.mtime = 0
	case "chmod":
		o.mode = o.mode&typeMask | e.mode
	case "chown":
		o.uid, o.gid = e.uid, e.gid
	case "utime":
		o.mtime = e.mtime
	case "setxattr":
		if o.xattrs = maps.Clone(o.xattrs); o.xattrs == nil {
			o.xattrs = map[string]string{}
		}
		o.xattrs[e.name] = e.value
	case "rmxattr":
		o.xattrs = maps.Clone(o.xattrs)
		delete(o.xattrs, e.name)
	default:
		panic("contract: unknown effect " + e.verb)
	}
	if e.strip {
		o.mode = stripped(o.mode)
	}
	return true
}

// unnamed takes a name in d from o.
func (t tree) unnamed(o, d *inode) {
	if o.isDir() {
		d.nlink--
		o.nlink = 0
		return
	}
	o.nlink--
}

func (t tree) rename(e *effect) bool {
	o, d1, d2 := t[e.id], t[e.dir], t[e.dir2]
	if id, bound := d1.names[e.name]; !bound || id != e.id || d2.nlink == 0 {
		return false
	}
	id2, bound := d2.names[e.name2]
	if bound != (e.replaced >= 0) || bound && id2 != e.replaced {
		return false
	}
	if o.isDir() && t.isBelow(d2.id, o.id) {
		return false
	}
	delete(d1.names, e.name)
	if bound {
		r := t[e.replaced]
		switch {
		case e.exchange:
			if r.isDir() && t.isBelow(d1.id, r.id) {
				d1.names[e.name] = e.id
				return false
			}
			d1.names[e.name] = r.id
			t.moved(r, d2, d1)
		case r.isDir() && len(r.names) > 0:
			d1.names[e.name] = e.id
			return false
		default:
			t.unnamed(r, d2)
		}
	}
	d2.names[e.name2] = e.id
	t.moved(o, d1, d2)
	d1.mtime, d2.mtime = 0, 0
	return true
}

func (t tree) moved(o, from, to *inode) {
	if o.isDir() && from != to {
		from.nlink--
		to.nlink++
		o.parent = to.id
	}
}

// isBelow says whether directory id is dir or lies below it.
func (t tree) isBelow(id, dir int) bool {
	for {
		if id == dir {
			return true
		}
		if id == rootID {
			return false
		}
		id = t[id].parent
	}
}

// under gives the objects below a directory.
func (t tree) under(dir int) []int {
	var ids []int
	for _, id := range t[dir].names {
		ids = append(ids, id)
		if t[id].isDir() {
			ids = append(ids, t.under(id)...)
		}
	}
	return ids
}

func grow(p []byte, size int64) []byte {
	if int64(len(p)) < size {
		p = append(p, make([]byte, size-int64(len(p)))...)
	}
	return p
}

// stripped is a mode after somebody without privilege has changed the content.
func stripped(mode uint32) uint32 {
	mode &^= setuid
	if mode&0o010 != 0 {
		mode &^= setgid
	}
	return mode
}

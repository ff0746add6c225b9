package contract

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// Types and special bits of a mode, as in st_mode.
const (
	typeMask = 0o170000
	typeFifo = 0o010000
	typeDir  = 0o040000
	typeReg  = 0o100000
	typeLink = 0o120000
	setuid   = 0o4000
	setgid   = 0o2000
	sticky   = 0o1000
)

// rootID is the root's number. Other objects have the number of the step that made them.
const rootID = 0

// inode is an object of the model.
type inode struct {
	id       int
	mode     uint32 // type and permission bits
	uid, gid uint32
	nlink    int
	content  []byte
	target   string
	names    map[string]int // of a directory
	parent   int            // of a directory
	xattrs   map[string]string
	mtime    int64 // as a program set it; 0 when something else changed it since
}

func (i *inode) isDir() bool { return i.mode&typeMask == typeDir }
func (i *inode) isReg() bool { return i.mode&typeMask == typeReg }

// tree is a whole file system.
type tree map[int]*inode

// newTree is an empty file system that everybody may write to.
func newTree() tree {
	return tree{rootID: {id: rootID, mode: typeDir | 0o777, nlink: 2, names: map[string]int{}, parent: rootID}}
}

// clone gives a copy that shares nothing that apply changes in place.
func (t tree) clone() tree {
	c := make(tree, len(t))
	for id, i := range t {
		n := *i
		n.names = maps.Clone(i.names)
		n.xattrs = maps.Clone(i.xattrs)
		c[id] = &n
	}
	return c
}

// entry is what can be seen of one name.
type entry struct {
	what  string
	mtime int64 // 0: not known
}

// listing maps all paths to what can be seen there.
func (t tree) listing() map[string]entry {
	out := map[string]entry{}
	first := map[int]string{}
	var visit func(id int, path string)
	visit = func(id int, path string) {
		i := t[id]
		out[path] = entry{i.describe(first, path), i.mtime}
		if !i.isDir() {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(i.names)) {
			visit(i.names[name], strings.TrimPrefix(path+"/"+name, "./"))
		}
	}
	visit(rootID, ".")
	return out
}

// describe tells all that is compared of an object, but for times.
func (i *inode) describe(first map[int]string, path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%06o %d:%d", i.mode, i.uid, i.gid)
	if !i.isDir() {
		fmt.Fprintf(&b, " links=%d", i.nlink)
		if f, ok := first[i.id]; ok {
			fmt.Fprintf(&b, " same as %s", f)
		} else {
			first[i.id] = path
		}
	}
	switch i.mode & typeMask {
	case typeReg:
		fmt.Fprintf(&b, " %q", short(i.content))
	case typeLink:
		fmt.Fprintf(&b, " -> %q", i.target)
	}
	for _, n := range slices.Sorted(maps.Keys(i.xattrs)) {
		fmt.Fprintf(&b, " %s=%q", n, i.xattrs[n])
	}
	return b.String()
}

// short writes runs of one byte as the byte and its number.
func short(p []byte) string {
	var b strings.Builder
	for i := 0; i < len(p); {
		n := 1
		for i+n < len(p) && p[i+n] == p[i] {
			n++
		}
		if b.WriteByte(p[i]); n > 3 {
			fmt.Fprintf(&b, "×%d ", n)
		} else {
			b.WriteString(strings.Repeat(string(p[i:i+1]), n-1))
		}
		i += n
	}
	return b.String()
}

// differ tells how what is there differs from what should be; "" when it does not.
func differ(have, want map[string]entry) string {
	var lines []string
	for path, w := range want {
		h, ok := have[path]
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s is not there; want %s", path, w.what))
		case h.what != w.what:
			lines = append(lines, fmt.Sprintf("%s is %s; want %s", path, h.what, w.what))
		case w.mtime != 0 && h.mtime != w.mtime:
			lines = append(lines, fmt.Sprintf("%s was modified at %d; want %d", path, h.mtime, w.mtime))
		}
	}
	for path, h := range have {
		if _, ok := want[path]; !ok {
			lines = append(lines, fmt.Sprintf("%s is there: %s", path, h.what))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// same says whether differ is "", quickly.
func same(have, want map[string]entry) bool {
	if len(have) != len(want) {
		return false
	}
	for path, w := range want {
		if h, ok := have[path]; !ok || h.what != w.what || w.mtime != 0 && h.mtime != w.mtime {
			return false
		}
	}
	return true
}

package journal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"echo9/internal/cut"
)

const (
	second = int64(1e9)
	rootID = 1 // of a tree; its inode is that, too
	tmpIno = 2 // the private directory
)

// inode is one of a host in memory.
type inode struct {
	typ, mode uint32
	data      string
	ctime     int64
	names     map[string]int
}

// hostTree is a file system in memory. Inode numbers are never used again.
type hostTree struct {
	in   map[int]*inode
	next int
	now  int64
}

func newHost() *hostTree {
	h := &hostTree{in: map[int]*inode{}, next: tmpIno + 1, now: 1000 * second}
	for _, ino := range []int{rootID, tmpIno} {
		h.in[ino] = &inode{typ: typeDir, mode: 0o755, names: map[string]int{}, ctime: h.now}
	}
	return h
}

func (h *hostTree) clone() *hostTree {
	c := &hostTree{in: map[int]*inode{}, next: h.next, now: h.now}
	for ino, i := range h.in {
		d := *i
		d.names = maps.Clone(i.names)
		c.in[ino] = &d
	}
	return c
}

func (h *hostTree) make(typ, mode uint32) int {
	h.next++
	h.in[h.next] = &inode{typ: typ, mode: mode, names: map[string]int{}, ctime: h.now}
	return h.next
}

func (h *hostTree) touch(inos ...int) {
	for _, i := range inos {
		if n := h.in[i]; n != nil {
			n.ctime = h.now
		}
	}
}

func (h *hostTree) set(dir int, name string, ino int) {
	old := h.in[dir].names[name]
	if ino == 0 {
		delete(h.in[dir].names, name)
	} else {
		h.in[dir].names[name] = ino
	}
	h.touch(dir, ino, old)
}

// sweep removes inodes without a name.
func (h *hostTree) sweep() {
	seen := map[int]bool{}
	var walk func(ino int)
	walk = func(ino int) {
		if seen[ino] {
			return
		}
		seen[ino] = true
		for _, c := range h.in[ino].names {
			walk(c)
		}
	}
	walk(rootID)
	walk(tmpIno)
	maps.DeleteFunc(h.in, func(ino int, _ *inode) bool { return !seen[ino] })
}

// below says whether directory d is a or lies below it.
func (h *hostTree) below(d, a int) bool {
	if d == a {
		return true
	}
	for _, c := range h.in[a].names {
		if h.in[c].typ == typeDir && h.below(d, c) {
			return true
		}
	}
	return false
}

// rename is renameat2: without replacing, or an exchange.
func (h *hostTree) rename(d1 int, n1 string, d2 int, n2 string, exchange bool) bool {
	a, b := h.in[d1].names[n1], h.in[d2].names[n2]
	if exchange != (b != 0) {
		panic(fmt.Sprintf("rename %d/%s to %d/%s: %d, %d", d1, n1, d2, n2, a, b))
	}
	if h.in[a].typ == typeDir && h.below(d2, a) || b != 0 && h.in[b].typ == typeDir && h.below(d1, b) {
		return false
	}
	h.set(d1, n1, b)
	h.set(d2, n2, a)
	return true
}

// object is one of the tree as clients see it.
type object struct {
	typ, mode uint32
	data      string
	names     map[string]uint64
}

// tree is what clients see, by id.
type tree map[uint64]*object

func (t tree) clone() tree {
	c := tree{}
	for id, o := range t {
		d := *o
		d.names = maps.Clone(o.names)
		c[id] = &d
	}
	return c
}

// sweep removes what has no name.
func (t tree) sweep() {
	seen := map[uint64]bool{}
	var walk func(id uint64)
	walk = func(id uint64) {
		if !seen[id] {
			seen[id] = true
			for _, c := range t[id].names {
				walk(c)
			}
		}
	}
	walk(rootID)
	maps.DeleteFunc(t, func(id uint64, _ *object) bool { return !seen[id] })
}

func (t tree) below(d, a uint64) bool {
	if d == a {
		return true
	}
	for _, c := range t[a].names {
		if t[c].typ == typeDir && t.below(d, c) {
			return true
		}
	}
	return false
}

// sortedIDs makes random choices repeatable.
func (t tree) sortedIDs(typ uint32) []uint64 {
	var out []uint64
	for id, o := range t {
		if o.typ == typ {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (t tree) slots() []SlotKey {
	var out []SlotKey
	for id, o := range t {
		for name := range o.names {
			out = append(out, SlotKey{id, name})
		}
	}
	slices.SortFunc(out, func(a, b SlotKey) int {
		if a.Dir != b.Dir {
			return int(a.Dir) - int(b.Dir)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

func (t tree) namesOf(id uint64) []SlotKey {
	return slices.DeleteFunc(t.slots(), func(k SlotKey) bool { return t[k.Dir].names[k.Name] != id })
}

var names = []string{"a", "b", "c"}

// pick gives one of a list, or the zero value of an empty one.
func pick[T any](r *rand.Rand, list []T) (v T) {
	if len(list) > 0 {
		v = list[r.IntN(len(list))]
	}
	return v
}

// change makes one random change, and says whether it did.
func (t tree) change(r *rand.Rand, fresh func() uint64) bool {
	dir := pick(r, t.sortedIDs(typeDir))
	name := pick(r, names)
	at := t[dir].names[name]
	from := pick(r, t.slots())
	switch r.IntN(9) {
	case 0, 1:
		if at != 0 {
			return false
		}
		id := fresh()
		t[id] = &object{typ: typeFile, mode: 0o600, names: map[string]uint64{}, data: pick(r, []string{"", "x", "xyz"})}
		t[dir].names[name] = id
	case 2:
		if at != 0 {
			return false
		}
		id := fresh()
		t[id] = &object{typ: typeDir, mode: 0o700, names: map[string]uint64{}}
		t[dir].names[name] = id
	case 3: // link
		f := pick(r, t.sortedIDs(typeFile))
		if at != 0 || f == 0 {
			return false
		}
		t[dir].names[name] = f
	case 4: // unlink, rmdir
		if at == 0 || len(t[at].names) > 0 {
			return false
		}
		delete(t[dir].names, name)
	case 5, 6: // rename, also over something
		if from.Name == "" || (from == SlotKey{dir, name}) {
			return false
		}
		f := t[from.Dir].names[from.Name]
		if t[f].typ == typeDir && t.below(dir, f) || at == f {
			return false
		}
		if at != 0 && (t[at].typ != t[f].typ || len(t[at].names) > 0) {
			return false
		}
		delete(t[from.Dir].names, from.Name)
		t[dir].names[name] = f
	case 7: // exchange
		if from.Name == "" || at == 0 {
			return false
		}
		f := t[from.Dir].names[from.Name]
		if f == at || t[f].typ == typeDir && t.below(dir, f) || t[at].typ == typeDir && t.below(from.Dir, at) {
			return false
		}
		t[from.Dir].names[from.Name], t[dir].names[name] = at, f
	case 8: // content, mode
		f := pick(r, t.sortedIDs(typeFile))
		if f == 0 {
			return false
		}
		o := t[f]
		switch r.IntN(4) {
		case 0:
			o.mode = o.mode ^ 0o044
		case 1:
			o.data += pick(r, []string{"1", "23"})
		case 2:
			o.data = o.data[:r.IntN(len(o.data)+1)]
		default:
			o.data = pick(r, []string{"new", "N", ""})
		}
	}
	t.sweep()
	return true
}

// diff gives the net effect that makes t of before.
func (t tree) diff(r *rand.Rand, before tree) []cut.Record {
	var out []cut.Record
	both := map[uint64]bool{}
	for id := range t {
		both[id] = true
	}
	for id := range before {
		both[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(both)) {
		o, was := t[id], before[id]
		if o != nil && was == nil {
			out = append(out, cut.Record{Kind: cut.Create, ID: id, Mode: o.typ | o.mode})
			if o.data != "" {
				out = append(out, cut.Record{Kind: cut.Data, ID: id, Bytes: []byte(o.data)},
					cut.Record{Kind: cut.Attr, ID: id, Valid: cut.AttrSize, Size: uint64(len(o.data))})
			}
			was = &object{typ: o.typ, mode: o.mode, data: o.data}
		}
		if o == nil {
			o = &object{typ: was.typ, mode: was.mode, data: was.data}
		}
		if o.mode != was.mode {
			out = append(out, cut.Record{Kind: cut.Attr, ID: id, Valid: cut.AttrMode, Mode: o.mode})
		}
		if o.data != was.data {
			out = append(out, contentDiff(r, id, was.data, o.data)...)
		}
		for _, name := range names {
			if a, b := was.names[name], o.names[name]; a != b {
				out = append(out, cut.Record{Kind: cut.Bind, Dir: id, Name: name, ID: b, Before: a})
			}
		}
	}
	return out
}

func contentDiff(r *rand.Rand, id uint64, was, now string) []cut.Record {
	common := 0
	for common < min(len(was), len(now)) && was[common] == now[common] {
		common++
	}
	var out []cut.Record
	if r.IntN(2) == 0 || len(now) < len(was) {
		out = append(out, cut.Record{Kind: cut.Truncate, ID: id, Size: uint64(common)})
	}
	if common < len(now) {
		out = append(out, cut.Record{Kind: cut.Data, ID: id, Off: uint64(common), Bytes: []byte(now[common:])})
	}
	return append(out, cut.Record{Kind: cut.Attr, ID: id, Valid: cut.AttrSize, Size: uint64(len(now))})
}

// lay does a content record on a string.
func lay(data string, r *cut.Record) string {
	b := []byte(data)
	grow := func(n int) {
		for len(b) < n {
			b = append(b, 0)
		}
	}
	switch r.Kind {
	case cut.Truncate:
		b = b[:min(len(b), int(r.Size))]
	case cut.Data:
		grow(int(r.Off) + len(r.Bytes))
		copy(b[r.Off:], r.Bytes)
	case cut.Zero:
		grow(int(r.Off + r.Len))
		clear(b[r.Off : r.Off+r.Len])
	case cut.Attr:
		grow(int(r.Size))
		b = b[:r.Size]
	}
	return string(b)
}

// compare says where a host's tree is not the one that clients should see.
func compare(h *hostTree, t tree) error {
	inoOf, idOf := map[uint64]int{}, map[int]uint64{}
	var walk func(path string, ino int, id uint64) error
	walk = func(path string, ino int, id uint64) error {
		if i, ok := inoOf[id]; ok && i != ino {
			return fmt.Errorf("%s: object %d is two inodes", path, id)
		}
		if d, ok := idOf[ino]; ok && d != id {
			return fmt.Errorf("%s: inode %d is two objects, %d and %d", path, ino, d, id)
		}
		inoOf[id], idOf[ino] = ino, id
		i, o := h.in[ino], t[id]
		if i.typ != o.typ || i.data != o.data || i.mode != o.mode {
			return fmt.Errorf("%s: %o %q %o, should be %o %q %o", path, i.typ, i.data, i.mode, o.typ, o.data, o.mode)
		}
		all := maps.Clone(o.names)
		for name := range i.names {
			if all == nil || all[name] == 0 {
				return fmt.Errorf("%s/%s should not be there", path, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			c, ok := i.names[name]
			if !ok {
				return fmt.Errorf("%s/%s is missing", path, name)
			}
			if err := walk(path+"/"+name, c, o.names[name]); err != nil {
				return err
			}
		}
		return nil
	}
	return walk("", rootID, rootID)
}

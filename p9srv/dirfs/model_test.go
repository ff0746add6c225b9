package dirfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"echo9/internal/cut"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// model is a tree in memory, to say what a cut must lead to.
type model struct {
	objs   map[uint64]*mobj
	nextID func() uint64
}

type mobj struct {
	id      uint64
	mode    uint32
	uid     uint32
	gid     uint32
	data    []byte
	target  string
	xattrs  map[string]string
	mtime   int64
	entries map[string]uint64
	open    bool
	base    bool // was there before the cut
}

func (o *mobj) dir() bool { return o.mode&unix.S_IFMT == unix.S_IFDIR }

func (m *model) clone() *model {
	c := &model{objs: map[uint64]*mobj{}, nextID: m.nextID}
	for id, o := range m.objs {
		p := *o
		p.data = bytes.Clone(o.data)
		p.xattrs, p.entries = maps.Clone(o.xattrs), maps.Clone(o.entries)
		p.base = true
		c.objs[id] = &p
	}
	return c
}

// sorted ids, so that a seed gives the same run again.
func (m *model) ids(ok func(*mobj) bool) []uint64 {
	var out []uint64
	for id, o := range m.objs {
		if ok(o) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (m *model) linked() map[uint64]int {
	n := map[uint64]int{}
	for _, o := range m.objs {
		for _, id := range o.entries {
			n[id]++
		}
	}
	return n
}

// below says whether directory d lies in or is top.
func (m *model) below(d, top uint64) bool {
	if d == top {
		return true
	}
	for _, id := range m.objs[top].entries {
		if m.objs[id].dir() && m.below(d, id) {
			return true
		}
	}
	return false
}

// dirModes are those of new directories. An ordinary user cannot write to a directory of mode
// 0555 in the next cut.
var dirModes = func() []uint32 {
	if os.Getuid() == 0 {
		return []uint32{0o755, 0o700, 0o555}
	}
	return []uint32{0o755, 0o700}
}()

// specials are the special files that can be made: devices by root only.
var specials = func() []uint32 {
	if os.Getuid() == 0 {
		return []uint32{unix.S_IFIFO | 0o640, unix.S_IFCHR | 0o600}
	}
	return []uint32{unix.S_IFIFO | 0o640}
}()

func (o *mobj) rdev() uint64 {
	if o.mode&unix.S_IFMT == unix.S_IFCHR {
		return unix.Mkdev(1, 3)
	}
	return 0
}

const aclName = "system.posix_acl_access"

// aclBytes is an ACL that names a user, as Linux keeps it; its owner, mask and others are
// the mode's, see aclFollowsMode.
func aclBytes(user, group uint16) string {
	const nobody = 1<<32 - 1
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 0, nobody}, {2, user, 77}, {4, group, nobody}, {0x10, 0, nobody}, {0x20, 0, nobody}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return string(b)
}

// aclFollowsMode gives the ACL, if there is one, what a change of mode does.
func (o *mobj) aclFollowsMode() {
	acl := []byte(o.xattrs[aclName])
	if len(acl) == 0 {
		return
	}
	for at, shift := range map[int]int{0: 6, 3: 3, 4: 0} {
		acl[4+8*at+2] = byte(o.mode >> shift & 7)
	}
	o.xattrs[aclName] = string(acl)
}

var modelNames = []string{"a", "b", "c", "d"}

// dice make choices: from a test library that shrinks failures, or from a seed.
type dice interface{ roll(sides int) int }

type rapidDice struct{ t *rapid.T }

func (d rapidDice) roll(sides int) int { return rapid.IntRange(0, sides-1).Draw(d.t, "roll") }

func oneOf[T any](d dice, all []T) T { return all[d.roll(len(all))] }

func flip(d dice) bool { return d.roll(2) == 1 }

// someBytes gives least to most bytes that are not zero, or some that are.
func someBytes(d dice, least, most int) []byte {
	b := make([]byte, least+d.roll(most-least+1))
	first := d.roll(200)
	for i := range b {
		b[i] = byte(first + i)
	}
	return b
}

// step does one random operation; what is not possible is left out.
func (m *model) step(t dice, root uint64, clock *int64) {
	inTree := func(o *mobj) bool { return o.dir() && m.below(o.id, root) }
	dirs := m.ids(inTree)
	d := m.objs[oneOf(t, dirs)]
	name := oneOf(t, modelNames)
	at, bound := d.entries[name]
	*clock += 1e9
	files := m.ids(func(o *mobj) bool { return o.mode&unix.S_IFMT == unix.S_IFREG })
	file := func() *mobj {
		if bound && m.objs[at].mode&unix.S_IFMT == unix.S_IFREG {
			return m.objs[at]
		}
		if len(files) == 0 {
			return nil
		}
		return m.objs[oneOf(t, files)]
	}
	put := func(mode uint32) *mobj {
		o := &mobj{id: m.nextID(), mode: mode, uid: m.objs[root].uid, gid: m.objs[root].gid, mtime: *clock, xattrs: map[string]string{}, entries: map[string]uint64{}}
		m.objs[o.id] = o
		d.entries[name], d.mtime = o.id, *clock
		return o
	}
	switch oneOf(t, []string{
		"create", "create", "mkdir", "mkdir", "symlink", "special", "unlink", "unlink", "rename", "rename", "rename", "rename",
		"exchange", "link", "write", "write", "truncate", "punch", "chmod", "chown", "xattr", "acl", "nameless", "replace",
	}) {
	case "create":
		if !bound {
			o := put(unix.S_IFREG | oneOf(t, []uint32{0o644, 0o600, 0o444, 0o4755}))
			o.data = someBytes(t, 0, 20)
		}
	case "mkdir":
		if !bound {
			put(unix.S_IFDIR | oneOf(t, dirModes))
		}
	case "symlink":
		if !bound {
			put(unix.S_IFLNK | 0o777).target = "../somewhere"
		}
	case "special":
		if !bound {
			put(oneOf(t, specials))
		}
	case "replace":
		// An editor's save: a new file takes the name of an old one.
		if o := file(); o != nil && bound && at == o.id {
			put(o.mode).data = someBytes(t, 0, 20)
		}
	case "nameless":
		o := put(unix.S_IFREG | 0o600)
		delete(d.entries, name)
		if bound {
			d.entries[name] = at
		}
		o.open, o.data = true, []byte("nameless")
	case "unlink":
		if bound && (!m.objs[at].dir() || len(m.objs[at].entries) == 0) {
			delete(d.entries, name)
			d.mtime = *clock
			// What a session has once kept stays kept until it says otherwise.
			m.objs[at].open = m.objs[at].open || flip(t) && m.linked()[at] == 0
		}
	case "rename", "exchange":
		if !bound {
			return
		}
		o := m.objs[at]
		d2 := m.objs[oneOf(t, dirs)]
		name2 := oneOf(t, modelNames)
		at2, bound2 := d2.entries[name2]
		if o.dir() && m.below(d2.id, o.id) || bound2 && m.objs[at2].dir() && m.below(d.id, at2) && d.id != at2 {
			return
		}
		if bound2 && m.objs[at2].dir() && m.below(d.id, at2) {
			return
		}
		if bound2 && flip(t) {
			d.entries[name], d2.entries[name2] = at2, at
		} else {
			if bound2 && (at2 == at || m.objs[at2].dir() != o.dir() || len(m.objs[at2].entries) > 0) {
				return
			}
			delete(d.entries, name)
			d2.entries[name2] = at
		}
		d.mtime, d2.mtime = *clock, *clock
	case "link":
		if o := file(); o != nil && !bound {
			d.entries[name], d.mtime = o.id, *clock
		}
	case "write":
		if o := file(); o != nil {
			off := t.roll(31)
			p := someBytes(t, 1, 20)
			for len(o.data) < off+len(p) {
				o.data = append(o.data, 0)
			}
			copy(o.data[off:], p)
			o.mtime = *clock
		}
	case "truncate":
		if o := file(); o != nil {
			o.data = o.data[:t.roll(len(o.data)+1)]
			o.mtime = *clock
		}
	case "punch":
		if o := file(); o != nil && len(o.data) > 2 {
			clear(o.data[1 : len(o.data)-1])
			o.mtime = *clock
		}
	case "chmod":
		o := m.objs[oneOf(t, m.ids(func(o *mobj) bool { return o.mode&unix.S_IFMT != unix.S_IFLNK }))]
		o.mode = o.mode&unix.S_IFMT | oneOf(t, []uint32{0o755, 0o700, 0o644, 0o400})
		if o.dir() {
			o.mode |= 0o700
		}
		o.aclFollowsMode()
	case "acl":
		if o := file(); o != nil {
			if _, has := o.xattrs[aclName]; has && flip(t) {
				// What was the mask is the group's then.
				delete(o.xattrs, aclName)
				break
			}
			o.xattrs[aclName] = aclBytes(uint16(t.roll(8)), uint16(t.roll(8)))
			o.aclFollowsMode()
		}
	case "chown":
		if os.Getuid() == 0 {
			o := m.objs[oneOf(t, append(m.ids(func(o *mobj) bool { return o.id != root }), root))]
			o.uid = 77 - o.uid
			if flip(t) {
				o.gid = 88 - o.gid
			}
		}
	case "xattr":
		if o := file(); o != nil {
			key := oneOf(t, []string{"user.x", "user.y"})
			if flip(t) {
				delete(o.xattrs, key)
			} else {
				o.xattrs[key] = string(someBytes(t, 0, 5))
			}
		}
	}
}

// diff gives the cut that leads from old to m.
func (m *model) diff(old *model, uid uint32) []cut.Record {
	var out []cut.Record
	before, after := old.linked(), m.linked()
	// What has no name and is not open goes, and everything about it.
	for _, id := range m.ids(func(*mobj) bool { return true }) {
		o, was := m.objs[id], old.objs[id]
		alive := after[id] > 0 || o.open || before[id] == 0 && was != nil || id == rootID(old)
		if was == nil && after[id] == 0 && !o.open || !alive && was != nil {
			if was == nil {
				delete(m.objs, id)
				continue
			}
		}
		if was != nil && !alive {
			for name := range was.entries {
				if _, ok := o.entries[name]; !ok {
					out = append(out, cut.Record{Kind: cut.Bind, UID: uid, Dir: id, Name: name, Before: was.entries[name]})
				}
			}
			delete(m.objs, id)
			continue
		}
		if was == nil {
			out = append(out, cut.Record{Kind: cut.Create, UID: uid, ID: id, Mode: o.mode, UserID: o.uid, GroupID: o.gid, Target: o.target, Rdev: o.rdev()})
			was = &mobj{mode: o.mode, uid: o.uid, gid: o.gid}
		} else if before[id] > 0 && after[id] == 0 && o.open {
			out = append(out, cut.Record{Kind: cut.Keep, UID: uid, ID: id})
		}
		out = append(out, o.diffContent(was, uid)...)
		attr := cut.Record{Kind: cut.Attr, UID: uid, ID: id}
		if o.mode != was.mode {
			attr.Valid, attr.Mode = cut.AttrMode, o.mode&0o7777
		}
		if o.mode&unix.S_IFMT == unix.S_IFREG && len(o.data) != len(was.data) {
			attr.Valid |= cut.AttrSize
			attr.Size = uint64(len(o.data))
		}
		if o.mtime != was.mtime {
			attr.Valid |= cut.AttrMtime
			attr.Mtime = o.mtime
		}
		if o.uid != was.uid {
			attr.Valid |= cut.AttrUID
			attr.UserID = o.uid
		}
		if o.gid != was.gid {
			attr.Valid |= cut.AttrGID
			attr.GroupID = o.gid
		}
		if attr.Valid != 0 {
			out = append(out, attr)
		}
		for _, k := range []string{"user.x", "user.y", aclName} {
			v, has := o.xattrs[k]
			w, had := was.xattrs[k]
			if has && (!had || v != w) {
				out = append(out, cut.Record{Kind: cut.SetXattr, UID: uid, ID: id, Name: k, Bytes: []byte(v)})
			} else if had && !has {
				out = append(out, cut.Record{Kind: cut.RemoveXattr, UID: uid, ID: id, Name: k})
			}
		}
		for _, name := range modelNames {
			if o.entries[name] != was.entries[name] {
				out = append(out, cut.Record{Kind: cut.Bind, UID: uid, Dir: id, Name: name, Before: was.entries[name], ID: o.entries[name]})
			}
		}
	}
	return out
}

func rootID(m *model) uint64 {
	for id, o := range m.objs {
		if o.target == "root" {
			return id
		}
	}
	return 0
}

// diffContent gives records that lead from one content to another, in one of several ways.
func (o *mobj) diffContent(was *mobj, uid uint32) []cut.Record {
	if bytes.Equal(o.data, was.data) || o.mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	var out []cut.Record
	low := 0
	for low < min(len(o.data), len(was.data)) && o.data[low] == was.data[low] {
		low++
	}
	if len(was.data) > 0 {
		out = append(out, cut.Record{Kind: cut.Truncate, UID: uid, ID: o.id, Size: uint64(low)})
	}
	rest := o.data[low:]
	if len(rest) > 0 && bytes.Count(rest, []byte{0}) == len(rest) {
		return append(out, cut.Record{Kind: cut.Zero, UID: uid, ID: o.id, Off: uint64(low), Len: uint64(len(rest))})
	}
	if len(rest) > 0 {
		out = append(out,
			cut.Record{Kind: cut.Allocate, UID: uid, ID: o.id, Len: uint64(len(o.data))},
			cut.Record{Kind: cut.Data, UID: uid, ID: o.id, Off: uint64(low), Bytes: rest})
	}
	return out
}

// snapshot tells everything about a tree on the host, as text.
func snapshot(t interface{ Fatal(...any) }, dir string, withIno bool) string {
	var b strings.Builder
	var walk func(path, rel string)
	walk = func(path, rel string) {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, statMask, &st); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s mode %o uid %d gid %d", rel, st.Mode, st.Uid, st.Gid)
		typ := uint32(st.Mode) & unix.S_IFMT
		if typ != unix.S_IFDIR {
			fmt.Fprintf(&b, " nlink %d", st.Nlink)
		}
		if withIno {
			fmt.Fprintf(&b, " ino %d", st.Ino)
		}
		if rel != "/" && !strings.HasPrefix(rel, "/.echo9") {
			fmt.Fprintf(&b, " mtime %d", nanos(st.Mtime))
		}
		if names, err := listXattr(path); err == nil && typ != unix.S_IFLNK {
			slices.Sort(names)
			for _, n := range names {
				if strings.HasPrefix(n, "trusted.SGI_ACL_") {
					continue // XFS shows ACLs twice
				}
				v, _ := getXattr(path, n)
				fmt.Fprintf(&b, " %s=%q", n, v)
			}
		}
		switch typ {
		case unix.S_IFREG:
			if strings.HasPrefix(rel, "/.echo9/") && !strings.HasPrefix(rel, "/.echo9/orphans/") {
				break // the server's own books
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " data %q", data)
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&b, " -> %s", target)
		case unix.S_IFCHR:
			fmt.Fprintf(&b, " device %d:%d", st.Rdev_major, st.Rdev_minor)
		}
		b.WriteByte('\n')
		if typ == unix.S_IFDIR {
			entries, err := os.ReadDir(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if rel == "/" && e.Name() == ".echo9" {
					continue
				}
				walk(filepath.Join(path, e.Name()), filepath.Join(rel, e.Name()))
			}
		}
	}
	walk(dir, "/")
	for _, private := range []string{"tmp", "orphans"} {
		entries, err := os.ReadDir(filepath.Join(dir, ".echo9", private))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			walk(filepath.Join(dir, ".echo9", private, e.Name()), "/.echo9/"+private+"/"+e.Name())
		}
	}
	return b.String()
}

// render tells what snapshot would tell of the model.
func (m *model) render(root uint64) string {
	var b strings.Builder
	links := m.linked()
	var walk func(id uint64, rel string, nlink int)
	walk = func(id uint64, rel string, nlink int) {
		o := m.objs[id]
		fmt.Fprintf(&b, "%s mode %o uid %d gid %d", rel, o.mode, o.uid, o.gid)
		if !o.dir() {
			fmt.Fprintf(&b, " nlink %d", nlink)
		}
		if rel != "/" && !strings.HasPrefix(rel, "/.echo9") {
			fmt.Fprintf(&b, " mtime %d", o.mtime)
		}
		for _, k := range slices.Sorted(maps.Keys(o.xattrs)) {
			fmt.Fprintf(&b, " %s=%q", k, o.xattrs[k])
		}
		switch o.mode & unix.S_IFMT {
		case unix.S_IFREG:
			fmt.Fprintf(&b, " data %q", o.data)
		case unix.S_IFLNK:
			fmt.Fprintf(&b, " -> %s", o.target)
		case unix.S_IFCHR:
			b.WriteString(" device 1:3")
		}
		b.WriteByte('\n')
		for _, name := range slices.Sorted(maps.Keys(o.entries)) {
			walk(o.entries[name], filepath.Join(rel, name), links[o.entries[name]])
		}
	}
	walk(root, "/", 0)
	var orphans []string
	for id, o := range m.objs {
		if links[id] == 0 && id != root && o.open {
			orphans = append(orphans, fmt.Sprint(id))
		}
	}
	slices.Sort(orphans)
	for _, s := range orphans {
		var id uint64
		fmt.Sscan(s, &id)
		walk(id, "/.echo9/orphans/"+s, 1)
	}
	return b.String()
}

func diffText(a, b string) string {
	al, bl := strings.Split(a, "\n"), strings.Split(b, "\n")
	var out []string
	for _, l := range al {
		if !slices.Contains(bl, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range bl {
		if !slices.Contains(al, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

package dirfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"syscall"

	"echo9/internal/wire"

	"golang.org/x/sys/unix"
)

// dirBuffer is what one getdents64 may bring.
const dirBuffer = 64 << 10

// dirBuffers go around: a listing needs one while it is going on.
var dirBuffers = sync.Pool{New: func() any { return new([dirBuffer]byte) }}

// dirFile lists a directory. What the host gave and nobody asked for yet waits in buf
// for the next call, if that goes on where the last one ended.
type dirFile struct {
	n  *node
	fd int

	mu   sync.Mutex
	buf  *[dirBuffer]byte // nil when nothing is in it
	size int              // what the host gave
	rest []byte           // the entries of it that were not delivered
	text string           // buf[:size] when somebody wants names as strings: they are parts of it, so that they cost no allocation each
	odd  []uint64         // inode numbers in buf that may not be ids
	at   uint64           // cookie of the position before rest
	pos  uint64           // cookie where the host goes on

	// all is the whole listing, where the host's cookies do not hold when names come and go (overlayfs counts
	// entries, and counts anew after a change). A cookie is the number of entries before: starts has their offsets.
	all    []byte
	starts []int
}

// read delivers the entries after cookie.
func (d *dirFile) read(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.each(ctx, cookie, func(ent []byte, offset uint64) bool {
		qid, typ, ok := d.entry(ent)
		if !ok {
			return true
		}
		return fn(wire.Dirent{QID: qid, Offset: offset, Type: typ, Name: d.name(ent)})
	})
}

// appendTo appends the entries after cookie to b as an Rreaddir carries them, as
// many as make it at most so long; more says that there is one that did not fit.
func (d *dirFile) appendTo(ctx context.Context, cookie uint64, b []byte, most int) (_ []byte, more bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.each(ctx, cookie, func(ent []byte, offset uint64) bool {
		qid, typ, ok := d.entry(ent)
		if !ok {
			return true
		}
		name := entryName(ent)
		if more = len(b)+wire.DirentSize(len(name)) > most; more {
			return false
		}
		b = wire.AppendDirent(b, qid, offset, typ, name)
		return true
	})
	return b, more, err
}

// close gives the buffer back.
func (d *dirFile) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop()
}

func (d *dirFile) drop() {
	if d.buf != nil {
		dirBuffers.Put(d.buf)
	}
	d.buf, d.size, d.rest, d.text = nil, 0, nil, ""
}

// each calls fn for the linux_dirent64 after cookie, until it answers false, with
// the cookie to go on after it: the host's own, which stay valid while the directory is open. d.mu is held.
func (d *dirFile) each(ctx context.Context, cookie uint64, fn func(ent []byte, offset uint64) bool) error {
	if d.n.removed() {
		return nil
	}
	if d.n.fs.kind == unix.OVERLAYFS_SUPER_MAGIC {
		return d.eachOfWhole(ctx, cookie, fn)
	}
	if cookie != d.at || cookie == 0 || len(d.rest) == 0 {
		d.rest, d.at = nil, cookie
	}
	for {
		if len(d.rest) == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := d.fill(); err != nil {
				return err
			}
			if len(d.rest) == 0 {
				d.drop()
				return nil
			}
		}
		offset := binary.NativeEndian.Uint64(d.rest[8:])
		reclen := int(binary.NativeEndian.Uint16(d.rest[16:]))
		if !fn(d.rest[:reclen], offset) {
			return nil
		}
		d.at = offset
		d.rest = d.rest[reclen:]
	}
}

// eachOfWhole does it for a listing that was taken as a whole at its start.
func (d *dirFile) eachOfWhole(ctx context.Context, cookie uint64, fn func(ent []byte, offset uint64) bool) error {
	if cookie == 0 {
		d.all, d.starts, d.rest, d.at = nil, nil, nil, 0
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := d.fill(); err != nil {
				return err
			}
			if len(d.rest) == 0 {
				break
			}
			for at := 0; at < len(d.rest); at += int(binary.NativeEndian.Uint16(d.rest[at+16:])) {
				d.starts = append(d.starts, len(d.all)+at)
			}
			d.all, d.at = append(d.all, d.rest...), d.pos
		}
		d.drop()
		d.odd = d.n.fs.oddInodes(d.all, nil)
	}
	if cookie > uint64(len(d.starts)) {
		return syscall.EINVAL
	}
	for i, at := range d.starts[cookie:] {
		reclen := int(binary.NativeEndian.Uint16(d.all[at+16:]))
		if !fn(d.all[at:at+reclen], cookie+uint64(i)+1) {
			return nil
		}
	}
	return nil
}

// fill gets the entries after d.at.
func (d *dirFile) fill() error {
	if d.pos != d.at || d.at == 0 {
		if _, err := unix.Seek(d.fd, int64(d.at), 0); err != nil {
			return err
		}
		d.pos = d.at
	}
	if d.buf == nil {
		d.buf = dirBuffers.Get().(*[dirBuffer]byte)
	}
	for {
		k, err := unix.Getdents(d.fd, d.buf[:])
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.ENOENT { // removed while open
			k, err = 0, nil
		}
		if err != nil {
			d.rest = nil
			return err
		}
		d.size, d.rest, d.text = k, d.buf[:k], ""
		d.odd = d.n.fs.oddInodes(d.rest, d.odd[:0])
		for b := d.rest; len(b) > 0; b = b[binary.NativeEndian.Uint16(b[16:]):] {
			d.pos = binary.NativeEndian.Uint64(b[8:])
		}
		return nil
	}
}

// entryName is the name in a linux_dirent64, which is padded with NULs.
func entryName(ent []byte) []byte {
	name := ent[19:]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return name
}

// name is the name of an entry of d.rest, its first, or of d.all, as a string.
func (d *dirFile) name(ent []byte) string {
	name := entryName(ent)
	if len(d.rest) == 0 {
		return string(name)
	}
	if d.text == "" {
		d.text = string(d.buf[:d.size])
	}
	return d.text[d.size-len(d.rest)+19:][:len(name)]
}

// entry tells the qid and the type of a linux_dirent64; not ok: it is hidden, or gone.
func (d *dirFile) entry(ent []byte) (q wire.QID, typ uint8, ok bool) {
	n, fs := d.n, d.n.fs
	q.Path, typ = binary.NativeEndian.Uint64(ent), ent[18]
	name := entryName(ent)
	switch {
	case name[0] == '.' && n.reserved(string(name)):
		return q, typ, false
	case string(name) == ".", string(name) == ".." && n == fs.root:
		return n.QID(), typ, true
	}
	if typ == unix.DT_UNKNOWN || fs.manyDevices() || d.isOdd(q.Path) {
		var err error
		if q.Path, typ, err = fs.entryID(n, d.fd, string(name)); err != nil {
			return q, typ, false // it went away meanwhile, or is out of the export
		}
	}
	switch typ {
	case unix.DT_DIR:
		q.Type = wire.QTDir
	case unix.DT_LNK:
		q.Type = wire.QTSymlink
	}
	return q, typ, true
}

// isOdd says whether an inode number in the buffer may not be the id.
func (d *dirFile) isOdd(ino uint64) bool {
	if len(d.odd) == 0 {
		return false
	}
	_, found := slices.BinarySearch(d.odd, ino)
	return found
}

// oddInodes gives, sorted, those inode numbers in a buffer of getdents64 that are not sure to be the ids; dst is used again.
func (fs *FS) oddInodes(buf []byte, dst []uint64) []uint64 {
	if fs.manyDevices() {
		return dst // all of them are
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.ids.mu.Lock()
	defer fs.ids.mu.Unlock()
	// Mostly every node has its descriptor, and then no node needs a look: it would cost
	// more than all the rest of a listing but the host's own part.
	sure := len(fs.byID) == fs.nfds && fs.ngone == 0
	for ; len(buf) > 0; buf = buf[binary.NativeEndian.Uint16(buf[16:]):] {
		ino := binary.NativeEndian.Uint64(buf)
		if ino == 0 || ino >= firstTableID || len(fs.ids.inos) > 0 && fs.ids.inos[ino] != 0 {
			dst = append(dst, ino)
			continue
		}
		if sure {
			continue
		}
		// An id that a node has which may be gone does not go to the inode's next owner.
		if n := fs.byID[ino]; n != nil && (n.fd < 0 || n.gone) {
			dst = append(dst, ino)
		}
	}
	slices.Sort(dst)
	return dst
}

// manyDevices says whether inodes of one mount may have several device numbers.
func (fs *FS) manyDevices() bool {
	return fs.kind == unix.OVERLAYFS_SUPER_MAGIC || fs.kind == unix.BTRFS_SUPER_MAGIC
}

// entryID tells id and type of an entry the long way, by what a walk would find.
func (fs *FS) entryID(dir *node, dirfd int, name string) (uint64, uint8, error) {
	var st unix.Statx_t
	if err := statAt(dirfd, name, &st); err != nil {
		return 0, 0, err
	}
	typ := uint8(st.Mode & unix.S_IFMT >> 12)
	if name == ".." {
		// It is beneath the root: the root's own was answered before.
		o, err := dir.walkUp(nil, nil)
		if err != nil {
			return 0, 0, err
		}
		defer o.Release()
		return o.id, typ, nil
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		// What is mounted there is out of reach, but the name is seen.
		return st.Ino &^ (1 << 63), typ, nil
	}
	if o := fs.known(&st, dir.id, name); o != nil {
		defer o.Release()
		return o.id, typ, nil
	}
	ident, err := fs.identify(dirfd, name, &st)
	if err != nil {
		return 0, 0, err
	}
	key := stKey(&st)
	fs.mu.Lock()
	n := fs.byKey[key]
	if n != nil && n.tag == ident.tag && !n.gone {
		id := n.id
		fs.mu.Unlock()
		return id, typ, nil
	}
	fs.mu.Unlock()
	if id := fs.ids.find(key.ino, ident.tag); id != 0 {
		return id, typ, nil
	}
	if key.dev == fs.dev && key.ino < firstTableID && n == nil {
		return key.ino, typ, nil
	}
	// It needs an id of its own: only walking to it gives one.
	o, err := fs.resolve(dir, dirfd, name, &st)
	if err != nil {
		return 0, 0, err
	}
	defer o.Release()
	return o.id, typ, nil
}

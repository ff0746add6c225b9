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

// dirFile lists a directory. What the host gave and nobody asked for yet waits in buf
// for the next call, if that goes on where the last one ended.
type dirFile struct {
	n  *node
	fd int

	mu   sync.Mutex
	buf  []byte   // the whole buffer, nil when nothing is in it
	rest []byte   // its entries that were not delivered
	text string   // the same as rest: names are parts of it, so that they cost no allocation each
	odd  []uint64 // inode numbers in buf that may not be ids
	at   uint64   // cookie of the position before rest
	pos  uint64   // cookie where the host goes on

	// all is the whole listing, where the host's cookies do not hold when names come and go (overlayfs counts
	// entries, and counts anew after a change). A cookie is the number of entries before: starts has their offsets.
	all    []byte
	starts []int
}

// read delivers the entries after cookie. The cookies are the host's own, which stay
// valid while the directory is open.
func (d *dirFile) read(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n.removed() {
		return nil
	}
	if d.n.fs.kind == unix.OVERLAYFS_SUPER_MAGIC {
		return d.readWhole(ctx, cookie, fn)
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
				d.buf = nil
				return nil
			}
		}
		reclen := int(binary.NativeEndian.Uint16(d.rest[16:]))
		ent, ok, err := d.entry(d.rest[:reclen], d.text[len(d.text)-len(d.rest):])
		if err != nil {
			return err
		}
		if ok && !fn(ent) {
			return nil
		}
		d.at = uint64(binary.NativeEndian.Uint64(d.rest[8:]))
		d.rest = d.rest[reclen:]
	}
}

// readWhole delivers the entries after cookie of a listing that was taken as a whole at its start.
func (d *dirFile) readWhole(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
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
		d.buf, d.rest, d.text = nil, nil, string(d.all)
		d.odd = d.n.fs.oddInodes(d.all, nil)
	}
	if cookie > uint64(len(d.starts)) {
		return syscall.EINVAL
	}
	for i, at := range d.starts[cookie:] {
		reclen := int(binary.NativeEndian.Uint16(d.all[at+16:]))
		ent, ok, err := d.entry(d.all[at:at+reclen], d.text[at:])
		if err != nil {
			return err
		}
		ent.Offset = cookie + uint64(i) + 1
		if ok && !fn(ent) {
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
		d.buf = make([]byte, dirBuffer)
	}
	for {
		k, err := unix.Getdents(d.fd, d.buf)
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
		d.rest, d.text = d.buf[:k], string(d.buf[:k])
		d.odd = d.n.fs.oddInodes(d.rest, d.odd[:0])
		for b := d.rest; len(b) > 0; b = b[binary.NativeEndian.Uint16(b[16:]):] {
			d.pos = binary.NativeEndian.Uint64(b[8:])
		}
		return nil
	}
}

// entry makes a Dirent of one linux_dirent64, whose text begins with the same bytes; not ok: it is hidden, or gone.
func (d *dirFile) entry(b []byte, text string) (wire.Dirent, bool, error) {
	end := len(b)
	if i := bytes.IndexByte(b[19:], 0); i >= 0 {
		end = 19 + i
	}
	e := wire.Dirent{
		Name: text[19:end], Type: b[18],
		Offset: binary.NativeEndian.Uint64(b[8:]),
		QID:    wire.QID{Path: binary.NativeEndian.Uint64(b[0:])},
	}
	n, fs := d.n, d.n.fs
	switch {
	case n.reserved(e.Name):
		return e, false, nil
	case e.Name == ".", e.Name == ".." && n == fs.root:
		e.QID = n.QID()
		return e, true, nil
	}
	if e.Type == unix.DT_UNKNOWN || fs.manyDevices() || d.isOdd(e.QID.Path) {
		id, typ, err := fs.entryID(n, d.fd, e.Name)
		if err != nil {
			return e, false, nil // it went away meanwhile, or is out of the export
		}
		e.QID.Path, e.Type = id, typ
	}
	switch e.Type {
	case unix.DT_DIR:
		e.QID.Type = wire.QTDir
	case unix.DT_LNK:
		e.QID.Type = wire.QTSymlink
	}
	return e, true, nil
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
	for ; len(buf) > 0; buf = buf[binary.NativeEndian.Uint16(buf[16:]):] {
		ino := binary.NativeEndian.Uint64(buf)
		if ino == 0 || ino >= firstTableID || len(fs.ids.inos) > 0 && fs.ids.inos[ino] != 0 {
			dst = append(dst, ino)
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

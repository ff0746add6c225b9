package dirfs

import (
	"bytes"
	"context"
	"encoding/binary"
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
	buf  []byte // the whole buffer, nil when nothing is in it
	rest []byte // its entries that were not delivered
	at   uint64 // cookie of the position before rest
	pos  uint64 // cookie where the host goes on

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
		ent, ok, err := d.entry(d.rest[:reclen])
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
		d.buf, d.rest = nil, nil
	}
	if cookie > uint64(len(d.starts)) {
		return syscall.EINVAL
	}
	for i, at := range d.starts[cookie:] {
		reclen := int(binary.NativeEndian.Uint16(d.all[at+16:]))
		ent, ok, err := d.entry(d.all[at : at+reclen])
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
		d.rest = d.buf[:k]
		for b := d.rest; len(b) > 0; b = b[binary.NativeEndian.Uint16(b[16:]):] {
			d.pos = binary.NativeEndian.Uint64(b[8:])
		}
		return nil
	}
}

// entry makes a Dirent of one linux_dirent64; not ok: it is hidden, or gone.
func (d *dirFile) entry(b []byte) (wire.Dirent, bool, error) {
	name := b[19:]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	e := wire.Dirent{
		Name: string(name), Type: b[18],
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
	if e.Type == unix.DT_UNKNOWN || !fs.plainInode(e.QID.Path) {
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

// plainInode says whether an inode number that the host lists is sure to be the id.
func (fs *FS) plainInode(ino uint64) bool {
	if ino == 0 || ino >= firstTableID || fs.manyDevices() || fs.ids.mayHave(ino) {
		return false
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.byID[ino]
	// An id that a node has which may be gone does not go to the inode's next owner.
	return n == nil || n.fd >= 0 && !n.gone
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

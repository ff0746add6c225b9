package dirfs

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"echo9/internal/wire"

	"golang.org/x/sys/unix"
)

// node is one inode that the server has met, and the Object that faces use. It
// stays in the table when nobody refers to it, so that an id that a client holds a
// token on is found again; its descriptor is closed when others need one.
type node struct {
	fs  *FS
	id  uint64
	key devIno
	typ uint32 // S_IFMT bits
	tag uint64

	cutLSN  atomic.Uint64 // the last entry of the log that names it, 0: none
	settled atomic.Uint64 // entries before this one do not count for it

	// The rest is guarded by fs.mu.
	handle string // locator, where handles can be opened
	parent uint64 // else: the directory's id
	name   string // and the name in it
	btime  int64

	fd     int // O_PATH, -1 when closed
	pins   int // uses of fd under way
	refs   int // Objects handed out
	opens  int // open Files
	keeps  int // sessions that keep it alive
	orphan bool
	apart  bool   // a directory that is in the list of those with something aside
	staged string // its name in the private tmp while a cut has it there
	// unnamed: it has a name, but none that is known, and no handle: the descriptor stays open.
	unnamed bool
	// gone: the inode has no name any more, and goes when its last user goes; or it
	// is gone, and another one may have its number.
	gone bool

	noted int64 // its host's ctime after the cut cutLSN

	ctHost, ctShown int64 // a ctime that a cut set is shown while the host's is ctHost

	older, newer *node // list of nodes whose descriptor may be closed
}

// ID is the object's id.
func (n *node) ID() uint64 { return n.id }

// QID never changes.
func (n *node) QID() wire.QID {
	return wire.QID{Type: qidType(n.typ), Version: version(n.tag), Path: n.id}
}

func (n *node) isDir() bool { return n.typ == unix.S_IFDIR }

// Release gives a reference back.
func (n *node) Release() {
	fs := n.fs
	fs.mu.Lock()
	if n.refs <= 0 {
		fs.mu.Unlock()
		panic("dirfs: object released more often than referenced")
	}
	n.refs--
	fd := n.settleLocked()
	fs.mu.Unlock()
	closeFDs(fd...)
}

// settleLocked puts n where it belongs after one of its counts went down, and
// gives back the descriptors that are to be closed outside the lock.
func (n *node) settleLocked() []int {
	fs := n.fs
	if n.refs == 0 && n.opens == 0 && n.pins == 0 && n.keeps == 0 && n.gone && n != fs.root {
		fs.forgetLocked(n)
		if n.fd >= 0 {
			fd := n.fd
			n.fd = -1
			fs.nfds--
			return []int{fd}
		}
		return nil
	}
	return fs.trimLocked()
}

// evictable says whether n's descriptor may be closed and opened again later.
func (n *node) evictable() bool {
	return n.fd >= 0 && n.pins == 0 && n.opens == 0 && !n.unnamed && !n.gone && n != n.fs.root
}

// forgetLocked takes n out of the tables.
func (fs *FS) forgetLocked(n *node) {
	fs.unlistLocked(n)
	if fs.byID[n.id] == n {
		delete(fs.byID, n.id)
		if n.gone {
			fs.ngone--
		}
	}
	if fs.byKey[n.key] == n {
		delete(fs.byKey, n.key)
	}
}

func (fs *FS) unlistLocked(n *node) {
	if n.older != nil {
		n.older.newer, n.newer.older = n.newer, n.older
		n.older, n.newer = nil, nil
	}
}

// touchLocked makes n the newest of those that have a descriptor.
func (fs *FS) touchLocked(n *node) {
	if fs.lru.older == n {
		return
	}
	fs.unlistLocked(n)
	n.newer, n.older = &fs.lru, fs.lru.older
	n.older.newer, fs.lru.older = n, n
}

// trimLocked keeps the number of descriptors and of nodes within their limits.
func (fs *FS) trimLocked() []int {
	var fds []int
	for n := fs.lru.newer; fs.nfds > fs.maxFDs && n != &fs.lru; {
		next := n.newer
		if n.evictable() {
			fds = append(fds, n.fd)
			n.fd = -1
			fs.nfds--
			fs.unlistLocked(n)
		}
		n = next
		if len(fds) == 64 {
			break
		}
	}
	if len(fs.byID) > fs.maxNodes {
		left := 256
		for _, n := range fs.byID {
			if n.refs == 0 && n.pins == 0 && n.opens == 0 && n.keeps == 0 && n != fs.root && !fs.inLog(n) {
				fs.forgetLocked(n)
				if n.fd >= 0 {
					fds = append(fds, n.fd)
					n.fd = -1
					fs.nfds--
				}
			}
			if left--; left == 0 {
				break
			}
		}
	}
	return fds
}

func closeFDs(fds ...int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// pin gives n's descriptor for the time until unpin. ESTALE when the object is gone.
func (n *node) pin() (int, error) {
	fs := n.fs
	fs.mu.Lock()
	if n.fd >= 0 {
		n.pins++
		fs.touchLocked(n)
		fd := n.fd
		fs.mu.Unlock()
		return fd, nil
	}
	gone := n.gone || n.unnamed
	handle, parent, name, orphan, staged := n.handle, n.parent, n.name, n.orphan, n.staged
	fs.mu.Unlock()
	var fd int
	var err error
	switch {
	case gone:
		return -1, syscall.ESTALE
	case handle == "" && orphan:
		// A cut that is under way may have given it a name.
		if fd, err = n.verified(fs.state.orphans, itoa(int(n.id))); err != nil {
			fd, err = fs.locate(n, "", parent, name)
		}
	case handle == "" && staged != "":
		fd, err = n.verified(fs.state.tmp, staged)
	default:
		fd, err = fs.locate(n, handle, parent, name)
	}
	if err != nil {
		return -1, err
	}
	fs.mu.Lock()
	var extra []int
	if n.fd >= 0 {
		extra = append(extra, fd)
	} else {
		n.fd = fd
		fs.nfds++
	}
	n.pins++
	fs.touchLocked(n)
	extra = append(extra, fs.trimLocked()...)
	fd = n.fd
	fs.mu.Unlock()
	closeFDs(extra...)
	return fd, nil
}

func (n *node) unpin() {
	n.fs.mu.Lock()
	n.pins--
	var fds []int
	if n.pins == 0 && n.gone {
		fds = n.settleLocked()
	}
	n.fs.mu.Unlock()
	closeFDs(fds...)
}

// locate opens n anew, by its handle or by its name, and makes sure that it is still the same inode.
func (fs *FS) locate(n *node, handle string, parent uint64, name string) (int, error) {
	if handle != "" {
		fd, err := fs.openHandle(handle)
		if err == nil {
			return fd, nil
		}
		if err != syscall.ESTALE {
			return -1, fmt.Errorf("open object %d by its handle: %w", n.id, err)
		}
		fs.markGone(n)
		return -1, syscall.ESTALE
	}
	if name == "" || parent == n.id {
		return -1, syscall.ESTALE
	}
	fs.mu.Lock()
	p := fs.byID[parent]
	if p != nil {
		p.refs++ // it stays in the table
	}
	fs.mu.Unlock()
	if p == nil {
		return -1, syscall.ESTALE
	}
	defer p.Release()
	pfd, err := p.pin()
	if err != nil {
		return -1, err
	}
	defer p.unpin()
	return n.verified(pfd, name)
}

// verified opens name in dirfd if it is n.
func (n *node) verified(dirfd int, name string) (int, error) {
	var st unix.Statx_t
	fd, err := openPath(dirfd, name)
	if err != nil {
		return -1, syscall.ESTALE
	}
	if err = statFD(fd, &st); err == nil && stKey(&st) == n.key {
		var ident identity
		if ident, err = n.fs.identify(fd, "", &st); err == nil && ident.tag == n.tag {
			return fd, nil
		}
	}
	unix.Close(fd)
	return -1, syscall.ESTALE
}

// goneLocked notes that n has no name any more, or its inode is gone.
func (n *node) goneLocked() {
	if !n.gone && n.fs.byID[n.id] == n {
		n.fs.ngone++
	}
	n.gone = true
}

// markGone notes that n's inode no longer exists.
func (fs *FS) markGone(n *node) {
	fs.mu.Lock()
	n.goneLocked()
	fs.mu.Unlock()
	fs.ids.remove(n.id)
}

// openPath opens name in dirfd without following it, beneath dirfd and on its mount.
func openPath(dirfd int, name string) (int, error) {
	return openat2(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
}

func openat2(dirfd int, name string, flags, mode uint64) (int, error) {
	how := unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC,
		Mode:  mode,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS |
			unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dirfd, name, &how)
		// EAGAIN: a rename somewhere made the kernel unsure; it asks to try again.
		if err != syscall.EINTR && err != syscall.EAGAIN {
			return fd, err
		}
	}
}

// intern finds or makes the node of the inode that fd refers to, with a reference.
// It owns fd (which may be -1: then the node is opened when it is needed).
func (fs *FS) intern(fd int, st *unix.Statx_t, ident identity, parent uint64, name string) (*node, error) {
	key := stKey(st)
	fs.mu.Lock()
	n := fs.byKey[key]
	var extra []int
	if n != nil && (n.tag != ident.tag || n.gone) {
		// The inode number belongs to another inode now.
		n.goneLocked()
		delete(fs.byKey, key)
		fs.ids.remove(n.id)
		n = nil
	}
	if n == nil {
		id, err := fs.idLocked(key, ident)
		if err != nil {
			fs.mu.Unlock()
			closeFDs(fd)
			return nil, fmt.Errorf("give an id to inode %d: %w", key.ino, err)
		}
		n = &node{fs: fs, id: id, key: key, typ: uint32(st.Mode) & unix.S_IFMT, tag: ident.tag, handle: ident.handle, fd: -1}
		tm := fs.ids.timesOf(id)
		n.ctHost, n.ctShown = tm.host, tm.shown
		fs.byKey[key], fs.byID[id] = n, n
		if len(fs.owed) > 0 {
			fs.paysLocked(n)
		}
	}
	n.refs++
	n.btime = nanos(st.Btime)
	if name != "" {
		n.parent, n.name, n.unnamed = parent, name, false
	}
	if fd >= 0 {
		if n.fd >= 0 {
			extra = append(extra, fd)
		} else {
			n.fd = fd
			fs.nfds++
		}
	}
	if n.fd >= 0 {
		fs.touchLocked(n)
	}
	extra = append(extra, fs.trimLocked()...)
	fs.mu.Unlock()
	closeFDs(extra...)
	return n, nil
}

// idLocked gives the id of a host inode.
func (fs *FS) idLocked(key devIno, ident identity) (uint64, error) {
	if id := fs.ids.find(key.ino, ident.tag); id != 0 && fs.byID[id] == nil {
		return id, nil
	}
	if key.dev == fs.dev && key.ino < firstTableID && key.ino != 0 && fs.byID[key.ino] == nil {
		return key.ino, nil
	}
	return fs.ids.give(key.ino, ident)
}

// known gives the node of an inode if it is in the table and its descriptor is
// held, so that the number cannot belong to another inode. With a reference.
func (fs *FS) known(st *unix.Statx_t, parent uint64, name string) *node {
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.byKey[stKey(st)]
	if n == nil || n.fd < 0 || n.gone || n.btime != nanos(st.Btime) {
		return nil
	}
	n.refs++
	n.parent, n.name, n.unnamed = parent, name, false
	fs.touchLocked(n)
	return n
}

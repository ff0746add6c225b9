package dirfs

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/p9srv/stable"

	"golang.org/x/sys/unix"
)

// KeepOpen keeps an object alive for a session though it may lose its last name.
func (fs *FS) KeepOpen(session, id uint64) error {
	n, err := fs.lookup(id)
	if err != nil {
		return fmt.Errorf("keep object %d for session %d: %w", id, session, err)
	}
	defer n.Release()
	fs.mu.Lock()
	_, already := fs.kept[session][n.id]
	fs.mu.Unlock()
	if already {
		return nil
	}
	if err := fs.keeping(session, id); err != nil {
		return fmt.Errorf("keep object %d for session %d: %w", id, session, err)
	}
	fs.mu.Lock()
	fs.keepLocked(session, n)
	fs.mu.Unlock()
	return nil
}

func (fs *FS) keepLocked(session uint64, n *node) {
	set := fs.kept[session]
	if set == nil {
		set = map[uint64]struct{}{}
		fs.kept[session] = set
	}
	if _, ok := set[n.id]; !ok {
		set[n.id] = struct{}{}
		n.keeps++
	}
}

// DropOpen ends KeepOpen. An object without a name goes when nobody keeps it.
func (fs *FS) DropOpen(session, id uint64) {
	fs.mu.Lock()
	_, kept := fs.kept[session][id]
	fs.mu.Unlock()
	if !kept {
		return
	}
	if fs.sessions != nil && fs.sessions.knows(session) {
		fs.sessions.Note(nil, stable.Record{Kind: stable.Dropped, Session: session, ID: id})
	}
	fs.drop(session, id)
}

func (fs *FS) drop(session, id uint64) {
	fs.mu.Lock()
	set := fs.kept[session]
	if _, ok := set[id]; !ok {
		fs.mu.Unlock()
		return
	}
	delete(set, id)
	if len(set) == 0 {
		delete(fs.kept, session)
	}
	n := fs.byID[id]
	if n == nil {
		fs.mu.Unlock()
		return
	}
	n.keeps--
	free := n.keeps == 0 && n.orphan
	n.refs++ // until it is settled
	fs.mu.Unlock()
	if free {
		fs.freeOrphan(n)
	}
	n.Release()
}

// freeOrphan removes the private name of an object that nobody keeps.
func (fs *FS) freeOrphan(n *node) {
	if fd, err := n.pin(); err == nil {
		// Whoever still has a fid of it goes on by the descriptor.
		_ = fd
		defer n.unpin()
	}
	flags := 0
	if n.isDir() {
		flags = unix.AT_REMOVEDIR
	}
	name := strconv.FormatUint(n.id, 10)
	if err := unix.Unlinkat(fs.state.orphans, name, flags); err != nil && err != syscall.ENOENT {
		fs.logf("free object %d, which no session keeps: %v", n.id, err)
	}
	fs.mu.Lock()
	n.orphan = false
	n.goneLocked()
	fs.mu.Unlock()
	fs.ids.remove(n.id)
}

// EndSession forgets all that is kept for a session.
func (fs *FS) EndSession(session uint64) {
	fs.mu.Lock()
	var ids []uint64
	for id := range fs.kept[session] {
		ids = append(ids, id)
	}
	fs.mu.Unlock()
	for _, id := range ids {
		fs.drop(session, id)
	}
	fs.forgive(session)
	if fs.ledger != nil {
		fs.ledger.forget(func(s uint64) bool { return s == session })
	}
	fs.locks.DropSession(session)
}

// AllocIDs sets n fresh ids aside, never given out before, a crash in between included.
func (fs *FS) AllocIDs(n uint64) (uint64, error) {
	if err := fs.readOnly(); err != nil {
		return 0, fmt.Errorf("set ids aside: %w", err)
	}
	first, err := fs.ids.alloc(n)
	if err != nil {
		return 0, fmt.Errorf("set ids aside: %w", err)
	}
	return first, nil
}

// mustKeep says whether an object that is about to lose a name must live on under a
// private one: it is its last, and a session has it open.
func (fs *FS) mustKeep(n *node, st *unix.Statx_t) bool {
	if n == nil {
		return false
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return n.keeps > 0 && (st.Nlink == 1 || n.isDir())
}

// toOrphans moves (dirfd, name), which is n, to its private place.
func (fs *FS) toOrphans(n *node, dirfd int, name string) error {
	private := strconv.FormatUint(n.id, 10)
	if err := fs.keepDurably(); err != nil {
		return err
	}
	if err := unix.Renameat2(dirfd, name, fs.state.orphans, private, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("keep object %d: %w", n.id, err)
	}
	fs.mu.Lock()
	n.orphan, n.parent, n.name = true, 0, ""
	fs.mu.Unlock()
	return nil
}

// unlinkKept is Unlink of an object that a session keeps.
func (fs *FS) unlinkKept(cred *p9srv.Cred, dir *node, dirfd int, name string, n *node, flags uint32) error {
	if n.isDir() != (flags == wire.AtRemoveDir) {
		if n.isDir() {
			return syscall.EISDIR
		}
		return syscall.ENOTDIR
	}
	if err := fs.mayRemove(cred, dirfd, n); err != nil {
		return err
	}
	if n.isDir() {
		if err := fs.checkEmpty(n); err != nil {
			return err
		}
	}
	return fs.toOrphans(n, dirfd, name)
}

// replaceKept is Rename over an object that a session keeps: the two change places,
// then the replaced one goes to its private place.
func (fs *FS) replaceKept(cred *p9srv.Cred, from int, oldName string, src *unix.Statx_t, to int, newName string, dir, n *node) error {
	srcDir := src.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case srcDir && !n.isDir():
		return syscall.ENOTDIR
	case !srcDir && n.isDir():
		return syscall.EISDIR
	case n.isDir():
		if err := fs.checkEmpty(n); err != nil {
			return err
		}
	}
	if err := fs.as(cred, func() error {
		return unix.Renameat2(from, oldName, to, newName, unix.RENAME_EXCHANGE)
	}); err != nil {
		return err
	}
	if err := fs.toOrphans(n, from, oldName); err != nil {
		if back := unix.Renameat2(from, oldName, to, newName, unix.RENAME_EXCHANGE); back != nil {
			return errors.Join(err, back)
		}
		return err
	}
	return nil
}

// mayRemove checks, as the host would, that cred may remove entry n from a directory.
func (fs *FS) mayRemove(cred *p9srv.Cred, dirfd int, n *node) error {
	if cred == nil || !fs.switches || cred.UID == 0 {
		return nil
	}
	if err := fs.look(cred, func() error {
		return unix.Faccessat2(dirfd, "", unix.W_OK|unix.X_OK, unix.AT_EMPTY_PATH|unix.AT_EACCESS)
	}); err != nil {
		return err
	}
	var dst, st unix.Statx_t
	if err := statFD(dirfd, &dst); err != nil {
		return err
	}
	if dst.Mode&unix.S_ISVTX == 0 || dst.Uid == cred.UID {
		return nil
	}
	fd, err := n.pin()
	if err != nil {
		return err
	}
	defer n.unpin()
	if err := statFD(fd, &st); err != nil {
		return err
	}
	if st.Uid != cred.UID {
		return syscall.EPERM
	}
	return nil
}

// checkEmpty answers ENOTEMPTY for a directory that has entries.
func (fs *FS) checkEmpty(n *node) error {
	names, err := fs.entries(n)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return syscall.ENOTEMPTY
	}
	return nil
}

// entries lists the names in a directory as the server's own user.
func (fs *FS) entries(n *node) ([]string, error) {
	fd, err := n.pin()
	if err != nil {
		return nil, err
	}
	defer n.unpin()
	d, err := unix.Openat(fs.procFD, itoa(fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(d)
	return listFD(d)
}

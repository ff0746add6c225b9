package dirfs

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// createAll makes the new objects, directories before what lies in them, with their
// content and attributes as far as nothing later changes them.
func (a *apply) createAll() error {
	for _, o := range a.list {
		if !o.created() {
			break // creations were indexed first
		}
		if err := a.create(o); err != nil {
			return fmt.Errorf("create object %d: %w", o.id, err)
		}
	}
	return nil
}

func (a *apply) create(o *cutObj) error {
	if o.n != nil {
		return nil
	}
	if o.making {
		a.rec = o.primary.rec
		return fmt.Errorf("directories would contain each other: %w", syscall.EINVAL)
	}
	o.making = true
	at := o.private
	if s := o.primary; s != nil {
		if err := a.create(s.dir); err != nil {
			return err
		}
		at = s.place()
		a.rec = s.rec
	} else {
		a.rec = o.rec
		if at.dir != nil {
			if err := a.touching(at.dir); err != nil {
				return err
			}
		}
	}
	err := at.at(func(dirfd int) error {
		if o.typ == unix.S_IFREG {
			return a.makeFile(o, dirfd, at)
		}
		return a.makeOther(o, dirfd, at)
	})
	if err != nil {
		return err
	}
	if s := o.primary; s != nil {
		s.now = o
	}
	o.making = false
	return nil
}

// unmake notes how a creation is undone.
func (a *apply) unmake(at place, flags int) {
	a.undoBy(func() error {
		return at.at(func(dirfd int) error { return unix.Unlinkat(dirfd, at.name, flags) })
	})
}

// makeFile makes a regular file and completes it while its descriptor is at hand.
func (a *apply) makeFile(o *cutObj, dirfd int, at place) error {
	var fd int
	err := a.do("create file", func() (err error) {
		fd, err = openat2(dirfd, at.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, uint64(o.attr.Mode&0o777))
		return err
	})
	if err != nil {
		return err
	}
	a.unmake(at, 0)
	defer unix.Close(fd)
	if err := a.fill(o, fd); err != nil {
		return err
	}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		return err
	}
	if err := a.attrNew(o, fd, &st); err != nil {
		return err
	}
	if o.primary != nil {
		// The ctime as it is now is what the host will show.
		if err := statFD(fd, &st); err != nil {
			return err
		}
	}
	return a.adoptNew(o, fd, -1, &st, at)
}

// makeOther makes what is no regular file.
func (a *apply) makeOther(o *cutObj, dirfd int, at place) error {
	r := &a.c.Records[o.rec]
	flags := 0
	err := a.do("create", func() error {
		switch o.typ {
		case unix.S_IFDIR:
			flags = unix.AT_REMOVEDIR
			return unix.Mkdirat(dirfd, at.name, o.attr.Mode&0o777|0o700)
		case unix.S_IFLNK:
			return unix.Symlinkat(r.Target, dirfd, at.name)
		}
		return unix.Mknodat(dirfd, at.name, o.typ|o.attr.Mode&0o777, int(r.Rdev))
	})
	if err != nil {
		return err
	}
	a.unmake(at, flags)
	fd, err := openPath(dirfd, at.name)
	if err != nil {
		return err
	}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	if uint32(st.Mode)&unix.S_IFMT != o.typ {
		unix.Close(fd)
		return fmt.Errorf("somebody on the host was faster: %w", syscall.EAGAIN)
	}
	if !o.isDir() {
		if err := a.attrNew(o, fd, &st); err != nil {
			unix.Close(fd)
			return err
		}
		if o.primary != nil {
			if err := statFD(fd, &st); err != nil {
				unix.Close(fd)
				return err
			}
		}
	}
	return a.adoptNew(o, fd, fd, &st, at)
}

// adoptNew makes the node of a new object, which fd refers to; path is a descriptor that
// the node takes over, or -1.
func (a *apply) adoptNew(o *cutObj, fd, path int, st *unix.Statx_t, at place) error {
	fs := a.fs
	ident, err := fs.identify(fd, "", st)
	if err != nil {
		closeFDs(path)
		return err
	}
	n := &node{
		fs: fs, id: o.id, key: stKey(st), typ: o.typ, tag: ident.tag, handle: ident.handle,
		btime: nanos(st.Btime), fd: path, refs: 1,
	}
	switch {
	case at.dir != nil:
		n.parent, n.name = at.dir.id, at.name
	case at.fd == fs.state.tmp:
		n.staged = at.name
	}
	o.made = nanos(st.Ctime)
	fs.mu.Lock()
	if old := fs.byKey[n.key]; old != nil {
		old.goneLocked()
	}
	fs.byKey[n.key], fs.byID[n.id] = n, n
	if path >= 0 {
		fs.nfds++
		fs.touchLocked(n)
	}
	fds := fs.trimLocked()
	fs.mu.Unlock()
	closeFDs(fds...)
	o.n = n
	a.newIDs = append(a.newIDs, o.id)
	a.newRows = append(a.newRows, idRow{inoTag{n.key.ino, ident.tag}, ident.handle})
	if at.dir == nil && n.staged == "" && ident.handle == "" {
		// Its private name is no locator.
		if _, err := a.holdNew(o, at); err != nil {
			return err
		}
	}
	return nil
}

// holdNew opens a new object that has a private name only, until the cut is done.
func (a *apply) holdNew(o *cutObj, at place) (int, error) {
	fs := a.fs
	fs.mu.Lock()
	have := o.n.fd >= 0
	fs.mu.Unlock()
	if !have {
		fd, err := openPath(at.fd, at.name)
		if err != nil {
			return -1, err
		}
		fs.mu.Lock()
		o.n.fd = fd
		fs.nfds++
		fs.touchLocked(o.n)
		fs.mu.Unlock()
	}
	return a.hold(o)
}

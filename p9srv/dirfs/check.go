package dirfs

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// check refuses, before anything is done, what can be known to fail: names that
// are not bound as the client believed, directories that are not empty, loops,
// missing permissions. What it lets through may still be refused by the host.
func (a *apply) check() error {
	if err := a.checkRights(); err != nil {
		return err
	}
	for _, s := range a.binds {
		a.rec = s.rec
		if err := a.checkBefore(s); err != nil {
			return fmt.Errorf("bind %q: %w", s.name, err)
		}
	}
	for _, o := range a.list {
		if !o.isDir() {
			continue
		}
		if err := a.checkDir(o); err != nil {
			return fmt.Errorf("directory %d: %w", o.id, err)
		}
	}
	for _, o := range a.list {
		if o.created() {
			a.rec = o.rec
			if err := a.choosePlace(o); err != nil {
				return fmt.Errorf("create object %d: %w", o.id, err)
			}
		}
	}
	return nil
}

// checkBefore makes sure that a name is bound as the record says.
func (a *apply) checkBefore(s *slot) error {
	if s.dir.created() {
		return nil
	}
	if s.dir.n.removed() {
		return syscall.ENOENT
	}
	if s.before == nil && s.after != nil && s.after.created() && len(s.after.gains) == 1 {
		return nil // the rename that binds it will tell
	}
	return s.dir.with(func(dirfd int) error {
		var st unix.Statx_t
		err := statAt(dirfd, s.name, &st)
		if err == syscall.ENOENT {
			if s.before == nil {
				return nil
			}
			return syscall.ENOENT
		}
		if err != nil {
			return err
		}
		if s.before == nil {
			return syscall.EEXIST
		}
		return a.fs.sameInode(s.before.n, dirfd, s.name, &st)
	})
}

// sameInode answers ESTALE when (dirfd, name), with attributes st, is not n.
func (fs *FS) sameInode(n *node, dirfd int, name string, st *unix.Statx_t) error {
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return syscall.EBUSY
	}
	if stKey(st) != n.key {
		return syscall.ESTALE
	}
	fs.mu.Lock()
	held := n.fd >= 0
	fs.mu.Unlock()
	if held {
		return nil // so its number cannot belong to another inode
	}
	ident, err := fs.identify(dirfd, name, st)
	if err != nil {
		return err
	}
	if ident.tag != n.tag {
		return syscall.ESTALE
	}
	return nil
}

// checkDir checks what is particular to directories: one name each, empty when it
// goes, no loops.
func (a *apply) checkDir(o *cutObj) error {
	if len(o.gains) > 1 {
		a.rec = o.gains[1].rec
		return fmt.Errorf("a directory has one name: %w", syscall.EPERM)
	}
	if len(o.gains) == 1 {
		a.rec = o.gains[0].rec
		if !o.created() && len(o.loses) == 0 && o.private.none() {
			return fmt.Errorf("a directory has one name: %w", syscall.EPERM)
		}
		return a.checkLoop(o)
	}
	if len(o.loses) == 0 {
		return nil
	}
	a.rec = o.loses[0].rec
	names, err := a.fs.entries(o.n)
	if err != nil {
		return err
	}
	for _, name := range names {
		s := a.slots[slotKey{o.id, name}]
		if s == nil || s.after != nil {
			return syscall.ENOTEMPTY
		}
	}
	if o.gets > 0 {
		return syscall.ENOTEMPTY
	}
	return nil
}

// checkLoop climbs from the directory that o comes to lie in, through the tree as it
// will be, and answers EINVAL when o is met.
func (a *apply) checkLoop(o *cutObj) error {
	if a.moved == nil {
		a.moved = map[devIno]*cutObj{}
		for _, m := range a.list {
			if m.isDir() && !m.created() && len(m.gains) == 1 {
				a.moved[m.n.key] = m
			}
		}
	}
	if len(a.moved) == 0 {
		return nil // new directories below each other are found out when they are made
	}
	cur := o.gains[0].dir
	for range len(a.list) + 1 {
		if cur == o {
			return fmt.Errorf("it would contain itself: %w", syscall.EINVAL)
		}
		if len(cur.gains) == 1 {
			cur = cur.gains[0].dir
			continue
		}
		if cur.created() {
			return nil // it has no name
		}
		next, err := a.climb(cur, a.moved)
		if err != nil || next == nil {
			return err
		}
		cur = next
	}
	return fmt.Errorf("directories would contain each other: %w", syscall.EINVAL)
}

// climb goes up the host's tree from o and gives the first directory above it that the cut
// moves; nil when the export's root comes first.
func (a *apply) climb(o *cutObj, moved map[devIno]*cutObj) (*cutObj, error) {
	var found *cutObj
	err := o.with(func(fd int) error {
		cur := fd
		defer func() {
			if cur != fd {
				unix.Close(cur)
			}
		}()
		var last devIno
		for {
			var st unix.Statx_t
			if err := statFD(cur, &st); err != nil {
				return err
			}
			key := stKey(&st)
			if m := moved[key]; m != nil {
				found = m
				return nil
			}
			if key == a.fs.root.key {
				return nil
			}
			if key == last {
				return syscall.ESTALE
			}
			last = key
			up, err := unix.Openat(cur, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if cur != fd {
				unix.Close(cur)
			}
			cur = up
		}
	})
	return found, err
}

// choosePlace decides where a new object is made: in a private place, so that nobody
// sees it before the cut is in the log; what gets its name in a new directory, there.
func (a *apply) choosePlace(o *cutObj) error {
	for _, s := range o.gains {
		if s.dir.created() {
			o.primary = s
			return nil
		}
	}
	for _, s := range o.gains {
		apart, err := a.apart(s.dir)
		if err != nil {
			return err
		}
		if apart {
			o.private, err = a.aside(s.dir)
			return err
		}
	}
	if len(o.gains) == 0 {
		o.private = a.orphanPlace(o)
	} else {
		o.private = a.tmpPlace()
	}
	return nil
}

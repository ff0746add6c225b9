package dirfs

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// makeAll makes what is missing anew, empty and in the private directory.
func (r *recovery) makeAll() error {
	for _, g := range r.work.Make {
		if err := r.make(g); err != nil {
			return fmt.Errorf("make object %d anew: %w", g.ID, err)
		}
	}
	return nil
}

func (r *recovery) make(g *journal.Goal) error {
	var at spot
	private, prefix, err := r.placeFor(g)
	if err != nil {
		return err
	}
	err = r.do(g.Cut, "make anew", func() error {
		return r.inFreeSpot(&at, private, prefix, func() error {
			switch g.Type {
			case unix.S_IFREG:
				fd, err := openat2(at.fd, at.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
				if err == nil {
					unix.Close(fd)
				}
				return err
			case unix.S_IFDIR:
				return unix.Mkdirat(at.fd, at.name, 0o700)
			case unix.S_IFLNK:
				return unix.Symlinkat(g.Born.Target, at.fd, at.name)
			}
			return unix.Mknodat(at.fd, at.name, g.Type|0o600, int(g.Born.Rdev))
		})
	})
	if err != nil {
		return err
	}
	var st unix.Statx_t
	if err := statAt(at.fd, at.name, &st); err != nil {
		return err
	}
	ident, err := r.fs.identify(at.fd, at.name, &st)
	if err != nil {
		return err
	}
	r.spots[g.ID] = append(r.spots[g.ID], at)
	r.work.Redo.Made = append(r.work.Redo.Made, journal.Made{ID: g.ID, Ident: journal.Ident{
		Dev: stDev(&st), Ino: st.Ino, Tag: ident.tag, Handle: ident.handle,
	}})
	return nil
}

// inFreeSpot runs fn, which makes or moves something to at, with a name in private directory fd that is free.
func (r *recovery) inFreeSpot(at *spot, fd int, prefix string, fn func() error) error {
	for {
		*at = r.freeSpot()
		at.fd, at.name = fd, prefix+at.name
		if err := fn(); err != syscall.EEXIST {
			return err
		}
	}
}

// bindAll brings names to their final values.
//
// Directories that lose a name come into the private directory first: so no directory is in another
// one's way, whatever permutation the log asks for. Everything else changes places with what was
// there. Nothing is removed before the log is empty: another recovery may need it.
func (r *recovery) bindAll() error {
	now := map[journal.SlotKey]uint64{}
	for _, s := range r.work.Bind {
		id := r.seen.Slots[s.SlotKey]
		now[s.SlotKey] = id
		if id == 0 || !r.plan.Goal(id).Dir() {
			continue
		}
		if err := r.takeOut(s, id); err != nil {
			return r.naming(s, err)
		}
		now[s.SlotKey] = 0
	}
	uses := map[uint64]int{} // names that an object is still to get
	for _, s := range r.work.Bind {
		uses[s.Final]++
	}
	for _, s := range r.work.Bind {
		var err error
		switch {
		case s.Final != 0:
			uses[s.Final]--
			err = r.put(s, now[s.SlotKey], uses[s.Final] > 0)
		case now[s.SlotKey] != 0:
			err = r.takeOut(s, now[s.SlotKey])
		}
		if err != nil {
			return r.naming(s, err)
		}
	}
	for _, at := range r.removed {
		err := r.at(at, func(dirfd int) error {
			return r.do(endOfLog, "remove directory", func() error { return unix.Unlinkat(dirfd, at.name, unix.AT_REMOVEDIR) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) naming(s *journal.Slot, err error) error {
	return fmt.Errorf("bind %q in directory %d to object %d: %w", s.Name, s.Dir, s.Final, err)
}

func (r *recovery) spotOf(s *journal.Slot) spot { return spot{dir: s.Dir, name: s.Name} }

// takeOut moves what s is bound to into the private directory.
func (r *recovery) takeOut(s *journal.Slot, id uint64) error {
	var to spot
	from := r.spotOf(s)
	err := r.rename(s.Cut, id, from, unix.RENAME_NOREPLACE, func() spot { to = r.freeSpot(); return to })
	if errors.Is(err, syscall.EXDEV) && r.plan.Goal(id).Dir() && r.plan.Emptied(r.plan.Goal(id)) {
		// A lower layer's directory cannot be moved, but can be removed.
		r.removed = append(r.removed, from)
		return nil
	}
	if err == nil {
		r.moved(id, from, to)
	}
	return err
}

// put gives name s to its object; more: that has further names to get. What has the name now
// comes into the private directory.
func (r *recovery) put(s *journal.Slot, now uint64, more bool) error {
	to := r.spotOf(s)
	from, ok := r.private(s.Final)
	if !ok || more {
		at, err := r.link(s)
		if err != nil {
			return err
		}
		from = at
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if now != 0 {
		flags = unix.RENAME_EXCHANGE
	}
	if err := r.rename(s.Cut, s.Final, from, flags, func() spot { return to }); err != nil {
		return err
	}
	r.moved(s.Final, from, to)
	if now != 0 {
		r.moved(now, to, from)
	}
	return nil
}

// link gives the object of s a further name in the private directory.
func (r *recovery) link(s *journal.Slot) (at spot, err error) {
	fd, err := r.open(s.Final)
	if err != nil {
		return at, err
	}
	defer unix.Close(fd)
	err = r.do(s.Cut, "link", func() error {
		return r.inFreeSpot(&at, r.fs.state.tmp, "", func() error { return linkFD(fd, at.fd, at.name) })
	})
	return at, err
}

// rename renames object id from one spot to another, which is asked for anew when it is not free.
func (r *recovery) rename(lsn journal.LSN, id uint64, from spot, flags uint, to func() spot) error {
	what := "rename"
	if flags&unix.RENAME_EXCHANGE != 0 {
		what = "exchange"
	}
	return r.do(lsn, what, func() error {
		for {
			t := to()
			err := r.at(from, func(f int) error {
				return r.at(t, func(d int) error {
					rename := func() error { return unix.Renameat2(f, from.name, d, t.name, flags) }
					return r.permitted(id, f, d, rename)
				})
			})
			if err != syscall.EEXIST || t.dir != 0 {
				return err
			}
		}
	})
}

// permitted runs a rename of object id between two directories. To a server that is an ordinary user, their
// modes, and that of a directory that gets another parent, make way for a moment.
func (r *recovery) permitted(id uint64, from, to int, rename func() error) error {
	err := rename()
	if err != syscall.EACCES {
		return err
	}
	fs := r.fs
	return fs.forced(from, func() error {
		return fs.forced(to, func() error {
			err := rename()
			if err != syscall.EACCES || !r.plan.Goal(id).Dir() {
				return err
			}
			fd, err := r.open(id)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return fs.forced(fd, rename)
		})
	})
}

// dropSpare removes private names of files that have others: doing so later would change ctimes again.
func (r *recovery) dropSpare() error {
	for id, spots := range r.spots {
		names := 0
		for _, at := range spots {
			if at.dir == 0 {
				names++
			}
		}
		if names == 0 || r.plan.Goal(id).Dir() {
			continue
		}
		for _, at := range spots {
			var st unix.Statx_t
			if at.dir != 0 || statAt(at.fd, at.name, &st) != nil || int(st.Nlink) <= names {
				continue
			}
			if _, held := r.held[id]; !held && !r.fs.openHandles {
				// Its other names may be none that the log knows.
				fd, err := r.open(id)
				if err != nil {
					return err
				}
				r.held[id] = fd
			}
			err := r.do(endOfLog, "remove a private name", func() error { return unix.Unlinkat(at.fd, at.name, 0) })
			if err != nil {
				return err
			}
			r.spots[id] = slices.DeleteFunc(slices.Clone(r.spots[id]), func(s spot) bool { return s == at })
			names--
		}
	}
	return nil
}

// rescue keeps what should have a name, but whose name somebody else has taken meanwhile, and
// which is in the private directory only: it goes to the place for what was found.
func (r *recovery) rescue() error {
	for id := range r.spots {
		at, ok := r.private(id)
		names := r.plan.Named(id)
		if !ok || at.fd != r.fs.state.tmp || len(names) == 0 {
			continue
		}
		var st unix.Statx_t
		err := statAt(at.fd, at.name, &st)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			continue // it has a name after all
		}
		found := "found"
		if err := r.step("make a place for what was found"); err != nil {
			return err
		}
		if err := unix.Mkdirat(r.fs.state.fd, found, 0o700); err != nil && err != syscall.EEXIST {
			return err
		}
		name := names[0].Name
		to := fmt.Sprintf("%s/%d-%s", found, id, name[:min(len(name), 200)])
		if err := r.step("keep what was found"); err != nil {
			return err
		}
		if err := unix.Renameat2(at.fd, at.name, r.fs.state.fd, to, unix.RENAME_NOREPLACE); err != nil {
			return fmt.Errorf("keep what was to be %q, which somebody else has bound: %w", names[0].Name, err)
		}
		r.fs.logf("recovery: what was to be %q is kept in %s/%s: somebody else has bound that name", names[0].Name, r.fs.state.dir, to)
	}
	return nil
}

// enterRows brings the table of ids up to date for what the log creates.
func (r *recovery) enterRows() error {
	fs := r.fs
	var ids []uint64
	var rows []idRow
	for _, g := range r.plan.Goals {
		if g.ID < firstTableID || g.Born == nil {
			continue
		}
		fd, err := r.open(g.ID)
		if errors.Is(err, errNotFound) {
			fs.ids.remove(g.ID)
			continue
		}
		if err != nil {
			return err
		}
		var st unix.Statx_t
		var ident identity
		if err = statFD(fd, &st); err == nil {
			ident, err = fs.identify(fd, "", &st)
		}
		unix.Close(fd)
		if err != nil {
			return err
		}
		row := idRow{inoTag{st.Ino, ident.tag}, ident.handle}
		if have, ok := fs.ids.row(g.ID); !ok || have != row {
			ids, rows = append(ids, g.ID), append(rows, row)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return fs.ids.add(ids, rows)
}

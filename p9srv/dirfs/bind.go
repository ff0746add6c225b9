package dirfs

import (
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindAll gives the names of the cut to their objects. A name that is bound to
// something else changes hands in one step of the host, by exchange; so any
// permutation of names comes out right, each exchange settling one of them. What has
// no name in the end waits in a private place until the cut is done.
func (a *apply) bindAll() error {
	var open []*slot
	for _, s := range a.binds {
		if s.after == s.now {
			continue
		}
		if !s.dir.created() {
			if err := a.touching(s.dir); err != nil {
				return err
			}
		}
		if s.after != nil {
			open = append(open, s)
		}
	}
	for len(open) > 0 {
		left, err := a.bindRound(open)
		if err != nil {
			return err
		}
		if len(left) == len(open) {
			// Each waits for another one to move away first.
			if err := a.stepAside(left); err != nil {
				return err
			}
		}
		open = left
	}
	for _, s := range a.binds {
		if s.after == nil && s.now != nil {
			a.rec = s.rec
			if err := a.takeAway(s); err != nil {
				return fmt.Errorf("remove %q: %w", s.name, err)
			}
		}
	}
	return a.keepNameless()
}

// bindRound settles what can be settled now and gives what is left.
func (a *apply) bindRound(open []*slot) ([]*slot, error) {
	var left []*slot
	for _, s := range open {
		if s.now == s.after {
			continue // an exchange did it
		}
		a.rec = s.rec
		err := a.bind(s)
		var errno syscall.Errno
		if asErrno(err, &errno) && errno == syscall.EINVAL &&
			(s.after.isDir() || s.now != nil && s.now.isDir()) {
			// One of the two is below the other: it must move away first.
			left = append(left, s)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("bind %q: %w", s.name, err)
		}
	}
	return left, nil
}

// from finds a name of o that it is to lose: the place it moves from. None: it gets
// a further name.
func (a *apply) from(o *cutObj) (place, *slot) {
	if !o.private.none() {
		return o.private, nil
	}
	for _, s := range o.loses {
		if s.now == o {
			return s.place(), s
		}
	}
	return place{}, nil
}

// bind gives name s to its object.
func (a *apply) bind(s *slot) error {
	o := s.after
	from, fromSlot := a.from(o)
	if from.none() {
		if s.now == nil {
			return a.link(o, s.place())
		}
		at := a.tmpPlace()
		if err := a.link(o, at); err != nil {
			return err
		}
		o.private, from = at, at
	}
	if s.now == nil {
		if err := a.move(o, from, s.place()); err != nil {
			return err
		}
		a.set(o, s)
		if fromSlot != nil {
			fromSlot.now = nil
		}
		return nil
	}
	// The one that has the name now comes to where the other one was.
	out := s.now
	if err := a.exchange(o, from, out, s.place()); err != nil {
		return err
	}
	a.set(o, s)
	if fromSlot != nil {
		fromSlot.now = out
		if fromSlot.after != out && !slices.Contains(out.loses, fromSlot) {
			out.loses = append(out.loses, fromSlot)
		}
		return nil
	}
	a.parked(out, from)
	return nil
}

// set notes that s is bound to its object, which is no longer where it was privately.
func (a *apply) set(o *cutObj, s *slot) {
	s.now = o
	o.private = place{}
}

// parked notes that o has a private name now. If it has no name to get it goes
// when the cut is done.
func (a *apply) parked(o *cutObj, at place) {
	if o.private.none() && slices.ContainsFunc(o.gains, func(g *slot) bool { return g.now != o }) {
		o.private = at
		return
	}
	a.trash = append(a.trash, trashed{o, at})
}

// stepAside puts the first of the objects that wait for each other out of the way.
func (a *apply) stepAside(left []*slot) error {
	var s, fromSlot *slot
	var from place
	for _, s = range left {
		if from, fromSlot = a.from(s.after); fromSlot != nil {
			break
		}
	}
	o := s.after
	a.rec = s.rec
	if fromSlot == nil {
		return fmt.Errorf("bind %q: %w", s.name, syscall.EINVAL)
	}
	if _, err := a.hold(o); err != nil {
		return err
	}
	at, err := a.out(fromSlot.dir)
	if err != nil {
		return err
	}
	if err := a.move(o, from, at); err != nil {
		return fmt.Errorf("bind %q: %w", s.name, err)
	}
	fromSlot.now = nil
	o.private = at
	return nil
}

// takeAway unbinds a name. The object waits until the cut is done.
func (a *apply) takeAway(s *slot) error {
	o := s.now
	at, err := a.out(s.dir)
	if err != nil {
		return err
	}
	if err := a.inUse(o); err != nil {
		return err
	}
	err = a.move(o, s.place(), at)
	var errno syscall.Errno
	if o.isDir() && asErrno(err, &errno) && errno == syscall.EXDEV {
		// A lower layer's directory cannot be moved, but can be removed.
		rec := s.rec
		a.final = append(a.final, func() error {
			a.rec = rec
			return a.do("remove directory", func() error {
				return s.dir.with(func(fd int) error { return unix.Unlinkat(fd, s.name, unix.AT_REMOVEDIR) })
			})
		})
		s.now = nil
		return nil
	}
	if err != nil {
		return err
	}
	s.now = nil
	a.trash = append(a.trash, trashed{o, at})
	return nil
}

// inUse opens an object that somebody uses, or that could not be found again,
// before it loses a name.
func (a *apply) inUse(o *cutObj) error {
	a.fs.mu.Lock()
	n := o.n
	used := n.refs > 1 || n.opens > 0 || n.keeps > 0 || o.keep
	a.fs.mu.Unlock()
	if !used {
		if n.handle != "" {
			return nil
		}
		if st, err := o.stat(); err != nil || st.Nlink < 2 && !o.isDir() {
			return err
		}
	}
	_, err := a.hold(o)
	return err
}

// both runs fn with the directories of two places.
func both(p, q place, fn func(pfd, qfd int) error) error {
	return p.at(func(pfd int) error {
		return q.at(func(qfd int) error { return fn(pfd, qfd) })
	})
}

// move renames an object to a name that is free.
func (a *apply) move(o *cutObj, from, to place) error {
	rename := func(from, to place) error {
		return a.moving(o, from, to, func() error {
			return both(from, to, func(f, t int) error {
				return unix.Renameat2(f, from.name, t, to.name, unix.RENAME_NOREPLACE)
			})
		})
	}
	if err := a.do("rename", func() error { return rename(from, to) }); err != nil {
		return err
	}
	back := a.located(o, to)
	a.undoBy(func() error {
		defer back()
		return rename(to, from)
	})
	return nil
}

// exchange makes two names change hands: o at from and out at to.
func (a *apply) exchange(o *cutObj, from place, out *cutObj, to place) error {
	if err := a.inUse(out); err != nil {
		return err
	}
	swap := func() error {
		return a.moving(o, from, to, func() error {
			return a.moving(out, to, from, func() error {
				return both(from, to, func(f, t int) error {
					return unix.Renameat2(f, from.name, t, to.name, unix.RENAME_EXCHANGE)
				})
			})
		})
	}
	if err := a.do("exchange", swap); err != nil {
		return err
	}
	back, outBack := a.located(o, to), a.located(out, from)
	a.undoBy(func() error {
		defer back()
		defer outBack()
		return swap()
	})
	return nil
}

// moving runs a rename of o. A directory that its owner may not write to cannot get
// another parent, unless the server is root: its mode makes way for a moment.
func (a *apply) moving(o *cutObj, from, to place, fn func() error) error {
	if o.isDir() && !a.undoing {
		// XFS changes the times of a directory that gets another parent.
		if err := a.touching(o); err != nil {
			return err
		}
	}
	err := fn()
	if err != syscall.EACCES || !o.isDir() || from.dir == to.dir && from.dir != nil {
		return err
	}
	return o.with(func(fd int) error { return a.fs.forced(fd, fn) })
}

// link gives an object a further name.
func (a *apply) link(o *cutObj, to place) error {
	err := a.do("link", func() error {
		return o.with(func(fd int) error {
			return to.at(func(dirfd int) error { return linkFD(fd, dirfd, to.name) })
		})
	})
	if err != nil {
		return err
	}
	back := a.located(o, to)
	a.undoBy(func() error {
		defer back()
		return to.at(func(dirfd int) error { return unix.Unlinkat(dirfd, to.name, 0) })
	})
	if to.dir != nil {
		a.slots[slotKey{to.dir.id, to.name}].now = o
	}
	return nil
}

// located notes the name by which an object can be found again, and gives what
// takes that back.
func (a *apply) located(o *cutObj, at place) (back func()) {
	n := o.n
	a.fs.mu.Lock()
	defer a.fs.mu.Unlock()
	parent, name, staged := n.parent, n.name, n.staged
	switch {
	case at.dir != nil:
		n.parent, n.name, n.staged = at.dir.id, at.name, ""
	case at.fd == a.fs.state.tmp:
		n.staged = at.name
	}
	return func() {
		a.fs.mu.Lock()
		n.parent, n.name, n.staged = parent, name, staged
		a.fs.mu.Unlock()
	}
}

// keepNameless moves objects that have no name any more, but that a session has
// open, to where they stay.
func (a *apply) keepNameless() error {
	for i := range a.trash {
		t := &a.trash[i]
		if t.obj == nil {
			continue
		}
		o := t.obj
		a.fs.mu.Lock()
		kept := o.n.keeps > 0 || o.keep
		a.fs.mu.Unlock()
		if !kept || !o.private.none() {
			continue
		}
		names := 0
		for _, u := range a.trash {
			if u.obj == o {
				names++
			}
		}
		var st unix.Statx_t
		if err := t.at.at(func(fd int) error { return statAt(fd, t.at.name, &st) }); err != nil {
			return err
		}
		if !o.isDir() && int(st.Nlink) > names {
			continue
		}
		to := a.orphanPlace(o)
		if err := a.move(o, t.at, to); err != nil {
			return err
		}
		o.private = to
		t.obj = nil
		t.at = place{}
	}
	return nil
}

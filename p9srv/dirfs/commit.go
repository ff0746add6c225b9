package dirfs

import (
	"echo9/internal/cut"

	"golang.org/x/sys/unix"
)

// enterRows enters the new objects in the table of ids.
func (a *apply) enterRows() error {
	if len(a.newIDs) == 0 {
		return nil
	}
	err := a.do("enter ids", func() error { return a.fs.ids.add(a.newIDs, a.newRows) })
	if err != nil {
		return err
	}
	a.undoBy(func() error {
		for _, id := range a.newIDs {
			a.fs.ids.remove(id)
		}
		return nil
	})
	return nil
}

// irreversible takes the steps that have no undo. The first one may still fail and
// have all before it undone; after it the cut is what happened, and what
// fails is told to the administrator. They are steps that the host has no reason to refuse:
// cutting off the ends of files that were opened for writing, removing empty directories.
func (a *apply) irreversible() error {
	for i, fn := range a.final {
		if err := fn(); err != nil {
			if i == 0 {
				return err
			}
			a.fs.logf("the last steps of a cut failed, it stays without them: %v", err)
		}
	}
	return nil
}

// commit makes what was done final: it cannot fail.
func (a *apply) commit() {
	fs := a.fs
	session := a.cred.Session
	for _, o := range a.list {
		if o.n != nil {
			a.settle(o, session)
		}
	}
	for _, t := range a.trash {
		if t.at.none() || fs.step("free") != nil {
			continue
		}
		flags := 0
		if t.obj != nil && t.obj.isDir() {
			flags = unix.AT_REMOVEDIR
		}
		if err := t.at.at(func(fd int) error { return unix.Unlinkat(fd, t.at.name, flags) }); err != nil {
			fs.logf("free what a cut removed: %v", err)
		}
	}
	for _, o := range a.list {
		if o.n != nil && len(o.loses) > 0 {
			a.settleLost(o)
		}
	}
	a.note()
	for i := range a.c.Records {
		if r := &a.c.Records[i]; r.Kind == cut.Release {
			fs.DropOpen(session, r.ID)
		}
	}
}

// settle brings an object's node up to date with its names.
func (a *apply) settle(o *cutObj, session uint64) {
	fs := a.fs
	orphan := !o.private.none() && o.private.dir == nil && o.private.fd == fs.state.orphans
	fs.mu.Lock()
	o.n.orphan, o.n.staged = orphan, ""
	for _, s := range o.gains {
		// Of several names one that stays.
		o.n.parent, o.n.name, o.n.unnamed = s.dir.id, s.name, false
	}
	if orphan {
		o.n.parent, o.n.name, o.n.unnamed = 0, "", false
	}
	if orphan && o.created() || o.keep {
		fs.keepLocked(session, o.n)
	}
	fs.mu.Unlock()
}

// settleLost finds out whether an object that lost names has any left.
func (a *apply) settleLost(o *cutObj) {
	fs := a.fs
	for _, s := range o.gains {
		if s.now == o {
			return
		}
	}
	fs.mu.Lock()
	n := o.n
	fd := n.fd
	orphan := n.orphan
	fs.mu.Unlock()
	if orphan {
		return
	}
	var st unix.Statx_t
	if fd >= 0 && statFD(fd, &st) == nil && st.Nlink > 0 {
		fs.mu.Lock()
		n.parent, n.name = 0, ""
		n.unnamed = n.handle == ""
		fs.mu.Unlock()
		return
	}
	if fd < 0 {
		// Nobody uses it. Its other names, if it has some, are found when they are walked to.
		if n.handle != "" {
			if fd, err := fs.openHandle(n.handle); err == nil {
				err = statFD(fd, &st)
				unix.Close(fd)
				if err == nil && st.Nlink > 0 {
					return
				}
			}
		}
	}
	fs.mu.Lock()
	n.goneLocked()
	fs.mu.Unlock()
	fs.ids.remove(n.id)
}

package dirfs

import (
	"fmt"

	"echo9/internal/cut"
	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// attrNew gives a new object, which is no directory, its owner, mode, extended
// attributes and times. st is what the host made of it.
func (a *apply) attrNew(o *cutObj, fd int, st *unix.Statx_t) error {
	at := a.rec
	a.rec = o.rec
	if st.Uid != o.attr.UserID || st.Gid != o.attr.GroupID {
		err := a.do("set owner", func() error {
			return unix.Fchownat(fd, "", int(o.attr.UserID), int(o.attr.GroupID), unix.AT_EMPTY_PATH)
		})
		if err != nil {
			return err
		}
	}
	// The permission bits were given at the making; the host may have changed them, by a default
	// ACL, and the others come only now that the owner is right.
	if o.typ != unix.S_IFLNK && (uint32(st.Mode)&0o7777 != o.attr.Mode) {
		if err := a.do("set mode", func() error { return chmodFD(fd, o.attr.Mode) }); err != nil {
			return err
		}
	}
	if err := a.setXattrs(o, fd, false); err != nil {
		return err
	}
	if err := a.setTimes(o, fd); err != nil {
		return err
	}
	a.rec = at
	return nil
}

// setTimes sets the times that the cut gives.
func (a *apply) setTimes(o *cutObj, fd int) error {
	if o.attr.Valid&(cut.AttrAtime|cut.AttrMtime) == 0 {
		return nil
	}
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	if o.attr.Valid&cut.AttrAtime != 0 {
		ts[0] = timespec(o.attr.Atime)
	}
	if o.attr.Valid&cut.AttrMtime != 0 {
		ts[1] = timespec(o.attr.Mtime)
	}
	a.rec = o.attrs[0]
	return a.do("set times", func() error { return utimesFD(fd, &ts) })
}

// setXattrs sets and removes extended attributes; with undo the old values come back.
func (a *apply) setXattrs(o *cutObj, fd int, undo bool) error {
	path := procPath(fd)
	for k, i := range o.xattrs {
		a.rec = i
		r := &a.c.Records[i]
		var old journal.Xattr
		if undo {
			old = o.hadXattrs[k]
			if !old.Was && r.Kind == cut.RemoveXattr {
				continue
			}
		}
		err := a.do("set extended attribute", func() error {
			return a.fs.forced(fd, func() error { return putXattr(path, r.Name, r.Bytes, r.Kind == cut.SetXattr) })
		})
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", r.Name, err)
		}
		if undo {
			a.undoBy(func() error {
				return o.with(func(fd int) error {
					return a.fs.forced(fd, func() error { return putXattr(procPath(fd), r.Name, old.Value, old.Was) })
				})
			})
		}
	}
	return nil
}

// putXattr sets an attribute, or makes sure that it is not there.
func putXattr(path, name string, value []byte, there bool) error {
	if there {
		return unix.Setxattr(path, name, value, 0)
	}
	if err := unix.Removexattr(path, name); err != unix.ENODATA {
		return err
	}
	return nil
}

// attrAll sets the attributes of what was there before and of new directories:
// owner, mode, extended attributes, and when all that is done, times.
func (a *apply) attrAll() error {
	var timed []*cutObj
	for _, o := range a.list {
		if o.created() && !o.isDir() {
			continue
		}
		if !o.created() && len(o.attrs) == 0 && len(o.xattrs) == 0 {
			continue
		}
		if err := a.touching(o); err != nil {
			return err
		}
		if err := o.with(func(fd int) error { return a.setAttrs(o, fd) }); err != nil {
			return fmt.Errorf("object %d: %w", o.id, err)
		}
		timed = append(timed, o)
	}
	for _, o := range timed {
		if err := o.with(func(fd int) error { return a.setTimes(o, fd) }); err != nil {
			return fmt.Errorf("object %d: %w", o.id, err)
		}
	}
	return a.keepTimes()
}

// keepTimes puts back the mtimes of directories that were only moved, where the host has changed them.
func (a *apply) keepTimes() error {
	changed := map[*cutObj]bool{}
	for _, s := range a.binds {
		changed[s.dir] = true
	}
	for _, o := range a.list {
		if !o.touch || !o.isDir() || changed[o] || o.attr.Valid&cut.AttrMtime != 0 {
			continue
		}
		err := o.with(func(fd int) error {
			var st unix.Statx_t
			if err := statFD(fd, &st); err != nil || st.Mtime == o.st.Mtime {
				return err
			}
			ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, timespec(nanos(o.st.Mtime))}
			return a.do("keep times", func() error { return utimesFD(fd, &ts) })
		})
		if err != nil {
			return fmt.Errorf("object %d: %w", o.id, err)
		}
	}
	return nil
}

func (a *apply) setAttrs(o *cutObj, fd int) error {
	a.rec = o.rec
	if len(o.attrs) > 0 {
		a.rec = o.attrs[0]
	}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		return err
	}
	uid, gid, mode := st.Uid, st.Gid, uint32(st.Mode)&0o7777
	if o.attr.Valid&cut.AttrUID != 0 {
		uid = o.attr.UserID
	}
	if o.attr.Valid&cut.AttrGID != 0 {
		gid = o.attr.GroupID
	}
	want := mode
	if !o.created() && o.hasSt {
		// What an owner's change or a write takes away as a side effect stays, unless the
		// cut says so.
		want = uint32(o.st.Mode) & 0o7777
	}
	if o.attr.Valid&cut.AttrMode != 0 {
		want = o.attr.Mode
	}
	if uid != st.Uid || gid != st.Gid {
		oldUID, oldGID := int(st.Uid), int(st.Gid)
		err := a.do("set owner", func() error { return unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH) })
		if err != nil {
			return err
		}
		a.undoBy(func() error {
			return o.with(func(fd int) error {
				err := unix.Fchownat(fd, "", oldUID, oldGID, unix.AT_EMPTY_PATH)
				if err == nil && o.typ != unix.S_IFLNK {
					err = chmodFD(fd, mode)
				}
				return err
			})
		})
		if err := statFD(fd, &st); err != nil {
			return err
		}
	}
	if now := uint32(st.Mode) & 0o7777; now != want && o.typ != unix.S_IFLNK {
		if err := a.do("set mode", func() error { return chmodFD(fd, want) }); err != nil {
			return err
		}
		a.undoBy(func() error { return o.with(func(fd int) error { return chmodFD(fd, mode) }) })
	}
	return a.setXattrs(o, fd, !o.created())
}

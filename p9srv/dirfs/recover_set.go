package dirfs

import (
	"fmt"

	"echo9/internal/cut"
	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// contentAll brings the contents of files to what they are to be.
func (r *recovery) contentAll() error {
	for _, g := range r.work.Set {
		if !g.Content {
			continue
		}
		if err := r.content(g); err != nil {
			return fmt.Errorf("write object %d: %w", g.ID, err)
		}
	}
	return nil
}

func (r *recovery) content(g *journal.Goal) error {
	path, err := r.open(g.ID)
	if err != nil {
		return err
	}
	defer unix.Close(path)
	fd := -1
	err = r.do(g.Cut, "open to write", func() error {
		return r.fs.forced(path, func() (err error) {
			fd, err = unix.Openat(r.fs.procFD, itoa(path), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			return err
		})
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		return err
	}
	size := st.Size
	truncate := func(to uint64) error {
		size = to
		return r.do(g.Cut, "set size", func() error { return unix.Ftruncate(fd, int64(to)) })
	}
	if size > g.Truncate {
		if err := truncate(g.Truncate); err != nil {
			return err
		}
	}
	for i := range g.Bytes {
		b := &g.Bytes[i]
		err := r.do(g.Cut, "write", func() error {
			switch b.Kind {
			case cut.Data:
				return pwriteAll(fd, b.Bytes, int64(b.Off))
			case cut.Zero:
				return zero(fd, int64(b.Off), int64(b.Len))
			}
			err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, int64(b.Off), int64(b.Len))
			if err == unix.EOPNOTSUPP {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
		if b.Kind == cut.Data {
			size = max(size, b.Off+uint64(len(b.Bytes)))
		}
	}
	if size != g.Size {
		return truncate(g.Size)
	}
	return nil
}

// attrAll sets owners, modes and extended attributes, and when all that is done, times.
func (r *recovery) attrAll() error {
	for _, fn := range []func(g *journal.Goal, fd int) error{r.attrs, r.times} {
		for _, g := range r.work.Set {
			fd, err := r.open(g.ID)
			if err == nil {
				err = fn(g, fd)
				unix.Close(fd)
			}
			if err != nil {
				return fmt.Errorf("object %d: %w", g.ID, err)
			}
		}
	}
	return nil
}

func (r *recovery) attrs(g *journal.Goal, fd int) error {
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		return err
	}
	uid, gid, mode := st.Uid, st.Gid, uint32(st.Mode)&0o7777
	if g.Attr.Valid&cut.AttrUID != 0 {
		uid = g.Attr.UserID
	}
	if g.Attr.Valid&cut.AttrGID != 0 {
		gid = g.Attr.GroupID
	}
	if g.Attr.Valid&cut.AttrMode != 0 {
		mode = g.Attr.Mode
	}
	if uid != st.Uid || gid != st.Gid {
		err := r.do(g.Cut, "set owner", func() error { return unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH) })
		if err != nil {
			return err
		}
		if err := statFD(fd, &st); err != nil {
			return err
		}
	}
	if uint32(st.Mode)&0o7777 != mode && g.Type != unix.S_IFLNK {
		if err := r.do(g.Cut, "set mode", func() error { return chmodFD(fd, mode) }); err != nil {
			return err
		}
	}
	for _, x := range g.Xattrs {
		err := r.do(g.Cut, "set extended attribute", func() error {
			return r.fs.forced(fd, func() error { return putXattr(procPath(fd), x.Name, x.Value, x.Was) })
		})
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", x.Name, err)
		}
	}
	return nil
}

// times sets atime and mtime, and notes what the host's ctime is then.
func (r *recovery) times(g *journal.Goal, fd int) error {
	if g.Attr.Valid&(cut.AttrAtime|cut.AttrMtime) != 0 {
		ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
		if g.Attr.Valid&cut.AttrAtime != 0 {
			ts[0] = timespec(g.Attr.Atime)
		}
		if g.Attr.Valid&cut.AttrMtime != 0 {
			ts[1] = timespec(g.Attr.Mtime)
		}
		if err := r.do(g.Cut, "set times", func() error { return utimesFD(fd, &ts) }); err != nil {
			return err
		}
	}
	if g.Attr.Valid&cut.AttrCtime == 0 {
		return nil
	}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		return err
	}
	r.ctimes = append(r.ctimes, journal.Ctime{ID: g.ID, Host: nanos(st.Ctime), Shown: g.Attr.Ctime})
	return nil
}

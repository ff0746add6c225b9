package dirfs

import (
	"context"
	"fmt"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// SetAttr sets size, owner, mode and times, in this order, so that the mode that
// is asked for is what stays.
func (n *node) SetAttr(ctx context.Context, cred *p9srv.Cred, f p9srv.File, set wire.SetAttr) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := n.fs.readOnly(); err != nil {
		return fmt.Errorf("set attributes: %w", err)
	}
	if err := n.fs.disturb(n); err != nil {
		return fmt.Errorf("set attributes: %w", err)
	}
	fd, err := n.pin()
	if err != nil {
		return fmt.Errorf("set attributes: %w", err)
	}
	defer n.unpin()
	open, _ := f.(*file)
	if open != nil && open.n != n {
		return fmt.Errorf("set attributes: the open file is another object: %w", syscall.EINVAL)
	}
	err = n.fs.as(cred, func() error {
		if set.Valid&wire.SetSize != 0 {
			if err := n.truncate(fd, open, set.Size); err != nil {
				return fmt.Errorf("set size: %w", err)
			}
		}
		return setAttrFD(fd, &set)
	})
	if err != nil {
		return fmt.Errorf("set attributes: %w", err)
	}
	return nil
}

// truncate sets the size, through the open file where there is one that may write:
// that works whatever the mode is now.
func (n *node) truncate(fd int, f *file, size uint64) error {
	switch n.typ {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return syscall.EISDIR
	default:
		return syscall.EINVAL
	}
	if size > 1<<63-1 {
		return syscall.EFBIG
	}
	if f != nil && f.writable {
		return eintr(func() error { return unix.Ftruncate(f.fd, int64(size)) })
	}
	return eintr(func() error { return unix.Truncate(procPath(fd), int64(size)) })
}

// setAttrFD sets all but the size on an O_PATH descriptor.
func setAttrFD(fd int, set *wire.SetAttr) error {
	if set.Valid&(wire.SetUID|wire.SetGID) != 0 || set.Valid == wire.SetCtime {
		uid, gid := -1, -1
		if set.Valid&wire.SetUID != 0 {
			uid = int(set.UID)
		}
		if set.Valid&wire.SetGID != 0 {
			gid = int(set.GID)
		}
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("set owner: %w", err)
		}
	}
	if set.Valid&wire.SetMode != 0 {
		if err := chmodFD(fd, set.Mode&0o7777); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	if set.Valid&(wire.SetAtime|wire.SetMtime) != 0 {
		ts := [2]unix.Timespec{
			setTime(set.Valid, wire.SetAtime, wire.SetAtimeSet, set.Atime),
			setTime(set.Valid, wire.SetMtime, wire.SetMtimeSet, set.Mtime),
		}
		if err := utimesFD(fd, &ts); err != nil {
			return fmt.Errorf("set times: %w", err)
		}
	}
	return nil
}

// setTime is the utimensat argument for one of the times.
func setTime(valid, want, given uint32, ns int64) unix.Timespec {
	switch {
	case valid&want == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case valid&given == 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return timespec(ns)
}

// chmodFD is fchmod on an O_PATH descriptor.
func chmodFD(fd int, mode uint32) error {
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		// Also the answer of a kernel without fchmodat2, and of a symlink, which gives it again.
		err = unix.Fchmodat(unix.AT_FDCWD, procPath(fd), mode, 0)
	}
	return err
}

// utimesFD is utimensat on an O_PATH descriptor.
func utimesFD(fd int, ts *[2]unix.Timespec) error {
	err := unix.UtimesNanoAt(fd, "", ts[:], unix.AT_EMPTY_PATH)
	if err == unix.EINVAL {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), ts[:], 0)
	}
	return err
}

// eintr calls fn until no signal interrupts it.
func eintr(fn func() error) error {
	for {
		if err := fn(); err != syscall.EINTR {
			return err
		}
	}
}

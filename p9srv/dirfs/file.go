package dirfs

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// file is an open file or directory. It holds no reference to its node beyond
// the count of opens, which keeps the node's descriptor.
type file struct {
	n        *node
	fd       int
	writable bool
	appends  bool
	cred     *p9srv.Cred
	dir      *dirFile // of a directory
	once     sync.Once
}

// passedFlags are the open flags that go to the host. What names, makes or follows
// something is not among them.
const passedFlags = wire.OAccMode | wire.OTrunc | wire.OAppend | wire.ODirectory |
	unix.O_DSYNC | unix.O_SYNC

func hostFlags(flags uint32) uint64 {
	return uint64(flags&passedFlags) | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
}

// Open opens a regular file or a directory. The rest of what a directory holds is never opened.
func (n *node) Open(ctx context.Context, cred *p9srv.Cred, flags uint32) (p9srv.File, error) {
	f, err := n.open(ctx, cred, flags)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return f, nil
}

func (n *node) open(ctx context.Context, cred *p9srv.Cred, flags uint32) (*file, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	acc := flags & wire.OAccMode
	switch n.typ {
	case unix.S_IFREG:
		if flags&wire.ODirectory != 0 {
			return nil, syscall.ENOTDIR
		}
	case unix.S_IFDIR:
		if acc != wire.ORdonly || flags&wire.OTrunc != 0 {
			return nil, syscall.EISDIR
		}
	case unix.S_IFLNK:
		return nil, syscall.ELOOP
	default:
		return nil, syscall.ENXIO
	}
	if acc == wire.OAccMode {
		return nil, syscall.EINVAL
	}
	if acc != wire.ORdonly || flags&wire.OTrunc != 0 {
		if err := n.fs.readOnly(); err != nil {
			return nil, err
		}
	}
	if flags&wire.OTrunc != 0 {
		if err := n.fs.disturb(n); err != nil {
			return nil, err
		}
	}
	pathFD, err := n.pin()
	if err != nil {
		return nil, err
	}
	defer n.unpin()
	fd := -1
	err = n.fs.look(cred, func() error {
		return eintr(func() error {
			fd, err = unix.Openat(n.fs.procFD, itoa(pathFD), int(hostFlags(flags)), 0)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return n.newFile(fd, cred, flags), nil
}

// newFile makes the File of a descriptor. The node must be pinned or just interned.
func (n *node) newFile(fd int, cred *p9srv.Cred, flags uint32) *file {
	f := &file{n: n, fd: fd, writable: flags&wire.OAccMode != wire.ORdonly, appends: flags&wire.OAppend != 0}
	if cred != nil {
		c := *cred
		f.cred = &c
	}
	if n.isDir() {
		f.dir = &dirFile{n: n, fd: fd}
	}
	n.fs.mu.Lock()
	n.opens++
	n.fs.mu.Unlock()
	return f
}

// Close ends the use.
func (f *file) Close(ctx context.Context) error {
	err := syscall.EBADF
	closed := false
	f.once.Do(func() {
		closed = true
		if f.dir != nil {
			f.dir.close()
		}
		e := unix.Close(f.fd)
		fs := f.n.fs
		fs.mu.Lock()
		f.n.opens--
		fds := f.n.settleLocked()
		fs.mu.Unlock()
		closeFDs(fds...)
		if e != nil && e != syscall.EINTR {
			err = e.(syscall.Errno)
		} else {
			err = 0
		}
	})
	if closed && err == 0 {
		return nil
	}
	return fmt.Errorf("close: %w", err)
}

// ReadAt reads until p is full or the file ends.
func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if f.dir != nil {
		return 0, fmt.Errorf("read: %w", syscall.EISDIR)
	}
	if off < 0 {
		return 0, fmt.Errorf("read: %w", syscall.EINVAL)
	}
	done := 0
	for done < len(p) {
		k, err := unix.Pread(f.fd, p[done:], off+int64(done))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			if done > 0 {
				break
			}
			return 0, fmt.Errorf("read: %w", err)
		}
		if k == 0 {
			break
		}
		done += k
		if done < len(p) && ctx.Err() != nil {
			break
		}
	}
	return done, nil
}

// WriteAt writes all of p. It runs as the user who opened: the host takes setuid bits
// away and counts quotas by who writes.
func (f *file) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if off < 0 && !f.appends {
		return 0, fmt.Errorf("write: %w", syscall.EINVAL)
	}
	if err := f.n.fs.disturb(f.n); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	done := 0
	err := f.n.fs.as(f.cred, func() error {
		for done < len(p) {
			k, err := unix.Pwrite(f.fd, p[done:], max(off, 0)+int64(done))
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			done += k
		}
		return nil
	})
	if err != nil {
		return done, fmt.Errorf("write: %w", err)
	}
	return done, nil
}

// Fsync makes the object durable: of a directory its entries.
func (f *file) Fsync(ctx context.Context, dataOnly bool) error {
	err := eintr(func() error {
		if dataOnly {
			return unix.Fdatasync(f.fd)
		}
		return unix.Fsync(f.fd)
	})
	if err != nil {
		return fmt.Errorf("fsync: %w", err)
	}
	return nil
}

// Allocate is fallocate(2).
func (f *file) Allocate(ctx context.Context, mode uint32, off, length uint64) error {
	if !f.writable {
		return fmt.Errorf("allocate: %w", syscall.EBADF)
	}
	if off > 1<<63-1 || length > 1<<63-1 || off+length > 1<<63-1 {
		return fmt.Errorf("allocate: %w", syscall.EFBIG)
	}
	if err := f.n.fs.disturb(f.n); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	err := f.n.fs.as(f.cred, func() error {
		return eintr(func() error { return unix.Fallocate(f.fd, mode, int64(off), int64(length)) })
	})
	if err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	return nil
}

// AppendDir lists a directory for the wire.
func (f *file) AppendDir(ctx context.Context, cookie uint64, b []byte, most int) ([]byte, bool, error) {
	if f.dir == nil {
		return b, false, fmt.Errorf("read directory: %w", syscall.ENOTDIR)
	}
	b, more, err := f.dir.appendTo(ctx, cookie, b, most)
	if err != nil {
		return b, false, fmt.Errorf("read directory: %w", err)
	}
	return b, more, nil
}

// ReadDir lists a directory.
func (f *file) ReadDir(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	if f.dir == nil {
		return fmt.Errorf("read directory: %w", syscall.ENOTDIR)
	}
	if err := f.dir.read(ctx, cookie, fn); err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	return nil
}

package journal

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// files makes the system calls that change the log's directory. Each is asked for by
// name before it is made.
type files struct {
	dir  int // the log's directory
	step func(name string) error
	// hook sees each call with what it is about, and may fail it as the host would: for tests.
	hook func(op hostOp) error
	dead atomic.Bool // the log is broken: nothing is changed any more
}

// hostOp is one system call.
type hostOp struct {
	what     string // mkdir, create, allocate, write, fdatasync, fsync, rename, unlink or syncdir
	name, to string
	fd       int
	off      int64
	data     [][]byte
}

// stopped wraps what Options.Step said.
type stopped struct{ error }

func (s stopped) Unwrap() error { return s.error }

var errBroken = errors.New("the log of cuts is broken")

// ask is called before every system call that changes something.
func (h *files) ask(op hostOp) error {
	if h.dead.Load() {
		return errBroken
	}
	if h.step != nil {
		if err := h.step("log " + op.what); err != nil {
			return stopped{err}
		}
	}
	if h.hook != nil {
		return h.hook(op)
	}
	return nil
}

// create makes a file that is not there yet, and opens it.
func (h *files) create(name string) (int, error) {
	if err := h.ask(hostOp{what: "create", name: name}); err != nil {
		return -1, err
	}
	fd, err := unix.Openat(h.dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return -1, fmt.Errorf("create segment %s of the log of cuts: %w", name, err)
	}
	return fd, nil
}

// maxPieces is the kernel's IOV_MAX.
const maxPieces = 1024

// write puts the pieces to the file one after another, from offset off on. The
// pieces' slice is used up.
func (h *files) write(fd int, name string, pieces [][]byte, off int64) error {
	for len(pieces) > 0 {
		n := min(len(pieces), maxPieces)
		if err := h.ask(hostOp{what: "write", name: name, fd: fd, off: off, data: pieces[:n]}); err != nil {
			return err
		}
		done, err := unix.Pwritev(fd, pieces[:n], off)
		if err == syscall.EINTR {
			continue
		}
		if err == nil && done == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("write to segment %s of the log of cuts at offset %d: %w", name, off, err)
		}
		off += int64(done)
		pieces = skip(pieces, done)
	}
	return nil
}

// skip takes the first n bytes away.
func skip(pieces [][]byte, n int) [][]byte {
	for len(pieces) > 0 && n >= len(pieces[0]) {
		n -= len(pieces[0])
		pieces = pieces[1:]
	}
	if n > 0 {
		pieces[0] = pieces[0][n:]
	}
	return pieces
}

// allocate sets space aside, where that can be done: so a full disk shows at once.
func (h *files) allocate(fd int, name string, size int64) error {
	if err := h.ask(hostOp{what: "allocate", name: name, fd: fd}); err != nil {
		return err
	}
	err := retry(func() error { return unix.Fallocate(fd, 0, 0, size) })
	if err != nil && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.ENOSYS) {
		return fmt.Errorf("allocate segment %s of the log of cuts: %w", name, err)
	}
	return nil
}

// fdatasync makes what was written to the file durable.
func (h *files) fdatasync(fd int, name string) error {
	if err := h.ask(hostOp{what: "fdatasync", name: name, fd: fd}); err != nil {
		return err
	}
	return syncError("fdatasync", name, retry(func() error { return unix.Fdatasync(fd) }))
}

// fsync makes the file durable, its length and place too.
func (h *files) fsync(fd int, name string) error {
	if err := h.ask(hostOp{what: "fsync", name: name, fd: fd}); err != nil {
		return err
	}
	return syncError("fsync", name, retry(func() error { return unix.Fsync(fd) }))
}

func syncError(call, name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s segment %s of the log of cuts: %w", call, name, err)
	}
	return nil
}

// syncDir makes names durable.
func (h *files) syncDir() error {
	if err := h.ask(hostOp{what: "syncdir", fd: h.dir}); err != nil {
		return err
	}
	if err := retry(func() error { return unix.Fsync(h.dir) }); err != nil {
		return fmt.Errorf("fsync the directory of the log of cuts: %w", err)
	}
	return nil
}

func (h *files) rename(from, to string) error {
	if err := h.ask(hostOp{what: "rename", name: from, to: to}); err != nil {
		return err
	}
	if err := unix.Renameat(h.dir, from, h.dir, to); err != nil {
		return fmt.Errorf("rename segment %s of the log of cuts to %s: %w", from, to, err)
	}
	return nil
}

func (h *files) unlink(name string) error {
	if err := h.ask(hostOp{what: "unlink", name: name}); err != nil {
		return err
	}
	if err := unix.Unlinkat(h.dir, name, 0); err != nil {
		return fmt.Errorf("remove segment %s of the log of cuts: %w", name, err)
	}
	return nil
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

// diskFull says whether an error is one that goes away when space is made.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

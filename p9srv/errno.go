package p9srv

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
)

// errnoOf is the one place where an error becomes the number that a client gets.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno) && errno != 0:
		return errno
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	case errors.Is(err, context.DeadlineExceeded):
		return syscall.ETIMEDOUT
	case errors.Is(err, fs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, fs.ErrExist):
		return syscall.EEXIST
	case errors.Is(err, fs.ErrPermission):
		return syscall.EACCES
	case errors.Is(err, fs.ErrInvalid):
		return syscall.EINVAL
	}
	return syscall.EIO
}

// cancelled tells whether an operation ended because its context did.
func cancelled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, syscall.EINTR)
}

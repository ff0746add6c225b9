package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// hints say what to do next about an answer of the file system.
var hints = []struct {
	err  error
	hint string
}{
	{syscall.EISDIR, "it is a directory; -r does whole trees"},
	{syscall.ENOTEMPTY, "the directory is not empty; `rm -r` removes what is in it, too"},
	{syscall.EDQUOT, "the server's quota is used up; `df` shows the space"},
	{syscall.ENOSPC, "the server's disk is full; `df` shows the space"},
	{syscall.EROFS, "the server exports this read-only; it was started with --ro"},
	{syscall.EXDEV, "the two names are on different file systems; copy and remove instead"},
	{syscall.ESTALE, "the object is gone at the server; look the name up again"},
	{syscall.ELOOP, "the symbolic links lead in a circle"},
}

// withHint adds what to do next, where that is known.
func withHint(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	if strings.HasSuffix(err.Error(), ")") {
		return err // it says so itself
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return fmt.Errorf("%w (%s)", err, h.hint)
		}
	}
	return err
}

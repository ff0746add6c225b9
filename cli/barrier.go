package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"echo9/p9srv"
)

func barrierCommand() *cli.Command {
	return &cli.Command{
		Name: "barrier", ArgsUsage: "PATH", Usage: "order what was done to a file or directory before all that is done later",
		Category: "Server and mounts", HideHelpCommand: true,
		Description: `   cp data /mnt/src/a/data && echo9 barrier /mnt/src/a/data && touch /mnt/src/b/ready

PATH is in a mount. Whatever crashes, nobody sees what is done after the
barrier, anywhere in the mount, without what was done to PATH before it. It does not wait and makes nothing durable: for
that there is fsync(2), and echo9 sync. Of a directory it orders the changes of names in it, not of
the files' contents.

Programs do the same by setting the extended attribute ` + p9srv.BarrierXattr + `
(setfattr -n ` + p9srv.BarrierXattr + ` PATH), which is not stored.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			return barrier(c.Args().First())
		},
	}
}

func barrier(path string) error {
	full, err := filepath.Abs(path)
	if err == nil {
		full, err = filepath.EvalSymlinks(full)
	}
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	mnt, fstype, err := mountOf(full)
	if err != nil {
		return err
	}
	// A kernel's own client may be on `echo9 cache`; on any other server all is done when it returns.
	if fstype != "fuse.echo9" && fstype != "9p" {
		return fmt.Errorf("barrier: %s is in no mount of echo9 but in a file system of type %s at %s; `echo9 status` lists the mounts", path, fstype, mnt)
	}
	err = unix.Setxattr(full, p9srv.BarrierXattr, []byte("1"), 0)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("barrier: %s: %w (only files and directories can have one)", path, err)
	}
	return fmt.Errorf("barrier: %s: %w", path, err)
}

// mountOf gives the mount that a path is in, and its type.
func mountOf(path string) (mnt, fstype string, err error) {
	for mnt = path; ; mnt = filepath.Dir(mnt) {
		mounted, fstype, err := mountAt(mnt)
		if err != nil || mounted {
			return mnt, fstype, err
		}
		if mnt == "/" || !strings.HasPrefix(mnt, "/") {
			return mnt, "unknown", nil
		}
	}
}

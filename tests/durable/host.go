package durable

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// onHost does an operation in an ordinary directory. The process's umask must be 0.
func onHost(dir string, o op) error {
	if err := hostOp(filepath.Join(dir, o.path), filepath.Join(dir, o.to), o); err != nil {
		return fmt.Errorf("%v: %w", o, err)
	}
	return nil
}

func hostOp(path, to string, o op) error {
	switch o.do {
	case "create":
		if err := os.WriteFile(path, o.data, os.FileMode(o.mode&0o777)); err != nil {
			return err
		}
		return unix.Chmod(path, o.mode)
	case "write":
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt(o.data, o.off)
		return err
	case "truncate":
		return os.Truncate(path, o.off)
	case "mkdir":
		if err := unix.Mkdir(path, o.mode); err != nil {
			return err
		}
		return unix.Chmod(path, o.mode)
	case "symlink":
		return os.Symlink(o.text, path)
	case "fifo":
		return unix.Mknod(path, unix.S_IFIFO|o.mode, 0)
	case "device":
		return unix.Mknod(path, unix.S_IFCHR|o.mode, int(unix.Mkdev(1, 3)))
	case "link":
		return unix.Linkat(unix.AT_FDCWD, path, unix.AT_FDCWD, to, 0)
	case "unlink":
		return os.Remove(path)
	case "rmtree":
		return os.RemoveAll(path)
	case "rename":
		return unix.Rename(path, to) // os.Rename replaces no directory
	case "exchange":
		return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	case "chmod":
		return unix.Chmod(path, o.mode)
	case "chown":
		return os.Lchown(path, int(o.uid), int(o.uid))
	case "acl":
		return unix.Setxattr(path, "system.posix_acl_access", o.data, 0)
	case "setxattr":
		return unix.Setxattr(path, o.text, o.data, 0)
	case "removexattr":
		if err := unix.Removexattr(path, o.text); err != unix.ENODATA {
			return err
		}
		return nil
	}
	return fmt.Errorf("there is no such operation")
}

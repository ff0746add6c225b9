package dirfs

import (
	"context"
	"fmt"
	"strings"

	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// withXattr runs fn as cred with a path that reaches n itself, symlinks included.
func (n *node) withXattr(cred *p9srv.Cred, what string, fn func(path string) error) error {
	fd, err := n.pin()
	if err == nil {
		path := procPath(fd)
		err = n.fs.as(cred, func() error { return fn(path) })
		n.unpin()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// GetXattr reads an extended attribute.
func (n *node) GetXattr(ctx context.Context, cred *p9srv.Cred, name string) ([]byte, error) {
	var value []byte
	err := n.withXattr(cred, "get extended attribute "+name, func(path string) (err error) {
		value, err = getXattr(path, name)
		return err
	})
	return value, err
}

// getXattr reads a whole value, however it grows meanwhile.
func getXattr(path, name string) ([]byte, error) {
	for buf := make([]byte, 256); ; {
		k, err := unix.Getxattr(path, name, buf)
		if err == nil {
			return buf[:k:k], nil
		}
		if err != unix.ERANGE || len(buf) > 64<<10 {
			return nil, err
		}
		buf = make([]byte, 64<<10+1)
	}
}

// ListXattr lists the names of the extended attributes.
func (n *node) ListXattr(ctx context.Context, cred *p9srv.Cred) ([]string, error) {
	var names []string
	err := n.withXattr(cred, "list extended attributes", func(path string) (err error) {
		names, err = listXattr(path)
		if err == unix.EOPNOTSUPP {
			return nil
		}
		return err
	})
	return names, err
}

func listXattr(path string) ([]string, error) {
	for buf := make([]byte, 1024); ; {
		k, err := unix.Listxattr(path, buf)
		if err == nil {
			if k == 0 {
				return nil, nil
			}
			return strings.Split(strings.TrimSuffix(string(buf[:k]), "\x00"), "\x00"), nil
		}
		if err != unix.ERANGE || len(buf) > 64<<10 {
			return nil, err
		}
		buf = make([]byte, 64<<10+1)
	}
}

// SetXattr sets an extended attribute.
func (n *node) SetXattr(ctx context.Context, cred *p9srv.Cred, name string, value []byte, flags uint32) error {
	if name == p9srv.BarrierXattr {
		return nil // all that came before is done
	}
	if err := n.fs.readOnly(); err != nil {
		return fmt.Errorf("set extended attribute %s: %w", name, err)
	}
	if err := n.fs.disturb(n); err != nil {
		return fmt.Errorf("set extended attribute %s: %w", name, err)
	}
	return n.withXattr(cred, "set extended attribute "+name, func(path string) error {
		return unix.Setxattr(path, name, value, int(flags))
	})
}

// RemoveXattr removes an extended attribute.
func (n *node) RemoveXattr(ctx context.Context, cred *p9srv.Cred, name string) error {
	if err := n.fs.readOnly(); err != nil {
		return fmt.Errorf("remove extended attribute %s: %w", name, err)
	}
	if err := n.fs.disturb(n); err != nil {
		return fmt.Errorf("remove extended attribute %s: %w", name, err)
	}
	return n.withXattr(cred, "remove extended attribute "+name, func(path string) error {
		return unix.Removexattr(path, name)
	})
}

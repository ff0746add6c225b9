package dirfs

import (
	"context"
	"fmt"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// Walk looks up one name.
func (n *node) Walk(ctx context.Context, cred *p9srv.Cred, name string) (p9srv.Object, wire.Attr, error) {
	var attr wire.Attr
	o, err := n.walk(ctx, cred, name, &attr)
	if err != nil {
		return nil, wire.Attr{}, err
	}
	return o, attr, nil
}

func (n *node) walk(ctx context.Context, cred *p9srv.Cred, name string, attr *wire.Attr) (*node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !n.isDir() {
		return nil, fmt.Errorf("walk to %q: %w", name, syscall.ENOTDIR)
	}
	if name == ".." {
		return n.walkUp(cred, attr)
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("walk to %q: %w", name, err)
	}
	if n.reserved(name) {
		return nil, fmt.Errorf("walk to %q: %w", name, syscall.ENOENT)
	}
	fd, err := n.pin()
	if err != nil {
		return nil, fmt.Errorf("walk to %q: %w", name, err)
	}
	defer n.unpin()
	var o *node
	var st unix.Statx_t
	err = n.fs.look(cred, func() error {
		o, err = n.fs.resolve(n, fd, name, &st)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("walk to %q: %w", name, err)
	}
	if attr != nil {
		*attr = o.attr(&st)
	}
	return o, nil
}

// resolve looks name up in directory n, which dirfd refers to, and gives its node with a
// reference. An inode whose descriptor is held costs one system call.
func (fs *FS) resolve(n *node, dirfd int, name string, st *unix.Statx_t) (*node, error) {
	if err := statAt(dirfd, name, st); err != nil {
		return nil, err
	}
	if o := fs.known(st, n.id, name); o != nil {
		return o, nil
	}
	fd, err := openPath(dirfd, name)
	if err != nil {
		return nil, err
	}
	if err := statFD(fd, st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return fs.adopt(fd, st, n.id, name)
}

// adopt makes the node of an O_PATH descriptor that was opened as name in directory parent.
func (fs *FS) adopt(fd int, st *unix.Statx_t, parent uint64, name string) (*node, error) {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && fs.nested(fd) {
		unix.Close(fd)
		fs.logf("%q is being served by another server and cannot be reached through this one", name)
		return nil, syscall.EBUSY
	}
	ident, err := fs.identify(fd, "", st)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return fs.intern(fd, st, ident, parent, name)
}

// walkUp goes to the parent directory. It goes there through the host's "..", and then
// makes sure that the export's root is above: a directory that the host moved out of
// the tree must not lead out of it.
func (n *node) walkUp(cred *p9srv.Cred, attr *wire.Attr) (*node, error) {
	fs := n.fs
	var st unix.Statx_t
	if n == fs.root {
		n.ref()
		if attr != nil {
			a, err := n.getAttr()
			if err != nil {
				n.Release()
				return nil, err
			}
			*attr = a
		}
		return n, nil
	}
	fd, err := n.pin()
	if err != nil {
		return nil, fmt.Errorf("walk up: %w", err)
	}
	defer n.unpin()
	var up int
	err = fs.look(cred, func() error {
		up, err = unix.Openat(fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err == nil {
		if err = fs.beneath(up); err == nil {
			err = statFD(up, &st)
		}
		if err != nil {
			unix.Close(up)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("walk up: %w", err)
	}
	ident, err := fs.identify(up, "", &st)
	if err != nil {
		unix.Close(up)
		return nil, fmt.Errorf("walk up: %w", err)
	}
	p, err := fs.intern(up, &st, ident, 0, "")
	if err != nil {
		return nil, fmt.Errorf("walk up: %w", err)
	}
	if attr != nil {
		*attr = p.attr(&st)
	}
	return p, nil
}

// beneath answers nil when the export's root is fd or above it, else ESTALE.
func (fs *FS) beneath(fd int) error {
	cur, last := fd, devIno{}
	defer func() {
		if cur != fd {
			unix.Close(cur)
		}
	}()
	for {
		var st unix.Statx_t
		if err := statFD(cur, &st); err != nil {
			return err
		}
		key := stKey(&st)
		if key == fs.root.key {
			return nil
		}
		if key == last || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return syscall.ESTALE
		}
		last = key
		up, err := unix.Openat(cur, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if cur != fd {
			unix.Close(cur)
		}
		cur = up
	}
}

// GetAttr tells the attributes.
func (n *node) GetAttr(ctx context.Context, cred *p9srv.Cred) (wire.Attr, error) {
	return n.getAttr()
}

func (n *node) getAttr() (wire.Attr, error) {
	fd, err := n.pin()
	if err != nil {
		return wire.Attr{}, fmt.Errorf("get attributes: %w", err)
	}
	var st unix.Statx_t
	err = statFD(fd, &st)
	fs := n.fs
	fs.mu.Lock()
	n.pins--
	var fds []int
	if n.pins == 0 && n.gone {
		fds = n.settleLocked()
	}
	a := n.attrLocked(&st)
	fs.mu.Unlock()
	closeFDs(fds...)
	if err != nil {
		return wire.Attr{}, fmt.Errorf("get attributes: %w", err)
	}
	return a, nil
}

// Readlink reads a symlink.
func (n *node) Readlink(ctx context.Context, cred *p9srv.Cred) (string, error) {
	if n.typ != unix.S_IFLNK {
		return "", fmt.Errorf("read link: %w", syscall.EINVAL)
	}
	fd, err := n.pin()
	if err != nil {
		return "", fmt.Errorf("read link: %w", err)
	}
	defer n.unpin()
	return readlinkFD(fd)
}

func readlinkFD(fd int) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		k, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			return "", fmt.Errorf("read link: %w", err)
		}
		if k < size {
			return string(buf[:k]), nil
		}
	}
}

package dirfs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// makeIn checks and pins directory n for the making of name.
func (n *node) makeIn(ctx context.Context, name string) (int, error) {
	if err := ctx.Err(); err != nil {
		return -1, err
	}
	if err := n.fs.readOnly(); err != nil {
		return -1, err
	}
	if !n.isDir() {
		return -1, syscall.ENOTDIR
	}
	if err := n.checkNew(name); err != nil {
		return -1, err
	}
	if n.removed() {
		return -1, syscall.ENOENT
	}
	if err := n.fs.disturb(n); err != nil {
		return -1, err
	}
	return n.pin()
}

// removed says whether n, a directory that is kept for a session, has no name any more.
func (n *node) removed() bool {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	return n.orphan
}

// Create makes and opens a regular file, or opens the one that is there.
func (n *node) Create(ctx context.Context, cred *p9srv.Cred, name string, flags, mode, gid uint32) (p9srv.Object, p9srv.File, wire.Attr, error) {
	o, f, attr, err := n.create(ctx, cred, name, flags, mode, gid)
	if err != nil {
		return nil, nil, wire.Attr{}, fmt.Errorf("create %q: %w", name, err)
	}
	return o, f, attr, nil
}

func (n *node) create(ctx context.Context, cred *p9srv.Cred, name string, flags, mode, gid uint32) (*node, *file, wire.Attr, error) {
	dirfd, err := n.makeIn(ctx, name)
	if err != nil {
		return nil, nil, wire.Attr{}, err
	}
	defer n.unpin()
	// The name may come and go while we look: each round is what one open(2) does.
	for range 100 {
		fd := -1
		err = n.fs.asGroup(cred, gid, func() error {
			fd, err = openat2(dirfd, name, hostFlags(flags)|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, uint64(mode&0o7777))
			return err
		})
		if err == nil {
			return n.created(fd, cred, flags, name)
		}
		if err != syscall.EEXIST || flags&wire.OExcl != 0 {
			return nil, nil, wire.Attr{}, err
		}
		o, err := n.walk(ctx, cred, name, nil)
		if errors.Is(err, syscall.ENOENT) {
			continue
		}
		if err != nil {
			return nil, nil, wire.Attr{}, err
		}
		f, err := o.open(ctx, cred, flags)
		var attr wire.Attr
		if err == nil {
			if attr, err = o.getAttr(); err != nil {
				f.Close(ctx)
			}
		}
		if err != nil {
			o.Release()
			return nil, nil, wire.Attr{}, err
		}
		return o, f, attr, nil
	}
	return nil, nil, wire.Attr{}, syscall.EAGAIN
}

// created makes the node of a new file from its descriptor.
func (n *node) created(fd int, cred *p9srv.Cred, flags uint32, name string) (*node, *file, wire.Attr, error) {
	fail := func(err error) (*node, *file, wire.Attr, error) {
		unix.Close(fd)
		return nil, nil, wire.Attr{}, err
	}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		return fail(err)
	}
	ident, err := n.fs.identify(fd, "", &st)
	if err != nil {
		return fail(err)
	}
	path, err := n.fs.pathOf(fd)
	if err != nil {
		return fail(err)
	}
	o, err := n.fs.intern(path, &st, ident, n.id, name)
	if err != nil {
		return fail(err)
	}
	return o, o.newFile(fd, cred, flags), o.attr(&st), nil
}

// pathOf opens an O_PATH descriptor of what fd refers to.
func (fs *FS) pathOf(fd int) (int, error) {
	return unix.Openat(fs.procFD, itoa(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
}

// make runs fn, which makes name in directory n, and gives what it made.
func (n *node) make(ctx context.Context, cred *p9srv.Cred, name string, gid uint32, fn func(dirfd int) error) (p9srv.Object, wire.Attr, error) {
	dirfd, err := n.makeIn(ctx, name)
	if err != nil {
		return nil, wire.Attr{}, err
	}
	defer n.unpin()
	if err := n.fs.asGroup(cred, gid, func() error { return fn(dirfd) }); err != nil {
		return nil, wire.Attr{}, err
	}
	// Who could make it may look it up, whatever the directory's search permission was
	// between: so this goes as the server itself.
	var st unix.Statx_t
	o, err := n.fs.resolve(n, dirfd, name, &st)
	if err != nil {
		return nil, wire.Attr{}, err
	}
	return o, o.attr(&st), nil
}

// Mkdir makes a directory.
func (n *node) Mkdir(ctx context.Context, cred *p9srv.Cred, name string, mode, gid uint32) (p9srv.Object, wire.Attr, error) {
	o, attr, err := n.make(ctx, cred, name, gid, func(dirfd int) error {
		return unix.Mkdirat(dirfd, name, mode&0o7777)
	})
	if err != nil {
		return nil, attr, fmt.Errorf("make directory %q: %w", name, err)
	}
	return o, attr, nil
}

// Symlink makes a symlink. Its target is not looked at.
func (n *node) Symlink(ctx context.Context, cred *p9srv.Cred, name, target string, gid uint32) (p9srv.Object, wire.Attr, error) {
	o, attr, err := n.make(ctx, cred, name, gid, func(dirfd int) error {
		return unix.Symlinkat(target, dirfd, name)
	})
	if err != nil {
		return nil, attr, fmt.Errorf("make symlink %q: %w", name, err)
	}
	return o, attr, nil
}

// Mknod makes a special file, or an empty regular one.
func (n *node) Mknod(ctx context.Context, cred *p9srv.Cred, name string, mode, major, minor, gid uint32) (p9srv.Object, wire.Attr, error) {
	o, attr, err := n.make(ctx, cred, name, gid, func(dirfd int) error {
		return unix.Mknodat(dirfd, name, mode&(unix.S_IFMT|0o7777), int(unix.Mkdev(major, minor)))
	})
	if err != nil {
		return nil, attr, fmt.Errorf("make special file %q: %w", name, err)
	}
	return o, attr, nil
}

// Link gives target another name.
func (n *node) Link(ctx context.Context, cred *p9srv.Cred, target p9srv.Object, name string) error {
	t, ok := target.(*node)
	if !ok || t.fs != n.fs {
		return fmt.Errorf("link %q: %w", name, syscall.EXDEV)
	}
	dirfd, err := n.makeIn(ctx, name)
	if err != nil {
		return fmt.Errorf("link %q: %w", name, err)
	}
	defer n.unpin()
	if t.isDir() {
		return fmt.Errorf("link %q: %w", name, syscall.EPERM)
	}
	if t.removed() {
		return fmt.Errorf("link %q: %w", name, syscall.ENOENT)
	}
	if err := n.fs.disturb(t); err != nil {
		return fmt.Errorf("link %q: %w", name, err)
	}
	fd, err := t.pin()
	if err != nil {
		return fmt.Errorf("link %q: %w", name, err)
	}
	defer t.unpin()
	err = n.fs.as(cred, func() error { return linkFD(fd, dirfd, name) })
	if err != nil {
		return fmt.Errorf("link %q: %w", name, err)
	}
	n.fs.mu.Lock()
	t.parent, t.name, t.unnamed = n.id, name, false
	n.fs.mu.Unlock()
	return nil
}

// linkFD gives what an O_PATH descriptor refers to another name.
func linkFD(fd, dirfd int, name string) error {
	return unix.Linkat(unix.AT_FDCWD, procPath(fd), dirfd, name, unix.AT_SYMLINK_FOLLOW)
}

package dirfs

import (
	"context"
	"fmt"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// losing finds the node of an inode that is about to lose a name, if the server has
// met it, with a reference and its descriptor open, so that it outlives the name
// for those who use it.
func (fs *FS) losing(dir *node, dirfd int, name string, st *unix.Statx_t) (*node, error) {
	o := fs.known(st, dir.id, name)
	if o == nil {
		fs.mu.Lock()
		n := fs.byKey[stKey(st)]
		fs.mu.Unlock()
		if n == nil && !fs.owes() || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return nil, nil
		}
		var now unix.Statx_t
		var err error
		if o, err = fs.resolve(dir, dirfd, name, &now); err != nil {
			return nil, err
		}
	}
	if _, err := o.pin(); err != nil {
		o.Release()
		return nil, err
	}
	return o, nil
}

// lost notes that a name of n is gone; removed says whether that was so. It gives
// back what losing took.
func (fs *FS) lost(n *node, dir *node, name string, removed bool) {
	if n == nil {
		return
	}
	if removed {
		var st unix.Statx_t
		fs.mu.Lock()
		fd := n.fd
		fs.mu.Unlock()
		err := statFD(fd, &st)
		fs.mu.Lock()
		switch {
		case err != nil || st.Nlink == 0:
			n.goneLocked()
		case n.parent == dir.id && n.name == name:
			// Another name exists that we may not know.
			n.parent, n.name = 0, ""
			if n.handle == "" {
				n.unnamed = true
			}
		}
		gone := n.gone
		fs.mu.Unlock()
		if gone {
			fs.ids.remove(n.id)
		}
	}
	n.unpin()
	n.Release()
}

// Unlink removes a name.
func (n *node) Unlink(ctx context.Context, cred *p9srv.Cred, name string, flags uint32) error {
	if err := n.unlink(ctx, cred, name, flags); err != nil {
		return fmt.Errorf("unlink %q: %w", name, err)
	}
	return nil
}

func (n *node) unlink(ctx context.Context, cred *p9srv.Cred, name string, flags uint32) error {
	if flags&^wire.AtRemoveDir != 0 {
		return syscall.EINVAL
	}
	dirfd, err := n.makeIn(ctx, name)
	if err != nil {
		return err
	}
	defer n.unpin()
	fs := n.fs
	var st unix.Statx_t
	if err := fs.look(cred, func() error { return statAt(dirfd, name, &st) }); err != nil {
		return err
	}
	victim, err := fs.losing(n, dirfd, name, &st)
	if err != nil {
		return err
	}
	kept := fs.mustKeep(victim, &st)
	if kept || st.Nlink > 1 && victim != nil {
		// One that goes with its name needs nothing.
		err = fs.disturb(victim)
	}
	if err != nil {
		fs.lost(victim, n, name, false)
		return err
	}
	if kept {
		err = fs.unlinkKept(cred, n, dirfd, name, victim, flags)
		fs.lost(victim, n, name, false)
		return err
	}
	err = fs.as(cred, func() error { return unix.Unlinkat(dirfd, name, int(flags)) })
	fs.lost(victim, n, name, err == nil)
	return err
}

// Rename moves a name.
func (n *node) Rename(ctx context.Context, cred *p9srv.Cred, oldName string, dir p9srv.Object, newName string, flags uint32) error {
	d, ok := dir.(*node)
	if !ok || d.fs != n.fs {
		return fmt.Errorf("rename %q: %w", oldName, syscall.EXDEV)
	}
	if err := n.rename(ctx, cred, oldName, d, newName, flags); err != nil {
		return fmt.Errorf("rename %q to %q: %w", oldName, newName, err)
	}
	return nil
}

func (n *node) rename(ctx context.Context, cred *p9srv.Cred, oldName string, d *node, newName string, flags uint32) error {
	if flags&^(wire.RenameNoReplace|wire.RenameExchange) != 0 {
		return syscall.EINVAL
	}
	from, err := n.makeIn(ctx, oldName)
	if err != nil {
		return err
	}
	defer n.unpin()
	to, err := d.makeIn(ctx, newName)
	if err != nil {
		return err
	}
	defer d.unpin()
	fs := n.fs
	var src, dst unix.Statx_t
	haveDst := true
	err = fs.look(cred, func() error {
		if err := statAt(from, oldName, &src); err != nil {
			return err
		}
		switch err := statAt(to, newName, &dst); err {
		case nil:
			return nil
		case syscall.ENOENT:
			haveDst = false
			return nil
		default:
			return err
		}
	})
	if err != nil {
		return err
	}
	var victim *node
	if haveDst && flags == 0 && stKey(&src) != stKey(&dst) {
		if victim, err = fs.losing(d, to, newName, &dst); err != nil {
			return err
		}
	}
	kept := fs.mustKeep(victim, &dst)
	fs.mu.Lock()
	moved := []*node{fs.byKey[stKey(&src)]}
	if haveDst && (flags != 0 || kept || dst.Nlink > 1) {
		moved = append(moved, fs.byKey[stKey(&dst)])
	}
	fs.mu.Unlock()
	if err := fs.disturb(moved...); err != nil {
		fs.lost(victim, d, newName, false)
		return err
	}
	if kept {
		err = fs.replaceKept(cred, from, oldName, &src, to, newName, d, victim)
	} else {
		err = fs.as(cred, func() error { return unix.Renameat2(from, oldName, to, newName, uint(flags)) })
	}
	fs.lost(victim, d, newName, err == nil && !kept)
	if err != nil {
		return err
	}
	fs.mu.Lock()
	if o := fs.byKey[stKey(&src)]; o != nil && !(haveDst && stKey(&src) == stKey(&dst)) {
		o.parent, o.name = d.id, newName
	}
	if flags == wire.RenameExchange && haveDst {
		if o := fs.byKey[stKey(&dst)]; o != nil {
			o.parent, o.name = n.id, oldName
		}
	}
	fs.mu.Unlock()
	return nil
}

package cachefs

import (
	"context"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// Tmpfile makes and opens a regular file without a name, with what it would inherit in directory n.
func (n *node) Tmpfile(ctx context.Context, cred *p9srv.Cred, flags, mode, gid uint32) (p9srv.Object, p9srv.File, wire.Attr, error) {
	f := n.fs
	cred = f.who(cred)
	if flags&wire.OAccMode == wire.ORdonly {
		return nil, nil, wire.Attr{}, syscall.EINVAL
	}
	var c *node
	var h *file
	var attr wire.Attr
	err := f.update(ctx, cred, n, 0, func(t *turn) error {
		if n.ents == nil {
			return syscall.ENOTDIR
		}
		t.want(n, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		if err := access(cred, &n.attr, mayWrite|mayExec); err != nil {
			return err
		}
		if n.attr.Nlink == 0 {
			return syscall.ENOENT
		}
		var acl []xattrValue
		var err error
		if c, acl, err = t.bear(n, birth{kind: order.Tmpfile, mode: modeRegular | mode&modePerm, gid: gid}); err != nil {
			return err
		}
		c.attr.Nlink = 0
		c.kept, c.linkable = true, flags&wire.OExcl == 0
		t.append(&order.Op{Kind: order.Tmpfile, ID: c.id, Mode: c.attr.Mode, UserID: c.attr.UID, GroupID: c.attr.GID,
			Attrs: []order.Attr{c.final(cut.AttrAtime | cut.AttrMtime | cut.AttrCtime)}})
		for _, x := range acl {
			t.putXattr(c, x.name, x.value)
		}
		h = c.opened(cred, flags)
		c.ref()
		attr = c.attr
		return nil
	})
	if err != nil {
		if c != nil && h != nil {
			h.Close(context.WithoutCancel(ctx))
			c.Release()
		}
		return nil, nil, wire.Attr{}, err
	}
	return c, h, attr, nil
}

// Tmpfile makes and opens a file without a name, as by O_TMPFILE: flags has wire.OWronly or wire.ORdwr, and wire.OExcl if
// it is never to have one. It is on the file system of directory dir, and no more when it is closed unless Link named it.
func (f *FS) Tmpfile(ctx context.Context, dir string, flags, perm uint32) (*File, error) {
	var h *File
	err := f.onPath(ctx, "tmpfile", dir, true, func(o p9srv.Object, _ wire.Attr) error {
		d, ok := o.(p9srv.Nameless)
		if !ok {
			return syscall.EOPNOTSUPP
		}
		made, file, _, err := d.Tmpfile(ctx, &f.opt.Cred, flags, perm, f.opt.Cred.GID)
		if err != nil {
			return err
		}
		made.Release()
		h = &File{file}
		return nil
	})
	return h, err
}

// Link gives the file a further name, or its first one.
func (h *File) Link(ctx context.Context, newName string) error {
	own, ok := h.File.(*file)
	if !ok {
		return pathError("link", newName, syscall.EOPNOTSUPP)
	}
	f := own.n.fs
	return f.inParent(ctx, "link", newName, func(dir p9srv.Object, base string) error {
		return dir.Link(ctx, &f.opt.Cred, own.n, base)
	})
}

package cachefs

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// birth is all that there is to say of a new object.
type birth struct {
	kind   order.Kind
	mode   uint32 // type and permission bits
	gid    uint32
	target string
	to     uint64 // what a symlink leads to, 0 if that does not matter
	rdev   uint64
}

// bindTimes are the attributes that a binding leaves in a directory.
const bindTimes = cut.AttrMtime | cut.AttrCtime

// reserved says whether a name is not for users.
func (n *node) reserved(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if n == n.fs.root && name == ctlName {
		return syscall.EPERM
	}
	return nil
}

// Create makes and opens a regular file.
func (n *node) Create(ctx context.Context, cred *p9srv.Cred, name string, flags, mode, gid uint32) (p9srv.Object, p9srv.File, wire.Attr, error) {
	f := n.fs
	cred = f.who(cred)
	if err := n.reserved(name); err != nil {
		return nil, nil, wire.Attr{}, err
	}
	var c *node
	var h *file
	var attr wire.Attr
	err := f.update(ctx, cred, n, 0, func(t *turn) error {
		if n.ents == nil {
			return syscall.ENOTDIR
		}
		t.want(n, tokens.Write)
		old := tokens.Read
		if flags&wire.OTrunc != 0 && flags&wire.OExcl == 0 {
			old = tokens.Write
		}
		t.wantName(n, name, old)
		if err := t.pin(); err != nil {
			return err
		}
		if err := access(cred, &n.attr, mayExec); err != nil {
			return err
		}
		got, err := n.child(name)
		switch {
		case err == nil && (flags&wire.OExcl != 0 || got.attr.Mode&modeType == modeSymlink):
			return syscall.EEXIST
		case err == nil:
			if err := got.mayOpen(cred, flags); err != nil {
				return err
			}
			if flags&wire.OTrunc != 0 {
				t.blank(got)
			}
			c = got
		default:
			b := birth{kind: order.Create, mode: modeRegular | mode&modePerm, gid: gid}
			if c, err = t.create(n, name, b); err != nil {
				return err
			}
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

// Mkdir makes a directory.
func (n *node) Mkdir(ctx context.Context, cred *p9srv.Cred, name string, mode, gid uint32) (p9srv.Object, wire.Attr, error) {
	return n.make(ctx, cred, name, birth{kind: order.Mkdir, mode: modeDir | mode&(0o777|modeSticky), gid: gid})
}

// Symlink makes a symlink.
func (n *node) Symlink(ctx context.Context, cred *p9srv.Cred, name, target string, gid uint32) (p9srv.Object, wire.Attr, error) {
	switch {
	case target == "":
		return nil, wire.Attr{}, syscall.ENOENT
	case len(target) > maxTarget:
		return nil, wire.Attr{}, syscall.ENAMETOOLONG
	}
	b := birth{kind: order.Symlink, mode: modeSymlink | 0o777, gid: gid, target: target}
	if n.fs.opt.Order == order.Causal {
		b.to = n.fs.pointee(ctx, cred, n, target)
	}
	return n.make(ctx, cred, name, b)
}

// Mknod makes a special file, or a regular one.
func (n *node) Mknod(ctx context.Context, cred *p9srv.Cred, name string, mode, major, minor, gid uint32) (p9srv.Object, wire.Attr, error) {
	b := birth{kind: order.Mknod, mode: mode & (modeType | modePerm), gid: gid}
	switch mode & modeType {
	case 0, modeRegular:
		b.kind, b.mode = order.Create, b.mode|modeRegular
	case modeFifo, modeSocket:
	case modeChar, modeBlock:
		if n.fs.who(cred).UID != 0 {
			return nil, wire.Attr{}, syscall.EPERM
		}
		b.rdev = unix.Mkdev(major, minor)
	default:
		return nil, wire.Attr{}, syscall.EINVAL
	}
	return n.make(ctx, cred, name, b)
}

// make creates an object that is not opened.
func (n *node) make(ctx context.Context, cred *p9srv.Cred, name string, b birth) (p9srv.Object, wire.Attr, error) {
	f := n.fs
	cred = f.who(cred)
	if err := n.reserved(name); err != nil {
		return nil, wire.Attr{}, err
	}
	var c *node
	var attr wire.Attr
	err := f.update(ctx, cred, n, 0, func(t *turn) error {
		if n.ents == nil {
			return syscall.ENOTDIR
		}
		t.want(n, tokens.Write)
		t.wantName(n, name, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		if err := access(cred, &n.attr, mayExec); err != nil {
			return err
		}
		if _, err := n.child(name); err == nil {
			return syscall.EEXIST
		}
		var err error
		if c, err = t.create(n, name, b); err != nil {
			return err
		}
		c.ref()
		attr = c.attr
		return nil
	})
	if err != nil {
		if c != nil {
			c.Release()
		}
		return nil, wire.Attr{}, err
	}
	return c, attr, nil
}

// create brings an object into being in dir, whose token is pinned and in which the name is free. Called with fs.mu held.
func (t *turn) create(dir *node, name string, b birth) (*node, error) {
	if err := access(t.cred, &dir.attr, mayWrite|mayExec); err != nil {
		return nil, err
	}
	if dir.attr.Nlink == 0 {
		return nil, syscall.ENOENT
	}
	if b.kind == order.Mkdir && dir.attr.Nlink >= maxLinks {
		return nil, syscall.EMLINK
	}
	c, acl, err := t.bear(dir, b)
	if err != nil {
		return nil, err
	}
	if b.kind == order.Mkdir {
		dir.countDirs(1)
	}
	dir.touch(true)
	dir.ents.bind(name, c.qid, direntType(c.attr.Mode))
	c.addUp(dir.id)
	t.append(&order.Op{Kind: b.kind, ID: c.id, Dir: dir.id, Name: name, Mode: c.attr.Mode, UserID: c.attr.UID, GroupID: c.attr.GID,
		Target: b.target, Rdev: b.rdev, Reads: t.fs.reached(b.to, c, dir),
		Attrs: []order.Attr{dir.final(bindTimes), c.final(cut.AttrAtime | cut.AttrMtime | cut.AttrCtime)}})
	for _, x := range acl {
		t.putXattr(c, x.name, x.value)
	}
	return c, nil
}

// bear makes the node of a new object with what it inherits from dir. Called with fs.mu held.
func (t *turn) bear(dir *node, b birth) (*node, []xattrValue, error) {
	f, cred := t.fs, t.cred
	acl, err := t.inherit(dir, &b)
	if err != nil {
		return nil, nil, err
	}
	gid := b.gid
	if gid == wire.NoUID || cred.UID != 0 && !inGroup(cred, gid) || f.session.UID != wire.NoUID {
		gid = cred.GID
	}
	if dir.attr.Mode&modeSetgid != 0 {
		gid = dir.attr.GID
		if b.kind == order.Mkdir {
			b.mode |= modeSetgid
		}
	}
	if b.mode&modeSetgid != 0 && b.kind != order.Mkdir && cred.UID != 0 && !inGroup(cred, gid) {
		b.mode &^= modeSetgid
	}
	id, err := f.newID(t)
	if err != nil {
		return nil, nil, err
	}

	c := f.nodeFor(wire.QID{Type: qidType(b.mode), Path: id})
	now := f.now()
	c.attr = wire.Attr{QID: c.qid, Mode: b.mode, UID: cred.UID, GID: gid, Nlink: 1, Rdev: b.rdev, BlockSize: 4096,
		Atime: now, Mtime: now, Ctime: now, Btime: now, Flags: wire.AttrNoXattrs}
	c.attrOK, c.fresh, c.mine, c.xlist = true, true, true, true
	switch b.kind {
	case order.Mkdir:
		c.attr.Nlink = 2
		c.attr.Size, c.attr.Blocks = 4096, 8
		c.ents.complete = true
	case order.Symlink:
		c.attr.Size = uint64(len(b.target))
		c.target, c.targetOK = b.target, true
	}
	return c, acl, nil
}

// Link gives target a further name.
func (n *node) Link(ctx context.Context, cred *p9srv.Cred, target p9srv.Object, name string) error {
	f := n.fs
	cred = f.who(cred)
	if err := n.reserved(name); err != nil {
		return err
	}
	c, ok := target.(*node)
	if !ok || c.fs != f {
		return syscall.EXDEV
	}
	return f.update(ctx, cred, n, 0, func(t *turn) error {
		if n.ents == nil {
			return syscall.ENOTDIR
		}
		if c.ents != nil {
			return syscall.EPERM
		}
		t.want(n, tokens.Write)
		t.want(c, tokens.Write)
		t.wantName(n, name, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		if err := access(cred, &n.attr, mayExec); err != nil {
			return err
		}
		if _, err := n.child(name); err == nil {
			return syscall.EEXIST
		}
		if err := access(cred, &n.attr, mayWrite|mayExec); err != nil {
			return err
		}
		if err := mayLink(cred, &c.attr); err != nil {
			return err
		}
		switch {
		case n.attr.Nlink == 0 || c.attr.Nlink == 0 && !c.linkable:
			return syscall.ENOENT
		case c.attr.Nlink >= maxLinks:
			return syscall.EMLINK
		}
		if err := f.halfMade(c); err != nil {
			return err
		}
		if err := t.room(0, c.id, n.id); err != nil {
			return err
		}
		c.attr.Nlink++
		c.linkable = false
		c.touch(false)
		n.touch(true)
		n.ents.bind(name, c.qid, direntType(c.attr.Mode))
		c.addUp(n.id)
		t.append(&order.Op{Kind: order.Link, ID: c.id, Dir: n.id, Name: name,
			Attrs: []order.Attr{n.final(bindTimes), c.final(cut.AttrCtime)}})
		return nil
	})
}

// Unlink removes a name.
func (n *node) Unlink(ctx context.Context, cred *p9srv.Cred, name string, flags uint32) error {
	f := n.fs
	cred = f.who(cred)
	rmdir := flags&wire.AtRemoveDir != 0
	if rmdir && name == "." {
		return syscall.EINVAL
	}
	if err := n.reserved(name); err != nil {
		return err
	}
	return f.update(ctx, cred, n, 0, func(t *turn) error {
		if n.ents == nil {
			return syscall.ENOTDIR
		}
		t.want(n, tokens.Write)
		t.wantName(n, name, tokens.Write)
		if err := t.pin(); err != nil {
			return err
		}
		if err := access(cred, &n.attr, mayExec); err != nil {
			return err
		}
		c, err := n.child(name)
		if err != nil {
			return err
		}
		if err := mayDelete(cred, &n.attr, &c.attr); err != nil {
			return err
		}
		kind := order.Unlink
		switch {
		case rmdir:
			kind = order.Rmdir
			if err := t.empty(c); err != nil {
				return err
			}
		case c.ents != nil:
			return syscall.EISDIR
		}
		if !c.mine || c.opens > 0 || c.attr.Nlink > 1 {
			if err := t.room(0, c.id, n.id); err != nil { // else what it contains need not go
				return err
			}
		}
		n.touch(true)
		n.ents.unbind(name)
		op := &order.Op{Kind: kind, ID: c.id, Dir: n.id, Name: name}
		op.Keep, op.Dead = c.loseName(n)
		op.Attrs = []order.Attr{n.final(bindTimes)}
		if c.attr.Nlink > 0 || op.Keep {
			op.Attrs = append(op.Attrs, c.final(cut.AttrCtime))
		}
		t.frees(n.id, name, t.append(op))
		return nil
	})
}

// empty checks that c is an empty directory. Called with fs.mu held, with its token pinned.
func (t *turn) empty(c *node) error {
	if c.ents == nil {
		return syscall.ENOTDIR
	}
	if c.ents.count() > 0 {
		return syscall.ENOTEMPTY
	}
	if !c.ents.complete {
		t.wait, _ = t.fs.fetchList(c)
		return errAgain
	}
	return nil
}

// loseName does to an object what the loss of a name in dir does: keep when it was its last one and the
// object is open here, dead when nobody can have it open. Called with fs.mu held.
func (c *node) loseName(dir *node) (keep, dead bool) {
	c.touch(false)
	names := c.attr.Nlink
	if c.ents != nil {
		dir.countDirs(-1)
		c.attr.Nlink = 0
	} else if c.attr.Nlink > 0 {
		c.attr.Nlink--
	}
	c.dropUp(dir.id, names)
	if c.attr.Nlink > 0 {
		return false, false
	}
	if c.opens > 0 && c.ents == nil {
		c.kept = true
		return true, false
	}
	return false, c.mine
}

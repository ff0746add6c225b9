package cachefs

import (
	"context"
	"fmt"
	"slices"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/tokens"
)

var (
	_ p9srv.Backend  = (*FS)(nil)
	_ p9srv.Coherent = (*FS)(nil)
	_ p9srv.Object   = (*node)(nil)
	_ p9srv.File     = (*file)(nil)
	_ p9srv.Flusher  = (*file)(nil)
	_ p9srv.Copier   = (*file)(nil)
	_ p9srv.Nameless = (*node)(nil)
	_ p9srv.Witness  = (*FS)(nil)
)

// observe notes that the application saw an object: with the order causal what it does later comes after what is pending
// on that. Called with f.mu held.
func (f *FS) observe(n *node) { f.seen(n.id) }

func (f *FS) seen(id uint64) {
	if f.opt.Order == order.Causal && f.opt.Mutant != mutantIgnoreReads {
		f.log.Observe(id)
	}
}

// Seen notes that something above shows an object as it is now without asking.
func (f *FS) Seen(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen(id)
}

// Walk looks up one name.
func (n *node) Walk(ctx context.Context, cred *p9srv.Cred, name string) (p9srv.Object, wire.Attr, error) {
	f := n.fs
	cred = f.who(cred)
	if name == ".." {
		return n.walkUp(ctx, cred)
	}
	if n == f.root && name == ctlName {
		d := f.ctlObject(ctlDirID)
		a, err := d.GetAttr(ctx, cred)
		return d, a, err
	}
	if err := checkName(name); err != nil {
		return nil, wire.Attr{}, err
	}
	var child *node
	var attr wire.Attr
	err := f.do(ctx, cred, func(t *turn) error {
		if n.ents == nil {
			return syscall.ENOTDIR
		}
		t.want(n, tokens.Read)
		t.wantName(n, name, tokens.Read)
		t.inline = true
		if err := t.pin(); err != nil {
			return err
		}
		if err := access(cred, &n.attr, mayExec); err != nil {
			return err
		}
		f.observe(n)
		c, err := n.child(name)
		if err != nil {
			return err
		}
		f.observe(c)
		child, attr = c.ref(), c.attr
		return nil
	})
	if err != nil {
		return nil, wire.Attr{}, err
	}
	return child, attr, nil
}

// child gives what a name of a directory stands for, of which a pin has made sure that it is
// known. Called with fs.mu held.
func (n *node) child(name string) (*node, error) {
	ent, known := n.ents.lookup(name)
	if !known {
		panic("cachefs: a name that was pinned is not known")
	}
	if ent == nil {
		return nil, syscall.ENOENT
	}
	c := n.fs.nodes[ent.id]
	if c == nil {
		panic("cachefs: an object that was pinned is not known")
	}
	c.addUp(n.id)
	return c, nil
}

// walkUp gives the parent of a directory; of the root, the root.
func (n *node) walkUp(ctx context.Context, cred *p9srv.Cred) (p9srv.Object, wire.Attr, error) {
	f := n.fs
	var up *node
	var attr wire.Attr
	err := f.do(ctx, cred, func(t *turn) error {
		if n.ents == nil {
			return syscall.ENOTDIR
		}
		t.want(n, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		if err := access(cred, &n.attr, mayExec); err != nil {
			return err
		}
		id, err := n.parent(t)
		if err != nil {
			return err
		}
		t.wantID(id, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		up = f.nodes[id].ref()
		attr = up.attr
		return nil
	})
	if err != nil {
		return nil, wire.Attr{}, err
	}
	return up, attr, nil
}

// parent gives the parent of a directory whose token is pinned. Called with fs.mu held.
func (n *node) parent(t *turn) (uint64, error) {
	switch {
	case n == n.fs.root:
		return n.id, nil
	case len(n.up) > 0:
		return n.up[0], nil
	}
	gen := n.fs.holder.Gen(n.id)
	t.wait = func(ctx context.Context) error { return n.fs.fetchParent(ctx, n, gen) }
	return 0, errAgain
}

// fetchParent asks the server for the parent of a directory.
func (f *FS) fetchParent(ctx context.Context, n *node, gen tokens.Gen) error {
	r := new(wire.Rwalk)
	err := f.onFid(ctx, n.id, func(d fid) error {
		up := fid{d.conn, d.conn.NewFid()}
		if err := f.callOn(ctx, d.conn, &wire.Twalk{Fid: d.n, NewFid: up.n, Names: []string{".."}}, r, nil); err != nil {
			d.conn.FreeFid(up.n)
			return fmt.Errorf("looking for the parent of directory %d: %w", n.id, err)
		}
		f.clunk(up)
		return nil
	})
	if err != nil {
		return err
	}
	if len(r.QIDs) != 1 {
		return syscall.EPROTO
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holder.StillHeld(n.id, gen) && len(n.up) == 0 {
		n.addUp(r.QIDs[0].Path)
	}
	return nil
}

// GetAttr tells the attributes.
func (n *node) GetAttr(ctx context.Context, cred *p9srv.Cred) (attr wire.Attr, err error) {
	err = n.fs.do(ctx, cred, func(t *turn) error {
		t.want(n, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		n.fs.observe(n)
		attr = n.attr
		return nil
	})
	return attr, err
}

// Readlink tells what a symlink points to.
func (n *node) Readlink(ctx context.Context, cred *p9srv.Cred) (target string, err error) {
	f := n.fs
	err = f.do(ctx, cred, func(t *turn) error {
		t.want(n, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		if n.attr.Mode&modeType != modeSymlink {
			return syscall.EINVAL
		}
		if !n.targetOK {
			t.wait = func(ctx context.Context) error { return f.fetchTarget(ctx, n) }
			return errAgain
		}
		f.observe(n)
		target = n.target
		return nil
	})
	return target, err
}

func (f *FS) fetchTarget(ctx context.Context, n *node) error {
	r := new(wire.Rreadlink)
	err := f.onFid(ctx, n.id, func(d fid) error {
		if err := f.callOn(ctx, d.conn, &wire.Treadlink{Fid: d.n}, r, nil); err != nil {
			return fmt.Errorf("reading a symlink: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n.target, n.targetOK = r.Target, true // it never changes
	return nil
}

// Open opens a file or a directory.
func (n *node) Open(ctx context.Context, cred *p9srv.Cred, flags uint32) (p9srv.File, error) {
	f := n.fs
	cred = f.who(cred)
	var h *file
	step := func(t *turn) error {
		mode := tokens.Read
		if flags&wire.OTrunc != 0 {
			mode = tokens.Write
		}
		t.want(n, mode)
		t.inline = n.ents == nil
		if err := t.pin(); err != nil {
			return err
		}
		if n.ents == nil && n.attr.Nlink == 0 && !n.kept {
			return syscall.ESTALE // its last name went, and it was not open
		}
		if openWants(flags)&mayWrite != 0 {
			if err := t.mayChange(n); err != nil {
				return err
			}
		}
		if err := n.mayOpen(cred, flags); err != nil {
			return err
		}
		if flags&wire.OTrunc != 0 {
			t.blank(n)
		}
		h = n.opened(cred, flags)
		return nil
	}
	var err error
	if flags&wire.OTrunc != 0 {
		err = f.update(ctx, cred, n, 0, step)
	} else {
		err = f.do(ctx, cred, step)
	}
	if err != nil {
		if h != nil {
			h.Close(context.WithoutCancel(ctx))
		}
		return nil, err
	}
	return h, nil
}

// mayOpen checks an open. Called with fs.mu held.
func (n *node) mayOpen(cred *p9srv.Cred, flags uint32) error {
	want := openWants(flags)
	switch n.attr.Mode & modeType {
	case modeDir:
		if want&mayWrite != 0 {
			return syscall.EISDIR
		}
	case modeRegular:
		if flags&wire.ODirectory != 0 {
			return syscall.ENOTDIR
		}
	case modeSymlink:
		return syscall.ELOOP
	default:
		return syscall.ENXIO
	}
	return access(cred, &n.attr, want)
}

// opened makes a File of n. Called with fs.mu held.
func (n *node) opened(cred *p9srv.Cred, flags uint32) *file {
	n.ref()
	n.opens++
	h := &file{n: n, cred: *cred, flags: flags, lostSeen: n.lost, reportedSeen: n.told}
	if n.fs.opt.Mutant == mutantTellNoHeir {
		h.reportedSeen = n.reported
	}
	return h
}

// actor is the user on whose behalf the FS itself asks the server.
func (f *FS) actor() uint32 {
	if f.session.UID != wire.NoUID {
		return f.session.UID
	}
	if f.session.Flags&wire.SessionAnyUser != 0 {
		return 0
	}
	return f.opt.Cred.UID
}

// onFid runs fn with a fid for an object, not opened; again on the next connection when this one ends.
func (f *FS) onFid(ctx context.Context, id uint64, fn func(fid) error) error {
	return f.persist(ctx, func(conn *p9client.Conn) error {
		d, err := f.bindOn(ctx, conn, id, f.actor(), wire.BindNoOpen)
		if err != nil {
			return err
		}
		defer f.clunk(d)
		return fn(d)
	})
}

// bindOn gives a fid for an object.
func (f *FS) bindOn(ctx context.Context, conn *p9client.Conn, id uint64, uid, flags uint32) (fid, error) {
	d := fid{conn, conn.NewFid()}
	err := f.callOn(ctx, conn, &wire.Tbind{Fid: d.n, ID: id, UID: uid, Flags: flags}, new(wire.Rbind), nil)
	if err != nil {
		conn.FreeFid(d.n)
		return fid{}, fmt.Errorf("binding object %d: %w", id, err)
	}
	return d, nil
}

// clunk gives a fid back; nobody waits for it.
func (f *FS) clunk(d fid) {
	f.stats.messages.Add(1)
	d.conn.Go(&wire.Tclunk{Fid: d.n}, new(wire.Rclunk), func(error) { d.conn.FreeFid(d.n) })
}

// append takes an operation on. Called with fs.mu held, with its operands pinned for writing.
func (t *turn) append(op *order.Op) uint64 { return t.appendAs(t.cred.UID, op) }

// binds says whether an operation changes what names stand for.
func binds(op *order.Op) bool {
	switch op.Kind {
	case order.Create, order.Mkdir, order.Symlink, order.Mknod, order.Link, order.Unlink, order.Rmdir, order.Rename:
		return true
	}
	return false
}

func (t *turn) appendAs(uid uint32, op *order.Op) uint64 {
	f := t.fs
	op.UID, op.At = uid, f.clock()
	seq := f.log.Append(op)
	f.lastSeq = max(f.lastSeq, seq)
	if (f.opt.KernelAbove || len(f.revokers) > 0) && binds(op) {
		// A kernel above knows the names now, and shows them to everybody without asking. Of contents and
		// attributes that were changed it asks.
		for _, id := range op.Writes {
			f.seen(id)
		}
	}
	f.stats.ops++
	t.seqs = append(t.seqs, seq)
	return seq
}

// writer is as whom the user of the turn changes the content of n: an open file lets it do so also when it
// could no longer open it. Then the owner acts, whom the server always lets.
func (t *turn) writer(n *node) uint32 {
	if t.fs.session.Flags&wire.SessionAnyUser != 0 && access(t.cred, &n.attr, mayWrite) != nil {
		return n.attr.UID
	}
	return t.cred.UID
}

// strip takes setuid and setgid off when somebody without privilege has changed the content, in the same
// update: no crash must come between. The capabilities go whoever it was, which the host sees to.
func (t *turn) strip(n *node, attr *order.Attr) {
	if v, known := n.xattrs[capability]; v != nil || !known && !n.xlist {
		if n.xattrs == nil {
			n.xattrs = make(map[string][]byte)
		}
		n.xattrs[capability] = nil
	}
	if mode := afterWrite(n.attr.Mode); mode != n.attr.Mode && t.cred.UID != 0 {
		n.attr.Mode = mode
		attr.Valid |= cut.AttrMode
		attr.Mode = mode & modePerm
	}
}

// blank is O_TRUNC. Called with fs.mu held, with the file's token pinned for writing.
func (t *turn) blank(n *node) {
	if n.attr.Size == 0 {
		n.begunAnew()
		return
	}
	t.truncate(n, 0)
}

// truncate changes the size of a file. Called with fs.mu held, with its token pinned for writing.
func (t *turn) truncate(n *node, size uint64) {
	old := n.attr.Size
	attr := n.wrote(size)
	t.strip(n, &attr)
	seq := t.appendAs(t.writer(n), &order.Op{Kind: order.Truncate, ID: n.id, Size: size, Attrs: []order.Attr{attr}})
	if size == 0 {
		n.begunAnew()
	}
	c := n.content()
	if size < old {
		c.truncate(int64(size))
	} else {
		c.zero(int64(old), int64(size), seq)
	}
}

// sortedIDs gives ids without repetitions.
func sortedIDs(ids []uint64) []uint64 {
	slices.Sort(ids)
	return slices.Compact(ids)
}

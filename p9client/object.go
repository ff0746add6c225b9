package p9client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// object is a fid that is not open.
type object struct {
	t    *Tree
	fid  uint32
	qid  wire.QID
	refs int // guarded by t.mu

	files []*file // open ones, for locks; guarded by t.mu
}

var _ p9srv.Object = (*object)(nil)

// object makes the object of a fid, with one reference.
func (t *Tree) object(fid uint32, qid wire.QID) *object {
	o := &object{t: t, fid: fid, qid: qid, refs: 1}
	t.mu.Lock()
	t.live[qid.Path] = append(t.live[qid.Path], o)
	t.mu.Unlock()
	return o
}

func (o *object) ID() uint64    { return o.qid.Path }
func (o *object) QID() wire.QID { return o.qid }

func (o *object) Release() {
	t := o.t
	t.mu.Lock()
	o.refs--
	last := o.refs == 0
	if last {
		id := o.qid.Path
		if os := slices.DeleteFunc(t.live[id], func(x *object) bool { return x == o }); len(os) > 0 {
			t.live[id] = os
		} else {
			delete(t.live, id)
		}
	}
	t.mu.Unlock()
	if last {
		t.clunk(o.fid)
	}
}

// errno gives the error number in err.
func errno(err error) (syscall.Errno, bool) {
	var e syscall.Errno
	ok := errors.As(err, &e)
	return e, ok
}

// walk makes a new fid for names below o, or of o itself.
func (o *object) walk(ctx context.Context, names ...string) (uint32, wire.QID, error) {
	fid := o.t.c.NewFid()
	var r wire.Rwalk
	err := o.t.c.RPC(ctx, &wire.Twalk{Fid: o.fid, NewFid: fid, Names: names}, &r)
	switch {
	case err != nil:
		if ctx.Err() != nil {
			o.t.clunk(fid) // whatever became of it
		} else {
			o.t.c.FreeFid(fid)
		}
		return 0, wire.QID{}, err
	case len(r.QIDs) < len(names): // the first name was there
		o.t.c.FreeFid(fid)
		return 0, wire.QID{}, fmt.Errorf("%q: %w", names[len(r.QIDs)], syscall.ENOENT)
	case len(r.QIDs) > len(names):
		o.t.clunk(fid)
		return 0, wire.QID{}, fmt.Errorf("an Rwalk with %d qids for %d names: %w", len(r.QIDs), len(names), syscall.EPROTO)
	case len(names) == 0:
		return fid, o.qid, nil
	}
	return fid, r.QIDs[len(names)-1], nil
}

func (o *object) clone(ctx context.Context) (*object, error) {
	fid, qid, err := o.walk(ctx)
	if err != nil {
		return nil, err
	}
	return o.t.object(fid, qid), nil
}

func (o *object) Walk(ctx context.Context, cred *p9srv.Cred, name string) (p9srv.Object, wire.Attr, error) {
	if name == ".." {
		if o.qid.Path == o.t.root.qid.Path {
			name = ""
		}
	} else if err := checkName(name); err != nil {
		return nil, wire.Attr{}, err
	}
	var names []string
	if name != "" {
		names = []string{name}
	}
	fid, qid, err := o.walk(ctx, names...)
	if err != nil {
		return nil, wire.Attr{}, err
	}
	n := o.t.object(fid, qid)
	attr, err := n.GetAttr(ctx, cred)
	if err != nil {
		n.Release()
		return nil, wire.Attr{}, err
	}
	return n, attr, nil
}

func (o *object) GetAttr(ctx context.Context, cred *p9srv.Cred) (wire.Attr, error) {
	return o.t.getAttr(ctx, o.fid)
}

func (t *Tree) getAttr(ctx context.Context, fid uint32) (wire.Attr, error) {
	var r wire.Rgetattr
	err := t.c.RPC(ctx, &wire.Tgetattr{Fid: fid, Mask: wire.GetAll}, &r)
	return r.Attr, err
}

func (o *object) SetAttr(ctx context.Context, cred *p9srv.Cred, f p9srv.File, set wire.SetAttr) error {
	fid := o.fid
	if f, ok := f.(*file); ok && f.t == o.t {
		fid = f.fid
	}
	return o.t.c.RPC(ctx, &wire.Tsetattr{Fid: fid, SetAttr: set}, &wire.Rsetattr{})
}

func (o *object) Readlink(ctx context.Context, cred *p9srv.Cred) (string, error) {
	var r wire.Rreadlink
	err := o.t.c.RPC(ctx, &wire.Treadlink{Fid: o.fid}, &r)
	return r.Target, err
}

func (o *object) Open(ctx context.Context, cred *p9srv.Cred, flags uint32) (p9srv.File, error) {
	fid, _, err := o.walk(ctx)
	if err != nil {
		return nil, err
	}
	var r wire.Rlopen
	if err := o.t.c.RPC(ctx, &wire.Tlopen{Fid: fid, Flags: flags &^ wire.OCreat}, &r); err != nil {
		o.t.clunk(fid)
		return nil, err
	}
	return o.file(fid, flags, r.Iounit), nil
}

func (o *object) Create(ctx context.Context, cred *p9srv.Cred, name string, flags, mode, gid uint32) (p9srv.Object, p9srv.File, wire.Attr, error) {
	if err := checkName(name); err != nil {
		return nil, nil, wire.Attr{}, err
	}
	fid, _, err := o.walk(ctx)
	if err != nil {
		return nil, nil, wire.Attr{}, err
	}
	var r wire.Rlcreate
	err = o.t.c.RPC(ctx, &wire.Tlcreate{Fid: fid, Name: name, Flags: flags | wire.OCreat, Mode: mode, GID: gid}, &r)
	if err != nil {
		o.t.clunk(fid)
		if errors.Is(err, syscall.EEXIST) && flags&wire.OExcl == 0 {
			return o.openExisting(ctx, cred, name, flags)
		}
		return nil, nil, wire.Attr{}, err
	}
	n, attr, err := o.Walk(ctx, cred, name)
	if err == nil && n.ID() == r.QID.Path {
		return n, n.(*object).file(fid, flags, r.Iounit), attr, nil
	}
	if err == nil {
		n.Release()
	} else if !errors.Is(err, syscall.ENOENT) {
		o.t.clunk(fid)
		return nil, nil, wire.Attr{}, err
	}
	return o.t.createdAndGone(ctx, cred, fid, flags, &r)
}

// createdAndGone: somebody removed or replaced the name of what was just created. The open fid is
// all there is of it: object and file share it.
func (t *Tree) createdAndGone(ctx context.Context, cred *p9srv.Cred, fid, flags uint32, r *wire.Rlcreate) (p9srv.Object, p9srv.File, wire.Attr, error) {
	n := t.object(fid, r.QID)
	attr, err := n.GetAttr(ctx, cred)
	if err != nil {
		n.Release()
		return nil, nil, wire.Attr{}, err
	}
	return n, n.file(fid, flags, r.Iounit), attr, nil
}

// openExisting is what a create without O_EXCL comes to at a server whose
// Tlcreate only creates.
func (o *object) openExisting(ctx context.Context, cred *p9srv.Cred, name string, flags uint32) (p9srv.Object, p9srv.File, wire.Attr, error) {
	n, attr, err := o.Walk(ctx, cred, name)
	if err != nil {
		return nil, nil, wire.Attr{}, err
	}
	if t := n.QID().Type; t&(wire.QTDir|wire.QTSymlink) != 0 {
		n.Release()
		return nil, nil, wire.Attr{}, fmt.Errorf("create %q: %w", name, syscall.EEXIST)
	}
	f, err := n.Open(ctx, cred, flags)
	if err == nil && flags&wire.OTrunc != 0 {
		attr, err = n.GetAttr(ctx, cred)
		if err != nil {
			_ = f.Close(ctx) // the first error tells more
		}
	}
	if err != nil {
		n.Release()
		return nil, nil, wire.Attr{}, err
	}
	return n, f, attr, nil
}

func (o *object) Mkdir(ctx context.Context, cred *p9srv.Cred, name string, mode, gid uint32) (p9srv.Object, wire.Attr, error) {
	return o.make(ctx, cred, name, &wire.Tmkdir{Dfid: o.fid, Name: name, Mode: mode, GID: gid}, &wire.Rmkdir{})
}

func (o *object) Symlink(ctx context.Context, cred *p9srv.Cred, name, target string, gid uint32) (p9srv.Object, wire.Attr, error) {
	switch {
	case target == "" || strings.Contains(target, "\x00"):
		return nil, wire.Attr{}, fmt.Errorf("the link target %q: %w", target, syscall.ENOENT)
	case len(target) > 4095:
		return nil, wire.Attr{}, fmt.Errorf("a link target of %d bytes: %w", len(target), syscall.ENAMETOOLONG)
	}
	return o.make(ctx, cred, name, &wire.Tsymlink{Dfid: o.fid, Name: name, Target: target, GID: gid}, &wire.Rsymlink{})
}

func (o *object) Mknod(ctx context.Context, cred *p9srv.Cred, name string, mode, major, minor, gid uint32) (p9srv.Object, wire.Attr, error) {
	return o.make(ctx, cred, name, &wire.Tmknod{Dfid: o.fid, Name: name, Mode: mode, Major: major, Minor: minor, GID: gid}, &wire.Rmknod{})
}

// make sends a creation and walks to what it made.
func (o *object) make(ctx context.Context, cred *p9srv.Cred, name string, t, r wire.Message) (p9srv.Object, wire.Attr, error) {
	if err := checkName(name); err != nil {
		return nil, wire.Attr{}, err
	}
	if err := o.t.c.RPC(ctx, t, r); err != nil {
		return nil, wire.Attr{}, err
	}
	return o.Walk(ctx, cred, name)
}

// ours gives the object of this tree.
func (o *object) ours(x p9srv.Object) (*object, error) {
	if x, ok := x.(*object); ok && x.t == o.t {
		return x, nil
	}
	return nil, fmt.Errorf("an object of another tree: %w", syscall.EXDEV)
}

func (o *object) Link(ctx context.Context, cred *p9srv.Cred, target p9srv.Object, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	x, err := o.ours(target)
	if err != nil {
		return err
	}
	return o.t.c.RPC(ctx, &wire.Tlink{Dfid: o.fid, Fid: x.fid, Name: name}, &wire.Rlink{})
}

func (o *object) Unlink(ctx context.Context, cred *p9srv.Cred, name string, flags uint32) error {
	if err := checkName(name); err != nil {
		return err
	}
	if !o.t.noUnlinkat.Load() {
		err := o.t.c.RPC(ctx, &wire.Tunlinkat{Dfid: o.fid, Name: name, Flags: flags}, &wire.Runlinkat{})
		if !isUnknown(err) {
			return err
		}
		o.t.noUnlinkat.Store(true)
	}
	fid, qid, err := o.walk(ctx, name)
	if err != nil {
		return err
	}
	switch dir := qid.Type&wire.QTDir != 0; {
	case dir && flags&wire.AtRemoveDir == 0:
		err = syscall.EISDIR
	case !dir && flags&wire.AtRemoveDir != 0:
		err = syscall.ENOTDIR
	}
	if err != nil {
		o.t.clunk(fid)
		return fmt.Errorf("removing %q: %w", name, err)
	}
	err = o.t.c.RPC(ctx, &wire.Tremove{Fid: fid}, &wire.Rremove{})
	if ctx.Err() == nil || err == nil {
		o.t.c.FreeFid(fid) // Tremove gives the fid up, also when it fails
	} else {
		o.t.clunk(fid)
	}
	return err
}

func (o *object) Rename(ctx context.Context, cred *p9srv.Cred, oldName string, dir p9srv.Object, newName string, flags uint32) error {
	if err := errors.Join(checkName(oldName), checkName(newName)); err != nil {
		return err
	}
	if flags != 0 {
		return fmt.Errorf("a rename with flags %#x, which 9P2000.L does not have: %w", flags, syscall.EINVAL)
	}
	d, err := o.ours(dir)
	if err != nil {
		return err
	}
	if !o.t.noRenameat.Load() {
		err := o.t.c.RPC(ctx, &wire.Trenameat{OldDfid: o.fid, OldName: oldName, NewDfid: d.fid, NewName: newName}, &wire.Rrenameat{})
		if !isUnknown(err) {
			return err
		}
		o.t.noRenameat.Store(true)
	}
	fid, _, err := o.walk(ctx, oldName)
	if err != nil {
		return err
	}
	defer o.t.clunk(fid)
	return o.t.c.RPC(ctx, &wire.Trename{Fid: fid, Dfid: d.fid, Name: newName}, &wire.Rrename{})
}

// Lock is done on an open fid where there is one: servers that lock the host's
// file need one opened for reading or writing, as the lock wants.
func (o *object) Lock(ctx context.Context, cred *p9srv.Cred, l wire.Lock) (wire.LockStatus, error) {
	r := wire.Rlock{Status: wire.LockError}
	err := o.t.c.RPC(ctx, &wire.Tlock{Fid: o.lockFid(l.Type), Lock: l}, &r)
	return r.Status, err
}

func (o *object) GetLock(ctx context.Context, cred *p9srv.Cred, l wire.Lock) (wire.Lock, error) {
	var r wire.Rgetlock
	err := o.t.c.RPC(ctx, &wire.Tgetlock{Fid: o.lockFid(l.Type), Lock: l}, &r)
	return r.Lock, err
}

func (o *object) lockFid(typ uint8) uint32 {
	o.t.mu.Lock()
	defer o.t.mu.Unlock()
	fid := o.fid
	for _, f := range o.files {
		mode := f.flags & wire.OAccMode
		if mode == wire.ORdwr || typ == wire.LockUnlock || (typ == wire.LockWrite) == (mode == wire.OWronly) {
			return f.fid
		}
		fid = f.fid
	}
	return fid
}

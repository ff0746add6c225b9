package p9srv

import (
	"context"
	"syscall"

	"echo9/internal/wire"
	"echo9/tokens"
)

// This file has the operations on directories. What each needs of tokens stands in
// its call of admit; docs/semantics.md has the table.

// inDir decodes a message that makes something named name in the directory r.f, and gets what that needs.
func (r *request) inDir(m wire.Message, name *string, more ...tokens.Elem) error {
	if err := r.decode(m); err != nil {
		return err
	}
	if err := checkName(*name); err != nil {
		return err
	}
	if r.f.xattr != nil {
		return syscall.EINVAL
	}
	return r.admit(append(more, tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Write})...)
}

// as is the fid's credential, or that of the user whom a Google creation names.
func (r *request) as(uid uint32) (*Cred, error) {
	if uid == wire.NoUID || uid == r.f.cred.UID {
		return r.f.cred, nil
	}
	return r.c.cred(uid, "")
}

func (r *request) lcreate() error {
	var m wire.Tlcreate
	return r.create(&m, &m)
}

func (r *request) ucreate() error {
	var m wire.Tucreate
	return r.create(&m, &m.Tlcreate)
}

func (r *request) create(m wire.Message, t *wire.Tlcreate) error {
	if err := r.decode(m); err != nil {
		return err
	}
	if err := checkName(t.Name); err != nil {
		return err
	}
	cred := r.f.cred
	if u, ok := m.(*wire.Tucreate); ok {
		var err error
		if cred, err = r.as(u.UID); err != nil {
			return err
		}
	}
	switch {
	case r.f.xattr != nil:
		return syscall.EINVAL
	case r.f.open.Load() != nil:
		return syscall.EBUSY
	}
	elems := []tokens.Elem{{ID: r.f.obj.ID(), Mode: tokens.Write}}
	if t.Flags&wire.OExcl == 0 { // it may open what is there
		mode := tokens.Read
		if t.Flags&wire.OTrunc != 0 {
			mode = tokens.Write
		}
		elems = append(elems, tokens.Elem{ID: r.f.obj.ID(), Name: t.Name, Mode: mode})
	}
	if err := r.admit(elems...); err != nil {
		return err
	}
	o, file, _, err := r.f.obj.Create(r, cred, t.Name, t.Flags|wire.OCreat, t.Mode, t.GID)
	if err != nil {
		return err
	}
	qid := o.QID()
	f := newFid(newRef(o), cred, r.f.obj.share(), t.Name)
	f.open.Store(&openFile{file, t.Flags})
	if err := r.c.swapFid(t.Fid, r.f, f); err != nil {
		f.end(r.c)
		return err
	}
	if m.Type() == wire.TypeTucreate {
		r.reply = &wire.Rucreate{Rlcreate: wire.Rlcreate{QID: qid, Iounit: r.c.iounit()}}
	} else {
		r.reply = &wire.Rlcreate{QID: qid, Iounit: r.c.iounit()}
	}
	return nil
}

// made gives the reference of a new object back and its QID.
func made(o Object, _ wire.Attr, err error) (wire.QID, error) {
	if err != nil {
		return wire.QID{}, err
	}
	defer o.Release()
	return o.QID(), nil
}

func (r *request) mkdir() error {
	var m wire.Tmkdir
	if err := r.inDir(&m, &m.Name); err != nil {
		return err
	}
	qid, err := made(r.f.obj.Mkdir(r, r.f.cred, m.Name, m.Mode, m.GID))
	r.reply = &wire.Rmkdir{QID: qid}
	return err
}

func (r *request) umkdir() error {
	var m wire.Tumkdir
	if err := r.inDir(&m, &m.Name); err != nil {
		return err
	}
	cred, err := r.as(m.UID)
	if err != nil {
		return err
	}
	qid, err := made(r.f.obj.Mkdir(r, cred, m.Name, m.Mode, m.GID))
	r.reply = &wire.Rumkdir{Rmkdir: wire.Rmkdir{QID: qid}}
	return err
}

func (r *request) symlink() error {
	var m wire.Tsymlink
	if err := r.inDir(&m, &m.Name); err != nil {
		return err
	}
	qid, err := made(r.f.obj.Symlink(r, r.f.cred, m.Name, m.Target, m.GID))
	r.reply = &wire.Rsymlink{QID: qid}
	return err
}

func (r *request) usymlink() error {
	var m wire.Tusymlink
	if err := r.inDir(&m, &m.Name); err != nil {
		return err
	}
	cred, err := r.as(m.UID)
	if err != nil {
		return err
	}
	qid, err := made(r.f.obj.Symlink(r, cred, m.Name, m.Target, m.GID))
	r.reply = &wire.Rusymlink{Rsymlink: wire.Rsymlink{QID: qid}}
	return err
}

func (r *request) mknod() error {
	var m wire.Tmknod
	if err := r.inDir(&m, &m.Name); err != nil {
		return err
	}
	qid, err := made(r.f.obj.Mknod(r, r.f.cred, m.Name, m.Mode, m.Major, m.Minor, m.GID))
	r.reply = &wire.Rmknod{QID: qid}
	return err
}

func (r *request) umknod() error {
	var m wire.Tumknod
	if err := r.inDir(&m, &m.Name); err != nil {
		return err
	}
	cred, err := r.as(m.UID)
	if err != nil {
		return err
	}
	qid, err := made(r.f.obj.Mknod(r, cred, m.Name, m.Mode, m.Major, m.Minor, m.GID))
	r.reply = &wire.Rumknod{Rmknod: wire.Rmknod{QID: qid}}
	return err
}

func (r *request) link() error {
	var m wire.Tlink
	if r.f2.xattr != nil {
		return syscall.EINVAL
	}
	if err := r.inDir(&m, &m.Name, tokens.Elem{ID: r.f2.obj.ID(), Mode: tokens.Write}); err != nil {
		return err
	}
	r.reply = &wire.Rlink{}
	return r.f.obj.Link(r, r.f.cred, r.f2.obj.Object, m.Name)
}

func (r *request) unlinkat() error {
	var m wire.Tunlinkat
	if err := r.decode(&m); err != nil {
		return err
	}
	if err := checkName(m.Name); err != nil {
		return err
	}
	if m.Flags&^wire.AtRemoveDir != 0 || r.f.xattr != nil {
		return syscall.EINVAL
	}
	if err := r.admit(
		tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Write},
		tokens.Elem{ID: r.f.obj.ID(), Name: m.Name, Mode: tokens.Write, Unlink: true},
	); err != nil {
		return err
	}
	r.reply = &wire.Runlinkat{}
	return r.f.obj.Unlink(r, r.f.cred, m.Name, m.Flags)
}

func (r *request) renameat() error {
	var m wire.Trenameat
	if err := r.decode(&m); err != nil {
		return err
	}
	if r.f.xattr != nil || r.f2.xattr != nil {
		return syscall.EINVAL
	}
	r.reply = &wire.Rrenameat{}
	_, err := r.move(r.f.obj, m.OldName, r.f2.obj, m.NewName, nil)
	return err
}

func (r *request) rename() error {
	var m wire.Trename
	if err := r.decode(&m); err != nil {
		return err
	}
	dir, name := r.f.place(r.c)
	defer dir.drop()
	if dir == nil || r.f.xattr != nil || r.f2.xattr != nil {
		return syscall.EINVAL
	}
	id, err := r.move(dir, name, r.f2.obj, m.Name, r.f.obj)
	if err != nil {
		return err
	}
	r.c.moved(dir.ID(), name, id, r.f2.obj, m.Name)
	r.reply = &wire.Rrename{}
	return nil
}

// move renames. A directory that gets another parent needs dirmove, which is known only when the
// name is resolved: then the set is asked for again with it. want, if not nil, is what the old name must be bound to.
func (r *request) move(from *objRef, oldName string, to *objRef, newName string, want *objRef) (id uint64, err error) {
	for _, n := range []string{oldName, newName} {
		if err := checkName(n); err != nil {
			return 0, err
		}
	}
	for {
		elems := []tokens.Elem{
			{ID: from.ID(), Mode: tokens.Write},
			{ID: from.ID(), Name: oldName, Mode: tokens.Write},
			{ID: to.ID(), Name: newName, Mode: tokens.Write, Unlink: true},
		}
		across := from.ID() != to.ID()
		if across {
			elems = append(elems, tokens.Elem{ID: to.ID(), Mode: tokens.Write})
		}
		if r.dirMove {
			elems = append(elems, tokens.Elem{ID: tokens.DirMove, Mode: tokens.Write})
		}
		if err := r.admit(elems...); err != nil {
			return 0, err
		}
		if want != nil {
			if err := r.still(from, oldName, want, 1); err != nil {
				return 0, err
			}
			id = want.ID()
		}
		if _, managed := r.resolved(0); !across || r.dirMove || !managed {
			break
		}
		o, _, err := from.Walk(r, r.f.cred, oldName)
		if err != nil {
			return 0, err
		}
		isDir := o.QID().Type&wire.QTDir != 0
		o.Release()
		if !isDir {
			break
		}
		r.dirMove = true
		r.done()
	}
	return id, from.Rename(r, r.f.cred, oldName, to.Object, newName, 0)
}

// moved notes the new place of what was renamed by Trename, in all fids of the connection that were walked to it.
func (c *conn) moved(dir uint64, name string, id uint64, to *objRef, newName string) {
	var old []*objRef
	c.mu.Lock()
	for _, f := range c.fids {
		if f.obj.ID() == id && f.dir != nil && f.dir.ID() == dir && f.name == name {
			old = append(old, f.dir)
			f.dir, f.name = to.share(), newName
		}
	}
	c.mu.Unlock()
	for _, d := range old {
		d.drop()
	}
}

func (r *request) readdir() error {
	var m wire.Treaddir
	if err := r.decode(&m); err != nil {
		return err
	}
	o := r.f.open.Load()
	if o == nil || r.f.xattr != nil {
		return syscall.EBADF
	}
	if err := r.admit(tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Read}); err != nil {
		return err
	}
	most := int(min(m.Count, wire.MaxReaddir(r.c.msize))) + wire.RreadOverhead
	if err := r.reserve(most); err != nil {
		return err
	}
	p := newBuffer(most)
	b, short, err := appendDir(r, o, m.Offset, p.b[:wire.RreadOverhead], most)
	if err == nil && short && len(b) == wire.RreadOverhead {
		err = syscall.EINVAL // not even one entry fits, and none would look like the end
	}
	if err != nil {
		p.free()
		return err
	}
	wire.AppendRreadHeader(b[:0], r.tag, len(b)-wire.RreadOverhead)
	b[4] = wire.TypeRreaddir
	p.b = b
	r.frame = p
	return nil
}

// appendDir appends the entries after cookie to b, as many as make it at most so long.
func appendDir(ctx context.Context, f File, cookie uint64, b []byte, most int) (_ []byte, short bool, err error) {
	if a, ok := f.(DirAppender); ok {
		return a.AppendDir(ctx, cookie, b, most)
	}
	err = f.ReadDir(ctx, cookie, func(e wire.Dirent) bool {
		if short = len(b)+wire.DirentSize(len(e.Name)) > most; short {
			return false
		}
		b = wire.AppendDirent(b, e.QID, e.Offset, e.Type, e.Name)
		return true
	})
	return b, short, err
}

package p9srv

import (
	"syscall"

	"echo9/internal/wire"
	"echo9/tokens"
)

// walkState is how far a walk has come: it may wait for a token at every step.
type walkState struct {
	begun    bool
	cur, dir *objRef
	name     string
	// table is the fid that a Tclunk or Tremove took out of the table, and has yet to end.
	table *fid
}

func (w *walkState) end(c *conn) {
	if !w.begun {
		return
	}
	w.cur.drop()
	w.dir.drop()
	if err := w.table.end(c); err != nil {
		c.complain("close after clunk: %v", err)
	}
	*w = walkState{}
}

func (r *request) twalk() error {
	m := &r.hot.walk
	if err := r.decode(m); err != nil {
		return err
	}
	whole, err := r.walkTo(m.Fid, m.NewFid, m.Names, false)
	if err != nil {
		return err
	}
	if whole {
		if err := r.putWalked(m.Fid, m.NewFid); err != nil {
			return err
		}
	}
	r.reply = &r.hot.rwalk
	return nil
}

func (r *request) twalkgetattr() error {
	m := &r.hot.walk
	g := wire.Twalkgetattr{Names: m.Names}
	if err := r.decode(&g); err != nil {
		return err
	}
	m.Names = g.Names
	if _, err := r.walkTo(g.Fid, g.NewFid, g.Names, true); err != nil {
		return err
	}
	if err := r.admit(tokens.Elem{ID: r.walk.cur.ID(), Mode: tokens.Read}); err != nil {
		return err
	}
	attr, err := r.walk.cur.GetAttr(r, r.f.cred)
	if err != nil {
		return err
	}
	if err := r.putWalked(g.Fid, g.NewFid); err != nil {
		return err
	}
	r.reply = &wire.Rwalkgetattr{Valid: wire.GetAll, Attr: attr, QIDs: r.hot.rwalk.QIDs}
	return nil
}

// walkTo walks as far as it can. A failure at a later step than the first gives a part
// of the walk, unless all is demanded. The QIDs are in r.hot.rwalk, the place reached is in r.walk.
func (r *request) walkTo(fid, newFid uint32, names []string, all bool) (whole bool, err error) {
	w, qids := &r.walk, &r.hot.rwalk.QIDs
	if !w.begun {
		switch {
		case r.f.xattr != nil, len(names) > wire.MaxWalk:
			return false, syscall.EINVAL
		case newFid == fid:
			if r.f.open.Load() != nil {
				return false, syscall.EBUSY
			}
		default:
			if err := r.c.freeFid(newFid); err != nil {
				return false, err
			}
		}
		w.begun, *qids = true, (*qids)[:0]
		w.cur = r.f.obj.share()
		w.dir, w.name = r.f.place(r.c)
	}
	for i := len(*qids); i < len(names); i++ {
		err := r.step(names[i])
		switch {
		case err == nil:
		case err == errParked:
			return false, err
		case i == 0 || all || cancelled(err):
			return false, err
		default:
			return false, nil
		}
	}
	return true, nil
}

func (r *request) step(name string) error {
	if err := checkStep(name); err != nil {
		return err
	}
	w := &r.walk
	if err := r.admit(tokens.Elem{ID: w.cur.ID(), Mode: tokens.Read}); err != nil {
		return err
	}
	o, _, err := w.cur.Walk(r, r.f.cred, name)
	r.done()
	if err != nil {
		return err
	}
	w.dir.drop()
	if name == ".." {
		w.cur.drop()
		w.dir, w.name = nil, ""
	} else {
		w.dir, w.name = w.cur, name
	}
	w.cur = newRef(o)
	r.hot.rwalk.QIDs = append(r.hot.rwalk.QIDs, o.QID())
	return nil
}

// putWalked makes newFid stand for where the walk came out.
func (r *request) putWalked(fidNum, newFid uint32) error {
	w := &r.walk
	f := newFidAt(w, r.f.cred)
	var err error
	if newFid == fidNum {
		err = r.c.swapFid(fidNum, r.f, f)
	} else {
		err = r.c.putFid(newFid, f)
	}
	if err != nil {
		f.end(r.c)
	}
	return err
}

func newFidAt(w *walkState, cred *Cred) *fid {
	f := newFid(w.cur, cred, w.dir, w.name)
	w.cur, w.dir = nil, nil
	return f
}

func (r *request) clunk() error {
	m := &r.hot.clunk
	if err := r.decode(m); err != nil {
		return err
	}
	if !r.begun(m.Fid) {
		return errNoFid
	}
	err := r.setXattr()
	if err == errParked {
		return err
	}
	if cerr := r.endFid(); err == nil {
		err = cerr
	}
	r.reply = rclunk
	return err
}

var rclunk = &wire.Rclunk{}

// begun takes the fid of a Tclunk or Tremove out of the table, the first time that the request runs.
func (r *request) begun(n uint32) bool {
	if !r.walk.begun {
		if !r.c.dropFid(n, r.f) {
			return false
		}
		r.walk.begun = true
		r.walk.table = r.f
	}
	return true
}

// endFid ends the table's use of the fid, and the request's, so that the file's Close tells its error.
func (r *request) endFid() error {
	f := r.f
	r.f = nil
	r.walk.table.end(r.c)
	r.walk.table = nil
	return f.end(r.c)
}

func (r *request) remove() error {
	var m wire.Tremove
	if err := r.decode(&m); err != nil {
		return err
	}
	if !r.begun(m.Fid) {
		return errNoFid
	}
	err := r.removeFile()
	if err == errParked {
		return err
	}
	if cerr := r.endFid(); err == nil {
		err = cerr
	}
	r.reply = &wire.Rremove{}
	return err
}

func (r *request) removeFile() error {
	dir, name := r.f.place(r.c)
	defer dir.drop()
	if dir == nil || r.f.xattr != nil {
		return syscall.EINVAL
	}
	if err := r.admit(
		tokens.Elem{ID: dir.ID(), Mode: tokens.Write},
		tokens.Elem{ID: dir.ID(), Name: name, Mode: tokens.Write, Unlink: true},
	); err != nil {
		return err
	}
	defer r.done()
	if err := r.still(dir, name, r.f.obj, 1); err != nil {
		return err
	}
	var flags uint32
	if r.f.obj.QID().Type&wire.QTDir != 0 {
		flags = wire.AtRemoveDir
	}
	return dir.Unlink(r, r.f.cred, name, flags)
}

// still checks that the name, element i of what was admitted, is bound to the object that was
// walked to: it may have been moved or replaced since.
func (r *request) still(dir *objRef, name string, o *objRef, i int) error {
	id, known := r.resolved(i)
	if !known {
		now, _, err := dir.Walk(r, r.f.cred, name)
		if err != nil {
			return err
		}
		id = now.ID()
		now.Release()
	}
	if id != o.ID() {
		return syscall.ENOENT
	}
	return nil
}

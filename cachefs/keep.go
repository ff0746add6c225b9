package cachefs

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"echo9/cachefs/order"
	"echo9/cachefs/spool"
	"echo9/internal/cut"
	"echo9/internal/wire"
)

const (
	// maxKept is the size up to which a file of which only a part was lost is kept whole.
	maxKept = 64 << 20
	// toldOps is how many operations of a loss are told one by one.
	toldOps = 20
)

// keeping is the losses on their way to the spool. Nobody but a goroutine of their own waits for the disk, and
// whoever tells of a loss that was kept; writers wait when they are too many (see room).
type keeping struct {
	queue []*spool.Entry
	bytes int64         // in queue, and being written
	busy  bool          // the goroutine runs
	idle  chan struct{} // closed when it ends
}

// base is what a file is at the server, as far as known: its last state there.
type base struct {
	ctime, mtime int64
	size         uint64
}

func (b *base) lay(a *order.Attr) {
	if a.Valid&cut.AttrCtime != 0 {
		b.ctime = a.Ctime
	}
	if a.Valid&cut.AttrMtime != 0 {
		b.mtime = a.Mtime
	}
	if a.Valid&cut.AttrSize != 0 {
		b.size = a.Size
	}
}

// based notes what an operation that is at the server left there. Called with f.mu held.
func (f *FS) based(op *order.Op) {
	for i := range op.Attrs {
		if n := f.nodes[op.Attrs[i].ID]; n != nil {
			n.base.lay(&op.Attrs[i])
		}
	}
	switch n := f.nodes[op.ID]; {
	case n == nil:
	case op.Kind == order.Truncate:
		n.base.size = op.Size
	case op.Kind == order.Symlink:
		n.base.size = uint64(len(op.Target))
	}
}

// keep tells of lost operations, once they and their bytes are in the spool. It is called before anything that they left in the
// cache is forgotten. Called with f.mu held.
func (f *FS) keep(ops []*order.Op, why loss) {
	names := nameFinder{f, map[uint64]map[uint64]string{}}
	if f.opt.Mutant == mutantForgetFirst {
		for _, op := range ops {
			if n := f.nodes[op.ID]; n != nil {
				n.forget()
			}
		}
	}
	byUser := make(map[uint32]*spool.Entry)
	var entries []*spool.Entry
	for _, op := range ops {
		if op.Kind == order.Release || op.Kind == order.Barrier {
			continue
		}
		e := byUser[op.UID]
		if e == nil {
			e = &spool.Entry{When: time.Now(), UID: op.UID, Server: f.opt.Server, Export: f.opt.Aname, Mount: f.opt.Mountpoint,
				Client: f.opt.Name, Cause: why.cause, Errno: int(why.errno), Reason: why.reason}
			byUser[op.UID] = e
			entries = append(entries, e)
		}
		e.Ops = append(e.Ops, keptOp(op, names, why.sent[op.Seq]))
		o := e.Object(op.ID)
		if o == nil {
			e.Objects = append(e.Objects, f.keptObject(op, names))
			o = &e.Objects[len(e.Objects)-1]
		}
		switch op.Kind {
		case order.Create, order.Mkdir, order.Symlink, order.Mknod, order.Tmpfile:
			o.Created, o.Base = true, nil
		case order.Rename:
			o.Moved, o.Base = true, nil
			if op.Replaced != 0 {
				o.Base = f.keptBase(op.Replaced, ops[0].Seq)
			}
		}
	}
	for _, e := range entries {
		f.wholeContents(e)
		f.keeping.queue = append(f.keeping.queue, e)
		f.keeping.bytes += e.Weight()
	}
	if !f.keeping.busy && len(f.keeping.queue) > 0 {
		f.keeping.busy, f.keeping.idle = true, make(chan struct{})
		if f.opt.Spool == nil {
			f.writeLosses() // only tells
			return
		}
		f.workers.Add(1)
		go func() {
			defer f.workers.Done()
			f.mu.Lock()
			defer f.mu.Unlock()
			f.writeLosses()
		}()
	}
}

// writeLosses writes and tells what is queued. Called with f.mu held, which it gives up while it writes.
func (f *FS) writeLosses() {
	k := &f.keeping
	for len(k.queue) > 0 {
		e := k.queue[0]
		k.queue = k.queue[1:]
		weight := e.Weight()
		if f.opt.Spool != nil {
			f.mu.Unlock()
			dropped, err := f.opt.Spool.Put(e)
			f.mu.Lock()
			if len(dropped) > 0 {
				f.event("the spool %s of user %d was full: the oldest are gone for good: %s", f.opt.Spool.Dir(), e.UID, strings.Join(dropped, " "))
			}
			if err != nil {
				f.event("what was lost could not be kept: %v", err)
				e.ID = ""
			}
		}
		f.tell(e)
		k.bytes -= weight
		f.wakeCommitted() // there may be room now
	}
	k.busy = false
	close(k.idle)
}

// tell makes events of a loss. Called with f.mu held.
func (f *FS) tell(e *spool.Entry) {
	kept := ""
	if e.ID != "" {
		kept = fmt.Sprintf("; kept: echo9 lost show %s", e.ID)
	}
	for i := range e.Ops {
		if i == toldOps {
			f.event("lost: and %d more", len(e.Ops)-i)
			break
		}
		f.event("lost: %s", e.Ops[i].String())
	}
	what := "lost"
	if e.Cause == spool.Doubt {
		what = "in doubt"
	}
	f.event("%s: %d changes by user %d (%s)%s", what, len(e.Ops), e.UID, e.Why(), kept)
}

// kept waits until all losses so far are in the spool, and told.
func (f *FS) kept(ctx context.Context) {
	f.mu.Lock()
	busy, idle := f.keeping.busy, f.keeping.idle
	f.mu.Unlock()
	if !busy {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// keepRest keeps all that is pending, when the session cannot go on. Called with f.mu held.
func (f *FS) keepRest() {
	var ops []*order.Op
	sent := make(map[uint64]bool)
	for e := range f.log.Snapshot().All() {
		ops = append(ops, e.Op)
		if e.Cut != 0 {
			sent[e.Op.Seq] = true
		}
	}
	cause := spool.GivenUp
	if len(sent) > 0 {
		cause = spool.Doubt
	}
	if len(ops) > 0 && f.opt.Backlog != nil && !f.unkept {
		f.event("%d updates are in the backlog: they are sent when this is started again in the same way", len(ops))
		return
	}
	if len(ops) > 0 {
		f.stats.lost += len(ops)
		f.keep(ops, loss{cause: cause, reason: strings.TrimSuffix(f.dead.Error(), ": "+syscall.EIO.Error()), sent: sent})
	}
}

// keptOp describes an operation. Called with f.mu held.
func keptOp(op *order.Op, names nameFinder, sent bool) spool.Op {
	k := spool.Op{Seq: op.Seq, What: op.Kind.String(), Object: op.ID, Sent: sent, Bytes: int64(len(op.Bytes)), Data: op.Bytes}
	for _, name := range names.ofOp(op) {
		k.Paths = append(k.Paths, spool.Path(name))
	}
	switch op.Kind {
	case order.Write:
		k.Offset, k.Length = op.Off, uint64(len(op.Bytes))
	case order.Allocate, order.Punch, order.Copy:
		k.Offset, k.Length = op.Off, op.Len
	case order.Truncate:
		k.Size = op.Size
	case order.SetXattr, order.RemoveXattr:
		k.Xattr = spool.Path(op.Name)
	case order.SetAttr:
		k.Set = make(map[string]string)
		for _, a := range op.Attrs {
			setAttrs(k.Set, &a)
		}
	}
	return k
}

func setAttrs(set map[string]string, a *order.Attr) {
	put := func(bit uint32, name, format string, v any) {
		if a.Valid&bit != 0 {
			set[name] = fmt.Sprintf(format, v)
		}
	}
	put(cut.AttrMode, "mode", "%04o", a.Mode)
	put(cut.AttrUID, "uid", "%d", a.UserID)
	put(cut.AttrGID, "gid", "%d", a.GroupID)
	put(cut.AttrAtime, "atime", "%s", time.Unix(0, a.Atime).UTC().Format(time.RFC3339Nano))
	put(cut.AttrMtime, "mtime", "%s", time.Unix(0, a.Mtime).UTC().Format(time.RFC3339Nano))
}

// keptObject describes the object that op is done to; op is the first one lost of it. Called with f.mu held.
func (f *FS) keptObject(op *order.Op, names nameFinder) spool.Object {
	o := spool.Object{ID: op.ID, Path: spool.Path(names.path(op.ID)), Type: "other"}
	n := f.nodes[op.ID]
	if n == nil || !n.attrOK {
		return o
	}
	a := &n.attr
	switch {
	case isRegular(a.Mode):
		o.Type = "file"
	case isDir(a.Mode):
		o.Type = "directory"
	case a.Mode&modeType == modeSymlink:
		o.Type, o.Target = "symlink", spool.Path(n.target)
	}
	o.Gone = a.Nlink == 0
	o.Mode, o.UID, o.GID, o.Size, o.Mtime = a.Mode&modePerm, a.UID, a.GID, a.Size, a.Mtime
	o.Base = f.keptBase(op.ID, op.Seq)
	return o
}

// keptBase is what a file is at the server once all that is pending before the operation first is there, too; nil when that is not
// known. Called with f.mu held.
func (f *FS) keptBase(id, first uint64) *spool.Base {
	n := f.nodes[id]
	if n == nil || n.fresh || !n.attrOK {
		return nil
	}
	b := n.base
	for _, op := range f.log.Ops(f.log.Touching(order.ByWrite, id)) {
		if op.Seq >= first {
			break
		}
		for i := range op.Attrs {
			if op.Attrs[i].ID == id {
				b.lay(&op.Attrs[i])
			}
		}
		if op.Kind == order.Truncate {
			b.size = op.Size
		}
	}
	if b.ctime == 0 {
		return nil
	}
	return &spool.Base{Version: wire.DataVersion(n.attr.Mode, b.ctime, b.size), Ctime: b.ctime, Mtime: b.mtime, Size: b.size}
}

// wholeContents adds the contents of files of which the lost operations are only a part, as far as they are cached. Called with f.mu held.
func (f *FS) wholeContents(e *spool.Entry) {
	for i := range e.Objects {
		o := &e.Objects[i]
		n := f.nodes[o.ID]
		if o.Type != "file" || o.Size > maxKept || n == nil || n.data == nil {
			continue
		}
		if c := spool.Compose(e, o.ID); c.Whole && c.Missing == 0 || len(c.Parts) == 0 && c.Missing == 0 && !c.Sized {
			continue
		}
		pieces, miss, end := n.data.read(0, int64(o.Size))
		if miss < end {
			continue
		}
		o.Pieces = make([]spool.Piece, 0, len(pieces))
		for _, p := range pieces {
			o.Pieces = append(o.Pieces, spool.Piece{Off: p.off, Len: int64(p.n), Bytes: p.buf})
		}
	}
}

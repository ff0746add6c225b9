package order

import (
	"cmp"
	"slices"

	"echo9/internal/cut"
)

// record adds a record that comes from the operations seqs, the acting user being op's.
func (r *reducer) record(op *Op, rec cut.Record, seqs ...uint64) {
	rec.UID, rec.Owner = op.UID, op.Owner
	if len(seqs) == 0 {
		n := len(r.seqs)
		r.seqs = append(r.seqs, op.Seq)
		seqs = r.seqs[n : n+1 : n+1]
	}
	r.net.Records = append(r.net.Records, rec)
	r.net.Ops = append(r.net.Ops, seqs)
	if rec.Kind == cut.Data {
		r.net.Bytes += int64(len(rec.Bytes))
	}
}

// emit makes the records: creations, content, bindings, attributes, xattrs, what is kept; and the fence.
func (r *reducer) emit() {
	r.reserve()
	for _, o := range r.touched {
		if c := o.created; c != nil && !o.gone() {
			r.record(c, cut.Record{Kind: cut.Create, ID: o.id, Mode: c.Mode, UserID: c.UserID, GroupID: c.GroupID, Rdev: c.Rdev, Target: c.Target})
		}
	}
	for _, o := range r.touched {
		if len(o.content) > 0 && !o.gone() && !(o.dead && o.created == nil) {
			r.content(o)
		}
	}
	for _, b := range r.bound {
		if b.before != b.after {
			r.record(b.last, cut.Record{Kind: cut.Bind, Dir: b.slot.dir, Name: b.slot.name, ID: b.after, Before: b.before}, b.seqs...)
		}
	}
	for _, o := range r.touched {
		if o.gone() {
			continue
		}
		r.attrs(o, o.wanted())
		r.xattrs(o)
		if o.created != nil {
			continue
		}
		switch {
		case o.keep != nil:
			r.record(o.keep, cut.Record{Kind: cut.Keep, ID: o.id})
		case o.release != nil:
			r.record(o.release, cut.Record{Kind: cut.Release, ID: o.id})
		}
	}
	for id, write := range r.fence {
		if o := r.objects[id]; o == nil || o.created == nil {
			r.net.Fence = append(r.net.Fence, Operand{ID: id, Write: write})
		}
	}
	slices.SortFunc(r.net.Fence, func(a, b Operand) int { return cmp.Compare(a.ID, b.ID) })
}

// reserve makes room for about as many records as there will be: they are large to move.
func (r *reducer) reserve() {
	n := len(r.bound)
	for _, o := range r.touched {
		n += 2 + len(o.content) + len(o.xattrs) // what creates it and its attributes, or those from two operations
	}
	r.net.Records = make([]cut.Record, 0, n)
	r.net.Ops = make([][]uint64, 0, n)
	r.seqs = make([]uint64, 0, n)
}

// leaves says whether an older object loses its last name here and is not kept open
// by this client: only those who have it open elsewhere see it any more.
func (o *object) leaves() bool {
	return o.created == nil && o.last && o.keep == nil
}

// wanted is which attributes are sent. Of an object that leaves, its size, since that goes with the data.
func (o *object) wanted() uint32 {
	switch {
	case !o.leaves():
		return allAttrs
	case o.dead:
		return 0
	}
	return cut.AttrSize
}

// attrs makes a record for each operation that has set an attribute last, so that
// the refusal of one names that one. Times that came along with something else do
// not cost a record of their own: they go with another one of the same user.
func (r *reducer) attrs(o *object, wanted uint32) {
	type group struct {
		op   *Op
		bits uint32
	}
	var room [len(o.setters)]group
	groups := room[:0]
	for i, op := range o.setters {
		bit := uint32(1) << i
		if op == nil || bit&wanted == 0 {
			continue
		}
		j := slices.IndexFunc(groups, func(g group) bool { return g.op == op })
		if j < 0 {
			j = len(groups)
			groups = append(groups, group{op: op})
		}
		groups[j].bits |= bit
	}
	for i := range groups {
		g := &groups[i]
		if g.op.Kind == SetAttr || g.bits&^attrTimes != 0 {
			continue
		}
		j := slices.IndexFunc(groups, func(h group) bool {
			return h.op != g.op && h.bits != 0 && h.op.UID == g.op.UID && h.op.Owner == g.op.Owner
		})
		if j >= 0 {
			groups[j].bits |= g.bits
			g.bits = 0
		}
	}
	for _, g := range groups {
		if g.bits == 0 {
			continue
		}
		var a Attr
		a.lay(o.attrs, g.bits)
		r.record(g.op, cut.Record{Kind: cut.Attr, ID: o.id, Valid: a.Valid, Mode: a.Mode, UserID: a.UserID, GroupID: a.GroupID,
			Size: a.Size, Atime: a.Atime, Mtime: a.Mtime, Ctime: a.Ctime})
	}
}

// xattrs makes the records of extended attributes.
func (r *reducer) xattrs(o *object) {
	if o.leaves() {
		return
	}
	for _, op := range o.xattrs {
		switch {
		case op.Kind == SetXattr:
			r.record(op, cut.Record{Kind: cut.SetXattr, ID: o.id, Name: op.Name, Bytes: op.Bytes})
		case o.created == nil:
			r.record(op, cut.Record{Kind: cut.RemoveXattr, ID: o.id, Name: op.Name})
		}
	}
}

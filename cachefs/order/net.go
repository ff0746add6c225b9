package order

import (
	"fmt"
	"slices"

	"echo9/internal/cut"
)

// Operand is an object that a cut needs the token of.
type Operand struct {
	ID    uint64
	Write bool // else read
}

// Net is the net effect of an ideal.
type Net struct {
	// Records are final values; Ops[i] are the sequence numbers of the operations that
	// Records[i] comes from, and that are refused if it is.
	Records []cut.Record
	Ops     [][]uint64
	// Fence are the operands of the ideal, by ID, without objects that the cut creates.
	Fence []Operand
	// Bytes is the amount of data in Records.
	Bytes int64
}

// binding is what became of a slot within the cut.
type binding struct {
	slot          slot
	before, after uint64
	last          *Op
	seqs          []uint64
}

// object is what became of an object within the cut.
type object struct {
	id      uint64
	created *Op
	names   int  // of a created one: names at the end
	held    bool // of a created one: open here without a name
	dead    bool // nobody has it open any more
	last    bool // it lost its last name
	keep    *Op  // it is to be kept from then on,
	release *Op  // or no longer: what came last
	attrs   Attr
	setters [7]*Op // of each bit of attrs.Valid
	content []*Op
	xattrs  []*Op // the last one of each name
	mutant  netMutant
}

// gone says whether a created object is no more at the end.
func (o *object) gone() bool {
	return o.created != nil && o.names == 0 && !o.held && o.mutant != vanishedStay
}

// reducer goes through the operations of a cut.
type reducer struct {
	objects map[uint64]*object
	touched []*object // in the order of their first operation
	slots   map[slot]*binding
	bound   []*binding
	fence   map[uint64]bool // true: written
	net     Net
	seqs    []uint64 // backs the lists of one in net.Ops
	mutant  netMutant
}

// netMutant names a mechanism to be left out, so that tests can see that they notice.
type netMutant uint8

const (
	noNetMutant    netMutant = iota
	lastBefore               // a slot's Before is that of its last operation
	wrongOverlay             // earlier bytes lie over later ones
	uncutLayers              // a truncation takes nothing away from the bytes written before it
	vanishedStay             // what was created and removed is sent
	firstAttr                // an attribute keeps the first value that it got
	keepCapability           // a file keeps its capabilities when it is written to in the same cut
)

// capability is the extended attribute that every change of a file's content removes.
const capability = "security.capability"

// NetEffect gives the net effect of the operations of one cut (see Log.Take), in sequence.
// It may be called without the lock of their Log.
//
// It follows objects, not names, so it does not matter under which names a file
// was reached, and what a cut creates and removes again leaves nothing but the
// times of its directories. It panics when a Copy and another change of its
// source's content are among the operations: Take never lets them.
func NetEffect(ops []*Op) *Net { return netEffect(ops, noNetMutant) }

func netEffect(ops []*Op, m netMutant) *Net {
	r := &reducer{objects: map[uint64]*object{}, slots: map[slot]*binding{}, fence: map[uint64]bool{}, mutant: m}
	var copies copyRule
	for _, op := range ops {
		if op.Kind.orders() {
			continue
		}
		if !copies.admit(op) {
			panic(fmt.Sprintf("order: operation %d changes what the same cut copies from, or copies what it changes", op.Seq))
		}
		r.add(op)
	}
	for _, b := range r.bound {
		if o := r.objects[b.after]; o != nil {
			o.names++
		}
	}
	r.emit()
	return &r.net
}

func (r *reducer) object(id uint64) *object {
	o := r.objects[id]
	if o == nil {
		o = &object{id: id, attrs: Attr{ID: id}, mutant: r.mutant}
		r.objects[id] = o
		r.touched = append(r.touched, o)
	}
	return o
}

// bind notes that op makes (dir, name), which was bound to before, bound to after.
func (r *reducer) bind(op *Op, dir uint64, name string, before, after uint64) {
	s := slot{dir, name}
	b := r.slots[s]
	if b == nil {
		b = &binding{slot: s, before: before}
		r.slots[s] = b
		r.bound = append(r.bound, b)
	}
	if r.mutant == lastBefore {
		b.before = before
	}
	b.after, b.last = after, op
	b.seqs = append(b.seqs, op.Seq)
}

// unnamed notes that op took the last name of id, if it did.
func (r *reducer) unnamed(op *Op, id uint64) {
	o := r.object(id)
	if op.Last || op.Dead {
		o.last, o.dead = true, op.Dead
	}
	if op.Keep {
		o.keep, o.release, o.held = op, nil, true
	}
}

// add takes the next operation.
func (r *reducer) add(op *Op) {
	o := r.object(op.ID)
	if op.Kind.creates() {
		o.created, o.held = op, op.Kind == Tmpfile
	}
	switch op.Kind {
	case Create, Mkdir, Symlink, Mknod, Link:
		r.bind(op, op.Dir, op.Name, 0, op.ID)
		o.last, o.dead = false, false
	case Unlink, Rmdir:
		r.bind(op, op.Dir, op.Name, op.ID, 0)
		r.unnamed(op, op.ID)
	case Rename:
		back := uint64(0)
		if op.Exchange {
			back = op.Replaced
		}
		r.bind(op, op.Dir, op.Name, op.ID, back)
		r.bind(op, op.Dir2, op.Name2, op.Replaced, op.ID)
		if op.Replaced != 0 && !op.Exchange {
			r.unnamed(op, op.Replaced)
		}
	case Release:
		o.keep, o.release, o.held = nil, op, false
	case SetXattr, RemoveXattr:
		o.xattrs = slices.DeleteFunc(o.xattrs, func(x *Op) bool { return x.Name == op.Name })
		o.xattrs = append(o.xattrs, op)
	}
	if op.Kind.content() {
		o.content = append(o.content, op)
		// The host takes an old one away when the content changes; one that the same cut has set before must not come back.
		if r.mutant != keepCapability {
			o.xattrs = slices.DeleteFunc(o.xattrs, func(x *Op) bool { return x.Name == capability })
		}
	}
	for _, a := range op.Attrs {
		r.object(a.ID).set(op, a)
	}
	if op.Kind == Truncate {
		o.set(op, Attr{ID: op.ID, Valid: cut.AttrSize, Size: op.Size})
	}
	if op.Kind.effective() {
		for _, id := range op.Writes {
			r.fence[id] = true
		}
		for _, id := range op.Reads {
			r.fence[id] = r.fence[id] || false
		}
	}
}

// set lays a over the object's attributes.
func (o *object) set(op *Op, a Attr) {
	if o.mutant == firstAttr {
		a.Valid &^= o.attrs.Valid
	}
	o.attrs.lay(a, a.Valid)
	for i := range o.setters {
		if a.Valid&(1<<i) != 0 {
			o.setters[i] = op
		}
	}
}

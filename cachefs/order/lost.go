package order

import (
	"cmp"
	"slices"
)

// slot is a name in a directory.
type slot struct {
	dir  uint64
	name string
}

// slots gives the slots that the operation binds or unbinds.
func (op *Op) slots() []slot {
	switch op.Kind {
	case Create, Mkdir, Symlink, Mknod, Link, Unlink, Rmdir:
		return []slot{{op.Dir, op.Name}}
	case Rename:
		return []slot{{op.Dir, op.Name}, {op.Dir2, op.Name2}}
	}
	return nil
}

// damage is what lost operations leave unusable for later ones.
type damage struct {
	objects map[uint64]bool
	slots   map[slot]bool
	all     bool
	mutant  mutant
}

// add notes that op is lost:
//
//	lost                                     goes with it
//	data of F (write, truncate, allocate, …)  all later operations that name F, its renames too
//	creation of F                            everything that names F
//	a binding of (D, name)                   later operations on that slot
//	an attribute, an xattr                   itself
//
// To name is to write or to read: a directory that is renamed into place after a
// file below it was lost would show the half-made tree that its Reads are there to prevent.
func (d *damage) add(op *Op) {
	if op.Kind.content() || op.Kind.creates() {
		d.objects[op.ID] = true
	}
	for _, s := range op.slots() {
		d.slots[s] = true
	}
}

// hits says whether op cannot be without what is lost.
func (d *damage) hits(op *Op) bool {
	lost := func(id uint64) bool { return d.objects[id] }
	if d.mutant == narrowLoss {
		return d.all || lost(op.ID) || slices.ContainsFunc(op.slots(), func(s slot) bool { return d.slots[s] })
	}
	return d.all || slices.ContainsFunc(op.Writes, lost) || slices.ContainsFunc(op.Reads, lost) ||
		slices.ContainsFunc(op.slots(), func(s slot) bool { return d.slots[s] })
}

// Dependents gives what goes with refused operations (themselves included, ascending), by
// the narrow relation: only what needs their effect. What comes after a Barrier
// that they come before needs it too. Operations in flight are looked at like pending ones.
func (l *Log) Dependents(seqs ...uint64) []uint64 {
	d := damage{objects: map[uint64]bool{}, slots: map[slot]bool{}, mutant: l.mutant}
	return l.scan(seqs, func(n *node, seed, after bool) bool {
		switch {
		case n.op.Kind == Barrier:
			d.all = d.all || after
			return seed
		case n.op.Kind.orders() || n.op.Kind == Release:
			return seed
		}
		if seed || d.hits(n.op) {
			d.add(n.op)
			return true
		}
		return false
	})
}

// Successors gives the operations and all that come after them in the order
// (ascending): what is lost when a token that they need was taken away.
func (l *Log) Successors(seqs ...uint64) []uint64 {
	return l.scan(seqs, func(n *node, seed, after bool) bool { return seed || after && n.op.Kind != Release })
}

// scan asks of each operation from the first seed on, in sequence, whether it is
// chosen, telling whether it is a seed, and whether it comes after one that is chosen.
// A Release tells that a file is closed here, which is true whatever is lost: it goes
// only with the file's creation.
func (l *Log) scan(seqs []uint64, choose func(n *node, seed, after bool) bool) []uint64 {
	seqs = slices.DeleteFunc(slices.Clone(seqs), func(s uint64) bool { return l.node(s) == nil })
	if len(seqs) == 0 {
		return nil
	}
	slices.Sort(seqs)
	var chosen []uint64
	created := map[uint64]bool{} // by chosen ones
	l.stamp++
	for _, n := range l.nodes[seqs[0]-l.first:] {
		if n == nil {
			continue
		}
		_, seed := slices.BinarySearch(seqs, n.seq)
		after := slices.ContainsFunc(n.preds, func(p *node) bool { return p.live() && p.mark == l.stamp })
		yes := choose(n, seed, after) || n.op.Kind == Release && created[n.op.ID]
		if yes {
			chosen = append(chosen, n.seq)
			if n.op.Kind.creates() {
				created[n.op.ID] = true
			}
		}
		if yes || after {
			n.mark = l.stamp
		}
	}
	return chosen
}

// Drop removes lost operations, which must not be in flight, and gives them (without
// what only ordered). What was ordered through them stays ordered: of each the
// place in the order is kept while something precedes it. Survivors keep their values; where
// the caller finds others when it applies them again, it amends them. Only Last and
// Dead are taken back from removals that were the last ones thanks to a lost one.
func (l *Log) Drop(seqs ...uint64) []*Op {
	var ops []*Op
	named := map[uint64]bool{} // may have more names than later operations thought
	for _, s := range sortedSet(slices.Clone(seqs)) {
		n := l.must(s)
		if n.state == inflight {
			panic("order: an operation in flight is dropped")
		}
		if n.op.Kind.orders() {
			continue
		}
		o := n.op
		ops = append(ops, o)
		if id := o.Unnames(); id != 0 {
			named[id] = true
		}
		l.count(n, -1)
		n.op = &Op{Seq: o.Seq, Kind: void, UID: o.UID, Owner: o.Owner, At: o.At, ID: o.ID, Writes: o.Writes, Reads: o.Reads}
		i, _ := slices.BinarySearchFunc(l.voids, n.seq, func(a *node, s uint64) int { return cmp.Compare(a.seq, s) })
		l.voids = slices.Insert(l.voids, i, n)
		l.touch(n)
	}
	l.note(Note{Kind: Dropped, Seqs: seqs})
	if len(named) > 0 {
		for _, n := range l.nodes {
			if n != nil && n.state == pending && (n.op.Last || n.op.Dead) && named[n.op.Unnames()] {
				l.Amend(n.seq, func(op *Op) { op.Last, op.Dead = false, false })
			}
		}
	}
	l.sweep()
	return ops
}

// Unnames gives the object that loses a name by the operation, or 0.
func (op *Op) Unnames() uint64 {
	switch {
	case op.Kind == Unlink || op.Kind == Rmdir:
		return op.ID
	case op.Kind == Rename && !op.Exchange:
		return op.Replaced
	}
	return 0
}

// Amend changes the values of a pending operation that is not in flight: those of its fields
// that do not say what it is done to. Whoever was given the operation before keeps what it saw.
func (l *Log) Amend(seq uint64, change func(op *Op)) {
	n := l.must(seq)
	if n.state == inflight {
		panic("order: an operation in flight is amended")
	}
	op := *n.op
	op.Attrs = slices.Clone(op.Attrs)
	change(&op)
	w, r := Operands(&op)
	if op.Seq != seq || op.Kind != n.op.Kind || !slices.Equal(w, n.op.Writes) || !slices.Equal(r, n.op.Reads) {
		panic("order: an amended operation has other operands")
	}
	op.check()
	grown := op.data() - n.op.data()
	l.total.Bytes += grown
	if c := l.chains[op.ID]; c != nil {
		c.bytes += grown
	}
	n.op, n.shared, n.ownBytes = &op, false, false
	l.note(Note{Kind: Amended, Op: &op})
	l.touch(n)
	l.settle()
}

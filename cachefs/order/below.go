package order

import "slices"

// place says where an object lies that has pending operations, or that has such below
// it. There is one only of these, so a tree that is merely cached costs nothing.
type place struct {
	up   []uint64            // the directories that it has names in, as the caller last said
	down map[uint64]struct{} // the objects of that kind that have a name in it
}

// Somewhere is a directory that stands for those which are not known: what has a name in it may lie below any.
const Somewhere = ^uint64(0)

// Locate tells the Log how to find the directories that an object has names in, as far as the
// caller knows, with Somewhere if there may be others, and none for what has no name. It is to be called before the first Append; [Log.Moved] says when the answer changes.
// Without it the Log does not know what lies below what.
func (l *Log) Locate(parents func(id uint64) []uint64) {
	l.parents, l.places = parents, map[uint64]*place{}
}

// Moved says that id has names in other directories than before.
func (l *Log) Moved(id uint64) {
	p := l.places[id]
	if p == nil || l.mutant == forgetBelow {
		return
	}
	old := p.up
	p.up = slices.Clone(l.parents(id))
	for _, dir := range p.up {
		if !slices.Contains(old, dir) {
			l.place(dir).down[id] = struct{}{}
		}
	}
	for _, dir := range old {
		if !slices.Contains(p.up, dir) {
			l.leave(id, dir)
		}
	}
}

// place gives id's place, and makes it and those above if they are not there.
func (l *Log) place(id uint64) *place {
	if p := l.places[id]; p != nil {
		return p
	}
	// It is there before those above are asked for: that ends the way up should it go round.
	p := &place{down: map[uint64]struct{}{}}
	l.places[id] = p
	if id == Somewhere {
		return p
	}
	p.up = slices.Clone(l.parents(id))
	for _, dir := range p.up {
		l.place(dir).down[id] = struct{}{}
	}
	return p
}

// displace drops id's place, and those above, where nothing needs them any more.
func (l *Log) displace(id uint64) {
	p := l.places[id]
	if p == nil || len(p.down) > 0 {
		return
	}
	if c := l.chains[id]; c != nil && c.writes > 0 {
		return
	}
	delete(l.places, id)
	for _, dir := range p.up {
		l.leave(id, dir)
	}
}

// leave notes that id has no name in dir any more, or need not be found there.
func (l *Log) leave(id, dir uint64) {
	if d := l.places[dir]; d != nil {
		delete(d.down, id)
		l.displace(dir)
	}
}

// Below gives the objects with pending operations that lie, or may lie, below directory root, sorted:
// what a Rename of root reads. Its cost is in proportion to them.
func (l *Log) Below(root uint64) []uint64 {
	var ids []uint64
	met := map[uint64]bool{root: true, DirMove: true, Somewhere: true}
	stack := []uint64{root, Somewhere}
	for len(stack) > 0 {
		p := l.places[stack[len(stack)-1]]
		stack = stack[:len(stack)-1]
		if p == nil {
			continue
		}
		for id := range p.down {
			if met[id] {
				continue
			}
			met[id] = true
			stack = append(stack, id)
			if c := l.chains[id]; c != nil && c.writes > 0 {
				ids = append(ids, id)
			}
		}
	}
	return sortedSet(ids)
}

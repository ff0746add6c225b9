package simulate

import (
	"echo9/cachefs/order"
	"echo9/tokens"
)

// id names an object: two directories, and files.
type id = tokens.ID

const (
	dirA      id = 1
	dirB      id = 2
	firstFile id = 10
	names        = 3 // in each directory
)

// An object is a directory, or a file that contains the number of the update that wrote it.
type object struct {
	there bool
	ents  [names]id
	val   int
	ver   int // the update that changed it last
}

type tree map[id]object

func newTree() tree {
	return tree{
		dirA: {there: true, ents: [names]id{firstFile, firstFile + 1}}, dirB: {there: true, ents: [names]id{firstFile + 2}},
		firstFile: {there: true}, firstFile + 1: {there: true}, firstFile + 2: {there: true},
	}
}

func (t tree) set(k id, o object) {
	if o.there {
		t[k] = o
	} else {
		delete(t, k)
	}
}

// An update is an operation that somebody has performed, and what became of it.
type update struct {
	n        int
	by       *client // nil: an edit on the host
	kind     order.Kind
	file     id
	dir      id
	name     int
	dir2     id
	name2    int
	replaced id
	read     id // used, not changed

	applied, lost bool
	acked         bool // its client was told that it is durable
	doomed        bool // somebody has used what it changes, or changed what it used: it must never be applied
	excused       bool // it may be lost: a token that it needs was taken away
}

// objects appends what u writes.
func (u *update) objects(dst []id) []id {
	dst = append(dst, u.file)
	switch u.kind {
	case order.Create, order.Unlink:
		dst = append(dst, u.dir)
	case order.Rename:
		dst = append(dst, u.dir)
		if u.dir2 != u.dir {
			dst = append(dst, u.dir2)
		}
		if u.replaced != 0 {
			dst = append(dst, u.replaced)
		}
	}
	return dst
}

func (u *update) writes(k id) bool {
	switch {
	case k == u.file:
		return true
	case u.kind == order.Write:
		return false
	}
	return k == u.dir || u.kind == order.Rename && (k == u.dir2 || k == u.replaced)
}

// on does u to its object k.
func (u *update) on(k id, o *object) {
	if !u.writes(k) {
		return
	}
	switch {
	case u.kind == order.Write:
		o.val = u.n
	case u.kind == order.Create && k == u.file:
		*o = object{there: true}
	case u.kind == order.Create:
		o.ents[u.name] = u.file
	case u.kind == order.Unlink && k == u.file, u.kind == order.Rename && k == u.replaced:
		*o = object{}
		return
	case u.kind == order.Unlink:
		o.ents[u.name] = 0
	case u.kind == order.Rename && k != u.file:
		if k == u.dir {
			o.ents[u.name] = 0
		}
		if k == u.dir2 {
			o.ents[u.name2] = u.file
		}
	}
	o.ver = u.n
}

// do does all of u.
func (t tree) do(u *update) {
	for _, k := range u.objects(nil) {
		o := t[k]
		u.on(k, &o)
		t.set(k, o)
	}
}

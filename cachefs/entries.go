package cachefs

import "echo9/internal/wire"

// entry is what is known of one name in a directory. Id 0: the name is known not to exist.
type entry struct {
	name string
	id   uint64
	qid  wire.QID
	typ  uint8 // as d_type of readdir(3)
	pos  int   // in entries.list
}

// entries is what is known of a directory's names. Guarded by the file system's mutex;
// true as long as the directory's token is held.
type entries struct {
	names map[string]*entry
	// list has the names that exist in the order in which they became known; removed ones are nil.
	list  []*entry
	holes int
	// complete: names that are not here do not exist.
	complete bool
	// snap is the listing as of now, shared by all who read it; nil when it has to be made.
	snap []wire.Dirent
}

// lookup answers what name is bound to: known is false when only the server can tell.
func (e *entries) lookup(name string) (ent *entry, known bool) {
	if x, ok := e.names[name]; ok {
		if x.id == 0 {
			return nil, true
		}
		return x, true
	}
	return nil, e.complete
}

// bind makes name stand for an object.
func (e *entries) bind(name string, qid wire.QID, typ uint8) {
	e.remove(name)
	if e.names == nil {
		e.names = make(map[string]*entry)
	}
	x := &entry{name: name, id: qid.Path, qid: qid, typ: typ, pos: len(e.list)}
	e.names[name] = x
	e.list = append(e.list, x)
	e.snap = nil
}

// unbind makes name known not to exist.
func (e *entries) unbind(name string) {
	e.remove(name)
	if !e.complete {
		if e.names == nil {
			e.names = make(map[string]*entry)
		}
		e.names[name] = &entry{name: name, pos: -1}
	}
}

func (e *entries) remove(name string) {
	x, ok := e.names[name]
	if !ok {
		return
	}
	delete(e.names, name)
	if x.id == 0 {
		return
	}
	e.list[x.pos] = nil
	e.holes++
	e.snap = nil
	if e.holes > 32 && e.holes > len(e.list)/2 {
		kept := make([]*entry, 0, len(e.list)-e.holes)
		for _, y := range e.list {
			if y != nil {
				y.pos = len(kept)
				kept = append(kept, y)
			}
		}
		e.list, e.holes = kept, 0
	}
}

// finish makes the knowledge complete: names known not to exist need no row any more.
func (e *entries) finish() {
	e.complete = true
	for name, x := range e.names {
		if x.id == 0 {
			delete(e.names, name)
		}
	}
}

// count is the number of names known to exist.
func (e *entries) count() int { return len(e.list) - e.holes }

// drop forgets everything.
func (e *entries) drop() { *e = entries{} }

// snapshot is the listing as of now; it is shared and must not be changed. Offsets count from 3:
// 1 and 2 are "." and "..".
func (e *entries) snapshot() []wire.Dirent {
	if e.snap == nil {
		e.snap = make([]wire.Dirent, 0, e.count())
		for _, x := range e.list {
			if x != nil {
				e.snap = append(e.snap, wire.Dirent{QID: x.qid, Offset: uint64(len(e.snap)) + 3, Type: x.typ, Name: x.name})
			}
		}
	}
	return e.snap
}

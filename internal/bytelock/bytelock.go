// Package bytelock is a table of POSIX byte-range locks, kept by a server for
// the objects that it serves.
//
// A lock belongs to an Owner, never to a descriptor: locks of one owner replace
// each other, split and merge as fcntl(2) says; locks of different owners
// conflict when they overlap and one of them is for writing. The table never
// waits: a conflict is an answer (Blocked), and the asker comes again. It knows
// nothing of files: an object is a number, and so locks neither keep an object
// alive nor are kept by it.
//
// # Concurrency
//
// All methods may be called from many goroutines; one mutex guards the table
// and is held for no longer than a walk over the locks of one object (or, for
// DropSession and DropOwner, of all).
package bytelock

import (
	"math"
	"slices"
	"sync"
)

// Owner is who holds a lock. Two locks are of the same owner when all fields are equal.
type Owner struct {
	Session uint64 // the session with the extension, 0 for a plain client
	Conn    uint64 // tells the connections of plain clients apart (p9srv.Cred.Owner)
	Proc    uint32 // the process at the client
	Client  string // the client's name for itself
}

// Type says what a lock allows.
type Type uint8

// The types of locks, numbered as on the wire.
const (
	Read Type = iota
	Write
	Unlock
)

// Status is the answer to Set.
type Status uint8

// The answers to Set, numbered as on the wire.
const (
	Success Status = iota
	Blocked
	Failed // the range or the type is nonsense, or the object has too many locks
)

// MaxPerObject bounds the number of ranges locked on one object; beyond it Set gives Failed.
const MaxPerObject = 65536

// Lock is a locked range. Length 0 reaches to the end of the file, wherever that is.
type Lock struct {
	Owner         Owner
	Type          Type
	Start, Length uint64
}

// span is a locked range with its last byte, which is easier to compute with.
type span struct {
	start, last uint64
	typ         Type
	owner       Owner
}

func (s span) lock() Lock {
	l := Lock{Owner: s.owner, Type: s.typ, Start: s.start}
	if s.last != math.MaxUint64 {
		l.Length = s.last - s.start + 1
	}
	return l
}

// Table holds locks. The zero Table is empty and ready.
type Table struct {
	mu sync.Mutex
	// objects has the spans of each object, by start; those of one owner do not overlap.
	objects map[uint64][]span
}

// bounds gives the last byte of a range; false when it has none or passes the end of what can be counted.
func bounds(start, length uint64) (last uint64, ok bool) {
	if length == 0 {
		return math.MaxUint64, true
	}
	last = start + length - 1
	return last, last >= start
}

// Set takes, changes or (with Unlock) gives back a range of the object.
func (t *Table) Set(id uint64, l Lock) Status {
	last, ok := bounds(l.Start, l.Length)
	if !ok || l.Type > Unlock {
		return Failed
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.objects[id]
	if l.Type != Unlock {
		if _, hit := conflict(old, l, last); hit {
			return Blocked
		}
		if len(old)+2 > MaxPerObject {
			return Failed
		}
	} else if len(old) == 0 {
		return Success
	}
	t.put(id, carve(old, l, last))
	return Success
}

// Get tells the first lock that would keep l from being taken.
func (t *Table) Get(id uint64, l Lock) (Lock, bool) {
	last, ok := bounds(l.Start, l.Length)
	if !ok {
		return Lock{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s, hit := conflict(t.objects[id], l, last)
	if !hit {
		return Lock{}, false
	}
	return s.lock(), true
}

// Holders tells the sessions with locks that keep l from being taken, each once; 0 stands for plain clients.
func (t *Table) Holders(id uint64, l Lock) []uint64 {
	last, ok := bounds(l.Start, l.Length)
	if !ok || l.Type == Unlock {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []uint64
	for rest := t.objects[id]; ; {
		i := slices.IndexFunc(rest, func(s span) bool { _, hit := conflict([]span{s}, l, last); return hit })
		if i < 0 {
			return out
		}
		if s := rest[i].owner.Session; !slices.Contains(out, s) {
			out = append(out, s)
		}
		rest = rest[i+1:]
	}
}

// DropSessionOn gives back all that the session holds on the object.
func (t *Table) DropSessionOn(id, session uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(id, slices.DeleteFunc(t.objects[id], func(s span) bool { return s.owner.Session == session }))
}

// DropSession gives back all that the session holds, whichever its owners.
// Session 0 is nobody's and is left alone.
func (t *Table) DropSession(session uint64) {
	if session != 0 {
		t.drop(func(o Owner) bool { return o.Session == session })
	}
}

// DropConn gives back all that owners of the plain connection hold.
func (t *Table) DropConn(conn uint64) {
	t.drop(func(o Owner) bool { return o.Session == 0 && o.Conn == conn })
}

// DropOwner gives back all that the owner holds on the object.
func (t *Table) DropOwner(id uint64, owner Owner) {
	t.Set(id, Lock{Owner: owner, Type: Unlock})
}

// Len is the number of ranges locked on the object.
func (t *Table) Len(id uint64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.objects[id])
}

func (t *Table) drop(of func(Owner) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, spans := range t.objects {
		t.put(id, slices.DeleteFunc(spans, func(s span) bool { return of(s.owner) }))
	}
}

func (t *Table) put(id uint64, spans []span) {
	if len(spans) == 0 {
		delete(t.objects, id)
		return
	}
	if t.objects == nil {
		t.objects = map[uint64][]span{}
	}
	t.objects[id] = spans
}

func conflict(spans []span, l Lock, last uint64) (span, bool) {
	for _, s := range spans {
		if s.start > last {
			break
		}
		if s.last >= l.Start && s.owner != l.Owner && (s.typ == Write || l.Type == Write) {
			return s, true
		}
	}
	return span{}, false
}

// carve gives the spans after the owner's range has become what l says:
// what it held there is cut out, and the new range joins its neighbours of the same type.
func carve(spans []span, l Lock, last uint64) []span {
	n := span{start: l.Start, last: last, typ: l.Type, owner: l.Owner}
	out := make([]span, 0, len(spans)+2)
	for _, s := range spans {
		if s.owner != l.Owner {
			out = append(out, s)
			continue
		}
		if s.typ == n.typ && touches(s, n) {
			n.start, n.last = min(n.start, s.start), max(n.last, s.last)
			continue
		}
		if s.last < n.start || s.start > n.last {
			out = append(out, s)
			continue
		}
		if s.start < n.start {
			out = append(out, span{s.start, n.start - 1, s.typ, s.owner})
		}
		if s.last > n.last {
			out = append(out, span{n.last + 1, s.last, s.typ, s.owner})
		}
	}
	if n.typ != Unlock {
		out = append(out, n)
	}
	slices.SortStableFunc(out, func(a, b span) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	return out
}

// touches: the spans overlap or lie side by side.
func touches(a, b span) bool {
	return (a.last == math.MaxUint64 || b.start <= a.last+1) && (b.last == math.MaxUint64 || a.start <= b.last+1)
}

package order

import (
	"fmt"
	"slices"
)

// DirMove is the pseudo-object that renames of directories between directories write.
const DirMove uint64 = 0

// Kind says what an operation does.
type Kind uint8

// The kinds of operations. In parentheses, the fields that each uses besides
// UID, Owner, At, Attrs and Reads.
const (
	Create      Kind = 1 + iota // a regular file (ID, Dir, Name, Mode, UserID, GroupID)
	Mkdir                       // (ID, Dir, Name, Mode, UserID, GroupID)
	Symlink                     // (as Create, and Target)
	Mknod                       // (as Create, and Rdev)
	Link                        // ID gets the name (Dir, Name), which was not bound
	Unlink                      // (Dir, Name), bound to ID, goes (Last, Keep, Dead)
	Rmdir                       // (Dir, Name), bound to directory ID, goes (Last, Keep, Dead)
	Rename                      // ID moves from (Dir, Name) to (Dir2, Name2), bound to Replaced or 0 before (IsDir, Last, Keep, Dead; Exchange, ReplacedIsDir)
	Write                       // Bytes at Off of ID; Attrs has AttrSize
	Truncate                    // ID's size becomes Size (shorter or longer)
	Allocate                    // space for Len bytes at Off of ID is set aside; Attrs has AttrSize if the size grows
	Punch                       // Len bytes at Off of ID become zero; Attrs has AttrSize if the size grows
	SetAttr                     // only Attrs, of ID
	SetXattr                    // ID's extended attribute Name becomes Bytes
	RemoveXattr                 // ID's extended attribute Name goes
	Copy                        // Len bytes at SourceOff of Source go to Off of ID at the server; Attrs has AttrSize
	Tmpfile                     // a regular file without a name, open here (ID, Mode, UserID, GroupID)
	Release                     // ID, which has no name, is no longer open here
	Barrier                     // all before it on ID comes before all after it on any object; it does not wait
	observe                     // causal policy: ID was read here; what comes later comes after what was pending on it
	void                        // a lost operation, which still orders those around it
	kinds
)

var kindNames = [kinds]string{
	Create: "create", Mkdir: "mkdir", Symlink: "symlink", Mknod: "mknod", Link: "link", Unlink: "unlink",
	Rmdir: "rmdir", Rename: "rename", Write: "write", Truncate: "truncate", Allocate: "allocate", Punch: "punch",
	SetAttr: "setattr", SetXattr: "setxattr", RemoveXattr: "removexattr", Copy: "copy", Tmpfile: "tmpfile",
	Release: "release", Barrier: "barrier", observe: "observe", void: "lost",
}

// String gives the kind's name, as listings show it.
func (k Kind) String() string {
	if k == 0 || k >= kinds {
		return fmt.Sprintf("kind%d", uint8(k))
	}
	return kindNames[k]
}

// creates says whether the operation brings ID into being.
func (k Kind) creates() bool {
	return k == Create || k == Mkdir || k == Symlink || k == Mknod || k == Tmpfile
}

// content says whether the operation changes what ID contains.
func (k Kind) content() bool {
	return k == Write || k == Truncate || k == Allocate || k == Punch || k == Copy
}

// effective says whether the operation is to be written back under tokens.
func (k Kind) effective() bool { return !k.orders() && k != Release }

// orders says whether the operation does nothing but order others.
func (k Kind) orders() bool { return k == Barrier || k == observe || k == void }

// Attr is what an operation leaves in the attributes of one object, as the
// client computed it when it performed the operation: final values, with all
// side effects (a write that strips setuid says so here). Valid has bits of cut.Attr….
type Attr struct {
	ID                  uint64
	Valid               uint32
	Mode                uint32 // permission bits with setuid, setgid and sticky
	UserID, GroupID     uint32
	Size                uint64
	Atime, Mtime, Ctime int64
}

// Op is one update operation as the client performed it on its own copy.
//
// Once it is appended it belongs to the Log and must not be changed; neither
// must its Bytes.
type Op struct {
	// Seq is given by Append: 1, 2, … in the order of issue.
	Seq  uint64
	Kind Kind
	// UID acts; Owner is the lock owner, 0 for none; At is the time of issue on the
	// caller's clock, for ages.
	UID   uint32
	Owner uint64
	At    int64

	// ID is the object created, linked, unlinked, moved or changed.
	ID uint64
	// Dir and Name are the slot that is bound, unbound or moved from. Of xattr
	// operations Name is the attribute's.
	Dir  uint64
	Name string
	// Dir2 and Name2 are where a Rename goes; Replaced is what was bound there, 0 for nothing.
	Dir2     uint64
	Name2    string
	Replaced uint64

	// Exchange: Replaced moves to (Dir, Name) instead of losing its name.
	Exchange bool
	// IsDir: a Rename's ID is a directory. ReplacedIsDir: its Replaced is one.
	IsDir, ReplacedIsDir bool
	// Last: what loses its name here (ID; of a Rename, Replaced) has none left.
	Last bool
	// Keep, with Last: it is open at this client: the server is to keep it until a Release.
	Keep bool
	// Dead, with Last: the caller knows that nobody, at other clients neither, has it
	// open: what is pending on its content need not be sent. Of objects created and
	// removed within one cut the Log knows it by itself.
	Dead bool

	// What is created. Mode has the type bits too.
	Mode            uint32
	UserID, GroupID uint32
	Rdev            uint64
	Target          string

	// Attrs are final attributes of objects that the operation writes: an Unlink
	// has its directory's times and ID's ctime, a Write ID's size and times.
	Attrs []Attr

	Off, Len  uint64
	Size      uint64
	Bytes     []byte
	Source    uint64
	SourceOff uint64

	// Writes and Reads are the operands, set by Append from the fields above. What
	// Reads has before is added to: a Rename of a directory reads every object below
	// it that has pending operations (Log.Below), and the ancestors of Dir2.
	Writes, Reads []uint64
}

// Operands gives the objects that op writes and reads, each sorted, without
// repetition; what is written is not named as read. The objects in op.Reads are
// among the read ones.
func Operands(op *Op) (writes, reads []uint64) {
	w := make([]uint64, 0, 5)
	w = append(w, op.ID)
	switch op.Kind {
	case Create, Mkdir, Symlink, Mknod, Link, Unlink, Rmdir:
		w = append(w, op.Dir)
	case Rename:
		w = append(w, op.Dir, op.Dir2)
		if op.Replaced != 0 {
			w = append(w, op.Replaced)
		}
		if op.movesDir() {
			w = append(w, DirMove)
		}
	case observe:
		w = w[:0]
	}
	w = sortedSet(w)
	r := op.Reads
	switch op.Kind {
	case Copy:
		r = append(slices.Clip(r), op.Source)
	case observe:
		r = append(slices.Clip(r), op.ID)
	}
	if len(r) == 0 {
		return w, nil
	}
	r = sortedSet(slices.Clone(r))
	r = slices.DeleteFunc(r, func(id uint64) bool { return slices.Contains(w, id) })
	return w, r
}

// movesDir says whether a directory gets another parent.
func (op *Op) movesDir() bool {
	return op.Kind == Rename && op.Dir != op.Dir2 && (op.IsDir || op.Exchange && op.ReplacedIsDir)
}

// data is the number of content bytes that the operation carries.
func (op *Op) data() int64 {
	if op.Kind == Write {
		return int64(len(op.Bytes))
	}
	return 0
}

// sortedSet sorts s in place and drops repetitions.
func sortedSet(s []uint64) []uint64 {
	if len(s) < 2 {
		return s
	}
	slices.Sort(s)
	return slices.Compact(s)
}

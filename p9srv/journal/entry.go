package journal

import "echo9/internal/cut"

// LSN numbers entries: 1, 2, …, never used again in a log's life. 0 is none.
type LSN uint64

// Ident tells a host inode from all others, those that have its number later included.
type Ident struct {
	Dev, Ino uint64
	Tag      uint64 // a hash of its handle, or of its birth time
	Handle   string // where handles can be opened, else ""
}

// Attrs are the attributes of an inode as the host has them.
type Attrs struct {
	Mode, UID, GID      uint32 // Mode with the type
	Size                uint64
	Atime, Mtime, Ctime int64 // nanoseconds since 1970, the host's
}

// Cut is the entry of a cut that is about to be applied.
type Cut struct {
	// Client, Session and Number say whose it is; Time is the host's when it was written.
	Client  [16]byte
	Session uint64
	Number  uint64
	Time    int64
	// Records are final values. There are no Copy records: their bytes are Data.
	Records []cut.Record
	// Objects are all that the records name, those that are bound to and unbound from included.
	Objects []Object
}

// Object is one that a cut names, as it was just before.
type Object struct {
	ID    uint64
	Ident Ident
	// Born: the cut creates it; Ident is that of the staged inode, and Place its name in tmp ("": it is
	// in a directory that is born, or an orphan).
	Born  bool
	Place string
	// Parent and Name are a name by which it was found last, for hosts without handles.
	Parent uint64
	Name   string
	// Before are its attributes before the cut (not of a born one).
	Before Attrs
	// Overwritten are the bytes that the cut's content records lie over or cut off (up to the old size); Xattrs
	// the extended attributes that it sets or removes, as they were.
	Overwritten []Bytes
	Xattrs      []Xattr
}

// Bytes are old bytes of a file.
type Bytes struct {
	Off uint64
	B   []byte
}

// Xattr is an extended attribute as it was.
type Xattr struct {
	Name  string
	Value []byte
	Was   bool // it existed
}

// Note tells that a cut was applied, and the ctimes that the host gave the objects.
type Note struct {
	Cut    LSN
	Ctimes []Ctime
}

// Ctime is the host's ctime of an object after a cut; Shown is the one that clients are shown while
// the host's is that, 0: the host's.
type Ctime struct {
	ID          uint64
	Host, Shown int64
}

// Abort tells that a cut was undone and is refused. Time is the host's when all was undone, 0
// when that is not known: then a recovery sees to it.
type Abort struct {
	Cut  LSN
	Time int64
}

// Applied tells the last cut of a client that was applied: written at checkpoints, so that it
// outlives the entries.
type Applied struct {
	Client [16]byte
	Number uint64
}

// Settled tells that all that earlier entries say of objects is durable by itself: content, attributes
// and, of a directory, its names. Somebody else changed them, or is about to. Earlier entries do not count any
// more for these objects (for a directory: for the names in it).
type Settled struct{ IDs []uint64 }

// Redo tells that a recovery is about to act on the tree: from Time on, for a while, ctimes of the objects
// IDs may be its own. A recovery that is itself cut short is so taken up by the next one.
type Redo struct {
	Time int64
	IDs  []uint64
	// Made are objects that were nowhere and that it made anew.
	Made []Made
}

// Made is an object that a recovery made anew: what it is on the host from then on.
type Made struct {
	ID    uint64
	Ident Ident
}

// Entry is one entry of the log: one of the pointers is set.
type Entry struct {
	LSN     LSN
	Cut     *Cut
	Note    *Note
	Abort   *Abort
	Applied *Applied
	Settled *Settled
	Redo    *Redo
}

// Package cut is the net effect of a set of update operations, as plain data.
//
// A client that writes behind sends what it owes as cuts. A cut is the net
// effect of an order ideal of its pending operations: a set of *final values*,
// never a replay of calls. The server applies it wholly or not at all.
//
// The records of a cut are a set: their order carries no meaning, except that
// the bytes of Data, Zero and Allocate records of one object lie over each other in the order
// given, after the object's Truncate record. Whoever applies a cut brings the
// steps into the order that the host needs (create, content, bindings, owner,
// mode, xattrs, times).
//
// This package promises nothing about who may do what; it never does I/O.
package cut

// Kind says what a Record is.
type Kind uint8

// The kinds of records. Fields not named for a kind are zero.
const (
	// Create: object ID comes into being, without a name, with Mode (type and
	// permission bits, final), UserID/GroupID as owner, Rdev for devices,
	// Target for symlinks. ID is from a range that the server gave the session.
	// Content, size and times come in other records.
	Create Kind = 1 + iota
	// Bind: the name (Dir, Name) is bound to ID afterwards (0: unbound), and
	// was bound to Before (0: unbound) before the cut. A rename is two of them.
	Bind
	// Attr: final attributes of ID; Valid says which.
	Attr
	// Truncate: the content of ID is first cut down to Size, the smallest size
	// that it had within the cut. The final size is in Attr (AttrSize).
	Truncate
	// Data: Bytes lie at Off of ID.
	Data
	// Zero: Len bytes at Off of ID are zero (a hole where the host can make one).
	Zero
	// Allocate: space for Len bytes at Off of ID is set aside; no change of content
	// or size beyond the final size of an Attr record.
	Allocate
	// SetXattr: the extended attribute Name of ID is Bytes.
	SetXattr
	// RemoveXattr: ID has no extended attribute Name.
	RemoveXattr
	// Keep: ID has no name after the cut but is open at the client: the server
	// keeps it alive for the session.
	Keep
	// Release: the session no longer needs ID kept alive.
	Release
	// Copy: Len bytes of object Source at SourceOff lie at Off of ID.
	// Source's token is in the fence.
	Copy
)

// The bits of Record.Valid.
const (
	AttrMode  uint32 = 1 << iota // Mode: permission bits with setuid, setgid and sticky
	AttrUID                      // UserID
	AttrGID                      // GroupID
	AttrSize                     // Size, in bytes
	AttrAtime                    // Atime
	AttrMtime                    // Mtime
	AttrCtime                    // Ctime: what the client showed; reported back while the host's is unchanged, where the server can
)

// Record is one final value of a cut.
type Record struct {
	Kind Kind
	// UID acts: permissions are checked for it. Owner is the lock owner, 0 for none.
	UID   uint32
	Owner uint64

	ID     uint64
	Dir    uint64
	Name   string
	Before uint64

	Valid           uint32
	Mode            uint32
	UserID, GroupID uint32
	Rdev            uint64
	Size            uint64
	// Times in nanoseconds since 1970.
	Atime, Mtime, Ctime int64

	Off, Len  uint64
	Source    uint64
	SourceOff uint64
	Target    string
	Bytes     []byte
}

// Fence names a token that the cut needs: held without interruption since
// generation Gen, in mode Mode (tokens.Read or tokens.Write) or better.
type Fence struct {
	ID   uint64
	Gen  uint64
	Mode uint8
}

// Cut is one numbered cut of a session.
type Cut struct {
	// Client is whose it is, the same over all its sessions; zero: nobody's who would ask for it again.
	Client [16]byte
	// Number is one more than that of the last applied cut of the session.
	Number  uint64
	Fence   []Fence
	Records []Record
}

// Refusal is the error of a cut that was refused: nothing of it was applied.
type Refusal struct {
	// Record is the index of the first refused record; -1 when the whole cut is
	// refused (its fence, its number).
	Record int
	Err    error // wraps a syscall.Errno
}

func (r *Refusal) Error() string { return "cut refused: " + r.Err.Error() }

// Unwrap gives the reason.
func (r *Refusal) Unwrap() error { return r.Err }

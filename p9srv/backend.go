package p9srv

import (
	"context"
	"errors"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

// Cred says on whose behalf an operation is done.
type Cred struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
	// Session is the session with the extension that asks, 0 for a plain client.
	Session uint64
	// Owner is the lock owner where the face knows it.
	Owner uint64
}

// Backend is what a server serves: a tree of objects. dirfs, cachefs and the
// fakes of tests are Backends; p9srv and fusefs are faces over them.
//
// All methods may be called from many goroutines at once. Errors wrap a
// syscall.Errno; a cancelled context gives an error that wraps EINTR or context.Canceled and
// leaves nothing half done.
type Backend interface {
	// Root is the object that aname names: "" and "/" are the export's root, a
	// relative or absolute path below it another directory. It carries a reference.
	Root(ctx context.Context, cred *Cred, aname string) (Object, error)
	// Lookup finds an object by id; ESTALE when it is gone. It carries a reference.
	Lookup(ctx context.Context, id uint64) (Object, error)
	// StatFS tells the space and the limits.
	StatFS(ctx context.Context) (wire.StatFS, error)
}

// Object is one file, directory, symlink or special file: an inode, not a
// path. It is valid until Release, whatever happens to its names.
//
// A method that takes a name works on the entry of that name in the directory;
// names are one element: not empty, without '/' and NUL, not "." (".." only in
// Walk). Two Objects of one id are the same file.
type Object interface {
	ID() uint64
	// QID never changes during an object's life.
	QID() wire.QID

	// Walk looks up one name. ".." is the parent; of the export's root, the root.
	Walk(ctx context.Context, cred *Cred, name string) (Object, wire.Attr, error)
	GetAttr(ctx context.Context, cred *Cred) (wire.Attr, error)
	// SetAttr sets what set.Valid says. f is the open file by which it is done, or nil:
	// ftruncate works on a file opened for writing whatever its mode is now.
	SetAttr(ctx context.Context, cred *Cred, f File, set wire.SetAttr) error
	Readlink(ctx context.Context, cred *Cred) (string, error)

	// Open opens with Linux open(2) flags, given as 9P2000.L encodes them (wire.O…).
	// O_TRUNC is honoured, O_CREAT ignored.
	Open(ctx context.Context, cred *Cred, flags uint32) (File, error)
	// Create makes and opens a regular file. Without O_EXCL an existing regular file
	// is opened instead (and truncated with O_TRUNC).
	Create(ctx context.Context, cred *Cred, name string, flags, mode, gid uint32) (Object, File, wire.Attr, error)
	Mkdir(ctx context.Context, cred *Cred, name string, mode, gid uint32) (Object, wire.Attr, error)
	Symlink(ctx context.Context, cred *Cred, name, target string, gid uint32) (Object, wire.Attr, error)
	Mknod(ctx context.Context, cred *Cred, name string, mode, major, minor, gid uint32) (Object, wire.Attr, error)
	Link(ctx context.Context, cred *Cred, target Object, name string) error
	// Unlink removes a name; flags: wire.AtRemoveDir for directories.
	Unlink(ctx context.Context, cred *Cred, name string, flags uint32) error
	// Rename moves (o, oldName) to (dir, newName); flags: wire.RenameNoReplace, wire.RenameExchange.
	Rename(ctx context.Context, cred *Cred, oldName string, dir Object, newName string, flags uint32) error

	// Extended attributes. GetXattr gives ENODATA for one that is not there;
	// SetXattr's flags are XATTR_CREATE (1) and XATTR_REPLACE (2).
	GetXattr(ctx context.Context, cred *Cred, name string) ([]byte, error)
	ListXattr(ctx context.Context, cred *Cred) ([]string, error)
	SetXattr(ctx context.Context, cred *Cred, name string, value []byte, flags uint32) error
	RemoveXattr(ctx context.Context, cred *Cred, name string) error

	// Lock takes or releases (wire.LockUnlock) a POSIX byte-range lock. It never waits:
	// wire.LockBlocked means that somebody else has a conflicting one.
	Lock(ctx context.Context, cred *Cred, l wire.Lock) (wire.LockStatus, error)
	// GetLock tells the lock that would conflict with l, or l with Type wire.LockUnlock.
	GetLock(ctx context.Context, cred *Cred, l wire.Lock) (wire.Lock, error)

	// Release gives the reference back. The object must not be used afterwards.
	Release()
}

// File is an open file or directory.
type File interface {
	// ReadAt reads at most len(p) bytes; fewer, without error, only at the end of the file.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// WriteAt writes all of p or fails; with O_APPEND off is ignored. p is not kept.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	// ReadDir calls fn for the entries after cookie (0: from the start, "." and ".." included first)
	// until it answers false. An entry's Offset is the cookie to go on after it; cookies
	// stay valid while the File is open.
	ReadDir(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error
	// Fsync returns when what was written to the object, and all that precedes it, is durable.
	Fsync(ctx context.Context, dataOnly bool) error
	// Allocate is fallocate(2); EOPNOTSUPP for modes that the backend does not know.
	Allocate(ctx context.Context, mode uint32, off, length uint64) error
	// Close ends the use; its error is one that a write behind met.
	Close(ctx context.Context) error
}

// DirAppender is a File that lists a directory without making a string of each name.
type DirAppender interface {
	// AppendDir appends the entries that ReadDir would give to b, as an Rreaddir carries
	// them, as many as make it at most so long; more says that one did not fit.
	AppendDir(ctx context.Context, cookie uint64, b []byte, most int) (_ []byte, more bool, err error)
}

// ErrInDoubt is the error of a cut of which nobody can say now whether it will be there after a restart.
var ErrInDoubt = errors.New("only a restart will tell whether the cut is there")

// Committer is a Backend whose clients may cache and write behind: what the
// session layer needs of it beyond Backend.
type Committer interface {
	Backend
	// ResolveName gives the id bound to name in directory dir, 0 when there is none.
	ResolveName(ctx context.Context, dir uint64, name string) (uint64, error)
	// Apply applies a cut of the session wholly, or not at all: then its error is a *cut.Refusal. ErrInDoubt: only
	// after a restart will it be known which.
	// No other operation on the cut's operands runs meanwhile: the tokens see to that.
	Apply(ctx context.Context, cred *Cred, c *cut.Cut) error
	// AllocIDs sets n fresh object ids aside, never given out before.
	AllocIDs(n uint64) (first uint64, err error)
	// KeepOpen keeps the object alive for the session, though it may lose its last name; DropOpen ends that.
	KeepOpen(session, id uint64) error
	DropOpen(session, id uint64)
	// EndSession forgets all that is kept for the session (orphans, locks).
	EndSession(session uint64)
}

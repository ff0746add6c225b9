package wire

// QID is the server's name of an object: 13 bytes on the wire.
type QID struct {
	Type    uint8  // QTDir, QTSymlink, QTFile
	Version uint32 // the inode's generation: constant for an object's life
	Path    uint64 // the object id, below 2^53
}

// The types of a QID.
const (
	QTDir     uint8 = 0x80
	QTSymlink uint8 = 0x02
	QTFile    uint8 = 0x00
)

// The numbers that mean "none" in 9P.
const (
	NoTag uint16 = 0xffff
	NoFid uint32 = 0xffffffff
	NoUID uint32 = 0xffffffff
)

// Attr is what getattr tells. Times are in nanoseconds since 1970.
type Attr struct {
	QID                        QID
	Mode                       uint32 `trace:"octal"` // type and permission bits, as st_mode
	UID, GID                   uint32
	Nlink                      uint64
	Rdev                       uint64
	Size                       uint64
	BlockSize                  uint64
	Blocks                     uint64 // of 512 bytes
	Atime, Mtime, Ctime, Btime int64
	Gen, DataVersion           uint64
	// Flags tell what a caching client would otherwise have to ask: AttrNoXattrs and so on. Only the extension carries them.
	Flags uint32
}

// The bits of Attr.Flags.
const (
	// AttrNoXattrs: the object has no extended attributes.
	AttrNoXattrs uint32 = 1
	// AttrReadOnly: all updates are refused with EROFS. AttrFixed: those of this object are, with EPERM.
	AttrReadOnly uint32 = 2
	AttrFixed    uint32 = 4
	// AttrRefusals are those that tell of refusals: no cut changes them.
	AttrRefusals = AttrReadOnly | AttrFixed
)

// The bits of Tgetattr's request mask and Rgetattr's valid mask.
const (
	GetMode        uint64 = 0x0001
	GetNlink       uint64 = 0x0002
	GetUID         uint64 = 0x0004
	GetGID         uint64 = 0x0008
	GetRdev        uint64 = 0x0010
	GetAtime       uint64 = 0x0020
	GetMtime       uint64 = 0x0040
	GetCtime       uint64 = 0x0080
	GetIno         uint64 = 0x0100
	GetSize        uint64 = 0x0200
	GetBlocks      uint64 = 0x0400
	GetBtime       uint64 = 0x0800
	GetGen         uint64 = 0x1000
	GetDataVersion uint64 = 0x2000
	GetBasic       uint64 = 0x07ff
	GetAll         uint64 = 0x3fff
)

// SetAttr is what setattr sets. Times are in nanoseconds since 1970.
type SetAttr struct {
	Valid        uint32 `trace:"hex"`
	Mode         uint32 `trace:"octal"`
	UID, GID     uint32
	Size         uint64
	Atime, Mtime int64
}

// The bits of SetAttr.Valid. SetAtime without SetAtimeSet means "now", and so for mtime.
const (
	SetMode     uint32 = 0x001
	SetUID      uint32 = 0x002
	SetGID      uint32 = 0x004
	SetSize     uint32 = 0x008
	SetAtime    uint32 = 0x010
	SetMtime    uint32 = 0x020
	SetCtime    uint32 = 0x040
	SetAtimeSet uint32 = 0x080
	SetMtimeSet uint32 = 0x100
)

// Dirent is an entry of Rreaddir.
type Dirent struct {
	QID    QID
	Offset uint64 // cookie to go on after this entry
	Type   uint8  // as d_type of readdir(3): DT_DIR, …
	Name   string
}

// StatFS is what statfs tells.
type StatFS struct {
	Type, BlockSize       uint32
	Blocks, Bfree, Bavail uint64
	Files, Ffree          uint64
	FSID                  uint64
	NameLen               uint32
}

// Lock is a POSIX byte-range lock. Length 0 reaches to the end of the file.
type Lock struct {
	Type     uint8  // LockRead, LockWrite, LockUnlock
	Flags    uint32 // Tlock only: LockFlagBlock, LockFlagReclaim
	Start    uint64
	Length   uint64
	ProcID   uint32
	ClientID string
}

// DataVersion is what a server tells as the version of an object's data: it follows from the change time that
// the server shows and, but of directories, from the size. So a client knows which version its own cuts left.
func DataVersion(mode uint32, ctime int64, size uint64) uint64 {
	if mode&modeType == modeDir {
		return uint64(ctime)
	}
	return uint64(ctime) ^ size<<40
}

const (
	modeType = 0o170000
	modeDir  = 0o040000
)

// Types and flags of locks, and the answers to Tlock.
const (
	LockRead   uint8 = 0
	LockWrite  uint8 = 1
	LockUnlock uint8 = 2

	LockFlagBlock   uint32 = 1
	LockFlagReclaim uint32 = 2
)

// LockStatus is the answer to Tlock.
type LockStatus uint8

// The answers to Tlock.
const (
	LockSuccess LockStatus = 0
	LockBlocked LockStatus = 1
	LockError   LockStatus = 2
	LockGrace   LockStatus = 3
)

// Flags of Tunlinkat and of renames (Linux's values).
const (
	AtRemoveDir     uint32 = 0x200
	RenameNoReplace uint32 = 1
	RenameExchange  uint32 = 2
)

// Open flags as 9P2000.L carries them: Linux's generic (x86) values.
const (
	ORdonly    uint32 = 0
	OWronly    uint32 = 1
	ORdwr      uint32 = 2
	OAccMode   uint32 = 3
	OCreat     uint32 = 0o100
	OExcl      uint32 = 0o200
	OTrunc     uint32 = 0o1000
	OAppend    uint32 = 0o2000
	ODirectory uint32 = 0o200000
	ONofollow  uint32 = 0o400000
)

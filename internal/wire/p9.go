package wire

// The numbers of 9P2000.L's messages. A reply's number is its request's plus one.
const (
	TypeRlerror      uint8 = 7
	TypeTstatfs      uint8 = 8
	TypeRstatfs      uint8 = 9
	TypeTlopen       uint8 = 12
	TypeRlopen       uint8 = 13
	TypeTlcreate     uint8 = 14
	TypeRlcreate     uint8 = 15
	TypeTsymlink     uint8 = 16
	TypeRsymlink     uint8 = 17
	TypeTmknod       uint8 = 18
	TypeRmknod       uint8 = 19
	TypeTrename      uint8 = 20
	TypeRrename      uint8 = 21
	TypeTreadlink    uint8 = 22
	TypeRreadlink    uint8 = 23
	TypeTgetattr     uint8 = 24
	TypeRgetattr     uint8 = 25
	TypeTsetattr     uint8 = 26
	TypeRsetattr     uint8 = 27
	TypeTxattrwalk   uint8 = 30
	TypeRxattrwalk   uint8 = 31
	TypeTxattrcreate uint8 = 32
	TypeRxattrcreate uint8 = 33
	TypeTreaddir     uint8 = 40
	TypeRreaddir     uint8 = 41
	TypeTfsync       uint8 = 50
	TypeRfsync       uint8 = 51
	TypeTlock        uint8 = 52
	TypeRlock        uint8 = 53
	TypeTgetlock     uint8 = 54
	TypeRgetlock     uint8 = 55
	TypeTlink        uint8 = 70
	TypeRlink        uint8 = 71
	TypeTmkdir       uint8 = 72
	TypeRmkdir       uint8 = 73
	TypeTrenameat    uint8 = 74
	TypeRrenameat    uint8 = 75
	TypeTunlinkat    uint8 = 76
	TypeRunlinkat    uint8 = 77
	TypeTversion     uint8 = 100
	TypeRversion     uint8 = 101
	TypeTauth        uint8 = 102
	TypeRauth        uint8 = 103
	TypeTattach      uint8 = 104
	TypeRattach      uint8 = 105
	TypeTflush       uint8 = 108
	TypeRflush       uint8 = 109
	TypeTwalk        uint8 = 110
	TypeRwalk        uint8 = 111
	TypeTread        uint8 = 116
	TypeRread        uint8 = 117
	TypeTwrite       uint8 = 118
	TypeRwrite       uint8 = 119
	TypeTclunk       uint8 = 120
	TypeRclunk       uint8 = 121
	TypeTremove      uint8 = 122
	TypeRremove      uint8 = 123
)

// Rlerror answers any request that failed.
type Rlerror struct{ Errno uint32 }

// Tversion begins a connection, or begins it anew.
type Tversion struct {
	Msize   uint32
	Version string
}

// Rversion answers Tversion.
type Rversion struct {
	Msize   uint32
	Version string
}

// Tauth asks for a fid to authenticate with.
type Tauth struct {
	Afid         uint32
	Uname, Aname string
	UID          uint32 // NoUID: by Uname
}

// Rauth answers Tauth.
type Rauth struct{ QID QID }

// Tattach makes Fid stand for the root of the tree Aname, for a user.
type Tattach struct {
	Fid, Afid    uint32
	Uname, Aname string
	UID          uint32 // NoUID: by Uname
}

// Rattach answers Tattach.
type Rattach struct{ QID QID }

// Tflush asks to forget the request with tag OldTag.
type Tflush struct{ OldTag uint16 }

// Rflush answers Tflush. No reply to OldTag follows it.
type Rflush struct{}

// Twalk walks Names from Fid; NewFid stands for where it comes out.
type Twalk struct {
	Fid, NewFid uint32
	Names       []string
}

// Rwalk answers Twalk: with fewer QIDs than names, NewFid was not made.
type Rwalk struct{ QIDs []QID }

// Tlopen opens Fid.
type Tlopen struct {
	Fid   uint32
	Flags uint32 `trace:"hex"`
}

// Rlopen answers Tlopen.
type Rlopen struct {
	QID    QID
	Iounit uint32
}

// Tlcreate creates and opens a file in the directory Fid, which then stands for the file.
type Tlcreate struct {
	Fid   uint32
	Name  string
	Flags uint32 `trace:"hex"`
	Mode  uint32 `trace:"octal"`
	GID   uint32
}

// Rlcreate answers Tlcreate.
type Rlcreate struct {
	QID    QID
	Iounit uint32
}

// Tsymlink creates a symbolic link in the directory Dfid.
type Tsymlink struct {
	Dfid         uint32
	Name, Target string
	GID          uint32
}

// Rsymlink answers Tsymlink.
type Rsymlink struct{ QID QID }

// Tmknod creates a special file in the directory Dfid.
type Tmknod struct {
	Dfid         uint32
	Name         string
	Mode         uint32 `trace:"octal"`
	Major, Minor uint32
	GID          uint32
}

// Rmknod answers Tmknod.
type Rmknod struct{ QID QID }

// Trename gives Fid the name Name in the directory Dfid.
type Trename struct {
	Fid, Dfid uint32
	Name      string
}

// Rrename answers Trename.
type Rrename struct{}

// Treadlink reads a symbolic link.
type Treadlink struct{ Fid uint32 }

// Rreadlink answers Treadlink.
type Rreadlink struct{ Target string }

// Tgetattr asks for the attributes of Mask (GetMode, …).
type Tgetattr struct {
	Fid  uint32
	Mask uint64 `trace:"hex"`
}

// Rgetattr answers Tgetattr. Attr.Flags is not carried.
type Rgetattr struct {
	Valid uint64 `trace:"hex"`
	Attr  Attr
}

// Tsetattr sets attributes.
type Tsetattr struct {
	Fid     uint32
	SetAttr SetAttr
}

// Rsetattr answers Tsetattr.
type Rsetattr struct{}

// Txattrwalk makes NewFid stand for the extended attribute Name of Fid, to be
// read; for the list of names, each ended by a NUL, when Name is empty.
type Txattrwalk struct {
	Fid, NewFid uint32
	Name        string
}

// Rxattrwalk answers Txattrwalk with the size of what can be read.
type Rxattrwalk struct{ Size uint64 }

// Txattrcreate makes Fid stand for its extended attribute Name, to be written
// with Size bytes; the attribute is set when Fid is clunked. Size 0 removes it.
type Txattrcreate struct {
	Fid   uint32
	Name  string
	Size  uint64
	Flags uint32 `trace:"hex"` // XattrCreate, XattrReplace
}

// The flags of setxattr(2).
const (
	XattrCreate  uint32 = 1
	XattrReplace uint32 = 2
)

// Rxattrcreate answers Txattrcreate.
type Rxattrcreate struct{}

// Treaddir reads entries after the cookie Offset.
type Treaddir struct {
	Fid    uint32
	Offset uint64
	Count  uint32
}

// Rreaddir answers Treaddir. Data is made with AppendDirent and read with
// Entries; it is a list of whole entries.
type Rreaddir struct{ Data []byte }

// Tfsync makes a file durable; DataSync: not its times.
type Tfsync struct {
	Fid      uint32
	DataSync uint32
}

// Rfsync answers Tfsync.
type Rfsync struct{}

// Tlock takes or gives back a lock.
type Tlock struct {
	Fid  uint32
	Lock Lock
}

// Rlock answers Tlock.
type Rlock struct{ Status LockStatus }

// Tgetlock asks who is in the way of a lock. Lock.Flags is not carried.
type Tgetlock struct {
	Fid  uint32
	Lock Lock
}

// Rgetlock answers Tgetlock. Lock.Flags is not carried.
type Rgetlock struct{ Lock Lock }

// Tlink gives Fid a further name in the directory Dfid.
type Tlink struct {
	Dfid, Fid uint32
	Name      string
}

// Rlink answers Tlink.
type Rlink struct{}

// Tmkdir creates a directory in the directory Dfid.
type Tmkdir struct {
	Dfid uint32
	Name string
	Mode uint32 `trace:"octal"`
	GID  uint32
}

// Rmkdir answers Tmkdir.
type Rmkdir struct{ QID QID }

// Trenameat renames.
type Trenameat struct {
	OldDfid uint32
	OldName string
	NewDfid uint32
	NewName string
}

// Rrenameat answers Trenameat.
type Rrenameat struct{}

// Tunlinkat removes a name from the directory Dfid.
type Tunlinkat struct {
	Dfid  uint32
	Name  string
	Flags uint32 `trace:"hex"` // AtRemoveDir
}

// Runlinkat answers Tunlinkat.
type Runlinkat struct{}

// Tread reads.
type Tread struct {
	Fid    uint32
	Offset uint64
	Count  uint32
}

// Rread answers Tread. Data aliases the frame.
type Rread struct{ Data []byte }

// Twrite writes. Data aliases the frame.
type Twrite struct {
	Fid    uint32
	Offset uint64
	Data   []byte
}

// Rwrite answers Twrite.
type Rwrite struct{ Count uint32 }

// Tclunk forgets Fid.
type Tclunk struct{ Fid uint32 }

// Rclunk answers Tclunk.
type Rclunk struct{}

// Tremove removes the file of Fid, and forgets Fid.
type Tremove struct{ Fid uint32 }

// Rremove answers Tremove.
type Rremove struct{}

// Tstatfs asks for the space and the limits.
type Tstatfs struct{ Fid uint32 }

// Rstatfs answers Tstatfs.
type Rstatfs struct{ StatFS StatFS }

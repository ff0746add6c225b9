package wire

import "echo9/internal/cut"

// ExtVersion is the version string that negotiates the extension. The number is
// raised with every change of a message until durable cuts and faults have landed.
const ExtVersion = "9P2000.L.echo9.2"

// Types of the extension's messages. 124–135 and 228–255 are taken by others.
const (
	TypeTsession     uint8 = 140
	TypeRsession     uint8 = 141
	TypeTgrant       uint8 = 142
	TypeRgrant       uint8 = 143
	TypeTrecall      uint8 = 144
	TypeRrecall      uint8 = 145
	TypeTreturn      uint8 = 146
	TypeRreturn      uint8 = 147
	TypeTcommit      uint8 = 148
	TypeRcommit      uint8 = 149
	TypeTreaddirplus uint8 = 150
	TypeRreaddirplus uint8 = 151
	TypeTrenew       uint8 = 152
	TypeRrenew       uint8 = 153
	TypeTbind        uint8 = 154
	TypeRbind        uint8 = 155
)

// Tsession opens, resumes or ends the connection's session. It follows Tversion.
type Tsession struct {
	Flags   uint32   // SessionResume, SessionEnd, SessionAnyUser
	Client  [16]byte // chosen by the client, random
	Secret  [16]byte `trace:"secret"` // proves, on resumption, that it is the same client
	Epoch   uint64   // the epoch it knows, 0 for none
	LastCut uint64   // the last cut that it knows to be applied
	Aname   string   // the export
	Name    string   // for people: user@host pid
	Users   []uint32 // whom it wants to act for; empty with SessionAnyUser: anybody
}

// Flags of Tsession and Rsession.
const (
	SessionResume  uint32 = 1  // T: resume; R: was resumed
	SessionEnd     uint32 = 2  // T: the session ends, all that it holds is free
	SessionAnyUser uint32 = 4  // T: wants to act for any user; R: may
	SessionGrace   uint32 = 8  // R: the server is in its grace period
	SessionReturns uint32 = 16 // T: what the client has not sent outlives its process: it may come back though that is dead
)

// IDRange is a range of object ids for objects that the client creates. The client
// holds the write token of each, at generation Gen, from the creation on.
type IDRange struct {
	First, Count uint64
	Gen          uint64
}

// LostToken says what a session lost while it was away.
type LostToken struct {
	ID   uint64
	Left uint8 // the mode that is left: 0 none, 1 read
}

// Rsession answers Tsession.
type Rsession struct {
	Flags                      uint32
	Session                    uint64
	Epoch                      uint64
	Lease                      uint32 // ms, counted from before the request was sent
	Time                       int64  // the server's clock, ns since 1970
	LastCut                    uint64 // the last applied cut
	UID, GID                   uint32 // all acts are done as this user; NoUID: as each record names
	Root                       QID
	MaxCutBytes, MaxCutRecords uint32
	IDs                        IDRange
	Lost                       []LostToken
}

// GrantElem is one element of a requested set. With a Name it is what Name is
// bound to in directory ID when the set is granted.
type GrantElem struct {
	ID      uint64
	Mode    uint8  // 1 read, 2 write
	Version uint64 // reclaim: the object's DataVersion that the client knows
	Name    string
}

// Tgrant asks for a set of tokens.
type Tgrant struct {
	Flags  uint32 // GrantReclaim, GrantReclaimComplete, GrantTry, GrantRaise
	Inline uint32 // contents of files up to this size may ride along, bytes
	Elems  []GrantElem
}

// Flags of Tgrant.
const (
	GrantReclaim         uint32 = 1
	GrantReclaimComplete uint32 = 2
	GrantTry             uint32 = 4 // fail with EAGAIN rather than wait
	GrantRaise           uint32 = 8 // raise what is held where nobody is in the way; nothing comes along
)

// Granted is one element of a grant.
type Granted struct {
	ID    uint64
	Gen   uint64
	Mode  uint8
	Flags uint8 // GrantedAbsent, GrantedAttr, GrantedInline
	Attr  Attr  // with GrantedAttr
	// Target is a symlink's.
	Target string
	// Inline is the whole content of a small file, with GrantedInline.
	Inline []byte
}

// Flags of Granted.
const (
	GrantedAbsent  uint8 = 1 // the name is not bound
	GrantedAttr    uint8 = 2
	GrantedInline  uint8 = 4
	GrantedChanged uint8 = 8 // reclaim: granted, but what was cached is no longer true
)

// Rgrant answers Tgrant: the elements in the order asked.
type Rgrant struct {
	Lease  uint32
	Tokens []Granted
}

// Trecall is posted; it is answered when the server wants tokens back.
type Trecall struct{}

// RecallElem is one token that is wanted back: all generations up to Gen, down to Keep.
type RecallElem struct {
	ID       uint64
	Gen      uint64
	Keep     uint8
	Why      uint8  // WhyConflict, WhyUnlink
	Deadline uint32 // ms from now by which progress is expected
}

// Reasons of a recall.
const (
	WhyConflict uint8 = 0
	WhyUnlink   uint8 = 1 // the object may lose its last name: say whether it is open
)

// Rrecall answers Trecall. Any asks for any N tokens, the client's choice.
type Rrecall struct {
	Lease  uint32
	Any    uint32
	Tokens []RecallElem
}

// ReturnElem gives a token back, down to Keep.
type ReturnElem struct {
	ID    uint64
	Gen   uint64
	Keep  uint8
	Flags uint8 // ReturnOpen, ReturnClosed
}

// ReturnOpen: the client has the object open; the server keeps it alive. ReturnClosed: it was lost while the session was away, and is not open; the
// server need not keep it alive.
const (
	ReturnOpen   uint8 = 1
	ReturnClosed uint8 = 2
)

// Treturn gives tokens back.
type Treturn struct{ Tokens []ReturnElem }

// Rreturn answers Treturn.
type Rreturn struct{ Lease uint32 }

// Tcommit is a part of a cut. The fence is in the last part.
type Tcommit struct {
	Cut     uint64
	Part    uint32 // 0, 1, …
	Flags   uint32 // CommitLast
	Fence   []cut.Fence
	Records []cut.Record
}

// CommitLast marks the last part of a cut.
const CommitLast uint32 = 1

// Rcommit answers Tcommit.
type Rcommit struct {
	Lease  uint32
	Cut    uint64
	Status uint8  // CommitAccepted, CommitApplied, CommitRefused, CommitFenced, CommitOutOfOrder
	Errno  uint32 // of a refusal
	Record uint32 // the first refused record, counted over all parts; 2^32-1: the whole cut
	ID     uint64 // CommitFenced: the object whose token is not held
	Reason string // of a refusal, for people
}

// The states of a cut that Rcommit tells.
const (
	CommitAccepted   uint8 = 0 // a part that is not the last
	CommitApplied    uint8 = 1 // applied, and as durable as the server promises
	CommitRefused    uint8 = 2 // nothing of it was applied
	CommitFenced     uint8 = 3 // a token of its fence is not held; nothing was applied
	CommitOutOfOrder uint8 = 4 // its number is not the next one; nothing was applied
)

// DirRead asks for entries of one directory.
type DirRead struct {
	ID     uint64
	Cookie uint64
}

// Treaddirplus reads entries of directories with their attributes. It takes read tokens
// on each directory, and on each entry where nobody is in the way.
type Treaddirplus struct {
	Count  uint32 // bytes of the reply, at most
	Inline uint32 // as in Tgrant
	Dirs   []DirRead
}

// PlusEntry is an entry of a directory. Token.Gen 0: no token was granted.
type PlusEntry struct {
	Name   string
	Offset uint64
	QID    QID
	Token  Granted
}

// PlusDir is what was read of one directory. "." and ".." are not listed.
type PlusDir struct {
	ID      uint64
	Gen     uint64 // of the directory's token
	Mode    uint8
	EOF     bool
	Attr    Attr
	Entries []PlusEntry
}

// Rreaddirplus answers Treaddirplus: the directories in the order asked, the last ones left out when the reply is full.
type Rreaddirplus struct {
	Lease uint32
	Dirs  []PlusDir
}

// Trenew extends the lease.
type Trenew struct {
	Flags uint32 // RenewPending, RenewIDs
	Space uint64 // bytes that the client would like set aside
	Held  uint64 // bytes of data that it has taken on and not sent, or not heard of
}

// Flags of Trenew.
const (
	RenewPending uint32 = 1 // the client has operations that are not committed
	RenewIDs     uint32 = 2 // it wants another range of ids
)

// Rrenew answers Trenew. Lease 0: not extended; the session must be resumed when Resume is set.
type Rrenew struct {
	Lease  uint32
	Resume bool
	Time   int64
	IDs    IDRange
	Space  uint64
}

// Tbind makes Fid stand for the object ID, opened with Flags unless they are BindNoOpen.
type Tbind struct {
	Fid   uint32
	ID    uint64
	UID   uint32
	Flags uint32
}

// BindNoOpen: the fid is not opened.
const BindNoOpen uint32 = 0xffffffff

// Rbind answers Tbind.
type Rbind struct {
	Lease  uint32
	QID    QID
	Iounit uint32
}

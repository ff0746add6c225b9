package stable

// Kind says what a Record is, and which of its fields count.
type Kind uint8

// The kinds of records. The numbers are those of the file.
const (
	// Epoch: the server's life number Epoch begins. Session is the highest number of a session so far.
	Epoch Kind = 1 + iota
	// Open: Session begins: Client, Secret, Aname, Name, Peer, Proc, UID, Flags, Users.
	Open
	// Moved: the client of Session is now process Proc, at Peer.
	Moved
	// Range: Session was given the ids from ID on, Count of them, at generation Gen.
	Range
	// Pending: Session has work that is not committed; Idle: it has none any more.
	Pending
	Idle
	// Revoked: Session lost the tokens of Lost, as far as it says.
	Revoked
	// Told: Session knows that it lost those of Lost, as far as it says.
	Told
	// LockLost: the locks of Session on ID were given to somebody else; LockTold: it knows of all such.
	LockLost
	LockTold
	// Missed: Sessions did not reclaim everything in the grace period of Epoch.
	Missed
	// Completed: Session has reclaimed, late, what it wants: that it missed a grace period does not count any more.
	Completed
	// Kept: ID is kept alive for Session; Dropped: it need not be any more.
	Kept
	Dropped
	// End: Session ended at Time; Dead: it had work pending then.
	End
	// Died: a session that ended with work pending, as far as its user is to know: Session, UID, Name, Peer, Time.
	Died
	// DeathTold: the user knows of the deaths of Sessions.
	DeathTold
	lastKind
)

// Record is one fact.
type Record struct {
	Kind    Kind
	Session uint64
	Epoch   uint64
	ID      uint64
	Count   uint64
	Gen     uint64
	Time    int64 // ns since 1970
	Dead    bool
	Flags   uint32
	UID     uint32

	Client, Secret    [16]byte
	Aname, Name, Peer string
	Proc              string // which process it is, of all that ever ran here; empty: not one of this machine
	Users             []uint32
	Lost              []Lost
	Sessions          []uint64
}

// Lost is a token that was taken, and the mode that is left.
type Lost struct {
	ID   uint64
	Left uint8
}

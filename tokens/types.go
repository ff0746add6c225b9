package tokens

// ID names an object.
type ID = uint64

// DirMove is the pseudo-object whose write token a rename of a directory into
// another directory takes.
const DirMove ID = 0

// Gen is a generation: the number of a grant. Generations come from one counter
// of a Manager and are never used again; 0 is none.
type Gen uint64

// SessionID names a session with the extension; 0 stands for plain clients.
type SessionID uint64

// ReqID names a request: chosen by the shell, unique among its live requests.
type ReqID uint64

// Elem is one element of a requested set: the object ID or, with a Name, what
// Name is bound to in directory ID at the moment of the grant (nothing when it
// is not bound). A set with (D, name) elements contains D itself, too. Names are
// looked up in what the server has: a client that has bound or unbound Name itself
// and not committed that asks for the object instead.
type Elem struct {
	ID   ID
	Name string
	Mode Mode // Read or Write
	// Unlink: the object may lose its last name by what the request is for; a
	// recall for it says so.
	Unlink bool
}

// Token is a granted element. Mode None: it was not granted: the name is not
// bound, or an Offer found somebody in the way. For plain requests Gen is 0.
type Token struct {
	ID   ID
	Gen  Gen
	Mode Mode // may be more than was asked: what the session has now
}

// Held names a token in a cut's fence: held without interruption, in mode Mode
// or better, since generation Gen.
type Held struct {
	ID   ID
	Gen  Gen
	Mode Mode
}

// Born is an object that a cut creates, with the generation of the id range
// that its id is from: the session holds its write token from then on.
type Born struct {
	ID  ID
	Gen Gen
}

// Recall is one token that is wanted back: all generations up to Gen, down to Keep.
type Recall struct {
	ID   ID
	Gen  Gen
	Keep Mode
	Why  Why
}

// Why is the reason of a recall.
type Why uint8

// The reasons of a recall, as the wire numbers them.
const (
	WhyConflict Why = 0
	WhyUnlink   Why = 1 // the object may lose its last name
)

// Lost says that a session's token was taken while its lease was over; Left is
// what it still has.
type Lost struct {
	ID   ID
	Left Mode
}

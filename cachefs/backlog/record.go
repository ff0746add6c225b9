package backlog

import (
	"encoding/binary"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/records"
)

// Kind says what a Record is, and which of its fields count.
type Kind uint8

// The kinds of records. The numbers are those of the file.
const (
	// Opened: Session is as whom the client has its session from now on.
	Opened Kind = 1 + iota
	// Ranged: Range is given to the session.
	Ranged
	// Based: object ID is as Base says at the server, as far as the client knows, without what is in the backlog.
	Based
	// Issued: Op was issued, with the number Op.Seq: perhaps that of an older one that it was merged into.
	Issued
	// Amended: Op is now what the operation of its number is.
	Amended
	// Began: Seqs are on their way as cut number Cut.
	Began
	// Applied: those of Cut are at the server.
	Applied
	// Returned: those of Cut are not, and wait again.
	Returned
	// Dropped: Seqs are lost, as the user was told.
	Dropped
	lastKind
)

// Record is one fact.
type Record struct {
	Kind    Kind
	Session *Session
	Range   Range
	ID      uint64
	Base    Base
	Op      *order.Op
	Cut     uint64
	Seqs    []uint64
}

// Session is as whom a client has its session, and for what.
type Session struct {
	Server, Aname, Place string // Place is where the client offers it: its mount point, say
	Name                 string
	Client, Secret       [16]byte
	Number, Epoch        uint64
	UID, GID             uint32
	Root                 uint64 // the root's object, and its version
	RootVersion          uint32
	Policy               order.Policy
}

// Base is what an object is at the server.
type Base struct {
	Mode         uint32
	Ctime, Mtime int64
	Size         uint64
}

// Lay takes in that an operation on object id is at the server.
func (b *Base) Lay(op *order.Op, id uint64) {
	for i := range op.Attrs {
		a := &op.Attrs[i]
		if a.ID != id {
			continue
		}
		if a.Valid&cut.AttrCtime != 0 {
			b.Ctime = a.Ctime
		}
		if a.Valid&cut.AttrMtime != 0 {
			b.Mtime = a.Mtime
		}
		if a.Valid&cut.AttrSize != 0 {
			b.Size = a.Size
		}
	}
	if op.Kind == order.Truncate && op.ID == id {
		b.Size = op.Size
	}
}

// Range is a range of ids for new objects, with its generation.
type Range struct{ First, Count, Gen uint64 }

// head begins every file.
const head = "echo9 backlog 1\n"

// maxRecord bounds a record that is read.
const maxRecord = 64 << 20

// append appends the record as it is in a file.
func (r *Record) append(b []byte) []byte {
	at := len(b)
	e := encoder{append(records.Begin(b), byte(r.Kind))}
	switch r.Kind {
	case Opened:
		e.session(r.Session)
	case Ranged:
		e.uint(r.Range.First, r.Range.Count, r.Range.Gen)
	case Based:
		e.uint(r.ID, uint64(r.Base.Mode), r.Base.Size)
		e.int(r.Base.Ctime, r.Base.Mtime)
	case Issued, Amended:
		e.op(r.Op)
	case Began:
		e.uint(r.Cut)
		e.list(r.Seqs)
	case Applied, Returned:
		e.uint(r.Cut)
	case Dropped:
		e.list(r.Seqs)
	default:
		panic("backlog: a record of no kind")
	}
	return records.End(e.b, at)
}

type encoder struct{ b []byte }

func (e *encoder) uint(vs ...uint64) {
	for _, v := range vs {
		e.b = binary.AppendUvarint(e.b, v)
	}
}

func (e *encoder) int(vs ...int64) {
	for _, v := range vs {
		e.b = binary.AppendVarint(e.b, v)
	}
}

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) bytes(p []byte) {
	e.uint(uint64(len(p)))
	e.b = append(e.b, p...)
}

func (e *encoder) list(vs []uint64) {
	e.uint(uint64(len(vs)))
	e.uint(vs...)
}

func (e *encoder) session(s *Session) {
	for _, t := range []string{s.Server, s.Aname, s.Place, s.Name} {
		e.string(t)
	}
	e.b = append(append(e.b, s.Client[:]...), s.Secret[:]...)
	e.uint(s.Number, s.Epoch, uint64(s.UID), uint64(s.GID), s.Root, uint64(s.RootVersion), uint64(s.Policy))
}

// The bits of an operation's flags in a file.
const (
	opExchange = 1 << iota
	opIsDir
	opReplacedIsDir
	opLast
	opKeep
	opDead
)

func (e *encoder) op(op *order.Op) {
	flags := uint64(0)
	for i, set := range []bool{op.Exchange, op.IsDir, op.ReplacedIsDir, op.Last, op.Keep, op.Dead} {
		if set {
			flags |= 1 << i
		}
	}
	e.uint(op.Seq, uint64(op.Kind), flags, uint64(op.UID), op.Owner, op.ID, op.Dir, op.Dir2, op.Replaced,
		uint64(op.Mode), uint64(op.UserID), uint64(op.GroupID), op.Rdev, op.Off, op.Len, op.Size, op.Source, op.SourceOff)
	e.string(op.Name)
	e.string(op.Name2)
	e.string(op.Target)
	e.uint(uint64(len(op.Attrs)))
	for _, a := range op.Attrs {
		e.uint(a.ID, uint64(a.Valid), uint64(a.Mode), uint64(a.UserID), uint64(a.GroupID), a.Size)
		e.int(a.Atime, a.Mtime, a.Ctime)
	}
	e.list(op.Reads)
	writes := op.Writes
	if !op.Lost() {
		writes = nil // they follow from the rest
	}
	e.list(writes)
	e.bytes(op.Bytes)
}

// Of is the record of what a Log tells.
func Of(n order.Note) Record {
	kinds := [...]Kind{order.Began: Began, order.Applied: Applied, order.Returned: Returned, order.Dropped: Dropped, order.Amended: Amended}
	return Record{Kind: kinds[n.Kind], Cut: n.Cut, Seqs: n.Seqs, Op: n.Op}
}

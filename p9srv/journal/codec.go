package journal

import (
	"encoding/binary"
	"fmt"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

// The kinds of entries, as the log has them. They are never given another meaning: what
// cannot be read by the code of before gets a new kind.
const (
	kindCut        = 1
	kindNote       = 2
	kindAbort      = 3
	kindApplied    = 4
	kindSettled    = 5
	kindRedo       = 6
	kindCheckpoint = 16 // the log's own
	kindMark       = 17 // says only that what precedes it is durable
)

// checkpoint tells that all entries before LSN Before are forgotten.
type checkpoint struct{ Before LSN }

// mark has nothing but its header.
type mark struct{}

// encode gives the kind of e, one of the entry types, and its encoding in pieces that
// are to follow each other. Pieces alias the large byte strings of e.
func encode(e any) (kind uint8, pieces [][]byte, err error) {
	// Room for the header, so that it is not a piece of its own.
	w := writer{b: make([]byte, headerSize, headerSize+256)}
	switch e := e.(type) {
	case *Cut:
		kind = kindCut
		w.cut(e)
	case *Note:
		kind = kindNote
		w.note(e)
	case *Abort:
		kind = kindAbort
		w.uint(uint64(e.Cut))
		w.fix(uint64(e.Time))
	case *Applied:
		kind = kindApplied
		w.b = append(w.b, e.Client[:]...)
		w.uint(e.Number)
	case *Settled:
		kind = kindSettled
		w.ids(e.IDs)
	case *Redo:
		kind = kindRedo
		w.redo(e)
	case *checkpoint:
		kind = kindCheckpoint
		w.uint(uint64(e.Before))
	case *mark:
		kind = kindMark
	default:
		return 0, nil, fmt.Errorf("the log has no entries of type %T", e)
	}
	return kind, w.done(), nil
}

// decode is the inverse of encode. Byte strings alias p.
func decode(kind uint8, p []byte) (any, error) {
	r := reader{b: p}
	var e any
	switch kind {
	case kindCut:
		e = r.cut()
	case kindNote:
		e = r.note()
	case kindAbort:
		e = &Abort{Cut: LSN(r.uint()), Time: r.time()}
	case kindApplied:
		a := new(Applied)
		copy(a.Client[:], r.take(16))
		a.Number = r.uint()
		e = a
	case kindSettled:
		e = &Settled{IDs: r.ids()}
	case kindRedo:
		e = r.redo()
	case kindCheckpoint:
		e = &checkpoint{Before: LSN(r.uint())}
	case kindMark:
		e = new(mark)
	default:
		return nil, fmt.Errorf("an entry of kind %d: this echo9 does not know it", kind)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return nil, fmt.Errorf("an entry of kind %d: %w", kind, r.err)
	}
	return e, nil
}

// aliasFrom is the length from which byte strings are written from where they are.
const aliasFrom = 1024

// writer collects pieces.
type writer struct {
	pieces [][]byte
	b      []byte // the piece that is being made
}

func (w *writer) done() [][]byte { return append(w.pieces, w.b) }

func (w *writer) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) fix(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }

func (w *writer) string(s string) {
	w.uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) bytes(p []byte) {
	w.uint(uint64(len(p)))
	w.raw(p)
}

func (w *writer) raw(p []byte) {
	if len(p) < aliasFrom {
		w.b = append(w.b, p...)
		return
	}
	w.pieces = append(w.pieces, w.b, p)
	w.b = w.b[len(w.b):]
}

func (w *writer) cut(c *Cut) {
	w.b = append(w.b, c.Client[:]...)
	w.uint(c.Session)
	w.uint(c.Number)
	w.fix(uint64(c.Time))
	w.uint(uint64(len(c.Records)))
	for i := range c.Records {
		w.b = wire.AppendRecordHead(w.b, &c.Records[i])
		w.raw(wire.RecordTail(&c.Records[i]))
	}
	w.uint(uint64(len(c.Objects)))
	for i := range c.Objects {
		w.object(&c.Objects[i])
	}
}

// The bits of an object's first byte.
const (
	objectBorn   = 1 << iota
	objectBefore // has attributes from before
	objectAll    = objectBorn | objectBefore
)

func (w *writer) object(o *Object) {
	var flags uint8
	if o.Born {
		flags |= objectBorn
	}
	if o.Before != (Attrs{}) {
		flags |= objectBefore
	}
	w.b = append(w.b, flags)
	w.uint(o.ID)
	w.ident(&o.Ident)
	w.string(o.Place)
	w.uint(o.Parent)
	w.string(o.Name)
	if flags&objectBefore != 0 {
		w.attrs(&o.Before)
	}
	w.uint(uint64(len(o.Overwritten)))
	for i := range o.Overwritten {
		w.uint(o.Overwritten[i].Off)
		w.bytes(o.Overwritten[i].B)
	}
	w.uint(uint64(len(o.Xattrs)))
	for i := range o.Xattrs {
		x := &o.Xattrs[i]
		w.string(x.Name)
		was := uint8(0)
		if x.Was {
			was = 1
		}
		w.b = append(w.b, was)
		w.bytes(x.Value)
	}
}

func (w *writer) attrs(a *Attrs) {
	w.uint(uint64(a.Mode))
	w.uint(uint64(a.UID))
	w.uint(uint64(a.GID))
	w.uint(a.Size)
	w.fix(uint64(a.Atime))
	w.fix(uint64(a.Mtime))
	w.fix(uint64(a.Ctime))
}

func (w *writer) note(n *Note) {
	w.uint(uint64(n.Cut))
	w.uint(uint64(len(n.Ctimes)))
	for _, c := range n.Ctimes {
		w.uint(c.ID)
		w.fix(uint64(c.Host))
		w.fix(uint64(c.Shown))
	}
}

func (w *writer) ids(ids []uint64) {
	w.uint(uint64(len(ids)))
	for _, id := range ids {
		w.uint(id)
	}
}

func (w *writer) ident(i *Ident) {
	w.uint(i.Dev)
	w.uint(i.Ino)
	w.fix(i.Tag)
	w.string(i.Handle)
}

func (w *writer) redo(e *Redo) {
	w.fix(uint64(e.Time))
	w.ids(e.IDs)
	w.uint(uint64(len(e.Made)))
	for i := range e.Made {
		w.uint(e.Made[i].ID)
		w.ident(&e.Made[i].Ident)
	}
}

// reader takes an entry apart. After the first failure every value is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail("%d bytes are due and %d left", n, len(r.b))
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("a number is cut off, or too large")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uint()
	if v > 1<<32-1 {
		r.fail("%d is too large", v)
		return 0
	}
	return uint32(v)
}

func (r *reader) fix() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *reader) time() int64    { return int64(r.fix()) }
func (r *reader) string() string { return string(r.take(r.uint())) }

// bytes are nil when there are none.
func (r *reader) bytes() []byte {
	n := r.uint()
	if n == 0 {
		return nil
	}
	return r.take(n)
}

// count takes a count of things that have at least size bytes each.
func (r *reader) count(size uint64) int {
	n := r.uint()
	if n > uint64(len(r.b))/size {
		r.fail("a count of %d, the %d bytes left cannot hold it", n, len(r.b))
		return 0
	}
	return int(n)
}

func (r *reader) cut() *Cut {
	c := new(Cut)
	copy(c.Client[:], r.take(16))
	c.Session, c.Number, c.Time = r.uint(), r.uint(), r.time()
	for range r.count(recordLeast) {
		var rec cut.Record
		rest, err := wire.DecodeRecord(r.b, &rec)
		if err != nil {
			r.fail("%w", err)
			return c
		}
		r.b = rest
		c.Records = append(c.Records, rec)
	}
	for range r.count(objectLeast) {
		c.Objects = append(c.Objects, r.object())
	}
	return c
}

// What a record, an identity and an object have at least.
const (
	recordLeast = 1 + 4 + 8 + 8
	identLeast  = 2 + 8 + 1
	objectLeast = 1 + 1 + identLeast + 3 + 2
)

func (r *reader) object() Object {
	var o Object
	flags := r.u8()
	if flags&^uint8(objectAll) != 0 {
		r.fail("an object with flags %#x, which there are not", flags)
		return o
	}
	o.Born = flags&objectBorn != 0
	o.ID = r.uint()
	o.Ident = r.ident()
	o.Place, o.Parent, o.Name = r.string(), r.uint(), r.string()
	if flags&objectBefore != 0 {
		o.Before = Attrs{
			Mode: r.uint32(), UID: r.uint32(), GID: r.uint32(), Size: r.uint(),
			Atime: r.time(), Mtime: r.time(), Ctime: r.time(),
		}
	}
	for range r.count(2) {
		o.Overwritten = append(o.Overwritten, Bytes{Off: r.uint(), B: r.bytes()})
	}
	for range r.count(3) {
		o.Xattrs = append(o.Xattrs, Xattr{Name: r.string(), Was: r.bool(), Value: r.bytes()})
	}
	return o
}

func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail("%d is neither true nor false", v)
	}
	return v == 1
}

func (r *reader) note() *Note {
	n := &Note{Cut: LSN(r.uint())}
	for range r.count(17) {
		n.Ctimes = append(n.Ctimes, Ctime{ID: r.uint(), Host: r.time(), Shown: r.time()})
	}
	return n
}

func (r *reader) ids() []uint64 {
	var ids []uint64
	for range r.count(1) {
		ids = append(ids, r.uint())
	}
	return ids
}

func (r *reader) ident() Ident {
	return Ident{Dev: r.uint(), Ino: r.uint(), Tag: r.fix(), Handle: r.string()}
}

func (r *reader) redo() *Redo {
	e := &Redo{Time: r.time(), IDs: r.ids()}
	for range r.count(1 + identLeast) {
		e.Made = append(e.Made, Made{ID: r.uint(), Ident: r.ident()})
	}
	return e
}

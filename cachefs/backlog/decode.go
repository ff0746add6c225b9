package backlog

import (
	"encoding/binary"

	"echo9/cachefs/order"
)

// decoder reads what encoder wrote. After anything that is not so it is bad, and gives zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) u32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.fail()
	}
	return uint32(v)
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) string() string { return string(d.bytes(d.uint())) }

// count reads how many elements follow, each of a byte at least.
func (d *decoder) count() uint64 {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return n
}

func (d *decoder) list() []uint64 {
	var vs []uint64
	for range d.count() {
		vs = append(vs, d.uint())
	}
	return vs
}

func (d *decoder) record() (r Record) {
	p := d.bytes(1)
	if d.bad {
		return r
	}
	switch r.Kind = Kind(p[0]); r.Kind {
	case Opened:
		r.Session = d.session()
	case Ranged:
		r.Range = Range{d.uint(), d.uint(), d.uint()}
	case Based:
		r.ID = d.uint()
		r.Base = Base{Mode: d.u32(), Size: d.uint(), Ctime: d.int(), Mtime: d.int()}
	case Issued, Amended:
		r.Op = d.op()
	case Began:
		r.Cut, r.Seqs = d.uint(), d.list()
	case Applied, Returned:
		r.Cut = d.uint()
	case Dropped:
		r.Seqs = d.list()
	default:
		d.fail()
	}
	return r
}

func (d *decoder) session() *Session {
	s := &Session{Server: d.string(), Aname: d.string(), Place: d.string(), Name: d.string()}
	copy(s.Client[:], d.bytes(16))
	copy(s.Secret[:], d.bytes(16))
	s.Number, s.Epoch, s.UID, s.GID, s.Root, s.RootVersion = d.uint(), d.uint(), d.u32(), d.u32(), d.uint(), d.u32()
	policy := d.uint()
	if policy > uint64(order.Total) {
		d.fail()
	}
	s.Policy = order.Policy(policy)
	return s
}

func (d *decoder) op() *order.Op {
	op := &order.Op{Seq: d.uint()}
	kind, flags := d.uint(), d.uint()
	if kind == 0 || kind > 255 || flags >= opDead<<1 {
		d.fail()
		return op
	}
	op.Kind = order.Kind(kind)
	op.Exchange, op.IsDir, op.ReplacedIsDir = flags&opExchange != 0, flags&opIsDir != 0, flags&opReplacedIsDir != 0
	op.Last, op.Keep, op.Dead = flags&opLast != 0, flags&opKeep != 0, flags&opDead != 0
	op.UID, op.Owner, op.ID, op.Dir, op.Dir2, op.Replaced = d.u32(), d.uint(), d.uint(), d.uint(), d.uint(), d.uint()
	op.Mode, op.UserID, op.GroupID, op.Rdev = d.u32(), d.u32(), d.u32(), d.uint()
	op.Off, op.Len, op.Size, op.Source, op.SourceOff = d.uint(), d.uint(), d.uint(), d.uint(), d.uint()
	op.Name, op.Name2, op.Target = d.string(), d.string(), d.string()
	for range d.count() {
		op.Attrs = append(op.Attrs, order.Attr{
			ID: d.uint(), Valid: d.u32(), Mode: d.u32(), UserID: d.u32(), GroupID: d.u32(), Size: d.uint(),
			Atime: d.int(), Mtime: d.int(), Ctime: d.int(),
		})
	}
	op.Reads, op.Writes = d.list(), d.list()
	op.Bytes = append([]byte(nil), d.bytes(d.uint())...)
	return op
}

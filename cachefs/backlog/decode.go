package backlog

import (
	"echo9/cachefs/order"
	"echo9/internal/records"
)

// decoder reads what encoder wrote.
type decoder struct{ records.Decoder }

// decode reads a record. What it gives shares nothing with text.
func decode(text []byte) (r Record, ok bool) {
	d := decoder{records.Decode(text)}
	r = d.record()
	return r, d.Whole()
}

func (d *decoder) record() (r Record) {
	switch r.Kind = Kind(d.Byte()); r.Kind {
	case Opened:
		r.Session = d.session()
	case Ranged:
		r.Range = Range{d.Uint(), d.Uint(), d.Uint()}
	case Based:
		r.ID = d.Uint()
		r.Base = Base{Mode: d.Uint32(), Size: d.Uint(), Ctime: d.Int(), Mtime: d.Int()}
	case Issued, Amended:
		r.Op = d.op()
	case Began:
		r.Cut, r.Seqs = d.Uint(), d.List()
	case Applied, Returned:
		r.Cut = d.Uint()
	case Dropped:
		r.Seqs = d.List()
	default:
		d.Fail()
	}
	return r
}

func (d *decoder) session() *Session {
	s := &Session{Server: d.String(), Aname: d.String(), Place: d.String(), Name: d.String()}
	copy(s.Client[:], d.Bytes(16))
	copy(s.Secret[:], d.Bytes(16))
	s.Number, s.Epoch, s.UID, s.GID, s.Root, s.RootVersion = d.Uint(), d.Uint(), d.Uint32(), d.Uint32(), d.Uint(), d.Uint32()
	policy := d.Uint()
	if policy > uint64(order.Total) {
		d.Fail()
	}
	s.Policy = order.Policy(policy)
	return s
}

func (d *decoder) op() *order.Op {
	op := &order.Op{Seq: d.Uint()}
	kind, flags := d.Uint(), d.Uint()
	if kind == 0 || kind > 255 || flags >= opDead<<1 {
		d.Fail()
		return op
	}
	op.Kind = order.Kind(kind)
	op.Exchange, op.IsDir, op.ReplacedIsDir = flags&opExchange != 0, flags&opIsDir != 0, flags&opReplacedIsDir != 0
	op.Last, op.Keep, op.Dead = flags&opLast != 0, flags&opKeep != 0, flags&opDead != 0
	op.UID, op.Owner, op.ID, op.Dir, op.Dir2, op.Replaced = d.Uint32(), d.Uint(), d.Uint(), d.Uint(), d.Uint(), d.Uint()
	op.Mode, op.UserID, op.GroupID, op.Rdev = d.Uint32(), d.Uint32(), d.Uint32(), d.Uint()
	op.Off, op.Len, op.Size, op.Source, op.SourceOff = d.Uint(), d.Uint(), d.Uint(), d.Uint(), d.Uint()
	op.Name, op.Name2, op.Target = d.String(), d.String(), d.String()
	for range d.Count() {
		op.Attrs = append(op.Attrs, order.Attr{
			ID: d.Uint(), Valid: d.Uint32(), Mode: d.Uint32(), UserID: d.Uint32(), GroupID: d.Uint32(), Size: d.Uint(),
			Atime: d.Int(), Mtime: d.Int(), Ctime: d.Int(),
		})
	}
	op.Reads, op.Writes = d.List(), d.List()
	op.Bytes = append([]byte(nil), d.Bytes(d.Uint())...)
	return op
}

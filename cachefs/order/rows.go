package order

import (
	"encoding/binary"
	"iter"

	"github.com/hashicorp/go-memdb"
)

// row is a pending operation as it is stored. It is never changed.
type row struct {
	seq   uint64
	op    *Op
	cut   uint64  // in flight with, or 0
	after []*node // direct predecessors; only their seq may be looked at
}

const (
	table     = "op"
	bySeq     = "id" // the name that go-memdb wants for the primary key
	byOperand = "operand"
	byCut     = "cut"
)

// schema: rows by sequence, by operand and mode, and those in flight by cut.
var schema = &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
	table: {Name: table, Indexes: map[string]*memdb.IndexSchema{
		bySeq:     {Name: bySeq, Unique: true, Indexer: seqIndex{}},
		byOperand: {Name: byOperand, AllowMissing: true, Indexer: operandIndex{}},
		byCut:     {Name: byCut, AllowMissing: true, Indexer: cutIndex{}},
	}},
}}

// newRows makes an empty store. A snapshot takes writes as well as the database
// that it is of, and spares the bookkeeping for watches.
func newRows() *memdb.MemDB {
	db, err := memdb.NewMemDB(schema)
	if err != nil {
		panic("order: schema: " + err.Error())
	}
	return db.Snapshot()
}

// number is the key of a uint64 argument.
func number(args []any) ([]byte, error) {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 16), args[0].(uint64)), nil
}

type seqIndex struct{}

func (seqIndex) FromArgs(args ...any) ([]byte, error) { return number(args) }
func (seqIndex) FromObject(o any) (bool, []byte, error) {
	return true, binary.BigEndian.AppendUint64(nil, o.(*row).seq), nil
}

type cutIndex struct{}

func (cutIndex) FromArgs(args ...any) ([]byte, error) { return number(args) }
func (cutIndex) FromObject(o any) (bool, []byte, error) {
	n := o.(*row).cut
	if n == 0 {
		return false, nil, nil
	}
	return true, binary.BigEndian.AppendUint64(make([]byte, 0, 16), n), nil
}

// operandIndex has, for each operation that is written back under tokens, a key
// for each of its operands: the object, and 0 where it is written, 1 where it is read.
type operandIndex struct{}

const operandKey = 9

func (operandIndex) FromArgs(args ...any) ([]byte, error) {
	k, _ := number(args)
	if args[1].(Touch) == ByRead {
		return append(k, 1), nil
	}
	return append(k, 0), nil
}

func (operandIndex) FromObject(o any) (bool, [][]byte, error) {
	op := o.(*row).op
	if !op.Kind.effective() {
		return false, nil, nil
	}
	n := len(op.Writes) + len(op.Reads)
	// go-memdb appends the primary key to each.
	const room = operandKey + 8
	buf := make([]byte, n*room)
	keys := make([][]byte, n)
	for i := range keys {
		k := buf[i*room : i*room+operandKey : (i+1)*room]
		if i < len(op.Writes) {
			binary.BigEndian.PutUint64(k, op.Writes[i])
		} else {
			binary.BigEndian.PutUint64(k, op.Reads[i-len(op.Writes)])
			k[8] = 1
		}
		keys[i] = k
	}
	return true, keys, nil
}

// flush brings the rows up to date with what has changed since it was called last.
func (l *Log) flush() {
	if len(l.dirty) == 0 {
		return
	}
	txn := l.rows.Txn(true)
	for _, n := range l.dirty {
		n.dirty = false
		var err error
		switch {
		case n.state != gone:
			n.shared, n.stored = true, true
			err = txn.Insert(table, &row{seq: n.seq, op: n.op, cut: n.cut, after: n.preds})
		case n.stored:
			err = txn.Delete(table, &row{seq: n.seq})
		}
		if err != nil {
			panic("order: rows: " + err.Error())
		}
	}
	txn.Commit()
	clear(l.dirty)
	l.dirty = l.dirty[:0]
}

// touch notes that n's row is to be written. Rows are written many at a time: a
// transaction costs more than a row.
func (l *Log) touch(n *node) {
	if !n.dirty {
		n.dirty = true
		l.dirty = append(l.dirty, n)
	}
}

// settle flushes when enough rows wait for it.
func (l *Log) settle() {
	if len(l.dirty) >= batch {
		l.flush()
	}
}

// batch is how many rows a transaction writes.
const batch = 256

// Entry is one pending operation in a listing.
type Entry struct {
	Op *Op
	// Cut is the number of the cut that it is in flight with, 0 for none.
	Cut uint64
	// After are the operations that directly precede it, as it was issued: some may be gone.
	After []uint64
}

// Snapshot is a consistent view of the pending operations. It needs no lock.
type Snapshot struct{ txn *memdb.Txn }

// Snapshot takes one.
func (l *Log) Snapshot() *Snapshot {
	l.flush()
	return &Snapshot{l.rows.Txn(false)}
}

// All are the operations in sequence.
func (s *Snapshot) All() iter.Seq[Entry] {
	return s.entries(func() (memdb.ResultIterator, error) { return s.txn.LowerBound(table, bySeq, uint64(0)) })
}

// InFlight are the operations in flight with a cut, in sequence.
func (s *Snapshot) InFlight(cut uint64) iter.Seq[Entry] {
	return s.entries(func() (memdb.ResultIterator, error) { return s.txn.Get(table, byCut, cut) })
}

// Of are the operations that use object id so (ByWrite or ByRead), in sequence.
func (s *Snapshot) Of(t Touch, id uint64) iter.Seq[Entry] {
	return s.entries(func() (memdb.ResultIterator, error) { return s.txn.Get(table, byOperand, id, t) })
}

// entries lists what a query gives, without what only orders others.
func (s *Snapshot) entries(query func() (memdb.ResultIterator, error)) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		it, err := query()
		if err != nil {
			panic("order: rows: " + err.Error())
		}
		for o := it.Next(); o != nil; o = it.Next() {
			r := o.(*row)
			if r.op.Kind == void || r.op.Kind == observe {
				continue
			}
			e := Entry{Op: r.op, Cut: r.cut}
			for _, p := range r.after {
				e.After = append(e.After, p.seq)
			}
			if !yield(e) {
				return
			}
		}
	}
}

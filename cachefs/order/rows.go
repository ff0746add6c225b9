package order

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/hashicorp/go-memdb"
)

// row is a pending operation as it is stored. It is never changed.
type row struct {
	seq   uint64
	op    *Op
	after []*node // direct predecessors; only their seq may be looked at
}

// cutRow is a cut in flight. An operation's state is whether such a row has it: so
// thousands of operations change their state with one row.
type cutRow struct {
	cut  uint64
	seqs []uint64
}

const (
	table     = "op"
	cutTable  = "cut"
	primary   = "id" // the name that go-memdb wants for the primary key
	byOperand = "operand"
)

// schema: operations by sequence and by operand and mode; cuts in flight by number.
var schema = &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
	table: {Name: table, Indexes: map[string]*memdb.IndexSchema{
		primary:   {Name: primary, Unique: true, Indexer: seqIndex{}},
		byOperand: {Name: byOperand, AllowMissing: true, Indexer: operandIndex{}},
	}},
	cutTable: {Name: cutTable, Indexes: map[string]*memdb.IndexSchema{
		primary: {Name: primary, Unique: true, Indexer: cutIndex{}},
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
	return true, binary.BigEndian.AppendUint64(nil, o.(*cutRow).cut), nil
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
			err = txn.Insert(table, &row{seq: n.seq, op: n.op, after: n.preds})
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

// storeCut writes the row of a cut that begins, or takes it away.
func (l *Log) storeCut(f flight, begins bool) {
	txn := l.rows.Txn(true)
	r := &cutRow{cut: f.cut}
	var err error
	if begins {
		for _, n := range f.nodes {
			r.seqs = append(r.seqs, n.seq)
		}
		slices.Sort(r.seqs)
		err = txn.Insert(cutTable, r)
	} else {
		err = txn.Delete(cutTable, r)
	}
	if err != nil {
		panic("order: rows: " + err.Error())
	}
	txn.Commit()
}

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
	return func(yield func(Entry) bool) {
		it, err := s.txn.LowerBound(table, primary, uint64(0))
		s.entries(it, err, yield)
	}
}

// Of are the operations that use object id so (ByWrite or ByRead), in sequence.
func (s *Snapshot) Of(t Touch, id uint64) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		it, err := s.txn.Get(table, byOperand, id, t)
		s.entries(it, err, yield)
	}
}

// cuts gives the cuts in flight.
func (s *Snapshot) cuts() []*cutRow {
	it, err := s.txn.LowerBound(cutTable, primary, uint64(0))
	if err != nil {
		panic("order: rows: " + err.Error())
	}
	var cuts []*cutRow
	for o := it.Next(); o != nil; o = it.Next() {
		cuts = append(cuts, o.(*cutRow))
	}
	return cuts
}

// entries lists what a query gives, without what only orders others unasked.
func (s *Snapshot) entries(it memdb.ResultIterator, err error, yield func(Entry) bool) {
	if err != nil {
		panic("order: rows: " + err.Error())
	}
	cuts := s.cuts()
	for o := it.Next(); o != nil; o = it.Next() {
		r := o.(*row)
		if r.op.Kind == void || r.op.Kind == observe {
			continue
		}
		e := Entry{Op: r.op}
		for _, c := range cuts {
			if _, in := slices.BinarySearch(c.seqs, r.seq); in {
				e.Cut = c.cut
			}
		}
		for _, p := range r.after {
			e.After = append(e.After, p.seq)
		}
		if !yield(e) {
			return
		}
	}
}

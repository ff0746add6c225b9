package order

import "iter"

// Note is what has become of operations, as a Log tells it to who keeps a copy (Log.Noted). With
// Log.Watch, which tells of the operations themselves, it is all that is needed to have the Log again: see Restore.
type Note struct {
	Kind NoteKind
	Cut  uint64   // Began, Applied, Returned
	Seqs []uint64 // Began, Dropped
	Op   *Op      // Amended: as it is now
}

// NoteKind says what a Note is.
type NoteKind uint8

// The kinds of notes.
const (
	// Began: Seqs are in flight, with Cut.
	Began NoteKind = 1 + iota
	// Applied: those of Cut are no more.
	Applied
	// Returned: those of Cut are pending again.
	Returned
	// Dropped: Seqs are lost. Operations that they took from their place are amended after it.
	Dropped
	// Amended: Op is another than it was.
	Amended
)

func (l *Log) note(n Note) {
	if l.Noted != nil {
		l.Noted(n)
	}
}

// Restore takes op as issued after all others, as Append does, but merges it with none; a lost one only keeps its place. It gives
// its Seq, 0 when it is not kept because it would order nothing. Operations of which Restore was told all that Watch
// has told of a Log, in that order, as Noted has amended them, and with those that Noted said were dropped as lost, are ordered as in that Log.
func (l *Log) Restore(op *Op, lost bool) uint64 {
	if op.Kind != void {
		op.Writes, op.Reads = Operands(op)
		op.check()
	}
	if lost && !op.Kind.orders() {
		op = &Op{Kind: void, UID: op.UID, Owner: op.Owner, At: op.At, ID: op.ID, Writes: op.Writes, Reads: op.Reads}
	}
	if op.Kind == void {
		return l.restoreVoid(op)
	}
	return l.enter(op)
}

// restoreVoid keeps the place of a lost operation.
func (l *Log) restoreVoid(op *Op) uint64 {
	n := &node{seq: l.first + uint64(len(l.nodes)), op: op}
	l.link(n)
	if len(n.preds) == 0 {
		return 0
	}
	op.Seq = n.seq
	l.nodes = append(l.nodes, n)
	l.last = n
	l.enchain(n)
	l.voids = append(l.voids, n)
	l.touch(n)
	l.settle()
	return n.seq
}

// All are the operations there are, in sequence, those that only order and lost ones too. The Log must not be changed meanwhile;
// the operations are as others may see them: they are never changed.
func (l *Log) All() iter.Seq[*Op] {
	return func(yield func(*Op) bool) {
		for _, n := range l.nodes {
			if !n.live() {
				continue
			}
			n.shared = true
			if !yield(n.op) {
				return
			}
		}
	}
}

// OnlyOrders says that op does nothing but order others: a barrier, a read, a lost operation.
func (op *Op) OnlyOrders() bool { return op.Kind.orders() }

// Lost says that op is a lost one, which only orders.
func (op *Op) Lost() bool { return op.Kind == void }

package order

import (
	"fmt"
	"iter"
	"slices"

	"github.com/hashicorp/go-memdb"
)

// Policy says which operations are ordered.
type Policy uint8

// The policies.
const (
	// Object: operations on one object, as the package comment says. The default.
	Object Policy = iota
	// Causal: Object, and what is issued after Observe(id) comes after all that was
	// pending on id.
	Causal
	// Total: everything in the order of issue.
	Total
)

// Log is the pending operations of one client. It is not safe for concurrent use.
type Log struct {
	policy Policy
	rows   *memdb.MemDB
	dirty  []*node // rows to be written

	// nodes[i] is the operation with sequence number first+i, nil when it is gone.
	first  uint64
	nodes  []*node
	chains map[uint64]*chain
	// places are those of what is pending, by object; nil when nobody told where things lie.
	places  map[uint64]*place
	parents func(id uint64) []uint64
	// barrier is the last operation that all later ones come after, and last the last of all.
	barrier, last *node
	// orders are the barriers and observations, in sequence: each comes after the one before.
	// voids are the lost ones, in sequence.
	orders, voids []*node
	cuts          []flight
	marked        uint64 // nothing is merged into what is older
	total         Totals
	stamp         uint64
	stack         []*node

	// Watch, if not nil, is told of each operation as it was issued, before it is merged with
	// another: with the sequence number that Append answers.
	Watch func(Op)
	// Noted, if not nil, is told what becomes of operations.
	Noted func(Note)

	// Switched on by tests only: each breaks one mechanism.
	mutant mutant
}

// mutant names a mechanism to be left out, so that tests can see that they notice.
type mutant uint8

const (
	noMutant    mutant = iota
	ignoreReads        // read operands do not order
	ignoreBarrier
	ignoreObserve     // what is read does not order what comes later
	ignoreTotal       // policy Total orders no more than Object
	mergeAnyway       // writes are merged although something came in between
	renameIgnoresFile // a rename is not ordered after what was written to the file
	forgetBelow       // what lies below a directory is not found any more once it was moved
	narrowLoss        // what needs a lost object, other than its own operations, stays
)

// NewBroken gives a Log whose order is wrong: a rename does not come after what was written
// to the file before. For tests of crashes, which must notice.
func NewBroken(p Policy) *Log {
	l := New(p)
	l.mutant = renameIgnoresFile
	return l
}

// state is where an operation stands.
type state uint8

const (
	pending state = iota
	inflight
	gone
)

// node is an operation in the order: derived from its row, but for those rows
// that are still to be written.
type node struct {
	seq   uint64
	op    *Op
	cut   uint64
	preds []*node // direct predecessors; those gone do not matter
	mark  uint64  // equals Log.stamp when visited
	state state
	// shared: others may see op. ownBytes: op.Bytes was made here, and nobody appends behind it.
	shared, ownBytes bool
	stored, dirty    bool
}

func (n *node) live() bool { return n != nil && n.state != gone }

// chain is the end of the order at one object.
type chain struct {
	writer   *node   // the last one that wrote it
	readers  []*node // those that read it since
	observed *node   // the writer that Observe saw last
	live     int     // operations here that name it, of all kinds
	writes   int     // those that are to be written back and write it
	touches  int     // those that are to be written back
	bytes    int64
}

// flight is a cut on its way.
type flight struct {
	cut   uint64
	nodes []*node
}

// New gives an empty Log with the given policy.
func New(p Policy) *Log {
	return &Log{policy: p, rows: newRows(), first: 1, chains: map[uint64]*chain{}}
}

// Append takes op as issued after all others, sets its Seq and operands, and gives Seq back.
// It takes op over. A Write may be merged into the one before it (see coalesce.go): then
// that one's Seq is returned. A Barrier that has nothing before it is not kept: 0 is returned.
//
// Append panics if op is malformed: that is the caller's bug.
func (l *Log) Append(op *Op) uint64 {
	op.Writes, op.Reads = Operands(op)
	op.check()
	if l.Watch != nil {
		issued := *op
		issued.Attrs = slices.Clone(op.Attrs)
		defer func() {
			issued.Seq = op.Seq
			l.Watch(issued)
		}()
	}
	if seq := l.coalesce(op); seq != 0 {
		return seq
	}
	return l.enter(op)
}

// enter puts op, whose operands are set, at the end.
func (l *Log) enter(op *Op) uint64 {
	n := &node{seq: l.first + uint64(len(l.nodes)), op: op}
	l.link(n)
	if op.Kind.orders() && len(n.preds) == 0 {
		return 0
	}
	op.Seq = n.seq
	l.nodes = append(l.nodes, n)
	l.last = n
	l.enchain(n)
	if op.Kind.orders() {
		l.orders = append(l.orders, n)
		if l.mutant != ignoreBarrier && (l.mutant != ignoreObserve || op.Kind != observe) {
			l.barrier = n
		}
	} else {
		l.count(n, 1)
	}
	l.touch(n)
	l.settle()
	return n.seq
}

// Observe says that id was read by the application (or may be, from the kernel's
// cache). With policy Causal what is appended later comes after all that is
// pending on id; with the others nothing happens.
func (l *Log) Observe(id uint64) {
	c := l.chains[id]
	if l.policy != Causal || id == DirMove || c == nil || !c.writer.live() || c.observed == c.writer {
		return
	}
	w := c.writer
	l.Append(&Op{Kind: observe, ID: id, At: w.op.At})
	c.observed = w
}

// link sets n's direct predecessors: the last writer of each operand, and of what
// it writes those too that read it since; and the last barrier.
func (l *Log) link(n *node) {
	if l.policy == Total && l.mutant != ignoreTotal {
		if l.last.live() {
			n.preds = []*node{l.last}
		}
		return
	}
	l.stamp++
	add := func(p *node) {
		if p.live() && p.mark != l.stamp {
			p.mark = l.stamp
			n.preds = append(n.preds, p)
		}
	}
	for _, id := range n.op.Writes {
		if l.mutant == renameIgnoresFile && n.op.Kind == Rename && id == n.op.ID {
			continue
		}
		if c := l.chains[id]; c != nil {
			add(c.writer)
			for _, r := range c.readers {
				add(r)
			}
		}
	}
	if l.mutant != ignoreReads {
		for _, id := range n.op.Reads {
			if c := l.chains[id]; c != nil {
				add(c.writer)
			}
		}
	}
	add(l.barrier)
}

// enchain puts n at the end of its operands' chains.
func (l *Log) enchain(n *node) {
	for _, id := range n.op.Writes {
		c := l.chain(id)
		c.writer = n
		clear(c.readers)
		c.readers = c.readers[:0]
		c.live++
	}
	for _, id := range n.op.Reads {
		c := l.chain(id)
		if len(c.readers) == cap(c.readers) {
			c.readers = slices.DeleteFunc(c.readers, func(r *node) bool { return !r.live() })
		}
		c.readers = append(c.readers, n)
		c.live++
	}
}

func (l *Log) chain(id uint64) *chain {
	c := l.chains[id]
	if c == nil {
		c = &chain{}
		l.chains[id] = c
	}
	return c
}

// count adds n to the counts (d is 1) or takes it out (-1). What only orders is not counted.
func (l *Log) count(n *node, d int) {
	bytes := int64(d) * n.op.data()
	l.total.Ops += d
	l.total.Bytes += bytes
	if !n.op.Kind.effective() {
		return
	}
	for _, id := range n.op.Writes {
		c := l.chains[id]
		c.writes += d
		c.touches += d
		if id == n.op.ID {
			c.bytes += bytes
		}
		switch {
		case l.places == nil || id == DirMove:
		case c.writes == 0:
			l.displace(id)
		case c.writes == d:
			l.place(id)
		}
	}
	for _, id := range n.op.Reads {
		l.chains[id].touches += d
	}
}

// remove takes n out: it is applied, or lost and orders nothing any more.
func (l *Log) remove(n *node) {
	if !n.op.Kind.orders() {
		l.count(n, -1)
	}
	for _, ids := range [2][]uint64{n.op.Writes, n.op.Reads} {
		for _, id := range ids {
			c := l.chains[id]
			if c.live--; c.live == 0 {
				delete(l.chains, id)
			}
		}
	}
	n.state, n.preds, n.op = gone, nil, nil
	l.nodes[n.seq-l.first] = nil
	l.touch(n)
}

// sweep drops what only orders and has nothing before it any more, and the gone
// operations at the start of nodes.
func (l *Log) sweep() {
	useless := func(n *node) bool {
		if n.state == pending && !slices.ContainsFunc(n.preds, (*node).live) {
			l.remove(n)
		}
		return n.state == gone
	}
	for again := true; again; {
		for len(l.orders) > 0 && useless(l.orders[0]) {
			l.orders[0] = nil
			l.orders = l.orders[1:]
		}
		had := len(l.voids)
		l.voids = slices.DeleteFunc(l.voids, useless)
		again = len(l.voids) < had && len(l.orders) > 0
	}
	i := 0
	for i < len(l.nodes) && l.nodes[i] == nil {
		i++
	}
	l.first += uint64(i)
	l.nodes = l.nodes[i:]
	l.settle()
}

// node gives the pending operation seq, or nil.
func (l *Log) node(seq uint64) *node {
	if seq < l.first || seq-l.first >= uint64(len(l.nodes)) {
		return nil
	}
	return l.nodes[seq-l.first]
}

// must gives the pending operation seq.
func (l *Log) must(seq uint64) *node {
	n := l.node(seq)
	if n == nil {
		panic(fmt.Sprintf("order: operation %d is not pending", seq))
	}
	return n
}

// Op gives a pending operation, or nil when it is not (any longer) pending.
func (l *Log) Op(seq uint64) *Op {
	n := l.node(seq)
	if n == nil {
		return nil
	}
	n.shared = true
	return n.op
}

// Ops gives the pending operations among seqs, in the order given.
func (l *Log) Ops(seqs []uint64) []*Op {
	ops := make([]*Op, 0, len(seqs))
	for _, s := range seqs {
		if op := l.Op(s); op != nil {
			ops = append(ops, op)
		}
	}
	return ops
}

// Totals counts pending operations, those in flight included.
type Totals struct {
	Ops   int
	Bytes int64 // of data
	// InFlight is how many of Ops are in flight.
	InFlight int
	// Oldest is the time of issue of the first one; 0 when there is none.
	Oldest int64
}

// Totals counts all that is pending.
func (l *Log) Totals() Totals {
	t := l.total
	for _, n := range l.nodes {
		if n != nil && !n.op.Kind.orders() {
			t.Oldest = n.op.At
			break
		}
	}
	return t
}

// Object counts the pending operations that write object id, and their bytes of its data.
func (l *Log) Object(id uint64) (ops int, bytes int64) {
	if c := l.chains[id]; c != nil {
		return c.writes, c.bytes
	}
	return 0, 0
}

// Objects are the objects that pending operations write, in no order. The Log must
// not be changed meanwhile.
func (l *Log) Objects() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for id, c := range l.chains {
			if c.writes > 0 && !yield(id) {
				return
			}
		}
	}
}

package order

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"echo9/internal/cut"
)

// chooser makes the choices of a random history: rapid's or a seeded generator's.
type chooser interface{ Intn(n int) int }

// world is a client with its log, a server that applies each operation, and one that applies net effects.
type world struct {
	c       chooser
	log     *Log
	client  tree
	oneByOn tree
	net     tree
	naive   naive
	nextID  uint64
	now     int64
	nextCut uint64
	flights []worldCut
	mutant  netMutant
	seen    map[string]int // what was issued
	hosts   *hosts         // if not nil, real directories that get the same cuts
}

type worldCut struct {
	number uint64
	seqs   []uint64
	ops    []*Op
}

func newWorld(c chooser, p Policy) *world {
	w := &world{c: c, log: New(p), client: newTree(), nextID: 10, now: 1000, nextCut: 1}
	w.oneByOn, w.net = newTree(), newTree()
	w.naive.policy = p
	w.seen = map[string]int{}
	w.log.Locate(w.parents)
	return w
}

func (w *world) parents(id uint64) []uint64 { return w.client.parents(id) }

func (w *world) pick(ids []uint64) uint64 {
	if len(ids) == 0 {
		return 0
	}
	return ids[w.c.Intn(len(ids))]
}

// ids gives the objects that f wants, sorted.
func (w *world) ids(f func(id uint64, n *inode) bool) []uint64 {
	var ids []uint64
	for _, id := range slices.Sorted(maps.Keys(w.client)) {
		if f(id, w.client[id]) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (w *world) dir() uint64 {
	return w.pick(w.ids(func(id uint64, n *inode) bool { return n.isDir() && (id == rootID || w.client.nlink(id) > 0) }))
}

func (w *world) file() uint64 {
	return w.pick(w.ids(func(_ uint64, n *inode) bool { return n.mode&0o170000 == 0o100000 }))
}

func (w *world) name() string { return string("abcd"[w.c.Intn(4)]) }

// entry picks a bound name.
func (w *world) entry() (dir uint64, name string, id uint64) {
	var all []slot
	for _, d := range w.ids(func(_ uint64, n *inode) bool { return n.isDir() }) {
		for _, n := range slices.Sorted(maps.Keys(w.client[d].entries)) {
			all = append(all, slot{d, n})
		}
	}
	if len(all) == 0 {
		return 0, "", 0
	}
	s := all[w.c.Intn(len(all))]
	return s.dir, s.name, w.client[s.dir].entries[s.name]
}

func (w *world) times(id uint64, bits uint32) Attr {
	return Attr{ID: id, Valid: bits, Atime: w.now, Mtime: w.now, Ctime: w.now}
}

// ancestors gives dir and the directories above it.
func (w *world) ancestors(dir uint64) []uint64 {
	var ids []uint64
	for dir != rootID && len(ids) < 100 {
		ids = append(ids, dir)
		ps := w.client.parents(dir)
		if len(ps) == 0 {
			return ids
		}
		dir = ps[0]
	}
	return append(ids, rootID)
}

// gen makes an operation that is possible now, or nil.
func (w *world) gen() *Op {
	const changed = cut.AttrMtime | cut.AttrCtime
	w.now += int64(1 + w.c.Intn(3))
	op := &Op{Kind: Kind(1 + w.c.Intn(int(Barrier))), UID: uint32(w.c.Intn(2)), At: w.now}
	if w.hosts != nil {
		op.UID = 0 // others' rights are not what is tested
	}
	switch w.c.Intn(9) { // what is seldom possible is tried more often
	case 0, 1:
		op.Kind = Rename
	case 2:
		op.Kind = Mkdir
	case 3:
		op.Kind = Write
	case 4:
		op.Kind = Copy
	}
	switch op.Kind {
	case Create, Mkdir, Symlink, Mknod, Tmpfile:
		op.Dir, op.Name = w.dir(), w.name()
		if w.client[op.Dir].entries[op.Name] != 0 {
			return nil
		}
		op.ID = w.nextID
		w.nextID++
		op.UserID, op.GroupID = op.UID, 7
		op.Mode = map[Kind]uint32{Create: 0o104755, Mkdir: typeDir | 0o700, Symlink: 0o120777, Mknod: 0o010600, Tmpfile: 0o100600}[op.Kind]
		op.Attrs = []Attr{w.times(op.ID, attrTimes)}
		switch op.Kind {
		case Symlink:
			op.Target = "to" + op.Name
		case Mknod:
			op.Rdev = 5
		case Tmpfile:
			op.Dir, op.Name = 0, ""
			return op
		}
		op.Attrs = append(op.Attrs, w.times(op.Dir, changed))
	case Link:
		op.ID, op.Dir, op.Name = w.file(), w.dir(), w.name()
		if op.ID == 0 || w.client[op.Dir].entries[op.Name] != 0 {
			return nil
		}
		if w.client.nlink(op.ID) == 0 && !w.linkable(op.ID) {
			return nil
		}
		op.Attrs = []Attr{w.times(op.ID, cut.AttrCtime), w.times(op.Dir, changed)}
	case Unlink, Rmdir:
		op.Dir, op.Name, op.ID = w.entry()
		if op.ID == 0 || len(w.client[op.ID].entries) > 0 || w.client[op.ID].isDir() != (op.Kind == Rmdir) {
			return nil
		}
		w.lose(op, op.ID)
		op.Attrs = append([]Attr{w.times(op.ID, cut.AttrCtime)}, w.times(op.Dir, changed))
	case Rename:
		return w.genRename(op)
	case SetAttr:
		op.ID = w.pick(w.ids(func(uint64, *inode) bool { return true }))
		a := Attr{ID: op.ID, Ctime: w.now, Valid: cut.AttrCtime, Mode: uint32(w.c.Intn(0o10000)), UserID: uint32(w.c.Intn(3)), GroupID: 9, Atime: 5, Mtime: 6}
		switch w.c.Intn(3) {
		case 0:
			a.Valid |= cut.AttrMode
		case 1: // chown strips setuid
			a.Valid |= cut.AttrUID | cut.AttrGID | cut.AttrMode
			a.Mode = w.client[op.ID].mode & 0o1777
		case 2:
			a.Valid |= cut.AttrAtime | cut.AttrMtime
		}
		if n := w.client[op.ID]; n.mode&0o170000 == 0o120000 {
			a.Valid &^= cut.AttrMode // a symlink has none of its own
		} else if old, has := n.xattrs[aclAccess]; has && a.Valid&cut.AttrMode != 0 {
			// A change of the mode is one of the ACL, and the client says both.
			op.Kind, op.Name, op.Bytes = SetXattr, aclAccess, acl(a.Mode, old[4+8+2])
		}
		op.Attrs = []Attr{a}
	case SetXattr, RemoveXattr:
		op.ID = w.pick(w.ids(func(_ uint64, n *inode) bool { return n.isDir() || n.mode&0o170000 == 0o100000 }))
		op.Name = "user." + w.name()
		if op.Kind == SetXattr {
			op.Bytes = []byte{byte(w.now)}
		}
		a := w.times(op.ID, cut.AttrCtime)
		switch w.c.Intn(5) {
		case 0:
			if op.Kind == SetXattr && !w.client[op.ID].isDir() {
				op.Name, op.Bytes = capability, slices.Concat([]byte{1, 0, 0, 2, byte(w.now), 0, 0, 0}, make([]byte, 12))
			}
		case 1:
			if op.Kind == SetXattr {
				a.Valid |= cut.AttrMode
				a.Mode = w.client[op.ID].mode&0o7000 | uint32(w.c.Intn(0o1000))
				op.Name, op.Bytes = aclAccess, acl(a.Mode, byte(w.c.Intn(8)))
			}
		}
		if op.Kind == RemoveXattr {
			op.ID = w.pick(w.ids(func(_ uint64, n *inode) bool { return len(n.xattrs) > 0 }))
			if op.ID == 0 {
				return nil
			}
			op.Name = slices.Min(slices.Collect(maps.Keys(w.client[op.ID].xattrs)))
			a = w.times(op.ID, cut.AttrCtime)
		}
		op.Attrs = []Attr{a}
	case Barrier:
		op.ID = w.pick(w.ids(func(uint64, *inode) bool { return true }))
	case Release:
		op.ID = w.pick(w.ids(func(id uint64, n *inode) bool { return n.kept }))
		if op.ID == 0 {
			return nil
		}
	default:
		return w.genContent(op)
	}
	return op
}

// linkable: only a Tmpfile may get a name when it has none.
func (w *world) linkable(id uint64) bool {
	return w.client[id].kept && w.client[id].mode&0o7777 == 0o600
}

// lose fills in what happens when op takes a name of id.
func (w *world) lose(op *Op, id uint64) {
	n := w.client[id]
	if w.client.nlink(id) != 1 {
		return
	}
	op.Last = true
	switch {
	case n.kept: // a Tmpfile that was linked and is still open
		op.Keep = true
	case w.c.Intn(3) == 0:
		op.Keep = true
	case w.c.Intn(2) == 0:
		op.Dead = true
	}
}

func (w *world) genRename(op *Op) *Op {
	op.Dir, op.Name, op.ID = w.entry()
	if op.ID == 0 {
		return nil
	}
	op.Dir2, op.Name2 = w.dir(), w.name()
	op.Replaced = w.client[op.Dir2].entries[op.Name2]
	op.IsDir = w.client[op.ID].isDir()
	op.Exchange = op.Replaced != 0 && w.c.Intn(2) == 0
	if op.Replaced == op.ID || op.IsDir && slices.Contains(w.ancestors(op.Dir2), op.ID) {
		return nil
	}
	const changed = cut.AttrMtime | cut.AttrCtime
	op.Attrs = []Attr{w.times(op.ID, cut.AttrCtime), w.times(op.Dir, changed)}
	if op.Dir2 != op.Dir {
		op.Attrs = append(op.Attrs, w.times(op.Dir2, changed))
	}
	if op.Replaced != 0 {
		op.ReplacedIsDir = w.client[op.Replaced].isDir()
		if op.Exchange {
			if op.ReplacedIsDir && slices.Contains(w.ancestors(op.Dir), op.Replaced) {
				return nil
			}
		} else {
			if op.ReplacedIsDir != op.IsDir || len(w.client[op.Replaced].entries) > 0 {
				return nil
			}
			w.lose(op, op.Replaced)
		}
		op.Attrs = append(op.Attrs, w.times(op.Replaced, cut.AttrCtime))
	}
	if op.IsDir {
		op.Reads = w.log.Below(op.ID)
	}
	if op.Exchange && op.ReplacedIsDir {
		op.Reads = append(op.Reads, w.log.Below(op.Replaced)...)
	}
	if op.IsDir && op.Dir != op.Dir2 {
		op.Reads = append(op.Reads, w.ancestors(op.Dir2)...)
	}
	return op
}

func (w *world) genContent(op *Op) *Op {
	op.ID = w.file()
	n := w.client[op.ID]
	if n == nil {
		return nil
	}
	size := uint64(len(n.data))
	a := w.times(op.ID, cut.AttrMtime|cut.AttrCtime)
	op.Off, op.Len = uint64(w.c.Intn(12)), uint64(1+w.c.Intn(8))
	switch op.Kind {
	case Write:
		if w.c.Intn(2) == 0 {
			op.Off = size
		}
		op.Bytes = bytes.Repeat([]byte{byte(w.now)}, int(op.Len))
		op.Len = 0
		size = max(size, op.Off+uint64(len(op.Bytes)))
		a.Valid |= cut.AttrMode
		a.Mode = n.mode & 0o1777
	case Truncate:
		op.Size, op.Off, op.Len = uint64(w.c.Intn(16)), 0, 0
		size = op.Size
	case Allocate:
		size = max(size, op.Off+op.Len) // the model knows no space beyond the end
	case Punch:
	case Copy:
		op.Source = w.file()
		if w.hosts != nil && op.Source == op.ID {
			return nil // a server refuses to copy within one file
		}
		s := uint64(len(w.client[op.Source].data))
		op.SourceOff = uint64(w.c.Intn(4))
		if s <= op.SourceOff || op.Source == op.ID && (op.Off < s || op.SourceOff+op.Len > op.Off) {
			return nil
		}
		op.Len = min(op.Len, s-op.SourceOff)
		size = max(size, op.Off+op.Len)
	}
	a.Valid |= cut.AttrSize
	a.Size = size
	op.Attrs = []Attr{a}
	return op
}

// deep copies an operation, since Append takes it over.
func deep(op *Op) *Op {
	c := *op
	c.Bytes, c.Attrs = bytes.Clone(op.Bytes), slices.Clone(op.Attrs)
	return &c
}

// issue performs an operation at the client and appends it.
func (w *world) issue(op *Op) error {
	if err := w.client.do(op); err != nil {
		return fmt.Errorf("the test's own operation: %w", err)
	}
	w.log.Moved(op.ID)
	w.log.Moved(op.Replaced)
	w.note(op)
	mine := deep(op)
	mine.Writes, mine.Reads = Operands(mine)
	w.naive.add(mine, w.log.Append(op))
	return nil
}

// send takes what fits of an ideal and puts it in flight.
func (w *world) send(id Ideal, maxRecords int) error {
	if len(id.Seqs) == 0 {
		return nil
	}
	maxBytes := int64(20 + w.c.Intn(60))
	seqs := w.log.Take(id.Seqs, maxRecords, maxBytes)
	real := w.real(seqs)
	if !slices.Equal(seqs, id.Seqs[:len(seqs)]) || len(seqs) == 0 {
		return fmt.Errorf("%v is taken of %v", seqs, id.Seqs)
	}
	waiting := slices.DeleteFunc(w.naive.ideal(real), func(s uint64) bool { return w.log.node(s).state == inflight })
	if !slices.Equal(waiting, real) {
		return fmt.Errorf("%v is sent, but the ideal is %v", real, waiting)
	}
	ops := w.log.Begin(w.nextCut, seqs)
	if n := NetEffect(ops); len(seqs) > 1 && (maxRecords > 0 && len(n.Records) > maxRecords || n.Bytes > maxBytes) {
		return fmt.Errorf("%d operations are %d records of %d and %d bytes of %d", len(seqs), len(n.Records), maxRecords, n.Bytes, maxBytes)
	}
	w.flights = append(w.flights, worldCut{w.nextCut, seqs, ops})
	w.nextCut++
	return nil
}

// arrive applies the first cut in flight at both servers and compares them.
func (w *world) arrive() error {
	if len(w.flights) == 0 {
		return nil
	}
	f := w.flights[0]
	w.flights = w.flights[1:]
	net := netEffect(f.ops, w.mutant)
	if err := w.net.apply(net.Records); err != nil {
		return fmt.Errorf("cut of %v: %w", describe(f.ops), err)
	}
	for _, op := range w.naive.take(f.seqs) {
		if err := w.oneByOn.do(op); err != nil {
			return fmt.Errorf("cut of %v: %w", f.seqs, err)
		}
	}
	if d := diff(w.oneByOn, w.net); d != "" {
		return fmt.Errorf("net effect of %v: %s\n%+v", describe(f.ops), d, net.Records)
	}
	if len(net.Ops) != len(net.Records) {
		return fmt.Errorf("%d lists of operations for %d records", len(net.Ops), len(net.Records))
	}
	for i, seqs := range net.Ops {
		for _, s := range seqs {
			if !slices.Contains(f.seqs, s) {
				return fmt.Errorf("record %d comes from operation %d, which is not in the cut", i, s)
			}
		}
	}
	if w.hosts != nil {
		if err := w.hosts.apply(f.ops, net.Records, w.net); err != nil {
			return fmt.Errorf("cut of %v: %w", describe(f.ops), err)
		}
	}
	w.log.Applied(f.number)
	return nil
}

// bounce returns the last cut in flight.
func (w *world) bounce() {
	if n := len(w.flights); n > 0 {
		w.log.Returned(w.flights[n-1].number)
		w.flights = w.flights[:n-1]
		w.nextCut--
	}
}

// drain sends and applies everything and compares with the client.
func (w *world) drain() error {
	for {
		if err := w.arrive(); err != nil {
			return err
		}
		if len(w.flights) > 0 {
			continue
		}
		id := w.log.Prefix(Limit{})
		if len(id.Seqs) == 0 {
			break
		}
		if err := w.send(id, 1+w.c.Intn(100)); err != nil {
			return err
		}
	}
	if t := w.log.Totals(); t != (Totals{}) {
		return fmt.Errorf("nothing is pending, but counted is %+v", t)
	}
	if len(w.log.chains) > 0 || len(w.log.nodes) > 0 || len(w.log.orders)+len(w.log.voids) > 0 {
		return fmt.Errorf("nothing is pending, but there are %d chains, %d nodes, %d that order", len(w.log.chains), len(w.log.nodes), len(w.log.orders)+len(w.log.voids))
	}
	if d := diff(w.client, w.net); d != "" {
		return fmt.Errorf("client and server: %s", d)
	}
	return nil
}

func describe(ops []*Op) []string {
	var s []string
	for _, op := range ops {
		s = append(s, fmt.Sprintf("%d:%v %d (%d %s) (%d %s) replacing %d off %d len %d/%d size %d keep %v last %v exch %v\n", op.Seq, op.Kind, op.ID, op.Dir, op.Name,
			op.Dir2, op.Name2, op.Replaced, op.Off, op.Len, len(op.Bytes), op.Size, op.Keep, op.Last, op.Exchange))
	}
	return s
}

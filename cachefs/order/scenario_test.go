package order

import (
	"bytes"
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"echo9/internal/cut"
)

// script issues operations by hand, on a world's client and log.
type script struct {
	t *testing.T
	*world
}

func newScript(t *testing.T) *script {
	return &script{t, newWorld(rand.New(rand.NewSource(1)), Object)}
}

const stamp = cut.AttrMtime | cut.AttrCtime

func (s *script) do(op *Op) uint64 {
	s.t.Helper()
	s.now++
	op.At = s.now
	if op.Kind.creates() {
		op.Attrs = append(op.Attrs, s.times(op.ID, attrTimes))
	}
	for _, id := range slices.Compact([]uint64{op.Dir, op.Dir2}) {
		if id != 0 {
			op.Attrs = append(op.Attrs, s.times(id, stamp))
		}
	}
	if err := s.issue(op); err != nil {
		s.t.Fatal(err)
	}
	return op.Seq
}

func (s *script) create(k Kind, id, dir uint64, name string) uint64 {
	mode := uint32(0o100644)
	if k == Mkdir {
		mode = typeDir | 0o755
	}
	return s.do(&Op{Kind: k, ID: id, Dir: dir, Name: name, Mode: mode})
}

func (s *script) write(id, off uint64, data string) uint64 {
	size := max(off+uint64(len(data)), uint64(len(s.client[id].data)))
	a := s.times(id, stamp|cut.AttrSize)
	a.Size = size
	return s.do(&Op{Kind: Write, ID: id, Off: off, Bytes: []byte(data), Attrs: []Attr{a}})
}

func (s *script) rename(id, dir uint64, name string, dir2 uint64, name2 string) uint64 {
	op := &Op{Kind: Rename, ID: id, Dir: dir, Name: name, Dir2: dir2, Name2: name2, Replaced: s.client[dir2].entries[name2], IsDir: s.client[id].isDir()}
	op.Last = op.Replaced != 0 && s.client.nlink(op.Replaced) == 1
	if op.IsDir {
		op.Reads = s.log.Below(id)
		if dir != dir2 {
			op.Reads = append(op.Reads, s.ancestors(dir2)...)
		}
	}
	return s.do(op)
}

func (s *script) unlink(dir uint64, name string) uint64 {
	id := s.client[dir].entries[name]
	k := Unlink
	if s.client[id].isDir() {
		k = Rmdir
	}
	return s.do(&Op{Kind: k, ID: id, Dir: dir, Name: name, Last: s.client.nlink(id) == 1})
}

// commit sends an ideal and gives its net effect.
func (s *script) commit(id Ideal) *Net {
	s.t.Helper()
	ops := s.log.Begin(s.nextCut, s.log.Take(id.Seqs, 0, 0))
	s.flights = append(s.flights, worldCut{s.nextCut, id.Seqs, ops})
	s.nextCut++
	if err := s.arrive(); err != nil {
		s.t.Fatal(err)
	}
	return NetEffect(ops)
}

func (s *script) all() *Net { s.t.Helper(); return s.commit(s.log.Prefix(Limit{})) }

func (s *script) want(what string, got, want any) {
	s.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// kinds counts the records of each kind.
func records(n *Net) map[cut.Kind]int {
	m := map[cut.Kind]int{}
	for _, r := range n.Records {
		m[r.Kind]++
	}
	return m
}

// A tree built and then renamed into place (TRAPS 1.1): who looks at the place sees
// all of it, down to the bytes.
func TestTreeBuiltAndRenamed(t *testing.T) {
	s := newScript(t)
	s.create(Create, 90, rootID, "unrelated")
	s.write(90, 0, "x")
	s.all()
	s.write(90, 1, "y") // pending, elsewhere
	var built []uint64
	s.create(Mkdir, 10, rootID, "tmp")
	built = append(built, 4)
	built = append(built, s.create(Create, 11, 10, "f"), s.write(11, 0, "content"), s.create(Mkdir, 12, 10, "sub"),
		s.create(Create, 13, 12, "g"), s.write(13, 0, "more"))
	renamed := s.rename(10, rootID, "tmp", rootID, "final")
	later := s.write(13, 4, "later")
	ideal := s.log.IdealOf(ByWrite|ByRead, rootID)
	s.want("ideal of the parent", ideal.Seqs, append(built, renamed))
	if slices.Contains(ideal.Seqs, later) {
		t.Fatal("a write after the rename is not merged into one before it")
	}
	s.want("operands read", s.log.Op(renamed).Reads, []uint64{11, 12, 13})
	s.commit(ideal)
	s.want("what others see", string(s.net[13].data), "more")

	// Moved to another directory: dirmove is written, the new ancestors are read.
	s.create(Mkdir, 20, rootID, "elsewhere")
	moved := s.rename(10, rootID, "final", 20, "here")
	s.want("writes", s.log.Op(moved).Writes, []uint64{DirMove, rootID, 10, 20})
	s.want("reads", s.log.Op(moved).Reads, []uint64{13})
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
}

// vi's save: the new content and the name are one cut, whoever asks for what.
func TestEditorSaves(t *testing.T) {
	s := newScript(t)
	s.create(Create, 10, rootID, "foo.c")
	s.write(10, 0, "old")
	s.all()
	s.create(Create, 11, rootID, "foo.c~")
	s.write(11, 0, "new")
	s.rename(11, rootID, "foo.c~", rootID, "foo.c")
	for _, id := range []uint64{10, 11, rootID} {
		s.want("ideal", len(s.log.IdealOf(ByWrite|ByRead, id).Seqs), 3)
	}
	n := s.commit(s.log.IdealOf(ByWrite|ByRead, 10))
	s.want("records", records(n), map[cut.Kind]int{cut.Create: 1, cut.Bind: 1, cut.Data: 1, cut.Attr: 2})
	s.want("fence", n.Fence, []Operand{{rootID, true}, {10, true}})
	for _, r := range n.Records {
		if r.Kind == cut.Bind && (r.Before != 10 || r.ID != 11 || r.Name != "foo.c") {
			t.Fatalf("binding %+v", r)
		}
	}
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
}

// Created and removed in one cut: only the directory's times go (TRAPS 1.5), through
// hard links and renames too, and with it no token of the vanished.
func TestVanished(t *testing.T) {
	s := newScript(t)
	s.create(Mkdir, 20, rootID, "d")
	s.all()
	s.create(Create, 10, 20, "a")
	s.write(10, 0, "never sent")
	s.do(&Op{Kind: Link, ID: 10, Dir: 20, Name: "b"})
	s.rename(10, 20, "b", rootID, "c")
	s.unlink(20, "a")
	s.unlink(rootID, "c")
	s.create(Mkdir, 11, 20, "sub")
	s.create(Create, 12, 11, "f")
	s.unlink(11, "f")
	s.unlink(20, "sub")
	n := s.all()
	s.want("records", records(n), map[cut.Kind]int{cut.Attr: 2})
	s.want("bytes", n.Bytes, 0)
	s.want("fence", n.Fence, []Operand{{rootID, true}, {20, true}})

	// A hard link that is left keeps it.
	s.create(Create, 30, 20, "a")
	s.write(30, 0, "sent")
	s.do(&Op{Kind: Link, ID: 30, Dir: 20, Name: "b"})
	s.unlink(20, "a")
	n = s.all()
	s.want("records", records(n), map[cut.Kind]int{cut.Create: 1, cut.Data: 1, cut.Bind: 1, cut.Attr: 2})
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
}

// Removed while open: the object goes without a name; a later Release ends it.
func TestUnlinkedOpen(t *testing.T) {
	s := newScript(t)
	s.create(Create, 10, rootID, "mkstemp")
	s.do(&Op{Kind: Unlink, ID: 10, Dir: rootID, Name: "mkstemp", Last: true, Keep: true})
	s.write(10, 0, "swap")
	n := s.all()
	s.want("records", records(n), map[cut.Kind]int{cut.Create: 1, cut.Data: 1, cut.Attr: 2})
	s.do(&Op{Kind: Release, ID: 10})
	n = s.all()
	s.want("records", records(n), map[cut.Kind]int{cut.Release: 1})
	s.want("fence", len(n.Fence), 0)

	// An older file, of which somebody elsewhere may have the data open.
	s.create(Create, 11, rootID, "old")
	s.all()
	s.write(11, 0, "seen by who has it open")
	s.do(&Op{Kind: Unlink, ID: 11, Dir: rootID, Name: "old", Last: true, Attrs: []Attr{s.times(11, cut.AttrCtime)}})
	ops := s.log.Ops(s.log.Prefix(Limit{}).Seqs)
	s.want("records", records(NetEffect(ops)), map[cut.Kind]int{cut.Data: 1, cut.Bind: 1, cut.Attr: 2})
	ops[1].Dead = true
	s.want("records when dead", records(NetEffect(ops)), map[cut.Kind]int{cut.Bind: 1, cut.Attr: 1})
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
}

// Side effects are final values (TRAPS 1.5): a chown after a chmod says what the
// mode is then, and each attribute names the operation that set it last.
func TestAttributesAreFinal(t *testing.T) {
	s := newScript(t)
	s.create(Create, 10, rootID, "f")
	s.all()
	write := s.write(10, 0, "x")
	s.do(&Op{Kind: SetAttr, ID: 10, UID: 5, Attrs: []Attr{{ID: 10, Valid: cut.AttrMode, Mode: 0o4755}}})
	chown := s.do(&Op{Kind: SetAttr, ID: 10, UID: 0, Attrs: []Attr{{ID: 10, Valid: cut.AttrUID | cut.AttrMode, UserID: 7, Mode: 0o755}}})
	n := s.all()
	for i, r := range n.Records {
		if r.Kind != cut.Attr {
			continue
		}
		switch {
		case r.Valid == cut.AttrMode|cut.AttrUID:
			s.want("mode", r.Mode, 0o755)
			s.want("operations", n.Ops[i], []uint64{chown})
		case r.Valid == cut.AttrSize|stamp:
			s.want("operations", n.Ops[i], []uint64{write})
		default:
			t.Fatalf("record %+v", r)
		}
	}
	s.want("records", records(n), map[cut.Kind]int{cut.Data: 1, cut.Attr: 2})
}

// Exchange, both ways, and a chain of renames that comes back (TRAPS 1.6).
func TestSwapsAndChains(t *testing.T) {
	s := newScript(t)
	s.create(Mkdir, 20, rootID, "x")
	s.create(Mkdir, 21, rootID, "y")
	s.create(Create, 10, 20, "a")
	s.create(Create, 11, 21, "b")
	s.all()
	s.do(&Op{Kind: Rename, ID: 10, Dir: 20, Name: "a", Dir2: 21, Name2: "b", Replaced: 11, Exchange: true})
	n := s.all()
	s.want("records", records(n), map[cut.Kind]int{cut.Bind: 2, cut.Attr: 2})
	// Two renames in opposite directions between two directories, in one cut.
	s.rename(11, 20, "a", 21, "c")
	s.rename(10, 21, "b", 20, "c")
	s.want("ideal of x", len(s.log.IdealOf(ByWrite, 20).Seqs), 2)
	s.want("bindings", records(s.all())[cut.Bind], 4)
	// There and back: only times.
	s.rename(11, 21, "c", 21, "d")
	s.rename(11, 21, "d", 21, "c")
	s.want("records", records(s.all()), map[cut.Kind]int{cut.Attr: 1})
	// A directory exchanged with one elsewhere needs dirmove.
	s.create(Mkdir, 30, 20, "dir")
	op := &Op{Kind: Rename, ID: 10, Dir: 20, Name: "c", Dir2: rootID, Name2: "y", Replaced: 21, Exchange: true, ReplacedIsDir: true}
	w, _ := Operands(op)
	s.want("operands", w, []uint64{DirMove, rootID, 10, 20, 21})
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
}

// A copy at the server reads its source: giving up a read token needs it sent, and no
// cut both copies and changes what is copied.
func TestCopyAtServer(t *testing.T) {
	s := newScript(t)
	s.create(Create, 10, rootID, "src")
	s.create(Create, 11, rootID, "dst")
	s.all()
	copyOp := func() uint64 {
		return s.do(&Op{Kind: Copy, ID: 11, Source: 10, Len: 3, Attrs: []Attr{{ID: 11, Valid: cut.AttrSize, Size: 3}}})
	}
	before := s.write(10, 0, "one")
	cp := copyOp()
	after := s.write(10, 0, "two")
	s.want("readers", s.log.IdealOf(ByRead, 10).Seqs, []uint64{before, cp})
	s.want("all", s.log.IdealOf(ByWrite, 10).Seqs, []uint64{before, cp, after})
	for _, want := range [][]uint64{{before}, {cp}, {after}} {
		s.want("taken", s.log.Take(s.log.Prefix(Limit{}).Seqs, 0, 0), want)
		s.commit(Ideal{Seqs: want})
	}
	s.want("copied", string(s.net[11].data), "one")
	s.want("changed", string(s.net[10].data), "two")

	defer func() {
		if recover() == nil {
			t.Error("a net effect that Take never lets through was computed")
		}
	}()
	NetEffect([]*Op{{Kind: Write, ID: 10}, {Kind: Copy, ID: 11, Source: 10, Len: 1}})
}

// barrier(F) orders what came before on F before all that comes after, and nothing else.
func TestBarrier(t *testing.T) {
	s := newScript(t)
	for i := uint64(10); i < 14; i++ {
		s.create(Create, i, rootID, fmt.Sprint(i))
	}
	s.all()
	log := s.write(10, 0, "log")
	other := s.write(11, 0, "other")
	s.do(&Op{Kind: Barrier, ID: 10})
	data := s.write(12, 0, "data")
	again := s.write(10, 3, "log")
	if again == log {
		t.Fatal("a write was merged over a barrier")
	}
	ideal := s.log.IdealOf(ByWrite, 12)
	s.want("ideal", s.real(ideal.Seqs), []uint64{log, data})
	s.want("ideal of the other", s.log.IdealOf(ByWrite, 11).Seqs, []uint64{other})
	s.want("dependents of the first", s.real(s.log.Dependents(log)), []uint64{log, data, again})
	s.want("dependents of the other", s.log.Dependents(other), []uint64{other})
	s.commit(ideal)
	s.want("a barrier with nothing before it", s.log.Append(&Op{Kind: Barrier, ID: 13}), 0)
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
}

// Small appends become one operation, up to a size, and who has seen the operation
// before keeps what he saw.
func TestMergedWrites(t *testing.T) {
	s := newScript(t)
	s.create(Create, 10, rootID, "f")
	first := s.write(10, 0, "abc")
	seen := s.log.Op(first)
	s.want("appended", s.write(10, 3, "def"), first)
	s.want("overwritten", s.write(10, 1, "B"), first)
	s.want("seen", string(seen.Bytes), "abc")
	s.want("merged", string(s.log.Op(first).Bytes), "aBcdef")
	snapshot := s.log.Snapshot()
	s.write(10, 6, "ghi")
	for e := range snapshot.Of(ByWrite, 10) {
		if e.Op.Kind == Write {
			s.want("snapshot", string(e.Op.Bytes), "aBcdef")
		}
	}
	ops, n := s.log.Object(10)
	s.want("operations", ops, 2)
	s.want("bytes", n, 9)
	s.want("oldest", s.log.Op(first).At, seen.At)

	// Not by another user, not over a gap, not in flight, not without bound.
	if s.do(&Op{Kind: Write, ID: 10, UID: 9, Off: 9, Bytes: []byte("x"), Attrs: []Attr{{ID: 10, Valid: cut.AttrSize, Size: 10}}}) == first {
		t.Fatal("merged with another user's")
	}
	gap := s.write(10, 20, "gap")
	s.log.Begin(1, s.log.Prefix(Limit{}).Seqs)
	if s.write(10, 23, "more") == gap {
		t.Fatal("merged with what is in flight")
	}
	l := New(Object)
	block := bytes.Repeat([]byte("z"), 1000)
	for i := range uint64(3000) {
		l.Append(&Op{Kind: Write, ID: 10, Off: 1000 * i, Bytes: block, Attrs: []Attr{{ID: 10, Valid: cut.AttrSize, Size: 1000 * (i + 1)}}})
	}
	s.want("operations for 3 MB", l.Totals().Ops, 3)
	s.want("bytes", l.Totals().Bytes, 3_000_000)
}

package order

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"echo9/internal/cut"
)

// With 1,000 dirty files in other directories a recall of one file sends what
// precedes it and nothing else.
func TestIdealOfOneAmongManyIsSmall(t *testing.T) {
	s := newScript(t)
	for i := range uint64(1001) {
		s.create(Mkdir, 10_000+i, rootID, fmt.Sprint(i))
	}
	s.all()
	var want []uint64
	for i := range uint64(1001) {
		seqs := []uint64{s.create(Create, 20_000+i, 10_000+i, "f"), s.write(20_000+i, 0, "dirty")}
		if i == 500 {
			want = seqs
		}
	}
	s.want("ideal of the file", s.log.IdealOf(ByWrite|ByRead, 20_500).Seqs, want)
	s.want("ideal of its directory", s.log.IdealOf(ByWrite|ByRead, 10_500).Seqs, want[:1])
	n := s.commit(s.log.IdealOf(ByWrite|ByRead, 20_500))
	s.want("records", records(n), map[cut.Kind]int{cut.Create: 1, cut.Data: 1, cut.Bind: 1, cut.Attr: 2})
	s.want("still pending", s.log.Totals().Ops, 2000)
}

// 1,000 times create, write, rename in one directory is four records a file and one for
// the directory's times; saved over one name it is one file, whatever the number.
func TestNetEffectOfManySaves(t *testing.T) {
	s := newScript(t)
	for i := range uint64(1000) {
		s.create(Create, 10+i, rootID, "tmp")
		s.write(10+i, 0, "content")
		s.rename(10+i, rootID, "tmp", rootID, fmt.Sprint("f", i))
	}
	ops := s.log.Ops(s.log.Prefix(Limit{}).Seqs)
	n := NetEffect(ops)
	s.want("records", records(n), map[cut.Kind]int{cut.Create: 1000, cut.Data: 1000, cut.Bind: 1000, cut.Attr: 1001})
	s.want("fence", n.Fence, []Operand{{rootID, true}})

	l := newScript(t)
	for i := range uint64(1000) {
		l.create(Create, 10+i, rootID, "tmp")
		l.write(10+i, 0, "content")
		l.rename(10+i, rootID, "tmp", rootID, "one")
	}
	whole := l.log.Prefix(Limit{}).Seqs
	n = NetEffect(l.log.Ops(whole))
	s.want("records of one", records(n), map[cut.Kind]int{cut.Create: 1, cut.Data: 1, cut.Bind: 1, cut.Attr: 2})
	s.want("bytes of one", n.Bytes, 7)

	// What the net effect saves, Take makes use of: many operations fit where few would unreduced.
	s.want("unreduced", len(l.log.Take(whole[:30], 1000, 0)), 30)
	if got := len(l.log.Take(whole, 100, 0)); got < 60 {
		t.Fatalf("only %d operations taken into 100 records", got)
	}
	s.want("at least one", len(l.log.Take(whole[1:2], 1, 1)), 1)
}

// Prefixes by number, by amount of data, and by age.
func TestPrefix(t *testing.T) {
	s := newScript(t)
	for i := range uint64(10) {
		s.create(Create, 10+i, rootID, fmt.Sprint(i))
		s.write(10+i, 0, "0123456789")
	}
	s.want("by number", len(s.log.Prefix(Limit{Ops: 5}).Seqs), 5)
	s.want("by bytes", len(s.log.Prefix(Limit{Bytes: 25}).Seqs), 5)
	s.want("one at least", len(s.log.Prefix(Limit{Ops: 1, Bytes: 1}).Seqs), 1)
	s.want("by age", len(s.log.Prefix(Limit{Before: s.log.Op(4).At}).Seqs), 4)
	s.want("none old enough", len(s.log.Prefix(Limit{Before: 1}).Seqs), 0)
	s.want("totals", s.log.Totals(), Totals{Ops: 20, Bytes: 100, Oldest: s.log.Op(1).At})
}

// Two cuts under way: the second says what it comes after, and both can come back.
func TestPipelinedCuts(t *testing.T) {
	s := newScript(t)
	first := s.create(Create, 10, rootID, "f")
	second := s.write(10, 0, "x")
	l := s.log
	l.Begin(7, []uint64{first})
	s.want("ideal", l.IdealOf(ByWrite, 10), Ideal{Seqs: []uint64{second}, After: 7})
	s.want("nothing to send, much to wait for", l.IdealOf(ByWrite, rootID), Ideal{After: 7})
	l.Begin(8, []uint64{second})
	s.want("cuts", l.Cuts(), []uint64{7, 8})
	s.want("in flight", l.Totals().InFlight, 2)
	for e := range l.Snapshot().All() {
		s.want("listed cut", e.Cut, 6+e.Op.Seq)
		if e.Op.Seq == second {
			s.want("listed predecessors", e.After, []uint64{first})
		}
	}
	l.Returned(8)
	l.Returned(7)
	s.want("predecessors", l.Predecessors(second), []uint64{first})
	for name, f := range map[string]func(){
		"a cut without what precedes it": func() { l.Begin(7, []uint64{second}) },
		"a cut that is not in flight":    func() { l.Applied(9) },
		"a write without its size":       func() { l.Append(&Op{Kind: Write, ID: 10, Bytes: []byte("x")}) },
		"attributes of another object": func() {
			l.Append(&Op{Kind: SetAttr, ID: 10, Attrs: []Attr{{ID: 11, Valid: cut.AttrMode}}})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is let through", name)
				}
			}()
			f()
		}()
	}
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
}

// Snapshots and net effects need no lock while the log goes on.
func TestSnapshotsBesideAppends(t *testing.T) {
	l := New(Object)
	fill(l, 3000, 10)
	ops := l.Begin(1, l.Prefix(Limit{Ops: 1500}).Seqs)
	snapshot := l.Snapshot()
	var wg sync.WaitGroup
	var listed, recs int
	wg.Go(func() {
		for range snapshot.All() {
			listed++
		}
	})
	wg.Go(func() { recs = len(NetEffect(ops).Records) })
	fill(l, 3000, 10)
	l.Applied(1)
	for i := range uint64(3000) {
		l.Append(&Op{Kind: Write, ID: 1 << 50, Off: i, Bytes: []byte{1}, Attrs: []Attr{{ID: 1 << 50, Valid: cut.AttrSize, Size: i + 1}}})
	}
	wg.Wait()
	if listed != 3000 || recs < 1500 {
		t.Fatalf("%d operations listed, %d records", listed, recs)
	}
}

// tar x as a user who may not chown, and what else is refused in it: only what needs
// the refused goes with it.
func TestRefusals(t *testing.T) {
	s := newScript(t)
	type file struct{ create, write, chown, utimes uint64 }
	var files []file
	dir := s.create(Mkdir, 9, rootID, "tree")
	for i := range uint64(20) {
		id := 10 + i
		f := file{create: s.create(Create, id, 9, fmt.Sprint(i)), write: s.write(id, 0, "data")}
		f.chown = s.do(&Op{Kind: SetAttr, ID: id, Attrs: []Attr{{ID: id, Valid: cut.AttrUID, UserID: 5}}})
		f.utimes = s.do(&Op{Kind: SetAttr, ID: id, Attrs: []Attr{{ID: id, Valid: cut.AttrMtime, Mtime: 1}}})
		files = append(files, f)
	}
	s.want("a chown", s.log.Dependents(files[3].chown), []uint64{files[3].chown})
	f := files[4]
	s.want("data", s.log.Dependents(f.write), []uint64{f.write, f.chown, f.utimes})
	s.want("a creation", s.log.Dependents(f.create), []uint64{f.create, f.write, f.chown, f.utimes})
	s.want("the directory", len(s.log.Dependents(dir)), 81)
	s.want("taken away", len(s.log.Successors(files[10].create)), 40)

	// The refused record names the chown alone, though the file has other attributes too.
	n := NetEffect(s.log.Ops(s.log.Prefix(Limit{}).Seqs))
	i := slices.IndexFunc(n.Records, func(r cut.Record) bool { return r.Kind == cut.Attr && r.ID == 13 && r.Valid&cut.AttrUID != 0 })
	s.want("named", n.Ops[i], []uint64{files[3].chown})

	// A truncated temp file never gets its final name, nor does a tree with one in it.
	w := s.write(29, 4, "last")
	r := s.rename(29, 9, "19", rootID, "final")
	inTree := s.write(28, 4, "last")
	tree := s.rename(9, rootID, "tree", rootID, "tree.done")
	s.want("data before its rename", s.log.Dependents(w), []uint64{w, r})
	s.want("data before its tree's rename", s.log.Dependents(inTree), []uint64{inTree, tree})
	again := s.create(Create, 50, rootID, "tree")
	s.want("a binding", s.log.Dependents(tree), []uint64{tree, again})

	// After a loss the rest is still in order: what was ordered through the lost still is.
	chown := files[3].chown
	s.want("dropped", len(s.log.Drop(chown)), 1)
	s.want("ideal", slices.Contains(s.log.IdealOfOps(files[3].utimes).Seqs, files[3].create), true)
	s.want("gone", len(s.log.Ops(s.log.Touching(ByWrite, 13))), 3)
}

// In causal order what was read comes first: cc reads foo.c, which is pending, and
// writes foo.o elsewhere.
func TestCausal(t *testing.T) {
	for p, want := range map[Policy]int{Object: 2, Causal: 4} {
		s := newScript(t)
		s.log = New(p)
		s.log.Locate(s.parents)
		s.create(Mkdir, 2, rootID, "src")
		s.create(Mkdir, 3, rootID, "obj")
		s.commit(s.log.Prefix(Limit{}))
		s.create(Create, 10, 2, "foo.c")
		s.write(10, 0, "int x;")
		s.log.Observe(10)
		s.log.Observe(10)
		s.create(Create, 11, 3, "foo.o")
		s.write(11, 0, "object")
		s.want("ideal of foo.o", len(s.real(s.log.IdealOf(ByWrite, 11).Seqs)), want)
		if err := s.drain(); err != nil {
			t.Fatal(err)
		}
	}
}

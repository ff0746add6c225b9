package backlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"

	"echo9/cachefs/order"
	"echo9/internal/cut"
)

// kinds are those of operations that programs make.
var kinds = []order.Kind{
	order.Create, order.Mkdir, order.Symlink, order.Mknod, order.Link, order.Unlink, order.Rmdir, order.Rename, order.Write, order.Truncate,
	order.Allocate, order.Punch, order.SetAttr, order.SetXattr, order.RemoveXattr, order.Copy, order.Tmpfile, order.Release, order.Barrier,
}

// anOp draws an operation that an order.Log takes.
func anOp(t *rapid.T) *order.Op {
	id := func(what string) uint64 { return rapid.Uint64Range(1, 6).Draw(t, what) }
	name := func(what string) string { return rapid.SampledFrom([]string{"a", "b", "ü\n"}).Draw(t, what) }
	op := &order.Op{
		Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), UID: rapid.Uint32().Draw(t, "uid"), Owner: rapid.Uint64().Draw(t, "owner"), ID: id("id"),
	}
	switch op.Kind {
	case order.Create, order.Mkdir, order.Symlink, order.Mknod, order.Link, order.Unlink, order.Rmdir, order.Rename:
		op.Dir, op.Name = id("dir"), name("name")
		if op.Kind == order.Rename {
			op.Dir2, op.Name2 = id("dir2"), name("name2")
			op.Replaced = rapid.SampledFrom([]uint64{0, 7, 8}).Draw(t, "replaced")
			op.Exchange = op.Replaced != 0 && rapid.Bool().Draw(t, "exchange")
			op.IsDir, op.ReplacedIsDir = rapid.Bool().Draw(t, "isdir"), rapid.Bool().Draw(t, "replacedisdir")
		}
		op.Mode, op.UserID, op.GroupID, op.Rdev = rapid.Uint32().Draw(t, "mode"), rapid.Uint32().Draw(t, "user"), rapid.Uint32().Draw(t, "group"), rapid.Uint64().Draw(t, "rdev")
		op.Target = name("target")
		op.Last, op.Keep, op.Dead = rapid.Bool().Draw(t, "last"), rapid.Bool().Draw(t, "keep"), rapid.Bool().Draw(t, "dead")
	case order.SetXattr, order.RemoveXattr:
		op.Name = name("attribute")
	case order.Copy:
		op.Source, op.SourceOff = id("source"), rapid.Uint64().Draw(t, "sourceoff")
	}
	op.Off, op.Len, op.Size = rapid.Uint64Range(0, 8).Draw(t, "off"), rapid.Uint64().Draw(t, "len"), rapid.Uint64().Draw(t, "size")
	op.Bytes = rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "bytes")
	if op.Kind != order.Barrier {
		op.Attrs = []order.Attr{{ID: op.ID, Valid: cut.AttrSize | rapid.Uint32().Draw(t, "valid"), Size: op.Size, Mtime: rapid.Int64().Draw(t, "mtime")}}
	}
	if rapid.Bool().Draw(t, "reads") {
		op.Reads = []uint64{id("read")}
	}
	return op
}

// world is a Log, and all that was told of it.
type world struct {
	log     *order.Log
	records []Record
	cuts    uint64 // begun
}

func newWorld(p order.Policy) *world {
	w := &world{log: order.New(p)}
	w.records = []Record{{Kind: Opened, Session: &Session{Server: "s", Number: 7, Policy: p}}}
	w.log.Watch = func(op order.Op) {
		if op.Seq != 0 {
			op.Bytes = slices.Clone(op.Bytes)
			w.records = append(w.records, Record{Kind: Issued, Op: &op})
		}
	}
	w.log.Noted = func(n order.Note) { w.records = append(w.records, Of(n)) }
	return w
}

// step does something to the Log.
func (w *world) step(t *rapid.T) {
	flying := w.log.Cuts()
	switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
	case what < 6:
		w.log.Append(anOp(t))
	case what == 6:
		if seqs := w.log.Prefix(order.Limit{Ops: 3}).Seqs; len(seqs) > 0 {
			w.cuts++
			w.log.Begin(w.cuts, w.log.Take(seqs, 100, 1<<20))
		}
	case what == 7 && len(flying) > 0:
		w.log.Applied(flying[0])
	case what == 8 && len(flying) > 0:
		w.log.Returned(flying[len(flying)-1])
		w.cuts = flying[len(flying)-1] - 1
	case what == 9 && len(flying) == 0:
		if seqs := w.log.Since(0); len(seqs) > 0 {
			guilty := rapid.SampledFrom(seqs).Draw(t, "guilty")
			w.log.Drop(w.log.Dependents(guilty)...)
		}
	case what == 9:
		w.log.Observe(rapid.Uint64Range(1, 6).Draw(t, "seen"))
	}
}

// encode gives the file, and where each record ends.
func encode(records []Record) (text []byte, ends []int) {
	text = []byte(head)
	for i := range records {
		text = records[i].append(text)
		ends = append(ends, len(text))
	}
	return text, ends
}

// effect is what a Log has: its operations but writes, and what the writes leave.
func effect(l *order.Log) string {
	type at struct{ id, off uint64 }
	text, bytes := "", map[at]byte{}
	for op := range l.All() {
		o := *op
		o.Seq = 0
		switch {
		case op.OnlyOrders():
		case op.Kind == order.Write:
			for i, b := range op.Bytes {
				bytes[at{op.ID, op.Off + uint64(i)}] = b
			}
		default:
			text += fmt.Sprintf("%+v\n", o)
		}
	}
	return text + fmt.Sprint(bytes)
}

// TestRestored: what is read of a file is the Log of which it was told, with the same effect and in the same order.
func TestRestored(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]order.Policy{order.Object, order.Causal, order.Total}).Draw(t, "policy")
		w := newWorld(policy)
		for range rapid.IntRange(0, 25).Draw(t, "steps") {
			w.step(t)
		}
		text, _ := encode(w.records)
		s, n := Read(text)
		if n != len(text) {
			t.Fatalf("%d of %d bytes are read", n, len(text))
		}
		got, was := s.Log()
		if a, b := effect(w.log), effect(got); a != b {
			t.Fatalf("effect\n%s\nread:\n%s", a, b)
		}
		compare(t, w.log, got, was)
	})
}

// compare checks that for each operation of want, and what was merged into it, got has one of the same number, which comes after the same ones.
func compare(t *rapid.T, want, got *order.Log, was map[uint64]uint64) {
	is := map[uint64][]uint64{}
	for seq := range got.All() {
		is[was[seq.Seq]] = append(is[was[seq.Seq]], seq.Seq)
	}
	for op := range want.All() {
		if op.OnlyOrders() {
			continue
		}
		if len(is[op.Seq]) == 0 {
			t.Fatalf("operation %d, %v, is not there", op.Seq, op.Kind)
		}
		var before []uint64
		for _, seq := range got.IdealOfOps(is[op.Seq]...).Seqs {
			before = append(before, was[seq])
		}
		slices.Sort(before)
		before = slices.Compact(before)
		for _, f := range want.Flights() {
			if f.Cut != 0 {
				return // an ideal leaves out what is on its way, which waits in what is read
			}
		}
		if ideal := want.IdealOfOps(op.Seq).Seqs; !slices.Equal(ideal, before) {
			t.Fatalf("operation %d comes after %v, when read after %v", op.Seq, ideal, before)
		}
	}
}

// TestKilledAtEveryByte: a file that is cut off anywhere comes to what its whole records come to, and goes on behind them.
func TestKilledAtEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(order.Object)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			w.step(t)
		}
		text, ends := encode(w.records)
		want, whole := NewState(), 0
		for n := len(head); n <= len(text); n++ {
			for whole < len(ends) && ends[whole] <= n {
				want.Apply(&w.records[whole])
				whole++
			}
			got, read := Read(text[:n])
			if end := append([]int{len(head)}, ends...)[whole]; read != end {
				t.Fatalf("of %d bytes %d are read, not %d", n, read, end)
			}
			if a, b := summary(want), summary(got); a != b {
				t.Fatalf("of %d bytes\n%s\nread:\n%s", n, a, b)
			}
		}
	})
}

func summary(s *State) string {
	text := fmt.Sprintf("%v %v %v %v", s.Session, s.Ranges, s.Flights, s.Lost)
	for _, op := range s.Ops {
		o := *op
		o.Writes = nil
		text += fmt.Sprintf("\n%d %+v %q", o.Seq, o, o.Bytes)
	}
	return text
}

// TestDamage: a byte that is not what it was ends the reading before its record, wherever it is.
func TestDamage(t *testing.T) {
	w := newWorld(order.Object)
	for i := range 5 {
		w.log.Append(&order.Op{Kind: order.Create, ID: uint64(10 + i), Dir: 1, Name: fmt.Sprint(i)})
	}
	text, ends := encode(w.records)
	for i := range text {
		bad := slices.Clone(text)
		bad[i] ^= 0x40
		_, n := Read(bad)
		k, _ := slices.BinarySearch(ends, i+1)
		want := append([]int{len(head)}, ends...)[k]
		if i < len(head) {
			want = 0
		}
		if n != want {
			t.Errorf("byte %d is damaged: %d bytes are read, not %d", i, n, want)
		}
	}
}

// TestApplied: what the server knows of cuts decides about those on their way.
func TestApplied(t *testing.T) {
	w := newWorld(order.Object)
	for i := range 4 {
		w.log.Append(&order.Op{Kind: order.SetAttr, ID: uint64(10 + i)})
	}
	w.log.Begin(1, []uint64{1, 2})
	w.log.Begin(2, []uint64{3})
	text, _ := encode(w.records)
	for last, want := range map[uint64]int{0: 4, 1: 2, 2: 1} {
		s, _ := Read(text)
		s.Known(last)
		if len(s.Ops) != want || len(s.Flights) != 0 {
			t.Errorf("cut %d was applied: %d operations are left, not %d", last, len(s.Ops), want)
		}
	}
}

// TestAnotherSession: what a session had is not that of the next one.
func TestAnotherSession(t *testing.T) {
	w := newWorld(order.Object)
	w.log.Append(&order.Op{Kind: order.SetAttr, ID: 10})
	w.records = append(w.records, Record{Kind: Opened, Session: &Session{Server: "s", Number: 7, Epoch: 2}})
	text, _ := encode(w.records)
	if s, _ := Read(text); s.Empty() || s.Session.Epoch != 2 {
		t.Errorf("the session in its next epoch: %+v", s)
	}
	w.records = append(w.records, Record{Kind: Opened, Session: &Session{Server: "s", Number: 8}})
	text, _ = encode(w.records)
	if s, _ := Read(text); !s.Empty() || s.Session.Number != 8 {
		t.Errorf("the next session: %+v", s)
	}
}

func open(t *testing.T, dir string) (*Store, *State) {
	t.Helper()
	s, state, err := Open(dir, "server", "", "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, state
}

func issued(i int) Record {
	return Record{Kind: Issued, Op: &order.Op{Seq: uint64(i), Kind: order.SetAttr, ID: uint64(i)}}
}

// TestStore: what was flushed is there for the next one, a torn end goes, and a new file takes the place of the old one.
func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	s, state := open(t, dir)
	if !state.Empty() || state.Session != nil {
		t.Errorf("a new backlog has %+v", state)
	}
	if _, _, err := Open(dir, "server", "", "/mnt"); !errors.Is(err, ErrBusy) {
		t.Errorf("a second process: %v", err)
	}
	s.Append(Record{Kind: Opened, Session: &Session{Number: 1}}, issued(1), issued(2))
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Append(issued(3)) // never flushed
	text, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if got, n := Read(text); n != len(text) || len(got.Ops) != 2 {
		t.Errorf("in the file are %d operations", len(got.Ops))
	}
	s.lock.Close() // as if the process had been killed
	if err := os.WriteFile(s.Path(), append(text, 1, 2, 3), 0o600); err != nil {
		t.Fatal(err)
	}

	s, state = open(t, dir)
	if len(state.Ops) != 2 {
		t.Errorf("%d operations are read", len(state.Ops))
	}
	if st, err := os.Stat(s.Path()); err != nil || st.Mode().Perm() != 0o600 || st.Size() != int64(len(text)) {
		t.Errorf("the file: %v, %v", st, err)
	}
	s.Append(issued(4))
	var mu sync.Mutex
	err = s.Rewrite(&mu, func() []Record {
		return []Record{{Kind: Opened, Session: &Session{Number: 1}}, issued(2), issued(4)}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Append(issued(5))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, state = open(t, dir)
	var seqs []uint64
	for _, op := range state.Ops {
		seqs = append(seqs, op.Seq)
	}
	if !reflect.DeepEqual(seqs, []uint64{2, 4, 5}) {
		t.Errorf("after a new file: %v", seqs)
	}
	if err := s.Clear(); err != nil {
		t.Fatal(err)
	}
	s.Append(Record{Kind: Opened, Session: &Session{Number: 2}}, issued(1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, state = open(t, dir); state.Session.Number != 2 || len(state.Ops) != 1 {
		t.Errorf("after Clear: %+v", state)
	}
}

// TestFailingStore: when the file cannot be written Flush says so, until a new one was.
func TestFailingStore(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	s.Append(issued(1))
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	whole := s.file
	bad, err := os.Open(s.Path()) // for reading only
	if err != nil {
		t.Fatal(err)
	}
	s.file = bad
	s.Append(issued(2))
	if err := s.Flush(); err == nil {
		t.Fatal("what cannot be written is flushed")
	}
	whole.Close()
	s.Append(issued(3))
	if err := s.Flush(); err == nil {
		t.Fatal("a backlog with a hole goes on")
	}
	var mu sync.Mutex
	if err := s.Rewrite(&mu, func() []Record { return []Record{issued(1), issued(2), issued(3)} }); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(s.Path())
	if got, _ := Read(text); len(got.Ops) != 3 {
		t.Errorf("%d operations are in the new file", len(got.Ops))
	}
}

// FuzzRead: no file makes the reader do anything but stop.
func FuzzRead(f *testing.F) {
	w := newWorld(order.Object)
	w.log.Append(&order.Op{Kind: order.Create, ID: 10, Dir: 1, Name: "n"})
	text, _ := encode(w.records)
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, n := Read(b); n > len(b) {
			t.Errorf("%d of %d bytes are read", n, len(b))
		}
	})
}

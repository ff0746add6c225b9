package order

import (
	"fmt"
	"iter"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"
)

type rapidChooser struct{ t *rapid.T }

func (r rapidChooser) Intn(n int) int { return rapid.IntRange(0, n-1).Draw(r.t, "n") }

// real drops from seqs what only orders: the model does not count it.
func (w *world) real(seqs []uint64) []uint64 {
	var s []uint64
	for _, q := range seqs {
		if !w.log.node(q).op.Kind.orders() {
			s = append(s, q)
		}
	}
	return s
}

// agree compares what the log says of one object with the model.
func (w *world) agree(id uint64) error {
	t := Touch(1 + w.c.Intn(3))
	got, want := w.log.Touching(t, id), w.naive.touching(t, id)
	if !slices.Equal(got, want) {
		return fmt.Errorf("touching %d of %d: %v, want %v", t, id, got, want)
	}
	ideal := w.log.IdealOf(t, id)
	all := w.naive.ideal(want)
	flying := func(s uint64) bool { return w.log.node(s).state == inflight }
	after := uint64(0)
	for _, s := range all {
		after = max(after, w.log.node(s).cut)
	}
	rest := slices.DeleteFunc(slices.Clone(all), flying)
	if !slices.Equal(w.real(ideal.Seqs), rest) {
		return fmt.Errorf("ideal of %d of %d: %v, want %v", t, id, ideal.Seqs, rest)
	}
	// What only orders may have gone with a later cut.
	onlyOrders := slices.ContainsFunc(slices.Concat(w.log.orders, w.log.voids), func(n *node) bool { return n.state == inflight })
	if ideal.After != after && !(onlyOrders && ideal.After > after) {
		return fmt.Errorf("ideal of %d of %d after cut %d, want %d", t, id, ideal.After, after)
	}
	var below []uint64
	for _, o := range w.ids(func(uint64, *inode) bool { return true }) {
		if o != id && w.client.isBelow(o, id) && len(w.naive.touching(ByWrite, o)) > 0 {
			below = append(below, o)
		}
	}
	if got := w.log.Below(id); w.client[id] != nil && !slices.Equal(got, below) {
		return fmt.Errorf("below %d: %v, want %v", id, got, below)
	}
	if len(want) > 0 {
		one := want[w.c.Intn(len(want)):][:1]
		if got, want := w.real(w.closure(one[0])), w.naive.ideal(one); !slices.Equal(got, want) {
			return fmt.Errorf("all predecessors of %v: %v, want %v", one, got, want)
		}
		one = want[w.c.Intn(len(want)):][:1]
		if got, want := w.real(w.log.Successors(one...)), w.naive.successors(one); !slices.Equal(got, want) {
			return fmt.Errorf("successors of %v: %v, want %v", one, got, want)
		}
		if got, want := w.real(w.log.Dependents(one...)), w.naive.dependents(one); !slices.Equal(got, want) {
			return fmt.Errorf("dependents of %v: %v, want %v", one, got, want)
		}
	}
	return w.counted()
}

// counted compares the counts with the rows.
func (w *world) counted() error {
	var t Totals
	objects := map[uint64]int{}
	for e := range w.log.Snapshot().All() {
		if e.Op.Kind.orders() {
			continue
		}
		if t.Ops == 0 {
			t.Oldest = e.Op.At
		}
		t.Ops++
		t.Bytes += e.Op.data()
		if e.Cut != 0 {
			t.InFlight++
		}
		for _, id := range e.Op.Writes {
			if e.Op.Kind != Release {
				objects[id]++
			}
		}
	}
	if got := w.log.Totals(); got != t {
		return fmt.Errorf("totals %+v, rows %+v", got, t)
	}
	for _, f := range w.flights {
		var rows []uint64
		for e := range w.log.Snapshot().All() {
			if e.Cut == f.number && !e.Op.Kind.orders() {
				rows = append(rows, e.Op.Seq)
			}
		}
		if !slices.Equal(rows, w.real(f.seqs)) {
			return fmt.Errorf("cut %d has the rows %v of the operations %v", f.number, rows, f.seqs)
		}
	}
	for id := range w.log.Objects() {
		if n, _ := w.log.Object(id); n != objects[id] {
			return fmt.Errorf("object %d: %d operations, rows %d", id, n, objects[id])
		}
		delete(objects, id)
	}
	if len(objects) > 0 {
		return fmt.Errorf("objects not listed: %v", objects)
	}
	return nil
}

// lose1 loses a random operation and what goes with it. The client starts again from
// what the server has and the survivors; with refit those that no longer apply are lost too.
func (w *world) lose1(with func(...uint64) []uint64, refit bool) error {
	for len(w.flights) > 0 {
		w.bounce()
	}
	all := w.naive.seqs(func(int) bool { return true })
	if len(all) == 0 {
		return nil
	}
	lost := all[w.c.Intn(len(all))]
	for lost != 0 {
		gone := with(lost)
		w.naive.drop(gone)
		for _, op := range w.log.Drop(gone...) {
			if !slices.Contains(gone, op.Seq) {
				return fmt.Errorf("operation %d is dropped unasked", op.Seq)
			}
		}
		w.client, lost = w.oneByOn.clone(), 0
		defer func() {
			for _, id := range slices.Collect(maps.Keys(w.log.places)) {
				w.log.Moved(id)
			}
		}()
		for i := range w.naive.ops {
			o := &w.naive.ops[i]
			if !o.counts() {
				continue
			}
			// A removal that takes the last name now, of a file open here, keeps it.
			if id := o.op.Unnames(); id != 0 && !o.op.Keep && w.client.nlink(id) == 1 && w.client[id].kept {
				keep := func(op *Op) { op.Last, op.Keep, op.Dead = true, true, false }
				keep(o.op)
				w.log.Amend(o.seq, keep)
			}
			again := w.client.clone()
			if err := again.do(o.op); err != nil {
				if !refit {
					return fmt.Errorf("after a loss operation %d is no longer legal: %w", o.seq, err)
				}
				lost = o.seq
				break
			}
			w.client = again
		}
	}
	return nil
}

// run goes through a random history of so many steps.
func (w *world) run(steps int) error {
	for range steps {
		var err error
		anything := func() uint64 { return uint64(w.c.Intn(int(w.nextID))) }
		switch w.c.Intn(21) {
		case 20:
			err = w.agree(rootID)
		case 19:
			err = w.send(w.log.IdealOf(ByWrite|ByRead, anything()), 1+w.c.Intn(20))
		case 1:
			err = w.send(w.log.Prefix(Limit{Ops: 1 + w.c.Intn(10), Bytes: int64(w.c.Intn(50)), Before: w.now - int64(w.c.Intn(5))}), 0)
		case 2:
			err = w.arrive()
		case 3:
			w.bounce()
		case 4:
			err = w.agree(anything())
		case 5:
			id := anything()
			w.naive.observe(id)
			w.log.Observe(id)
			w.seen["observation"]++
		case 6:
			err = w.lose1(w.log.Successors, false)
		case 7:
			err = w.lose1(w.log.Dependents, true)
		default:
			if op := w.gen(); op != nil {
				err = w.issue(op)
			}
		}
		if err != nil {
			return err
		}
	}
	return w.drain()
}

// Random histories of all kinds of operations, cut at random ideals: the log agrees
// with the definition of the order, and servers that apply net effects with those
// that apply operations.
func TestRandomHistories(t *testing.T) {
	for _, p := range []Policy{Object, Causal, Total} {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			seen := map[string]int{}
			// Seeded histories are longer than those that can be made shorter when they fail.
			for seed := range int64(150) {
				w := newWorld(rand.New(rand.NewSource(-seed)), p)
				if err := w.run(120); err != nil {
					t.Fatalf("seed %d: %v", -seed, err)
				}
				for what, n := range w.seen {
					seen[what] += n
				}
			}
			rapid.Check(t, func(t *rapid.T) {
				if err := newWorld(rapidChooser{t}, p).run(60); err != nil {
					t.Fatal(err)
				}
			})
			for _, what := range everything() {
				if seen[what] < 10 {
					t.Errorf("%s: only %d times", what, seen[what])
				}
			}
		})
	}
}

// everything that histories must have had.
func everything() []string {
	all := []string{"rename replacing", "rename onto nothing", "exchange", "exchange of a directory", "rename of a directory",
		"rename of a directory elsewhere", "rename of a directory with pending objects below", "link of a nameless file",
		"removal of an open file", "removal of a dead file", "observation"}
	for k := Create; k <= Barrier; k++ {
		all = append(all, k.String())
	}
	return all
}

// note counts what was issued.
func (w *world) note(op *Op) {
	w.seen[op.Kind.String()]++
	for what, is := range map[string]bool{
		"rename replacing":                                 op.Kind == Rename && op.Replaced != 0 && !op.Exchange,
		"rename onto nothing":                              op.Kind == Rename && op.Replaced == 0,
		"exchange":                                         op.Exchange,
		"exchange of a directory":                          op.Exchange && (op.IsDir || op.ReplacedIsDir),
		"rename of a directory":                            op.Kind == Rename && op.IsDir,
		"rename of a directory elsewhere":                  op.movesDir(),
		"rename of a directory with pending objects below": op.Kind == Rename && op.IsDir && len(w.log.Below(op.ID)) > 0,
		"link of a nameless file":                          op.Kind == Link && w.client.nlink(op.ID) == 1,
		"removal of an open file":                          op.Keep,
		"removal of a dead file":                           op.Dead,
	} {
		if is {
			w.seen[what]++
		}
	}
}

// closure gives seq and all that precedes it, as the log tells of each operation.
func (w *world) closure(seq uint64) []uint64 {
	all := []uint64{seq}
	for i := 0; i < len(all); i++ {
		for _, p := range w.log.Predecessors(all[i]) {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return sortedSet(all)
}

// Each ideal of small histories, not only those that a log would choose.
func TestEveryIdeal(t *testing.T) {
	ideals := 0
	for seed := range 150 {
		w := smallHistory(t, seed, nil)
		for seqs := range w.ideals() {
			ideals++
			one, net := w.oneByOn.clone(), w.net.clone()
			for _, o := range w.naive.ops {
				if o.counts() && slices.Contains(seqs, o.seq) {
					if err := one.do(o.op); err != nil {
						t.Fatalf("seed %d, ideal %v is not legal: %v", seed, seqs, err)
					}
				}
			}
			for rest := seqs; len(rest) > 0; {
				piece := w.log.Take(rest, 0, 0)
				rest = rest[len(piece):]
				if err := net.apply(NetEffect(w.log.Ops(piece)).Records); err != nil {
					t.Fatalf("seed %d, ideal %v: %v", seed, seqs, err)
				}
			}
			if d := diff(one, net); d != "" {
				t.Fatalf("seed %d, ideal %v: %s", seed, seqs, d)
			}
		}
	}
	t.Logf("%d ideals", ideals)
	if ideals < 2000 {
		t.Fatalf("only %d ideals were tried", ideals)
	}
}

// smallHistory is a world with a few operations that are not sent. The same seed gives the same.
func smallHistory(t *testing.T, seed int, h *hosts) *world {
	t.Helper()
	w := newWorld(rand.New(rand.NewSource(int64(seed))), Object)
	w.hosts = h
	if err := w.run(25); err != nil {
		t.Fatal(err)
	}
	start := len(w.naive.ops)
	for len(w.naive.ops) < start+8 {
		if op := w.gen(); op != nil {
			if err := w.issue(op); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

// ideals are all ideals of what is pending but the empty one.
func (w *world) ideals() iter.Seq[[]uint64] {
	return func(yield func([]uint64) bool) {
		all := w.naive.seqs(func(int) bool { return true })
		for subset := range 1 << len(all) {
			var seqs []uint64
			for i, s := range all {
				if subset>>i&1 != 0 {
					seqs = append(seqs, s)
				}
			}
			if len(seqs) > 0 && slices.Equal(w.naive.ideal(seqs), seqs) && !yield(seqs) {
				return
			}
		}
	}
}

// breaks runs seeded histories until one fails.
func breaks(seeds int, p Policy, prepare func(w *world)) error {
	for seed := range seeds {
		w := newWorld(rand.New(rand.NewSource(int64(seed))), p)
		prepare(w)
		if err := w.run(120); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
	}
	return nil
}

// mutantSeeds is how many histories a mutant must not survive, and no mutant must.
const mutantSeeds = 1000

func TestMutantsAreCaught(t *testing.T) {
	for _, p := range []Policy{Object, Causal, Total} {
		if err := breaks(300, p, func(*world) {}); err != nil {
			t.Fatalf("policy %d without a mutant: %v", p, err)
		}
	}
	log := func(m mutant) func(w *world) { return func(w *world) { w.log.mutant = m } }
	net := func(m netMutant) func(w *world) { return func(w *world) { w.mutant = m } }
	for _, m := range []struct {
		name    string
		policy  Policy
		prepare func(w *world)
	}{
		{"read operands do not order", Object, log(ignoreReads)},
		{"barriers do not order", Object, log(ignoreBarrier)},
		{"what was read does not order", Causal, log(ignoreObserve)},
		{"a total order that is none", Total, log(ignoreTotal)},
		{"writes are merged over what is between", Object, log(mergeAnyway)},
		{"a rename before what was written", Object, log(renameIgnoresFile)},
		{"what was moved is not found below", Object, log(forgetBelow)},
		{"what needs the lost stays", Object, log(narrowLoss)},
		{"Before of the last operation", Object, net(lastBefore)},
		{"earlier bytes over later ones", Object, net(wrongOverlay)},
		{"content goes to the end of truncated layers", Object, net(uncutLayers)},
		{"vanished objects are sent", Object, net(vanishedStay)},
		{"of several values of an attribute the first", Object, net(firstAttr)},
		{"capabilities stay when the file is written to", Object, net(keepCapability)},
	} {
		t.Run(m.name, func(t *testing.T) {
			err := breaks(mutantSeeds, m.policy, m.prepare)
			if err == nil {
				t.Fatalf("not noticed in %d histories", mutantSeeds)
			}
			t.Log(strings.SplitN(err.Error(), "\n", 2)[0])
		})
	}
}

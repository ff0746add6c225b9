package journal

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"echo9/internal/cut"
)

// errDied: the recovery was killed.
var errDied = errors.New("dead")

// recovering carries out a plan on a host in memory, in the way of package dirfs.
type recovering struct {
	h     *hostTree
	log   []Entry
	plan  *Plan
	seen  *Seen
	m     mutant
	steps int // left, until it dies
	names int
	place map[uint64]string
	left  []Left
}

func (r *recovering) step() {
	if r.steps == 0 {
		panic(errDied)
	}
	r.steps--
	r.h.now += second / 100
}

// recoverHost does a recovery, which dies after a number of steps, and gives the log as it is then.
func recoverHost(h *hostTree, log []Entry, m mutant, steps int) (r *recovering, err error) {
	r = &recovering{h: h, log: slices.Clone(log), m: m, steps: steps}
	defer func() {
		if x := recover(); x != nil {
			if x != errDied {
				panic(x)
			}
			err = errDied
		}
	}()
	r.run()
	return r, nil
}

func (r *recovering) run() {
	r.plan = reduce(r.log, r.m)
	r.look()
	w := r.plan.resolve(r.seen, r.m)
	r.left = w.Left
	if len(w.Make)+len(w.Bind)+len(w.Set) == 0 {
		return
	}
	w.Redo.Time = r.h.now
	for _, g := range w.Make {
		r.step()
		ino := r.h.make(g.Type, 0o600)
		r.place[g.ID] = r.tmp()
		r.h.set(tmpIno, r.place[g.ID], ino)
		w.Redo.Made = append(w.Redo.Made, Made{g.ID, Ident{Ino: uint64(ino), Tag: uint64(ino) * 7}})
	}
	r.step()
	r.log = append(r.log, Entry{LSN: LSN(len(r.log) + 1), Redo: &w.Redo})
	r.plan.Redone(&w.Redo)
	for _, g := range w.Set {
		if g.Content {
			r.content(g)
		}
	}
	r.bind(w)
	for _, g := range w.Set {
		if g.Attr.Valid&cut.AttrMode != 0 {
			r.step()
			n := r.h.in[r.find(g.ID)]
			n.mode = g.Attr.Mode
			r.h.touch(r.find(g.ID))
		}
	}
}

func (r *recovering) tmp() string {
	for {
		r.names++
		if name := fmt.Sprint("r", r.names); r.h.in[tmpIno].names[name] == 0 {
			return name
		}
	}
}

func (r *recovering) find(id uint64) int {
	if id == rootID {
		return rootID
	}
	for _, ident := range r.plan.Goal(id).Idents {
		if r.h.in[int(ident.Ino)] != nil {
			return int(ident.Ino)
		}
	}
	return 0
}

func (r *recovering) look() {
	r.seen = &Seen{Objects: map[uint64]SeenObject{}, Slots: map[SlotKey]uint64{}}
	r.place = map[uint64]string{}
	for _, g := range r.plan.Goals {
		ino := r.find(g.ID)
		if ino == 0 {
			continue
		}
		n := r.h.in[ino]
		o := SeenObject{Ctime: n.ctime}
		for name, i := range r.h.in[tmpIno].names {
			if i == ino {
				o.Private = true
				r.place[g.ID] = name
			}
		}
		if r.plan.Emptied(g) {
			o.Names = slices.Sorted(maps.Keys(n.names))
		}
		r.seen.Objects[g.ID] = o
	}
	for _, s := range r.plan.Slots {
		dir := r.find(s.Dir)
		if dir == 0 {
			continue
		}
		now := r.h.in[dir].names[s.Name]
		id := uint64(0)
		if now != 0 {
			if id = r.plan.Identify(uint64(now), uint64(now)*7); id == 0 {
				id = Somebody
			}
		}
		r.seen.Slots[s.SlotKey] = id
	}
}

func (r *recovering) content(g *Goal) {
	ino := r.find(g.ID)
	n := r.h.in[ino]
	do := func(rec *cut.Record) {
		r.step()
		n.data = lay(n.data, rec)
		r.h.touch(ino)
	}
	if uint64(len(n.data)) > g.Truncate {
		do(&cut.Record{Kind: cut.Truncate, Size: g.Truncate})
	}
	for i := range g.Bytes {
		do(&g.Bytes[i])
	}
	do(&cut.Record{Kind: cut.Attr, Size: g.Size})
}

func (r *recovering) takeOut(s *Slot, id uint64) {
	r.step()
	to := r.tmp()
	r.h.rename(r.find(s.Dir), s.Name, tmpIno, to, false)
	r.place[id] = to
}

func (r *recovering) bind(w *Work) {
	now := map[SlotKey]uint64{}
	uses := map[uint64]int{}
	for _, s := range w.Bind {
		uses[s.Final]++
		id := r.seen.Slots[s.SlotKey]
		if now[s.SlotKey] = id; id != 0 && r.plan.Goal(id).Dir() {
			r.takeOut(s, id)
			now[s.SlotKey] = 0
		}
	}
	for _, s := range w.Bind {
		old := now[s.SlotKey]
		if s.Final == 0 {
			if old != 0 {
				r.takeOut(s, old)
			}
			continue
		}
		uses[s.Final]--
		from, ok := r.place[s.Final]
		if !ok || uses[s.Final] > 0 {
			r.step()
			from = r.tmp()
			r.h.set(tmpIno, from, r.find(s.Final))
		} else {
			delete(r.place, s.Final)
		}
		r.step()
		if !r.h.rename(tmpIno, from, r.find(s.Dir), s.Name, old != 0) {
			panic("a directory would contain itself")
		}
		if old != 0 {
			r.place[old] = from
		}
	}
}

// empty is the end of a recovery: the log is empty, the private directory, too.
func (r *recovering) empty() {
	r.h.in[tmpIno].names = map[string]int{}
	r.h.sweep()
}

// crash gives what a restart may find at a moment: after a kill, or a power failure.
func crash(r *rand.Rand, s *server, at int, power bool) (*hostTree, []Entry) {
	m := &s.moments[at]
	if !power {
		return m.h.clone(), s.log[:m.log]
	}
	log := s.log[:m.durable+r.IntN(m.log-m.durable+1)]
	from := min(m.disk, at)
	meta := from + r.IntN(at-from+1)
	h := s.moments[meta].h.clone()
	for _, ino := range slices.Sorted(maps.Keys(h.in)) {
		n := h.in[ino]
		j := from + r.IntN(at-from+1)
		if other := s.moments[j].h.in[ino]; other != nil {
			n.data = other.data
		} else if s.moments[from].h.in[ino] == nil && r.IntN(2) == 0 {
			n.data = strings.Repeat("\x00", len(n.data))
		}
	}
	h.sweep()
	h.now, h.next = m.h.now+5*second, s.h.next // no inode is taken for one that was lost
	return h, log
}

// story is one run: a few cuts with others' changes between them, and the end of the server in the middle.
type story struct {
	seed   uint64
	m      mutant
	single bool // records are replayed one by one
}

// somebody changes something, past the server, and has it on the disk at once.
func somebody(r *rand.Rand, s *server) {
	plain := r.IntN(2) == 0 // through the server
	after := s.t.clone()
	if r.IntN(2) == 0 {
		f := pick(r, after.sortedIDs(typeFile))
		if f == 0 {
			return
		}
		if after[f].mode ^= 0o4; r.IntN(2) == 0 {
			after[f].data = "mine" + after[f].data
		}
	} else {
		k := SlotKey{pick(r, after.sortedIDs(typeDir)), pick(r, names)}
		old := after[k.Dir].names[k.Name]
		if old != 0 && after[old].typ == typeDir {
			return
		}
		if delete(after[k.Dir].names, k.Name); old == 0 || r.IntN(2) == 0 {
			id := uint64(s.h.next + 1)
			after[id] = &object{typ: typeFile, mode: 0o600, data: "mine", names: map[string]uint64{}}
			after[k.Dir].names[k.Name] = id
		}
	}
	s.h.now += second
	s.durable = len(s.log) // a note is on the disk after a twentieth of a second
	var touched []uint64
	for _, rec := range after.diff(r, s.t) {
		touched = append(touched, rec.ID, rec.Dir, rec.Before)
	}
	if plain {
		s.settle(touched)
		s.durable = len(s.log)
	}
	for _, rec := range after.diff(r, s.t) {
		switch rec.Kind {
		case cut.Create:
			s.inos[rec.ID] = s.h.make(rec.Mode&typeBits, rec.Mode&0o7777)
		}
	}
	for _, rec := range after.diff(r, s.t) {
		n := s.h.in[s.inos[rec.ID]]
		switch {
		case rec.Kind == cut.Bind:
			s.h.set(s.inos[rec.Dir], rec.Name, s.inos[rec.ID])
		case rec.Kind == cut.Attr && rec.Valid&cut.AttrMode != 0:
			n.mode = rec.Mode
			s.h.touch(s.inos[rec.ID])
		case rec.Kind == cut.Create:
		default:
			n.data = lay(n.data, &rec)
			s.h.touch(s.inos[rec.ID])
		}
	}
	after.sweep()
	s.h.sweep()
	s.t = after
	s.sync()
	s.mark("somebody else")
}

// later changes something after the server's end, past all windows; what is then to be seen.
func later(r *rand.Rand, s *server, h *hostTree, t tree) tree {
	t = t.clone()
	h.now += 60 * second
	switch r.IntN(3) {
	case 0: // another name
		k := SlotKey{pick(r, t.sortedIDs(typeDir)), "z"}
		if h.in[s.inos[k.Dir]] == nil || h.in[s.inos[k.Dir]].typ != typeDir {
			return t
		}
		ino := h.make(typeFile, 0o600)
		h.set(s.inos[k.Dir], k.Name, ino)
		t[uint64(ino)] = &object{typ: typeFile, mode: 0o600, names: map[string]uint64{}}
		t[k.Dir].names[k.Name] = uint64(ino)
	case 1: // a file in place
		f := pick(r, t.sortedIDs(typeFile))
		n := h.in[s.inos[f]]
		if f == 0 || n == nil {
			return t
		}
		n.data, n.mode = "later"+n.data, 0o604
		h.touch(s.inos[f])
		t[f].data, t[f].mode = n.data, n.mode
	case 2: // a rename into place
		k := pick(r, t.slots())
		if k.Name == "" || t[t[k.Dir].names[k.Name]].typ == typeDir {
			return t
		}
		dir := h.in[s.inos[k.Dir]]
		// Only where the file is already that is to be there, else it would have nowhere to go; and that is to be
		// nowhere else, where it might not be yet.
		f := t[k.Dir].names[k.Name]
		if dir == nil || dir.names[k.Name] != s.inos[f] || len(t.namesOf(f)) > 1 {
			return t
		}
		ino := h.make(typeFile, 0o600)
		h.set(s.inos[k.Dir], k.Name, ino)
		h.sweep()
		t[uint64(ino)] = &object{typ: typeFile, mode: 0o600, names: map[string]uint64{}}
		t[k.Dir].names[k.Name] = uint64(ino)
		t.sweep()
	}
	return t
}

func (st *story) run() error {
	r := rand.New(rand.NewPCG(st.seed, 4))
	s := newServer(r)
	for range 1 + r.IntN(4) {
		s.cut(r.IntN(5) == 0)
		if r.IntN(3) == 0 {
			somebody(r, s)
		}
	}
	at, power := r.IntN(len(s.moments)), r.IntN(2) == 0
	h, log := crash(r, s, at, power)
	want := s.moments[at].before
	if c := s.moments[at].cut; c >= 0 && c < len(log) {
		want = s.moments[at].after
	}
	if !power && r.IntN(2) == 0 {
		want = later(r, s, h, want)
	}
	if st.single {
		st.oneByOne(h, log)
		return compare(h, want)
	}
	deaths := 0
	for {
		steps := -1
		if deaths < 3 && r.IntN(2) == 0 {
			steps = r.IntN(12)
		}
		rec, err := recoverHost(h, log, st.m, steps)
		if err == nil {
			rec.empty()
			break
		}
		deaths++
		log = rec.log
		if r.IntN(2) == 0 {
			h.now += 20 * second
		}
	}
	if err := compare(h, want); err != nil {
		what := "killed"
		if power {
			what = "power failed"
		}
		return fmt.Errorf("seed %d, %s at moment %d of %d (%s), %d deaths of the recovery: %w", st.seed, what, at, len(s.moments), s.moments[at].what, deaths, err)
	}
	return nil
}

// oneByOne is the way that is wrong: every cut is replayed by itself.
func (st *story) oneByOne(h *hostTree, log []Entry) {
	for i := range log {
		if log[i].Cut == nil {
			continue
		}
		defer func() { _ = recover() }()
		if r, err := recoverHost(h, log[i:i+1], noMutant, -1); err == nil {
			r.h.in[tmpIno].names = map[string]int{}
		}
	}
	h.sweep()
}

var stories = flag.Int("stories", 4000, "how many recoveries of random worlds")

func TestRecoveryOfSmallWorlds(t *testing.T) {
	n := *stories
	if os.Getenv("ECHO9_FULL") != "" {
		n *= 100
	}
	for seed := range n {
		if err := (&story{seed: uint64(seed)}).run(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryRuleIsNeeded(t *testing.T) {
	for _, m := range []struct {
		name string
		st   story
	}{
		{"settled objects still count", story{m: noSettled}},
		{"names are bound whoever has been in the directory", story{m: noNotes}},
		{"a refused cut is as if it had not been", story{m: noInverse}},
		{"a refused cut is as if it had not been refused", story{m: keepCut}},
		{"whatever its ctime, an object is ours", story{m: noCtimes}},
		{"what an earlier recovery did is somebody else's", story{m: noRedo}},
		{"replayed one by one", story{single: true}},
	} {
		found := -1
		for seed := range 20 * *stories {
			st := m.st
			st.seed = uint64(seed)
			if func() (err error) {
				defer func() {
					if x := recover(); x != nil {
						err = fmt.Errorf("%v", x)
					}
				}()
				return st.run()
			}() != nil {
				found = seed
				break
			}
		}
		if found < 0 {
			t.Errorf("mutant %q is not noticed", m.name)
		} else {
			t.Logf("mutant %q is noticed by seed %d", m.name, found)
		}
	}
}

// What would be lost because somebody took the name that it was to get stays where it is.
func TestNothingIsLostForWantOfAName(t *testing.T) {
	bind := func(name string, id, before uint64) cut.Record {
		return cut.Record{Kind: cut.Bind, Dir: rootID, Name: name, ID: id, Before: before}
	}
	log := []Entry{{LSN: 1, Cut: &Cut{
		Records: []cut.Record{bind("a", 0, 7), bind("b", 7, 0)},
		Objects: []Object{{ID: rootID, Before: Attrs{Mode: typeDir}}, {ID: 7, Before: Attrs{Mode: typeFile}}},
	}}}
	seen := &Seen{
		Objects: map[uint64]SeenObject{rootID: {}, 7: {}},
		Slots:   map[SlotKey]uint64{{rootID, "a"}: 7, {rootID, "b"}: Somebody},
	}
	p := Reduce(log)
	if w := p.Resolve(seen); len(w.Bind) != 0 || len(w.Left) != 2 {
		t.Errorf("bound %v, left %v", w.Bind, w.Left)
	}
	if w := p.resolve(seen, noKeeping); len(w.Bind) == 0 {
		t.Error("the mutant is not noticed")
	}
}

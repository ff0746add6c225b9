package journal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"echo9/internal/cut"
)

// moment is the world after one step.
type moment struct {
	what          string
	h             *hostTree
	log, durable  int  // entries written, and those of them that are on the disk for sure
	cut           int  // index of the entry of the cut under way, -1
	before, after tree // what clients are to see without it, and with it
	disk          int  // the disk is not behind this moment
}

// server is a server in memory that stages, logs, applies and notes cuts, in steps.
type server struct {
	r       *rand.Rand
	h       *hostTree
	t       tree
	log     []Entry
	durable int
	disk    int
	inos    map[uint64]int
	inLog   map[uint64]int64 // noted ctimes of objects with entries
	moments []moment
	nextID  uint64
	serial  int
	under   int
	after   tree
}

func newServer(r *rand.Rand) *server {
	s := &server{
		r: r, h: newHost(), inos: map[uint64]int{rootID: rootID}, inLog: map[uint64]int64{}, nextID: 1000, under: -1,
		t: tree{rootID: &object{typ: typeDir, mode: 0o755, names: map[string]uint64{}}},
	}
	// Something to begin with, durable.
	for _, name := range names[:1+r.IntN(3)] {
		typ := pick(r, []uint32{typeFile, typeDir})
		mode := uint32(0o600)
		if typ == typeDir {
			mode = 0o700
		}
		ino := s.h.make(typ, mode)
		id := uint64(ino)
		s.inos[id] = ino
		s.t[id] = &object{typ: typ, mode: mode, names: map[string]uint64{}}
		if typ == typeFile {
			s.h.in[ino].data, s.t[id].data = "old"+name, "old"+name
		}
		s.h.set(rootID, name, ino)
		s.t[rootID].names[name] = id
	}
	s.mark("begin")
	return s
}

func (s *server) mark(what string) {
	m := moment{what: what, h: s.h.clone(), log: len(s.log), durable: s.durable, cut: s.under, before: s.t, after: s.after, disk: s.disk}
	s.moments = append(s.moments, m)
}

// step does one thing on the host.
func (s *server) step(what string, fn func()) {
	s.h.now += second / 10
	fn()
	s.mark(what)
}

func (s *server) append(e Entry) LSN {
	e.LSN = LSN(len(s.log) + 1)
	s.log = append(s.log, e)
	return e.LSN
}

// sync makes the whole disk durable as it is: stronger than the fsync of some objects, in a journalled file system equal to it.
func (s *server) sync() { s.disk = len(s.moments) }

// settle is what the server does when somebody else has been at objects, or is about to be.
func (s *server) settle(ids []uint64) {
	var in []uint64
	for _, id := range ids {
		if _, ok := s.inLog[id]; ok {
			in = append(in, id)
		}
	}
	if len(in) == 0 {
		return
	}
	s.sync()
	s.append(Entry{Settled: &Settled{IDs: in}})
	for _, id := range in {
		delete(s.inLog, id)
	}
	s.mark("settled")
}

// cut makes a cut and applies it; refuse: the host refuses it somewhere.
func (s *server) cut(refuse bool) {
	after := s.t.clone()
	changed := false
	for range 1 + s.r.IntN(3) {
		fresh := func() uint64 { s.nextID++; return s.nextID }
		changed = after.change(s.r, fresh) || changed
	}
	records := after.diff(s.r, s.t)
	if !changed || len(records) == 0 {
		return
	}
	a := &applying{server: s, before: s.t, t: after, records: records, place: map[uint64]string{}}
	a.run(refuse)
}

// applying is a cut on its way.
type applying struct {
	*server
	before, t tree
	records   []cut.Record
	place     map[uint64]string // private names
	now       map[SlotKey]uint64
}

func (a *applying) tmp() string { a.serial++; return fmt.Sprint("t", a.serial) }

func (a *applying) ids() []uint64 {
	set := map[uint64]bool{}
	for i := range a.records {
		for _, id := range []uint64{a.records[i].ID, a.records[i].Dir, a.records[i].Before} {
			if id != 0 {
				set[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (a *applying) run(refuse bool) {
	s := a.server
	born := map[uint64]bool{}
	for i := range a.records {
		if a.records[i].Kind == cut.Create {
			born[a.records[i].ID] = true
		}
	}
	for id := range born {
		a.inos[id] = 0
	}
	for id := range born {
		a.stage(id, born)
	}
	var disturbed []uint64
	for _, id := range a.ids() {
		if at, ok := s.inLog[id]; ok && at != s.h.in[s.inos[id]].ctime {
			disturbed = append(disturbed, id)
		}
	}
	s.settle(disturbed)
	e := &Cut{Client: [16]byte{1}, Number: uint64(len(s.log)), Time: s.h.now, Records: a.records}
	for _, id := range a.ids() {
		e.Objects = append(e.Objects, a.entry(id, born[id]))
	}
	lsn := s.append(Entry{Cut: e})
	s.under, s.after = len(s.log)-1, a.t
	s.mark("logged")
	s.durable = len(s.log)
	s.mark("log synced")
	first := len(s.moments) - 1
	a.content(born)
	a.bindAll(born)
	a.modes(born)
	if refuse {
		a.undo(first, lsn)
		return
	}
	s.step("freed", func() {
		for name := range s.h.in[tmpIno].names {
			s.h.set(tmpIno, name, 0)
		}
		s.h.sweep()
	})
	note := &Note{Cut: lsn}
	for _, id := range a.ids() {
		if n := s.h.in[s.inos[id]]; n != nil {
			note.Ctimes = append(note.Ctimes, Ctime{ID: id, Host: n.ctime})
			s.inLog[id] = n.ctime
		}
	}
	s.append(Entry{Note: note})
	s.t, s.under, s.after = a.t, -1, nil
	s.mark("acknowledged")
}

// undo goes back step by step, as the server does when the host refuses one: any number of them may have been done.
func (a *applying) undo(first int, lsn LSN) {
	s := a.server
	last := first + 1 + s.r.IntN(len(s.moments)-first)
	s.moments = s.moments[:min(last, len(s.moments))]
	s.h = s.moments[len(s.moments)-1].h.clone()
	for i := len(s.moments) - 2; i >= first; i-- {
		to := s.moments[i].h
		s.step("undone", func() {
			next := to.clone()
			next.now = s.h.now
			for ino, n := range next.in {
				if old := s.h.in[ino]; old != nil && (old.data != n.data || old.mode != n.mode || !maps.Equal(old.names, n.names) || old.ctime != n.ctime) {
					n.ctime = s.h.now
				}
			}
			s.h = next
		})
	}
	s.append(Entry{Abort: &Abort{Cut: lsn, Time: s.h.now}})
	s.durable = len(s.log)
	s.under, s.after = -1, nil
	for _, id := range a.ids() {
		if _, ok := s.t[id]; ok {
			s.inLog[id] = -1 // the next cut settles it
		}
	}
	s.mark("refused")
	s.step("freed", func() {
		for name := range s.h.in[tmpIno].names {
			delete(s.h.in[tmpIno].names, name)
		}
		s.h.sweep()
	})
}

// stage makes a new object in the private place, or in a directory that is new, too.
func (a *applying) stage(id uint64, born map[uint64]bool) {
	if a.inos[id] != 0 {
		return
	}
	o := a.t[id]
	dir, name := tmpIno, ""
	for _, k := range a.t.slots() {
		if a.t[k.Dir].names[k.Name] == id && born[k.Dir] {
			a.stage(k.Dir, born)
			dir, name = a.inos[k.Dir], k.Name
			break
		}
	}
	if name == "" {
		name = a.tmp()
		a.place[id] = name
	}
	a.step("staged", func() {
		ino := a.h.make(o.typ, o.mode)
		a.h.in[ino].data = o.data
		a.h.set(dir, name, ino)
		a.inos[id] = ino
	})
}

func (a *applying) entry(id uint64, born bool) Object {
	ino := a.inos[id]
	o := Object{ID: id, Ident: Ident{Ino: uint64(ino), Tag: uint64(ino) * 7}, Born: born, Place: a.place[id]}
	if born {
		return o
	}
	n := a.h.in[ino]
	o.Before = Attrs{Mode: n.typ | n.mode, Size: uint64(len(n.data)), Ctime: n.ctime}
	for i := range a.records {
		r := &a.records[i]
		off, end := uint64(0), uint64(0)
		switch {
		case r.ID != id:
			continue
		case r.Kind == cut.Truncate:
			off, end = r.Size, o.Before.Size
		case r.Kind == cut.Data:
			off, end = r.Off, min(r.Off+uint64(len(r.Bytes)), o.Before.Size)
		case r.Kind == cut.Attr && r.Valid&cut.AttrSize != 0:
			off, end = r.Size, o.Before.Size
		}
		if off < end {
			o.Overwritten = append(o.Overwritten, Bytes{off, []byte(n.data[off:end])})
		}
	}
	return o
}

func (a *applying) content(born map[uint64]bool) {
	for i := range a.records {
		r := &a.records[i]
		if born[r.ID] || r.Kind == cut.Attr && r.Valid&cut.AttrSize == 0 {
			continue
		}
		switch r.Kind {
		case cut.Truncate, cut.Data, cut.Zero, cut.Attr:
			a.step("content", func() {
				n := a.h.in[a.inos[r.ID]]
				n.data = lay(n.data, r)
				a.h.touch(a.inos[r.ID])
			})
		}
	}
}

func (a *applying) modes(born map[uint64]bool) {
	for i := range a.records {
		r := &a.records[i]
		if r.Kind == cut.Attr && r.Valid&cut.AttrMode != 0 && !born[r.ID] {
			a.step("mode", func() {
				a.h.in[a.inos[r.ID]].mode = r.Mode
				a.h.touch(a.inos[r.ID])
			})
		}
	}
}

// bindAll gives the names to their objects, by links, renames and exchanges, in the way of package dirfs.
func (a *applying) bindAll(born map[uint64]bool) {
	var open []*cut.Record
	a.now = map[SlotKey]uint64{}
	for i := range a.records {
		r := &a.records[i]
		if r.Kind != cut.Bind {
			continue
		}
		k := SlotKey{r.Dir, r.Name}
		if a.now[k] = r.Before; born[r.Dir] && a.h.in[a.inos[r.Dir]].names[r.Name] != 0 {
			a.now[k] = r.ID // staged there
		}
		if r.ID != 0 {
			open = append(open, r)
		}
	}
	a.r.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	for len(open) > 0 {
		var left []*cut.Record
		for _, r := range open {
			if !a.bind(r) {
				left = append(left, r)
			}
		}
		if len(left) == len(open) {
			a.stepAside(left)
		}
		open = left
	}
	for i := range a.records {
		r := &a.records[i]
		k := SlotKey{r.Dir, r.Name}
		if r.Kind != cut.Bind || r.ID != 0 || a.now[k] == 0 {
			continue
		}
		a.step("taken away", func() { a.h.rename(a.inos[r.Dir], r.Name, tmpIno, a.tmp(), false) })
	}
}

// from finds a name of id that it is to lose.
func (a *applying) from(id uint64) (key SlotKey, private string) {
	if p := a.place[id]; p != "" {
		return SlotKey{}, p
	}
	for i := range a.records {
		r := &a.records[i]
		k := SlotKey{r.Dir, r.Name}
		if r.Kind == cut.Bind && a.now[k] == id && r.ID != id {
			return k, ""
		}
	}
	return SlotKey{}, ""
}

func (a *applying) bind(r *cut.Record) bool {
	to := SlotKey{r.Dir, r.Name}
	now := a.now[to]
	if now == r.ID {
		return true
	}
	from, private := a.from(r.ID)
	if private == "" && from.Name == "" {
		if now == 0 {
			a.step("linked", func() { a.h.set(a.inos[to.Dir], to.Name, a.inos[r.ID]) })
			a.now[to] = r.ID
			return true
		}
		private = a.tmp()
		a.step("linked privately", func() { a.h.set(tmpIno, private, a.inos[r.ID]) })
		a.place[r.ID] = private
	}
	dir, name := tmpIno, private
	if private == "" {
		dir, name = a.inos[from.Dir], from.Name
	}
	ok := false
	h := a.h.clone()
	if ok = h.rename(dir, name, a.inos[to.Dir], to.Name, now != 0); !ok {
		return false
	}
	a.step("renamed", func() { a.h.rename(dir, name, a.inos[to.Dir], to.Name, now != 0) })
	a.now[to] = r.ID
	delete(a.place, r.ID)
	switch {
	case private == "":
		a.now[from] = now
	case now != 0:
		a.place[now] = private
	}
	return true
}

func (a *applying) stepAside(left []*cut.Record) {
	for _, r := range left {
		if from, private := a.from(r.ID); private == "" && from.Name != "" {
			p := a.tmp()
			a.step("stepped aside", func() { a.h.rename(a.inos[from.Dir], from.Name, tmpIno, p, false) })
			a.now[from] = 0
			a.place[r.ID] = p
			return
		}
	}
	panic("nothing can step aside")
}

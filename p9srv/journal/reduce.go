package journal

import (
	"math"
	"slices"
	"time"

	"echo9/internal/cut"
)

const (
	// underWay is how long after the entry of a cut without a note, or after a Redo, a ctime may be its doing.
	underWay = int64(30 * time.Second)
	// coarse is how far the clock that the host stamps inodes with may be behind.
	coarse = int64(20 * time.Millisecond)
)

// Plan is the net effect of all entries since a checkpoint.
type Plan struct {
	Cuts    []CutState // in the log's order
	Goals   []*Goal    // in the order in which the log first names them
	Slots   []*Slot
	Applied map[[16]byte]uint64 // the last cut of each client

	goals   map[uint64]*Goal
	slots   map[SlotKey]*Slot
	idents  map[inoTag]uint64
	byDir   map[uint64][]*Slot
	finals  map[uint64][]*Slot // by final value
	held    map[uint64][]*Slot // by the values of the history
	settled map[SlotKey]uint64 // names that are settled, and what they were bound to then
	beyond  map[uint64]bool    // what such names are bound to
}

// CutState tells how far a cut came.
type CutState struct {
	LSN     LSN
	Cut     *Cut
	Noted   bool  // it was applied, and its ctimes are known
	Aborted bool  // it was undone, or is to be
	ends    int64 // ctimes from then on are not its doing
	undone  bool  // it was, for sure
}

// SlotKey is a name in a directory.
type SlotKey struct {
	Dir  uint64
	Name string
}

// Slot is what becomes of a name.
type Slot struct {
	SlotKey
	History []uint64 // what it was bound to in the course of the log, 0: nothing
	Final   uint64
	Noted   bool              // the last cut that names it has a note
	Cut     LSN               // that cut
	within  []map[uint64]bool // what the cuts that name it bind and unbind: in the middle of one, it may have any of that
	settled bool
}

// Goal is what becomes of an object.
type Goal struct {
	ID     uint64
	Idents []Ident  // what it is, or was, on the host; the latest first
	Places []string // where in the private tmp it may be
	Parent uint64   // a name by which it was found, for hosts without handles
	Name   string
	Type   uint32 // the type in its mode, 0: not known

	// Born is the record that creates it, if it can be made anew from the log.
	Born *cut.Record

	// Content: the file is first cut down to Truncate, then Bytes (Data, Zero, Allocate) are laid on it, then it
	// has Size. Nothing of that if Content is false.
	Content  bool
	Truncate uint64
	Bytes    []cut.Record
	Size     uint64
	// Attr has the other attributes that are to be set.
	Attr   cut.Record
	Xattrs []Xattr // Was: it is to be there

	Noted bool // the last cut that names it has a note
	Cut   LSN

	steps []step
	ours  []ctimes
	was   uint32 // the mode before
}

// ctimes is a range of ctimes, both ends included.
type ctimes struct{ from, to int64 }

// inoTag is what an inode is recognised by: device numbers change from boot to boot.
type inoTag struct{ ino, tag uint64 }

// mutant names a rule to be left out, so that tests can see that they notice.
type mutant uint8

const (
	noMutant  mutant = iota
	noSettled        // entries count though their objects are settled
	noNotes          // a name is bound whoever has been in its directory
	noInverse        // a refused cut is taken for one that was not there
	keepCut          // a refused cut is taken for one that was not refused
	noCtimes         // whatever its ctime, an object is ours
	noRedo           // what a recovery did is somebody else's
	noKeeping        //  an object that has no name to go to loses its last one
)

// Reduce makes the plan of the entries since a checkpoint.
func Reduce(entries []Entry) *Plan { return reduce(entries, noMutant) }

func reduce(entries []Entry, m mutant) *Plan {
	p := &Plan{
		Applied: map[[16]byte]uint64{}, goals: map[uint64]*Goal{}, slots: map[SlotKey]*Slot{},
		idents: map[inoTag]uint64{}, byDir: map[uint64][]*Slot{}, finals: map[uint64][]*Slot{}, held: map[uint64][]*Slot{},
		settled: map[SlotKey]uint64{}, beyond: map[uint64]bool{},
	}
	notes := map[LSN]*Note{}
	aborts := map[LSN]*Abort{}
	for i := range entries {
		switch e := &entries[i]; {
		case e.Note != nil:
			notes[e.Note.Cut] = e.Note
		case e.Abort != nil:
			aborts[e.Abort.Cut] = e.Abort
		}
	}
	for i := range entries {
		switch e := &entries[i]; {
		case e.Cut != nil:
			c := CutState{LSN: e.LSN, Cut: e.Cut, Noted: notes[e.LSN] != nil, Aborted: aborts[e.LSN] != nil, ends: e.Cut.Time + underWay}
			if a := aborts[e.LSN]; a != nil && a.Time != 0 {
				c.ends, c.undone = a.Time, true
			}
			p.Cuts = append(p.Cuts, c)
			if c.Aborted && m == noInverse {
				continue
			}
			p.add(&c, notes[e.LSN], m)
		case e.Settled != nil && m != noSettled:
			p.settle(e.Settled.IDs)
		case e.Applied != nil:
			p.Applied[e.Applied.Client] = max(p.Applied[e.Applied.Client], e.Applied.Number)
		case e.Redo != nil && m != noRedo:
			p.redo(e.Redo)
		}
	}
	for _, g := range p.Goals {
		g.layContent()
		if g.Content && g.Attr.Valid&cut.AttrMode == 0 {
			// Writing takes setuid away.
			g.Attr.Valid, g.Attr.Mode = g.Attr.Valid|cut.AttrMode, g.was
		}
		if m == noCtimes {
			g.ours = []ctimes{{math.MinInt64, math.MaxInt64}}
		}
		for _, id := range g.Idents {
			p.idents[inoTag{id.Ino, id.Tag}] = g.ID
		}
	}
	p.Slots = slices.DeleteFunc(p.Slots, func(s *Slot) bool { return s.settled })
	for _, s := range p.Slots {
		if m == noNotes {
			s.Noted = false
		}
		p.finals[s.Final] = append(p.finals[s.Final], s)
		for _, id := range s.History {
			p.held[id] = append(p.held[id], s)
		}
	}
	for _, id := range p.settled {
		p.beyond[id] = true
	}
	return p
}

// Goal gives what becomes of an object; nil: the log does not name it.
func (p *Plan) Goal(id uint64) *Goal { return p.goals[id] }

// Slot gives what becomes of a name; nil: the log does not name it.
func (p *Plan) Slot(k SlotKey) *Slot { return p.slots[k] }

// Identify tells which object of the log an inode is, 0 for none.
func (p *Plan) Identify(ino, tag uint64) uint64 { return p.idents[inoTag{ino, tag}] }

func (p *Plan) goal(id uint64) *Goal {
	g := p.goals[id]
	if g == nil {
		g = &Goal{ID: id}
		p.goals[id] = g
		p.Goals = append(p.Goals, g)
	}
	return g
}

// add lays a cut over what came before it; one that was undone, with its inverse.
func (p *Plan) add(c *CutState, note *Note, m mutant) {
	noted := c.Noted && !c.Aborted || c.undone
	if !c.Aborted && c.Cut.Client != ([16]byte{}) {
		p.Applied[c.Cut.Client] = max(p.Applied[c.Cut.Client], c.Cut.Number)
	}
	for i := range c.Cut.Objects {
		p.addObject(c, &c.Cut.Objects[i], noted)
	}
	p.keepTimes(c.Cut)
	if c.Noted {
		for _, ct := range note.Ctimes {
			// What the disk has of it may be from the middle of the cut.
			g := p.goal(ct.ID)
			g.ours = append(g.ours, ctimes{min(c.Cut.Time-coarse, ct.Host), ct.Host})
		}
	}
	bound := map[uint64]bool{}
	p.addRecords(c, c.Cut.Records, noted, bound)
	if c.Aborted && m != keepCut {
		p.addRecords(c, Inverse(c.Cut), noted, bound)
	}
}

// firstTableID is the first id that is not an inode's number.
const firstTableID = 1 << 48

// keepTimes has directories that are only moved keep their mtimes: XFS changes them with the parent.
func (p *Plan) keepTimes(c *Cut) {
	moved, changed := map[uint64]bool{}, map[uint64]bool{}
	for i := range c.Records {
		if r := &c.Records[i]; r.Kind == cut.Bind {
			moved[r.ID], moved[r.Before], changed[r.Dir] = true, true, true
		}
	}
	for i := range c.Objects {
		if o := &c.Objects[i]; !o.Born && o.Before.Mode&typeBits == typeDir && moved[o.ID] && !changed[o.ID] {
			p.goal(o.ID).lay(&cut.Record{Valid: cut.AttrMtime, Mtime: o.Before.Mtime})
		}
	}
}

func (p *Plan) addObject(c *CutState, o *Object, noted bool) {
	g := p.goal(o.ID)
	if o.ID < firstTableID && len(g.Idents) > 0 && g.Idents[0] != o.Ident && o.Ident.Ino != 0 {
		// The id is an inode's number, and this is another inode that got it: what the log has of the one
		// before, which is gone, is not about this one.
		*g = Goal{ID: o.ID}
	}
	g.Cut, g.Noted = c.LSN, noted
	if o.Ident.Ino != 0 && (len(g.Idents) == 0 || g.Idents[0] != o.Ident) {
		g.Idents = append([]Ident{o.Ident}, g.Idents...)
	}
	if o.Place != "" {
		g.Places = append(g.Places, o.Place)
	}
	if o.Name != "" {
		g.Parent, g.Name = o.Parent, o.Name
	}
	if o.Born {
		// Nobody else knew it before its cut was in the log.
		g.ours = append(g.ours, ctimes{math.MinInt64, c.Cut.Time})
	} else {
		g.Type, g.was = o.Before.Mode&typeBits, o.Before.Mode&0o7777
		g.ours = append(g.ours, ctimes{o.Before.Ctime, o.Before.Ctime})
		if len(g.steps) == 0 {
			g.Size = o.Before.Size
		}
	}
	if !noted || c.undone {
		g.ours = append(g.ours, ctimes{c.Cut.Time - coarse, c.ends})
	}
}

// typeBits are those of a mode that tell the type (S_IFMT).
const typeBits = 0o170000

func (p *Plan) addRecords(c *CutState, records []cut.Record, noted bool, bound map[uint64]bool) {
	type resized struct {
		g    *Goal
		size uint64
	}
	var sizes []resized
	for i := range records {
		if r := &records[i]; r.Kind == cut.Truncate {
			g := p.goal(r.ID)
			g.steps = append(g.steps, step{kind: cut.Truncate, off: r.Size})
		}
	}
	for i := range records {
		r := &records[i]
		if r.Kind == cut.Bind {
			p.bind(c, r, noted, bound)
			continue
		}
		g := p.goal(r.ID)
		switch r.Kind {
		case cut.Create:
			g.Born, g.Type = r, r.Mode&typeBits
			g.lay(&cut.Record{
				Valid: cut.AttrMode | cut.AttrUID | cut.AttrGID, Mode: r.Mode & 0o7777, UserID: r.UserID, GroupID: r.GroupID,
			})
		case cut.Data:
			g.steps = append(g.steps, step{r.Kind, r.Off, r.Off + uint64(len(r.Bytes)), *r})
		case cut.Zero, cut.Allocate:
			g.steps = append(g.steps, step{r.Kind, r.Off, r.Off + r.Len, *r})
		case cut.Attr:
			g.lay(r)
			if r.Valid&cut.AttrSize != 0 {
				sizes = append(sizes, resized{g, r.Size})
			}
		case cut.SetXattr, cut.RemoveXattr:
			g.Xattrs = slices.DeleteFunc(g.Xattrs, func(x Xattr) bool { return x.Name == r.Name })
			g.Xattrs = append(g.Xattrs, Xattr{Name: r.Name, Value: r.Bytes, Was: r.Kind == cut.SetXattr})
		}
	}
	for _, s := range sizes {
		s.g.steps = append(s.g.steps, step{kind: cut.Attr, off: s.size})
	}
}

func (p *Plan) bind(c *CutState, r *cut.Record, noted bool, bound map[uint64]bool) {
	key := SlotKey{r.Dir, r.Name}
	s := p.slots[key]
	if s == nil {
		s = &Slot{SlotKey: key, History: []uint64{r.Before}}
		p.slots[key] = s
		p.Slots = append(p.Slots, s)
		p.byDir[r.Dir] = append(p.byDir[r.Dir], s)
	}
	delete(p.settled, key)
	p.goal(r.Dir)
	for _, v := range []uint64{r.Before, r.ID} {
		if v != 0 {
			p.goal(v)
			bound[v] = true
		}
		if !slices.Contains(s.History, v) {
			s.History = append(s.History, v)
		}
	}
	if s.Cut != c.LSN {
		s.within = append(s.within, bound)
	}
	s.Final, s.Noted, s.Cut = r.ID, noted, c.LSN
}

// lay lays attributes, but for the size, over those from before.
func (g *Goal) lay(r *cut.Record) {
	valid := r.Valid &^ cut.AttrSize
	g.Attr.Valid |= valid
	if valid&cut.AttrMode != 0 {
		g.Attr.Mode = r.Mode & 0o7777
	}
	if valid&cut.AttrUID != 0 {
		g.Attr.UserID = r.UserID
	}
	if valid&cut.AttrGID != 0 {
		g.Attr.GroupID = r.GroupID
	}
	if valid&cut.AttrAtime != 0 {
		g.Attr.Atime = r.Atime
	}
	if valid&cut.AttrMtime != 0 {
		g.Attr.Mtime = r.Mtime
	}
	if valid&cut.AttrCtime != 0 {
		g.Attr.Ctime = r.Ctime
	}
}

// settle forgets what was said of objects, but for what they are.
func (p *Plan) settle(ids []uint64) {
	for _, id := range ids {
		if g := p.goals[id]; g != nil {
			*g = Goal{ID: g.ID, Idents: g.Idents, Parent: g.Parent, Name: g.Name, Type: g.Type, Places: g.Places}
		}
		for _, s := range p.byDir[id] {
			s.settled = true
			delete(p.slots, s.SlotKey)
			if s.Final != 0 {
				p.settled[s.SlotKey] = s.Final
			}
		}
		delete(p.byDir, id)
	}
}

// Redone lays a Redo entry that was just written over the plan.
func (p *Plan) Redone(r *Redo) {
	p.redo(r)
	for _, m := range r.Made {
		p.idents[inoTag{m.Ident.Ino, m.Ident.Tag}] = m.ID
	}
}

// redo takes what an earlier recovery was about to do for our own.
func (p *Plan) redo(r *Redo) {
	for _, id := range r.IDs {
		g := p.goal(id)
		g.ours = append(g.ours, ctimes{r.Time - coarse, r.Time + underWay})
	}
	for _, m := range r.Made {
		g := p.goal(m.ID)
		g.Idents = append([]Ident{m.Ident}, g.Idents...)
		g.ours = append(g.ours, ctimes{r.Time - coarse, r.Time + underWay})
	}
}

const typeFile, typeDir = 0o100000, 0o040000

// Dir says whether the object is a directory.
func (g *Goal) Dir() bool { return g.Type == typeDir }

// Ours says whether an object with this ctime is as the log, or a recovery, left it or found it.
func (g *Goal) Ours(ctime int64) bool {
	return slices.ContainsFunc(g.ours, func(c ctimes) bool { return c.from <= ctime && ctime <= c.to })
}

// Sets says whether there is anything to bring the object to.
func (g *Goal) Sets() bool { return g.Content || g.Attr.Valid != 0 || len(g.Xattrs) > 0 }

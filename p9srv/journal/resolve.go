package journal

import (
	"fmt"
	"slices"
)

// Somebody is bound to a name where an object is that the log does not name.
const Somebody = ^uint64(0)

// Seen is what a recovery finds on the host.
type Seen struct {
	// Objects are those of the log that are still there.
	Objects map[uint64]SeenObject
	// Slots tell what the names of the log are bound to: an id, 0 for nothing, Somebody. Names in a
	// directory that is not there are missing.
	Slots map[SlotKey]uint64
}

// SeenObject is an object as it is on the host.
type SeenObject struct {
	Ctime int64
	// Private: it is in the private directory.
	Private bool
	// Names are those in a directory for which Emptied is true.
	Names []string
}

// Work is what a recovery is to do, in this order.
type Work struct {
	Make []*Goal // make anew, in the private directory
	Redo Redo    // then say so in the log
	Bind []*Slot // bring names to their final values
	Set  []*Goal // and objects, those that are made anew included
	Left []Left  // leave alone, and report
}

// Left is something that a recovery leaves as it is.
type Left struct {
	Slot *Slot // or
	Goal *Goal
	Why  string
}

func (l Left) String() string {
	if l.Slot != nil {
		return fmt.Sprintf("name %q in directory %d (to be object %d): %s", l.Slot.Name, l.Slot.Dir, l.Slot.Final, l.Why)
	}
	return fmt.Sprintf("object %d: %s", l.Goal.ID, l.Why)
}

// Emptied says whether the directory g is to lose its name for good: then it must be empty.
func (p *Plan) Emptied(g *Goal) bool {
	return g.Dir() && p.Named(g.ID) == nil && len(p.held[g.ID]) > 0
}

// Expected says whether the object should be there when all is done, as far as the log tells. One that has lost all names
// that the log still tells of may have one that is settled.
func (p *Plan) Expected(g *Goal) bool {
	return len(p.Named(g.ID)) > 0 || len(p.held[g.ID]) == 0 || p.beyond[g.ID]
}

// Named gives the names that an object has in the end.
func (p *Plan) Named(id uint64) []*Slot { return p.finals[id] }

// verdict is what is to be done about a name.
type verdict uint8

const (
	leave verdict = iota
	done
	act
)

// resolver decides what to do.
type resolver struct {
	p        *Plan
	seen     *Seen
	verdicts map[*Slot]verdict
	why      map[*Slot]string
	at       map[uint64][]*Slot // where objects are bound now
	made     map[uint64]bool
	m        mutant
}

// Resolve decides what is to be done about what is seen.
func (p *Plan) Resolve(seen *Seen) *Work { return p.resolve(seen, noMutant) }

func (p *Plan) resolve(seen *Seen, m mutant) *Work {
	r := &resolver{
		p: p, seen: seen, verdicts: map[*Slot]verdict{}, why: map[*Slot]string{}, at: map[uint64][]*Slot{}, made: map[uint64]bool{}, m: m,
	}
	for _, s := range p.Slots {
		r.verdicts[s], r.why[s] = r.judge(s)
		if now := r.now(s); now != 0 && now != Somebody {
			r.at[now] = append(r.at[now], s)
		}
	}
	// What is made anew, and what is left alone, has consequences for other names.
	for r.makeMissing() || m != noKeeping && r.keepAlive() {
	}
	return r.work()
}

// ours says whether nobody else has changed an object since the log did.
func (r *resolver) ours(id uint64) bool {
	o, ok := r.seen.Objects[id]
	return ok && r.p.goal(id).Ours(o.Ctime)
}

// now is what a name is bound to.
func (r *resolver) now(s *Slot) uint64 { return r.seen.Slots[s.SlotKey] }

// may says whether the name may be found bound to id without that anybody else did it.
func (s *Slot) may(id uint64) bool {
	return id == 0 || slices.Contains(s.History, id) ||
		slices.ContainsFunc(s.within, func(b map[uint64]bool) bool { return b[id] })
}

// judge looks at one name by itself.
func (r *resolver) judge(s *Slot) (verdict, string) {
	now, ok := r.seen.Slots[s.SlotKey]
	switch {
	case !ok && (s.Final == 0 || r.p.Named(s.Dir) == nil):
		return done, "" // it went with its directory
	case !ok:
		return leave, "its directory is gone"
	case now == s.Final:
		return done, ""
	case !s.may(now):
		return leave, "somebody else has bound it since"
	case s.Noted && !r.ours(s.Dir):
		return leave, "somebody else has been in its directory since it was bound as the log has it"
	}
	return act, ""
}

// exists says whether an object is there, or will be.
func (r *resolver) exists(id uint64) bool {
	_, ok := r.seen.Objects[id]
	return ok || r.made[id]
}

// makeMissing finds what is to be made anew: what a name is to be bound to. It says whether that changed anything.
func (r *resolver) makeMissing() bool {
	changed := false
	for _, s := range r.p.Slots {
		if s.Final == 0 || r.verdicts[s] != act {
			continue
		}
		g := r.p.goal(s.Final)
		switch {
		case r.made[g.ID]:
			continue
		case !r.exists(g.ID) && g.Born != nil:
			r.made[g.ID] = true
			for _, below := range r.p.byDir[g.ID] { // all names of a new directory are new
				if below.Final != 0 {
					r.verdicts[below] = act
				}
			}
		case !r.exists(g.ID):
			r.verdicts[s], r.why[s] = leave, "what it was to be bound to is gone"
		case g.Dir() && !r.movable(g.ID):
			r.verdicts[s], r.why[s] = leave, "somebody else has moved the directory since"
		default:
			continue
		}
		changed = true
	}
	return changed
}

// movable says whether a directory is where it may be taken from.
func (r *resolver) movable(id uint64) bool {
	return r.seen.Objects[id].Private || slices.ContainsFunc(r.at[id], func(s *Slot) bool { return r.verdicts[s] == act })
}

// keepAlive finds names that must stay because what they are bound to has nowhere to go: the name that
// it was to have is left alone, or it is a directory that somebody has put something into.
func (r *resolver) keepAlive() bool {
	for _, s := range r.p.Slots {
		now := r.now(s)
		if r.verdicts[s] != act || now == 0 || now == s.Final {
			continue
		}
		g := r.p.goal(now)
		names := r.p.Named(now)
		lost := !slices.ContainsFunc(names, func(n *Slot) bool { return r.verdicts[n] != leave }) &&
			slices.ContainsFunc(names, func(n *Slot) bool { return n.Cut >= s.Cut })
		switch {
		case lost:
			r.why[s] = "what it is bound to could not have the name that it was to get"
		case len(names) == 0 && g.Dir() && !r.emptied(g):
			r.why[s] = "somebody has put something into the directory that was to go"
		default:
			continue
		}
		r.verdicts[s] = leave
		return true
	}
	return false
}

// emptied says whether all that is in a directory will be gone from it.
func (r *resolver) emptied(g *Goal) bool {
	for _, name := range r.seen.Objects[g.ID].Names {
		s := r.p.slots[SlotKey{g.ID, name}]
		if s == nil || s.Final != 0 || r.verdicts[s] == leave {
			return false
		}
	}
	return true
}

func (r *resolver) work() *Work {
	w := &Work{}
	for _, s := range r.p.Slots {
		switch r.verdicts[s] {
		case act:
			w.Bind = append(w.Bind, s)
		case leave:
			w.Left = append(w.Left, Left{Slot: s, Why: r.why[s]})
		}
	}
	for _, g := range r.p.Goals {
		if r.made[g.ID] {
			w.Make = append(w.Make, g)
		}
		if !r.exists(g.ID) {
			continue
		}
		if !r.made[g.ID] && !r.ours(g.ID) {
			if g.Sets() {
				w.Left = append(w.Left, Left{Goal: g, Why: "somebody else has changed it since"})
			}
			continue
		}
		w.Redo.IDs = append(w.Redo.IDs, g.ID)
		if g.Sets() {
			w.Set = append(w.Set, g)
		}
	}
	return w
}

// UndoInstead gives the cut that is to be undone when the host refuses to bring a name or an object,
// which cut lsn was the last to change, to its final value: that cut, if it was never acknowledged and nothing came
// after it. 0: the host's refusal leaves no way.
func (p *Plan) UndoInstead(lsn LSN) LSN {
	i := slices.IndexFunc(p.Cuts, func(c CutState) bool { return c.LSN == lsn })
	if i < 0 || p.Cuts[i].Noted || p.Cuts[i].Aborted {
		return 0
	}
	for _, o := range p.Cuts[i].Cut.Objects {
		if p.goal(o.ID).Cut > lsn {
			return 0
		}
	}
	return lsn
}

package contract

import (
	"maps"
	"slices"
)

// policy is how a client keeps and sends what it does.
type policy struct {
	plain  bool   // a client that caches nothing
	writes string // behind, close, sync
	order  string // object, causal, total
	eager  bool   // writes back in the background all the time, in small cuts
}

// handle is an open file of a client.
type handle struct {
	id           int
	read, write  bool
	appends, dir bool
	uid          uint32 // who opened it
	dead         bool   // something was lost on the object
	gone         bool   // which was never made
	tells        bool   // something was lost in the directory, or before it was opened: fsync may say so, once
}

// member is a client of the model.
type member struct {
	policy
	handles map[string]*handle
	// observed, in causal order: what was pending on what the client has looked at.
	observed map[*effect]bool
	// untold: something was lost on the object, or in the directory, and perhaps nobody who had it open was told.
	untold map[int]bool
}

func newMember(p policy) *member {
	return &member{policy: p, handles: map[string]*handle{}, observed: map[*effect]bool{}, untold: map[int]bool{}}
}

// history is what all clients did, in the order in which they did it.
type history struct {
	base    tree      // the oldest part, which is known to be at the server
	log     []*effect // the rest, without what is lost
	now     tree      // all of it: what every client sees
	members []*member
	shown   map[int]*times // what clients were told of times
	issued  int            // effects
	// changers are the clients that have changed an object, a bit each.
	changers map[int]uint
	// mine, when set, picks what of the tree the history is of.
	mine func(map[string]entry) map[string]entry
}

// times are those that an object showed last, and the largest ones.
type times struct {
	mtime, ctime  int64
	mvalid, valid bool // nothing has happened to it since
	qid           uint64
}

func newHistory(policies []policy) *history {
	h := &history{base: newTree(), now: newTree(), shown: map[int]*times{}, changers: map[int]uint{}}
	for _, p := range policies {
		h.members = append(h.members, newMember(p))
	}
	return h
}

// issue takes an effect on as the last one, with its place in the order.
func (h *history) issue(e *effect) {
	m := h.members[e.client]
	e.operands()
	e.after = map[*effect]bool{}
	if m.plain {
		e.there = true
	} else {
		for _, p := range h.log {
			if p.client == e.client && !p.there && h.precedes(m, p, e) {
				h.follow(e.after, p)
			}
		}
		for p := range m.observed {
			h.follow(e.after, p)
		}
	}
	if !h.now.apply(e) {
		panic("contract: the model took on what cannot be: " + e.verb)
	}
	h.log = append(h.log, e)
	h.issued++
	for _, id := range e.writes {
		h.changers[id] |= 1 << e.client
	}
	for _, id := range e.writes {
		if s := h.shown[id]; s != nil {
			s.valid = false
			if e.content() || e.verb == "utime" || id != e.id || e.verb == "rename" {
				s.mvalid = false
			}
		}
	}
}

func (h *history) follow(after map[*effect]bool, p *effect) {
	after[p] = true
	for q := range p.after {
		after[q] = true
	}
}

// precedes says whether p, issued before e by the same client, directly precedes it.
func (h *history) precedes(m *member, p, e *effect) bool {
	switch {
	case m.order == "total", p.marker():
		return true
	case meet(p.writes, e.writes), meet(p.writes, e.reads), meet(p.writes, e.below), meet(p.writes, e.shows), meet(p.reads, e.writes):
		return true
	}
	return meet(p.held, e.writes)
}

// hold notes what was pending below a directory when its rename e, the last effect, was issued. have is what the server has after that: what
// is not there was pending. That more is there than anybody is known to have needed is legal: clients send when they like, and others look at
// what they have. What may be there by one of the ideals that explain have counts as being there.
func (h *history) hold(e *effect, have map[string]entry) {
	var pending []*effect
	for _, p := range h.pending() {
		if p.client == e.client && meet(p.writes, e.below) {
			pending = append(pending, p)
		}
	}
	if len(pending) == 0 {
		return
	}
	tried := h.explain(have, func(there map[*effect]bool) bool {
		pending = slices.DeleteFunc(pending, func(p *effect) bool { return there[p] })
		return len(pending) == 0
	}, nil)
	if tried > maxIdeals {
		return
	}
	for _, p := range pending {
		for _, id := range p.writes {
			if slices.Contains(e.below, id) {
				e.held = append(e.held, id)
			}
		}
	}
}

// observe notes that a client looked at objects, and that so all clients that changed them have sent that.
func (h *history) observe(client int, ids ...int) {
	h.demand(client, ids, nil)
	m := h.members[client]
	if m.order != "causal" || m.plain {
		return
	}
	for _, p := range h.log {
		if p.client == client && !p.there && !p.marker() && meet(p.writes, ids) {
			m.observed[p] = true
		}
	}
}

// demand notes that a client used objects: what others did to them, with all that precedes it, is at the server.
func (h *history) demand(client int, reads, writes []int) {
	for _, p := range h.log {
		if p.client == client || p.there || p.marker() {
			continue
		}
		if meet(p.writes, reads) || meet(p.writes, writes) || meet(p.reads, writes) {
			h.arrive(p)
		}
	}
	h.fold()
}

// arrive notes that an effect, and so all that precedes it, is at the server.
func (h *history) arrive(e *effect) {
	e.there = true
	for p := range e.after {
		if !p.lost {
			p.there = true
		}
	}
}

// flush notes that all that a client did to an object is at the server; to anything, when id is -2.
func (h *history) flush(client, id int) {
	for _, p := range h.log {
		if p.client == client && !p.there && !p.marker() && (id == everything || slices.Contains(p.writes, id)) {
			h.arrive(p)
		}
	}
	h.fold()
}

const everything = -2

// fold moves what is at the server to the base. (Effects that are there commute with earlier ones that are not
// known to be: else those would be known, too.)
func (h *history) fold() {
	h.log = slices.DeleteFunc(h.log, func(e *effect) bool {
		if e.there && !h.base.apply(e) {
			panic("contract: what is at the server does not apply: " + e.verb)
		}
		return e.there
	})
	// A barrier that nothing comes before orders nothing.
	h.log = slices.DeleteFunc(h.log, func(e *effect) bool {
		if !e.marker() {
			return false
		}
		for p := range e.after {
			if !p.there && !p.lost {
				return false
			}
		}
		return true
	})
}

// pending gives what is not known to be at the server, in the order of issue.
func (h *history) pending() []*effect {
	var list []*effect
	for _, e := range h.log {
		if !e.there && !e.marker() {
			list = append(list, e)
		}
	}
	return list
}

// ideals calls fn with each tree that the server may have now, and what is there in it, until fn answers true. It tells
// how many there were.
func (h *history) ideals(fn func(t tree, there map[*effect]bool) bool) int {
	list := h.pending()
	n := 0
	there := map[*effect]bool{}
	var from func(i int, t tree) bool
	from = func(i int, t tree) bool {
		if n > maxIdeals {
			return true
		}
		for ; i < len(list); i++ {
			e := list[i]
			may := true
			for p := range e.after {
				if !p.there && !p.lost && !p.marker() && !there[p] {
					may = false
					break
				}
			}
			if !may {
				continue
			}
			with := t.clone()
			if !with.apply(e) {
				panic("contract: an ideal does not apply: " + e.verb)
			}
			there[e] = true
			done := from(i+1, with)
			if done {
				return true
			}
			delete(there, e)
		}
		n++
		return fn(t, there)
	}
	from(0, h.base)
	return n
}

// settle looks for the ideal that explains what the server has. ok: there is one; tried tells how many were
// looked at, and why how the nearest one differs.
func (h *history) settle(have map[string]entry) (there map[*effect]bool, tried int, why string) {
	best := -1
	tried = h.explain(have, func(is map[*effect]bool) bool {
		there = maps.Clone(is)
		return true
	}, func(want map[string]entry) {
		if d := differ(have, want); best < 0 || len(d) < best {
			best, why = len(d), d
		}
	})
	return there, tried, why
}

// explain calls fn with each ideal that explains what the server has, until fn answers true, and not, unless it is nil, with what the others would
// leave. It tells how many were looked at.
func (h *history) explain(have map[string]entry, fn func(there map[*effect]bool) bool, not func(want map[string]entry)) int {
	return h.ideals(func(t tree, there map[*effect]bool) bool {
		want := t.listing()
		if h.mine != nil {
			want = h.mine(want)
		}
		if same(have, want) {
			return fn(there)
		}
		if not != nil {
			not(want)
		}
		return false
	})
}

// die ends a client, of whose pending effects those in there are at the server.
func (h *history) die(client int, there map[*effect]bool) (lost int) {
	var gone []*effect
	for _, e := range h.log {
		if e.client != client {
			continue
		}
		if there[e] {
			e.there = true
		} else if !e.there {
			gone = append(gone, e)
		}
	}
	h.lose(gone)
	h.fold()
	m := h.members[client]
	h.members[client] = newMember(m.policy)
	for _, e := range gone {
		if !e.marker() {
			lost++
		}
	}
	return lost
}

// lose takes effects out, and makes now anew.
func (h *history) lose(gone []*effect) {
	if len(gone) == 0 {
		return
	}
	for _, e := range gone {
		e.lost = true
		for _, id := range e.writes {
			delete(h.shown, id)
		}
	}
	h.log = slices.DeleteFunc(h.log, func(e *effect) bool { return e.lost })
	h.now = h.base.clone()
	for _, e := range h.log {
		if !h.now.apply(e) {
			panic("contract: what survives a loss does not apply: " + e.verb)
		}
	}
}

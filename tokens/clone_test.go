package tokens

import (
	"encoding/binary"
	"maps"
	"slices"
)

// The cores as values: copied, and written down so that two states that differ
// in names of generations only are the same.

func (m *Manager) clone() *Manager {
	c := &Manager{cfg: m.cfg, off: m.off, now: m.now, gen: m.gen, seq: m.seq, plainWaiting: m.plainWaiting, tokens: m.tokens, grace: m.grace, uses: maps.Clone(m.uses)}
	c.sessions = make(map[SessionID]*session, len(m.sessions))
	c.objects = make(map[ID]*object, len(m.objects))
	c.reqs = make(map[ReqID]*request, len(m.reqs))
	ss := make(map[*session]*session, len(m.sessions)+1)
	sess := func(s *session) *session {
		if s == nil {
			return nil
		}
		t := ss[s]
		if t == nil {
			t = new(session)
			*t = *s
			t.held, t.lost, t.knew = maps.Clone(s.held), maps.Clone(s.lost), maps.Clone(s.knew)
			t.pending, t.queue, t.commits = slices.Clone(s.pending), slices.Clone(s.queue), slices.Clone(s.commits)
			if s.applying != nil {
				a := *s.applying
				t.applying = &a
			}
			ss[s] = t
		}
		return t
	}
	for id, s := range m.sessions {
		c.sessions[id] = sess(s)
	}
	for id, o := range m.objects {
		p := new(object)
		*p = *o
		p.holders, p.own = slices.Clone(o.holders), slices.Clone(o.own)
		for i := range p.holders {
			p.holders[i].s = sess(p.holders[i].s)
		}
		for i := range p.own {
			p.own[i].s = sess(p.own[i].s)
		}
		c.objects[id] = p
	}
	for id, r := range m.reqs {
		q := new(request)
		*q = *r
		q.session, q.names = sess(r.session), slices.Clone(r.names)
		q.set = q.buf[:0]
		for _, it := range r.set {
			it.o = c.objects[it.o.id]
			q.set = append(q.set, it)
		}
		c.reqs[id] = q
	}
	for r := m.firstWaiting; r != nil; r = r.next {
		q := c.reqs[r.id]
		q.prev, q.next = c.lastWaiting, nil
		if c.lastWaiting != nil {
			c.lastWaiting.next = q
		} else {
			c.firstWaiting = q
		}
		c.lastWaiting = q
	}
	for id, o := range m.objects {
		p := c.objects[id]
		p.unsent, p.waiters = slices.Clone(o.unsent), slices.Clone(o.waiters)
		for i := range p.unsent {
			p.unsent[i].r = c.reqs[p.unsent[i].r.id]
		}
		for i := range p.waiters {
			p.waiters[i] = c.reqs[p.waiters[i].id]
		}
	}
	return c
}

func (h *Holder) clone() *Holder {
	c := &Holder{off: h.off, margin: h.margin, until: h.until, none: h.none, reclaiming: h.reclaiming, next: h.next}
	c.tokens = make(map[ID]*token, len(h.tokens))
	for id, t := range h.tokens {
		u := *t
		c.tokens[id] = &u
	}
	c.reqs = make(map[ReqID]*asked, len(h.reqs))
	for r, a := range h.reqs {
		b := *a
		c.reqs[r] = &b
	}
	c.out = slices.Clone(h.out)
	return c
}

// ink writes a state down. Generations are written by rank, among all that occur, at the end.
type ink struct {
	b      []byte
	gens   []Gen
	sorted []Gen
}

func (k *ink) n(vs ...int) {
	for _, v := range vs {
		k.b = binary.AppendVarint(k.b, int64(v))
	}
}

func (k *ink) flags(fs ...bool) {
	v := 0
	for i, f := range fs {
		if f {
			v |= 1 << i
		}
	}
	k.n(v)
}

func (k *ink) gen(gs ...Gen) { k.gens = append(k.gens, gs...) }

// write writes what f does.
func (k *ink) write(f func(k *ink)) []byte {
	k.b, k.gens = k.b[:0], k.gens[:0]
	f(k)
	k.sorted = append(k.sorted[:0], k.gens...)
	k.sorted = append(k.sorted, 0) // none has rank 0
	slices.Sort(k.sorted)
	k.sorted = slices.Compact(k.sorted)
	for _, g := range k.gens {
		i, _ := slices.BinarySearch(k.sorted, g)
		k.n(i)
	}
	return k.b
}

func (m *Manager) write(k *ink) {
	k.flags(m.grace.on, m.grace.asking, m.uses != nil)
	for _, id := range sortedIDs(m.uses) {
		u := m.uses[id]
		k.n(int(id))
		for mode := Read; mode <= Write; mode++ {
			k.n(int(u.by[mode]))
			k.flags(u.did[mode], u.all[mode])
		}
	}
	for _, id := range sortedIDs(m.objects) {
		o := m.objects[id]
		k.n(int(id), len(o.holders))
		for i := range o.holders {
			h := &o.holders[i]
			k.n(int(h.s.id), int(h.mode), int(h.keep))
			k.flags(h.recalled, h.toSend)
			k.gen(h.gen, h.since[Read-1], h.since[Write-1])
		}
		k.n(len(o.unsent))
		for _, g := range o.unsent {
			k.n(int(g.r.id), int(g.mode))
			k.gen(g.gen)
		}
		k.n(len(o.waiters))
		for _, r := range o.waiters {
			k.n(int(r.id))
		}
		k.n(int(o.readers), int(o.writers), int(o.busyRead), int(o.busyWrite), int(o.recording), len(o.own))
		for _, u := range o.own {
			k.n(int(u.s.id), int(u.n))
		}
	}
	for _, id := range sortedIDs(m.sessions) {
		s := m.sessions[id]
		k.n(int(id), s.recalls, int(s.lastCut), len(s.commits), s.posted)
		k.flags(s.connected, s.gone, s.resuming, s.expired, s.late, m.over(s), m.overdue(s), s.applying != nil)
		for i := range s.commits {
			s.commits[i].write(k)
		}
		if s.applying != nil {
			s.applying.write(k)
		}
		k.flags(s.reclaims)
		for _, l := range sortedIDs(s.barred) {
			k.n(int(l), int(s.barred[l]))
		}
		k.n(-7)
		for _, l := range sortedIDs(s.knew) {
			k.n(int(l), int(s.knew[l]))
		}
		k.n(-8)
		for _, l := range sortedIDs(s.lost) {
			k.n(int(l), int(s.lost[l].left))
			k.flags(s.lost[l].told)
		}
		k.n(-1)
	}
	for _, id := range sortedIDs(m.reqs) {
		r := m.reqs[id]
		k.n(int(id), int(r.state), min(r.bypassed, m.cfg.Bypass), len(r.elems))
		for i, e := range r.elems {
			k.n(int(e.ID), int(e.Mode))
			if r.names != nil {
				b := &r.names[i]
				k.n(int(b.state), int(b.id))
				k.flags(b.bound, e.Name != "", b.state != bindNone && m.objects[e.ID] != nil && b.writes == m.objects[e.ID].writes)
			}
		}
		k.flags(r.plain, r.try, r.dropped, r.stalled, r.later)
	}
	for r := m.firstWaiting; r != nil; r = r.next {
		k.n(int(r.id))
	}
	k.n(-2)
}

func (c *commit) write(k *ink) {
	k.n(int(c.cut), len(c.fence))
	k.flags(c.began)
	for _, f := range c.fence {
		k.n(int(f.ID), int(f.Mode))
		k.gen(f.Gen)
	}
}

func (h *Holder) write(k *ink, now int64) {
	k.flags(h.Valid(now), now < h.until, h.reclaiming, now < h.next)
	for _, id := range sortedIDs(h.tokens) {
		t := h.tokens[id]
		k.n(int(id), int(t.mode), int(t.pins), int(t.updates), int(t.keep), int(t.down), t.owed)
		k.flags(t.tainted, t.recalled, t.asked, t.again, t.ready, t.unreclaimed)
		k.gen(t.gen, t.since[Read], t.since[Write], t.covers)
	}
	for _, r := range sortedIDs(h.reqs) {
		a := h.reqs[r]
		k.n(int(r), len(a.elems))
		for _, e := range a.elems {
			k.n(int(e.ID), int(e.Mode))
		}
		k.flags(a.granted, a.lost)
	}
	k.n(-3)
}

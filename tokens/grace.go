package tokens

import "slices"

// What a server does that comes back: sessions of its earlier life are restored, and reclaim what they held.

// grace is the time in which only reclaims are granted.
type grace struct {
	on     bool
	until  int64
	asking bool // OutMissed was said, InMissedRecorded has not come
}

// use is what an object was granted for in this epoch.
type use struct {
	by  [3]SessionID // in mode Read, Write: by whom, 0: plain clients
	did [3]bool
	all [3]bool // by more than one
}

// maxUses bounds the objects of which it is known what they were granted for. Beyond it
// nobody reclaims late any more.
const maxUses = 1_000_000

// restore makes a session of an earlier epoch.
func (m *Manager) restore(in *Input) {
	if m.sessions[in.Session] != nil {
		panic("tokens: session id in use")
	}
	s := &session{
		id: in.Session, lastCut: in.Cut, until: m.now, unposted: m.now, expired: true,
		held: map[ID]struct{}{}, lost: map[ID]lostToken{}, reclaims: !in.Missed || m.off.missedEarlier, barred: map[ID]Mode{},
	}
	for _, l := range in.Lost {
		s.lost[l.ID] = lostToken{left: l.Left}
		s.barred[l.ID] = l.Left
	}
	m.sessions[s.id] = s
}

// beginGrace: all sessions of the earlier epoch are restored.
func (m *Manager) beginGrace() {
	m.grace = grace{on: true, until: m.now + m.cfg.Grace}
	m.uses = map[ID]use{}
	m.endGrace()
}

// awaited lists the sessions that may still reclaim.
func (m *Manager) awaited() []SessionID {
	var all []SessionID
	for id, s := range m.sessions {
		if s.reclaims && !s.gone {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return all
}

// endGrace ends the grace when nobody is awaited, or its time is over and who is missing is recorded.
func (m *Manager) endGrace() {
	awaited := m.awaited()
	if len(awaited) == 0 {
		m.uses = nil // nobody reclaims any more
	}
	switch {
	case !m.grace.on || m.grace.asking:
	case len(awaited) == 0:
		m.graceOver()
	case m.now >= m.grace.until:
		m.grace.asking = true
		m.emit(Output{Kind: OutMissed, Missed: awaited})
	}
}

func (m *Manager) graceOver() {
	m.grace = grace{}
	m.emit(Output{Kind: OutGraceOver})
	m.again = true
}

// missedRecorded: who did not complete its reclaims cannot reclaim in a later epoch.
func (m *Manager) missedRecorded() {
	if m.grace.on && m.grace.asking {
		m.graceOver()
	}
}

// reclaimed: s will not reclaim anything more.
func (m *Manager) reclaimed(s *session) {
	if s.reclaims {
		s.reclaims = false
		if m.off.awaitAll && m.grace.on {
			m.graceOver()
		}
		m.endGrace()
	}
}

// reclaim grants what of in's set can be had, at once: for reading what cannot be had for writing.
func (m *Manager) reclaim(in *Input) {
	s := m.sessions[in.Session]
	deny := func(why Denial) {
		m.emit(Output{Kind: OutDenied, Session: in.Session, Req: in.Req, Denied: why})
	}
	switch {
	case s == nil || s.gone:
		deny(DeniedSession)
		return
	case m.over(s):
		deny(DeniedExpired)
		return
	case len(in.Elems) == 0:
		deny(DeniedInvalid)
		return
	}
	for i := range in.Elems {
		if e := &in.Elems[i]; e.Name != "" || e.Mode != Read && e.Mode != Write {
			deny(DeniedInvalid)
			return
		}
	}
	if _, dup := m.reqs[in.Req]; dup {
		panic("tokens: request id in use")
	}
	r := m.newRequest()
	r.id, r.session, r.elems = in.Req, s, in.Elems
	m.reqs[r.id] = r
	r.set, r.state = r.buf[:0], reqUnsent
	from := len(m.toks)
	for i := range r.elems {
		e := &r.elems[i]
		o := m.object(e.ID)
		mode := e.Mode
		if mode == Write && !m.reclaimable(s, o, mode) && !m.off.reclaimLess {
			mode = Read
		}
		if !m.reclaimable(s, o, mode) {
			m.tidy(o)
			m.toks = append(m.toks, Token{ID: e.ID})
			continue
		}
		k := slices.IndexFunc(o.unsent, func(g grant) bool { return g.r == r })
		if k >= 0 { // named twice
			o.unsent[k].mode = raise[o.unsent[k].mode][mode]
		} else {
			k = len(o.unsent)
			g := grant{r: r, mode: mode, gen: m.NewGen()}
			if h := o.holding(s); h != nil {
				g.mode = raise[h.mode][mode]
			}
			o.unsent = append(o.unsent, g)
			r.set = append(r.set, item{o: o, mode: mode})
		}
		if mode == Write {
			o.writes++
		}
		m.used(e.ID, mode, s)
		m.toks = append(m.toks, Token{ID: e.ID, Gen: o.unsent[k].gen, Mode: o.unsent[k].mode})
	}
	m.emit(Output{Kind: OutGranted, Session: s.id, Req: r.id, Tokens: m.toks[from:len(m.toks):len(m.toks)]})
}

// reclaimable reports whether s may have mode of o as it had it in the earlier epoch: nothing on record
// says otherwise, nobody has it in a conflicting mode, and nobody had since the epoch began. What it has already, it may have.
func (m *Manager) reclaimable(s *session, o *object, mode Mode) bool {
	if h := o.holding(s); h != nil && h.mode >= mode && !o.unsentTo(s) {
		return !m.off.reclaimAgain
	}
	if !s.reclaims {
		return false
	}
	if left, ok := s.barred[o.id]; ok && left < mode && !m.off.recordLost {
		return false
	}
	// (Who is in the way of what is being recorded counts as granted already.)
	if o.writers > 0 || mode == Write && o.readers > o.ownReaders(s) || len(s.held) >= 2*m.cfg.MaxTokensPerSession {
		return false
	}
	for i := range o.holders {
		if h := &o.holders[i]; h.s != s && conflict[h.mode][mode] {
			return false
		}
	}
	for i := range o.unsent {
		if g := &o.unsent[i]; g.r.session != s && conflict[g.mode][mode] {
			return false
		}
	}
	if m.off.lateConflict {
		return true
	}
	u := m.uses[o.id]
	for had := Read; had <= Write; had++ {
		if conflict[had][mode] && u.did[had] && (u.all[had] || u.by[had] != s.id) {
			return false
		}
	}
	return m.grace.on || len(m.uses) < maxUses
}

// used notes that mode of an object was granted, as long as somebody may reclaim.
func (m *Manager) used(id ID, mode Mode, s *session) {
	if m.uses == nil {
		return
	}
	u, ok := m.uses[id]
	if !ok && len(m.uses) >= maxUses {
		return
	}
	by := SessionID(0)
	if s != nil {
		by = s.id
	}
	u.all[mode] = u.all[mode] || u.did[mode] && u.by[mode] != by
	u.did[mode], u.by[mode] = true, by
	m.uses[id] = u
}

// Grace tells whether there is a grace period, until when, and which sessions are awaited.
func (m *Manager) Grace() (until int64, awaited []SessionID, on bool) {
	if !m.grace.on {
		return 0, nil, false
	}
	return m.grace.until, m.awaited(), true
}

package tokens

// commit is a cut that came whole.
type commit struct {
	cut   uint64
	fence []Held
	born  []Born
	began bool // OutCommitGo was said
}

// commit takes the last part of a cut.
func (m *Manager) commit(s *session, in *Input) {
	m.moved(s)
	c := commit{cut: in.Cut, fence: in.Fence, born: in.Born}
	switch {
	case s.applying == nil:
		m.decide(s, c)
	case len(s.commits) >= maxCommits:
		m.refuse(s, c.cut, DeniedLimit, 0)
	default:
		s.commits = append(s.commits, c)
	}
}

func (m *Manager) refuse(s *session, cut uint64, why Denial, id ID) {
	m.emit(Output{Kind: OutCommitRefused, Session: s.id, Cut: cut, Denied: why, ID: id})
}

// decide checks c's number and fence, and makes its operands busy.
func (m *Manager) decide(s *session, c commit) {
	if !m.off.succession {
		if c.cut <= s.lastCut {
			m.emit(Output{Kind: OutCommitKnown, Session: s.id, Cut: c.cut})
			return
		}
		if c.cut != s.lastCut+1 {
			m.refuse(s, c.cut, DeniedOutOfTurn, 0)
			return
		}
	}
	for _, f := range c.fence {
		if !m.keeps(s, f) {
			m.refuse(s, c.cut, DeniedFence, f.ID)
			return
		}
	}
	for _, b := range c.born {
		if o := m.objects[b.ID]; o != nil && (len(o.holders) > 0 || len(o.unsent) > 0) {
			m.refuse(s, c.cut, DeniedFence, b.ID)
			return
		}
	}
	s.applying = &c
	for _, f := range c.fence {
		if o := m.objects[f.ID]; f.Mode == Write {
			o.busyWrite++
		} else {
			o.busyRead++
		}
	}
	for _, b := range c.born {
		o := m.object(b.ID)
		m.hold(o, s, Write, b.Gen)
		m.used(b.ID, Write, s)
		o.busyWrite++
	}
	m.begin(s)
}

// begin lets the decided cut be applied as soon as no plain operation of the session's own
// connection reads what it writes; new ones wait, since that is busy.
func (m *Manager) begin(s *session) {
	c := s.applying
	if c == nil || c.began {
		return
	}
	for _, f := range c.fence {
		if f.Mode == Write && m.objects[f.ID].readers > 0 {
			return
		}
	}
	c.began = true
	m.emit(Output{Kind: OutCommitGo, Session: s.id, Cut: c.cut})
}

// keeps reports whether s has held what f names, without interruption.
func (m *Manager) keeps(s *session, f Held) bool {
	o := m.objects[f.ID]
	if o == nil || f.Mode != Read && f.Mode != Write {
		return false
	}
	h := o.holding(s)
	if h == nil || h.mode < f.Mode {
		return false
	}
	if m.off.looseFence {
		return h.gen == f.Gen
	}
	return h.since[f.Mode-1] <= f.Gen && f.Gen <= m.gen // one to come was never given
}

// committed: the running cut was applied, or nothing of it was.
func (m *Manager) committed(s *session, in *Input) {
	c := s.applying
	if c == nil || !c.began || c.cut != in.Cut {
		panic("tokens: Committed of a cut that is not being applied")
	}
	s.applying = nil
	for _, f := range c.fence {
		o := m.objects[f.ID]
		if f.Mode == Write {
			o.busyWrite--
			if in.Applied {
				o.writes++
			}
		} else {
			o.busyRead--
		}
		free := f.Mode
		if !m.off.busyOver {
			free = o.recallable(s, free) // if its lease is over, all that it holds can be taken now
		}
		m.touch(o, free)
		m.tidy(o)
	}
	for _, b := range c.born {
		o := m.objects[b.ID]
		o.busyWrite--
		if h := o.holding(s); h != nil && !in.Applied {
			m.lower(o, h, None)
		}
		m.touch(o, Write)
		m.tidy(o)
	}
	if in.Applied {
		s.lastCut = c.cut
	}
	m.moved(s)
	m.nextCommit(s)
	switch {
	case s.applying != nil:
	case s.gone:
		delete(m.sessions, s.id)
	case s.resuming:
		m.resumed(s)
	}
}

// nextCommit goes on with the cuts that wait.
func (m *Manager) nextCommit(s *session) {
	for s.applying == nil && len(s.commits) > 0 {
		c := s.commits[0]
		s.commits = s.commits[1:]
		m.decide(s, c)
	}
}

package tokens

import "slices"

// session is a client with the extension.
type session struct {
	id        SessionID
	connected bool
	gone      bool // ended, but a cut of it is still being applied
	resuming  bool // connected again, OutResumed waits for the running cut

	until   int64 // the lease is over from then on
	expired bool  // OutExpired was said

	held   map[ID]struct{}
	writes int              // of them, those for writing
	lost   map[ID]lostToken // until the client was told
	knew   map[ID]Mode      // then, and what was left: it may still be on record

	reclaims bool        // of an earlier epoch, it has not reclaimed all that it wants
	barred   map[ID]Mode // what was on record as lost when this epoch began, and what was left

	waiting int // requests

	posted   int   // Trecalls
	unposted int64 // posted is 0 since
	pending  []ID  // recalls to send, some out of date
	speaking bool  // in Manager.speakers
	any      int   // tokens to ask for, whichever
	anyAsked int   // asked for and not come yet

	recalls  int   // outstanding
	progress int64 // the last, or when recalls last rose from 0
	queue    []outstanding
	late     bool // was overdue when last looked at

	lastCut  uint64
	applying *commit
	commits  []commit // wait for the one that is applied
}

type lostToken struct {
	left Mode
	told bool // in an OutResumed on the present connection
}

// outstanding is a recall in the order of time; out of date when the holding says otherwise.
type outstanding struct {
	id ID
	at int64
}

// over reports whether s's lease has ended.
func (m *Manager) over(s *session) bool { return m.now >= s.until }

// overdue reports whether s is past the deadline of a recall, without progress.
func (m *Manager) overdue(s *session) bool {
	return s.recalls > 0 && m.now >= m.deadline(s)
}

// deadline is when s, from which something is recalled, becomes overdue.
func (m *Manager) deadline(s *session) int64 {
	if at, ok := m.oldest(s); ok {
		return min(s.progress+m.cfg.RecallDeadline, at+m.cfg.RecallLimit)
	}
	return s.progress + m.cfg.RecallDeadline
}

// oldest is when that was recalled from s which is wanted for the longest.
func (m *Manager) oldest(s *session) (at int64, ok bool) {
	for len(s.queue) > 0 {
		q := s.queue[0]
		if o := m.objects[q.id]; o != nil {
			if h := o.holding(s); h != nil && h.recalled && h.at == q.at || m.off.oldestRecall {
				return q.at, true
			}
		}
		s.queue = s.queue[1:]
	}
	return 0, false
}

// moved notes progress of s.
func (m *Manager) moved(s *session) {
	s.progress = m.now
	m.relax(s)
}

// relax: who yielded because s was overdue may reserve again.
func (m *Manager) relax(s *session) {
	if s.late && !m.overdue(s) {
		s.late = false
		m.again = true
	}
}

// open makes a session.
func (m *Manager) open(in *Input) {
	if m.sessions[in.Session] != nil {
		panic("tokens: session id in use")
	}
	m.sessions[in.Session] = &session{
		id: in.Session, connected: true, lastCut: in.Cut,
		until: m.now + m.cfg.Lease, unposted: m.now,
		held: map[ID]struct{}{}, lost: map[ID]lostToken{},
	}
}

// end frees all that s has.
func (m *Manager) end(s *session) {
	m.hangUp(s)
	s.gone = true
	for _, id := range sortedIDs(s.held) {
		o := m.objects[id]
		m.lower(o, o.holding(s), None)
		m.tidy(o)
	}
	s.lost = nil
	if s.applying == nil {
		delete(m.sessions, s.id)
	}
	m.endGrace()
}

// hangUp forgets what hangs on s's connection.
func (m *Manager) hangUp(s *session) {
	s.connected, s.resuming = false, false
	s.posted, s.unposted = 0, m.now
	s.any, s.anyAsked = 0, 0
	s.commits = nil
	for id, l := range s.lost {
		l.told = false
		s.lost[id] = l
	}
	for _, r := range m.requestsOf(s) {
		if !r.plain {
			m.cancel(r)
		}
	}
}

// requestsOf lists s's requests in the order of their names.
func (m *Manager) requestsOf(s *session) []*request {
	var all []*request
	for _, r := range m.reqs {
		if r.session == s {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *request) int {
		switch {
		case a.id < b.id:
			return -1
		case a.id > b.id:
			return 1
		}
		return 0
	})
	return all
}

// resume: s's client is back.
func (m *Manager) resume(s *session) {
	if s.connected {
		for _, r := range m.requestsOf(s) {
			if r.state == reqWaiting && !r.plain {
				m.deny(r, DeniedExpired)
			}
		}
	}
	if s.applying != nil && !m.off.waitBusy {
		s.resuming = true
		return
	}
	m.resumed(s)
}

// resumed answers, when nothing of s is being applied any more.
func (m *Manager) resumed(s *session) {
	if m.over(s) {
		m.retryAll()   // who waits takes what he can before the lease is good again
		m.again = true // what he could not take must be recalled from now on
	}
	s.resuming, s.connected = false, true
	if m.over(s) || !m.overdue(s) {
		s.until = m.now + m.cfg.Lease
	}
	s.expired = false
	s.unposted = m.now
	from := len(m.lost)
	for _, id := range sortedIDs(s.lost) {
		l := s.lost[id]
		m.lost = append(m.lost, Lost{id, l.left})
		l.told = true
		s.lost[id] = l
	}
	m.emit(Output{Kind: OutResumed, Session: s.id, Cut: s.lastCut, Lease: s.until - m.now, Lost: m.lost[from:len(m.lost):len(m.lost)]})
	if m.off.forgetTold {
		m.told(s)
	}
	if s.recalls == 0 || m.off.recallAgain {
		return
	}
	// On the same connection, too: the client may have answered before it
	// knew that it must resume, and what it sent then does not count.
	s.pending = s.pending[:0]
	for _, id := range sortedIDs(s.held) {
		if h := m.objects[id].holding(s); h.recalled {
			h.toSend = true
			m.speak(s, id)
		}
	}
}

// told: the client knows what it lost.
func (m *Manager) told(s *session) {
	from := len(m.lost)
	for _, id := range sortedIDs(s.lost) {
		if l := s.lost[id]; l.told || m.off.forgetOnlyTold {
			delete(s.lost, id)
			m.lost = append(m.lost, Lost{id, l.left})
			if m.cfg.Record {
				if s.knew == nil {
					s.knew = map[ID]Mode{}
				}
				s.knew[id] = l.left
			}
		}
	}
	if m.cfg.Record && len(m.lost) > from {
		m.emit(Output{Kind: OutForget, Session: s.id, Lost: m.lost[from:len(m.lost):len(m.lost)]})
	}
}

// revoke takes from h, whose lease is over, what r wants.
func (m *Manager) revoke(r *request, o *object, h *holding, keep Mode) {
	if m.off.takeLess {
		keep = None
	}
	s := h.s
	m.emit(Output{Kind: OutRevoked, Session: s.id, Req: r.id, ID: o.id, Gen: h.gen, Keep: keep})
	if !m.off.tellLost {
		left := keep
		if l, ok := s.lost[o.id]; ok {
			left = min(left, l.left)
		}
		s.lost[o.id] = lostToken{left: left}
	}
	m.lower(o, h, keep)
}

// giveBack: s returns a token.
func (m *Manager) giveBack(s *session, in *Input) {
	o := m.objects[in.ID]
	if o == nil {
		return
	}
	h := o.holding(s)
	if h == nil || in.Gen < h.gen && !m.off.gen {
		if h != nil {
			m.oldReturns++
		}
		return
	}
	if in.Keep < h.mode {
		m.lower(o, h, in.Keep)
		m.tidy(o)
	}
	m.moved(s)
}

// post: s posted n Trecalls; below 0: some were flushed.
func (m *Manager) post(s *session, n int) {
	had := s.posted
	if s.posted = max(0, s.posted+n); s.posted == 0 && had > 0 {
		s.unposted = m.now
	}
	if len(s.pending) > 0 || s.any > 0 {
		m.address(s)
	}
}

// speak has the recall of id sent to s at the end of the Step.
func (m *Manager) speak(s *session, id ID) {
	s.pending = append(s.pending, id)
	m.address(s)
}

func (m *Manager) address(s *session) {
	if !s.speaking {
		s.speaking = true
		m.speakers = append(m.speakers, s)
	}
}

// speakAll puts recalls on the FIFOs of those who posted for them.
func (m *Manager) speakAll() {
	for i, s := range m.speakers {
		m.speakers[i] = nil
		s.speaking = false
		for s.connected && !s.gone && s.posted > 0 && m.say(s) {
			if s.posted--; s.posted == 0 {
				s.unposted = m.now
			}
		}
	}
	m.speakers = m.speakers[:0]
}

// say puts one message of recalls on s's FIFO; false: there is nothing to say.
func (m *Manager) say(s *session) bool {
	from, k := len(m.recalls), 0
	for ; k < len(s.pending) && len(m.recalls)-from < maxRecalls; k++ {
		id := s.pending[k]
		o := m.objects[id]
		if o == nil {
			continue
		}
		if h := o.holding(s); h != nil && h.recalled && h.toSend {
			h.toSend = false
			m.recalls = append(m.recalls, Recall{ID: id, Gen: h.gen, Keep: h.keep, Why: h.why})
		}
	}
	s.pending = s.pending[:copy(s.pending, s.pending[k:])]
	if len(m.recalls) == from && s.any == 0 {
		return false
	}
	m.emit(Output{Kind: OutRecall, Session: s.id, Recalls: m.recalls[from:len(m.recalls):len(m.recalls)], Any: s.any})
	s.anyAsked, s.any = s.anyAsked+s.any, 0
	return true
}

// limit asks for tokens back when s, or all, have too many.
func (m *Manager) limit(s *session) {
	if over := len(s.held) - m.cfg.MaxTokensPerSession; over > 0 {
		m.askAny(s, over+m.cfg.MaxTokensPerSession/10)
	}
	if over := m.tokens - m.cfg.MaxTokens; over > 0 {
		most := s
		for _, t := range m.sessions {
			if len(t.held) > len(most.held) || len(t.held) == len(most.held) && t.id < most.id {
				most = t
			}
		}
		m.askAny(most, over+m.cfg.MaxTokens/10)
	}
}

// askAny asks s for n tokens, unless it owes some already.
func (m *Manager) askAny(s *session, n int) {
	if s.any == 0 && s.anyAsked == 0 {
		s.any = min(n, len(s.held))
		m.address(s)
	}
}

// Extend is asked when a reply to session s is enqueued: how much lease it
// carries, in nanoseconds counted from before the client sent the request; 0: not
// extended; once the lease is over only InConnected opens a new one.
func (m *Manager) Extend(now int64, s SessionID) int64 {
	m.now = max(m.now, now)
	c := m.sessions[s]
	if c == nil || !m.extends(c) {
		return 0
	}
	c.until = max(c.until, m.now+m.cfg.Lease)
	return m.cfg.Lease
}

// extends reports whether a reply to s may carry lease now.
func (m *Manager) extends(s *session) bool {
	switch {
	case s.gone || !s.connected || m.over(s) && !m.off.extendOver:
		return false
	case m.off.overdue:
		return true
	}
	return !m.overdue(s) && (s.posted > 0 || m.now < s.unposted+m.cfg.RecallDeadline)
}

// Expired reports whether s must resume (Tsession) before anything is granted to it.
func (m *Manager) Expired(now int64, s SessionID) bool {
	m.now = max(m.now, now)
	c := m.sessions[s]
	return c == nil || c.gone || m.over(c)
}

// tick: time has passed.
func (m *Manager) tick() {
	m.endGrace()
	for _, id := range sortedIDs(m.sessions) {
		s := m.sessions[id]
		if m.over(s) && !s.expired && !s.gone {
			s.expired = true
			m.emit(Output{Kind: OutExpired, Session: s.id})
			m.again = true
		}
		if late := m.overdue(s); late != s.late {
			s.late = late
			m.again = true
		}
	}
}

// Next is the time at which an InTick is due; math.MaxInt64 when none is. It looks
// at every session: ask after a tick, not after every step. (Deadlines set since
// then are never nearer than RecallDeadline.)
func (m *Manager) Next() int64 {
	next := int64(1<<63 - 1)
	if m.grace.on && !m.grace.asking {
		next = m.grace.until
	}
	for _, s := range m.sessions {
		if !s.expired && !s.gone {
			next = min(next, s.until)
		}
		if s.recalls > 0 && !s.late {
			next = min(next, m.deadline(s))
		}
	}
	return next
}

func sortedIDs[K ~uint64, V any](set map[K]V) []K {
	ids := make([]K, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

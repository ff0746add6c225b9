package tokens

// standing is what is between a request and one object of its set.
type standing uint8

const (
	clear  standing = 0
	taking standing = 1 << iota // a session whose lease is over holds it: can be taken
	waits                       // something ends by itself: a plain operation, a cut, a Sent, an earlier request
	recall                      // a session holds it that can be asked
	stall                       // a session holds it that is overdue with a recall
)

// standing looks at one item of r, and changes nothing.
func (m *Manager) standing(r *request, it *item) (st standing) {
	o := it.o
	if m.grace.on && !m.off.graceWait && !(r.plain && r.session != nil && m.enough(r, it)) {
		return waits // only reclaims are granted
	}
	if o.writers > 0 {
		return waits // nobody else has it
	}
	if o.recording > 0 && !m.off.recordFirst && !(r.plain && r.session != nil && m.enough(r, it)) {
		return waits // whoever gets it, gets what was taken
	}
	if it.mode == Write && o.readers > 0 && (r.plain || o.readers > o.ownReaders(r.session)) {
		st |= waits
	}
	if !m.off.busy && (o.busyWrite > 0 || it.mode == Write && o.busyRead > 0) {
		st |= waits
	}
	if r.session != nil {
		if h := o.holding(r.session); h != nil {
			if r.plain {
				if h.mode >= it.mode {
					return st // let in by what the session holds, recalled or not
				}
			} else if h.recalled {
				st |= waits // it comes back first: what was granted after it would have to be recalled, too
			}
		}
	}
	for i := range o.unsent {
		if g := &o.unsent[i]; g.r.session != r.session && conflict[g.mode][it.mode] {
			st |= waits // nothing is recalled before it was Sent
		}
	}
	for i := range o.holders {
		h := &o.holders[i]
		if h.s == r.session || !conflict[h.mode][it.mode] {
			continue
		}
		switch {
		case o.unsentTo(h.s):
			st |= waits
		case m.over(h.s):
			if !m.off.busy && o.busyRead+o.busyWrite > 0 {
				st |= waits
			} else {
				st |= taking
			}
		case h.recalled && m.overdue(h.s):
			st |= stall
		default:
			st |= recall
		}
	}
	if o.full == 0 {
		return st
	}
	for _, w := range o.waiters {
		if r.state == reqWaiting && w.seq >= r.seq {
			break
		}
		if m.full(w) && m.reserves(w, r, o, it.mode) {
			st |= waits
			break
		}
	}
	return st
}

// reserves reports whether waiting request w is in the way of r, which came later and wants
// mode of o.
func (m *Manager) reserves(w, r *request, o *object, mode Mode) bool {
	if w.stalled || w.try || w.session != nil && w.session == r.session {
		return false
	}
	for i := range w.set {
		if w.set[i].o == o {
			return conflict[w.set[i].mode][mode]
		}
	}
	return false
}

// try grants r when it can be granted now; else it asks for what is in the way,
// and r goes on waiting (or, if it does not wait yet, the caller parks or denies it).
func (m *Manager) try(r *request) bool {
	m.tries++
	if r.session != nil && !r.plain && m.over(r.session) {
		m.deny(r, DeniedExpired)
		return true
	}
	if r.names != nil {
		m.age(r)
	}
	var all standing
	for i := range r.set {
		all |= m.standing(r, &r.set[i])
	}
	stalled := all&stall != 0
	if stalled != r.stalled {
		m.stalls(r, stalled)
		if stalled {
			m.yield(r)
		}
	}
	if all&^taking == 0 {
		if r.names != nil && m.ask(r) {
			return false
		}
		m.grant(r)
		return true
	}
	if r.try {
		if r.state == reqWaiting {
			m.deny(r, DeniedWait)
			return true
		}
		return false
	}
	if !stalled && (!m.grace.on || m.off.graceWait) {
		for i := range r.set {
			stalled = m.want(r, &r.set[i]) || stalled
		}
		if stalled {
			m.stalls(r, true)
			m.yield(r)
		}
	}
	return false
}

// yield: r no longer reserves anything: who waits behind it is tried again.
func (m *Manager) yield(r *request) {
	if r.state != reqWaiting {
		return
	}
	for i := range r.set {
		m.touch(r.set[i].o, r.set[i].mode)
	}
}

// age drops answers about names that may no longer be true.
func (m *Manager) age(r *request) {
	if m.off.resolveFresh {
		return
	}
	changed := false
	for i := range r.names {
		b := &r.names[i]
		if b.state == bindKnown && b.writes != m.objects[r.elems[i].ID].writes {
			b.state = bindNone
			changed = changed || b.bound
		}
	}
	if changed {
		m.build(r)
	}
}

// ask asks for the names that are not known; false: all are.
func (m *Manager) ask(r *request) bool {
	waiting := false
	for i := range r.names {
		e, b := &r.elems[i], &r.names[i]
		if e.Name == "" || b.state == bindKnown {
			continue
		}
		waiting = true
		if b.state == bindNone {
			b.state, b.writes = bindAsked, m.objects[e.ID].writes
			m.emit(Output{Kind: OutResolve, Session: r.sid(), Req: r.id, Elem: i, ID: e.ID, Name: e.Name})
		}
	}
	return waiting
}

// want recalls what stands between r and it, and reports whether any is in the hands of
// a session that is overdue with something else.
func (m *Manager) want(r *request, it *item) (stalled bool) {
	o := it.o
	if own := o.holding(r.session); r.plain && own != nil && own.mode >= it.mode {
		return false
	}
	for i := range o.holders {
		h := &o.holders[i]
		if h.s == r.session || !conflict[h.mode][it.mode] || h.wanted(keepFor[it.mode], it.why()) ||
			o.unsentTo(h.s) || m.over(h.s) || o.before(h.s, r) {
			continue
		}
		m.recall(o, h, keepFor[it.mode], it.why())
		if m.overdue(h.s) {
			stalled = true
			m.touch(o, h.mode) // for others who wait for it
		}
	}
	return stalled
}

// before reports whether a request of s about o waits ahead of r: it is s's turn
// first, so taking from s what it holds now would only have it fetched once more.
func (o *object) before(s *session, r *request) bool {
	for _, w := range o.waiters {
		if r.state == reqWaiting && w.seq >= r.seq {
			break
		}
		if w.session == s && w.fetches() {
			return true
		}
	}
	return false
}

// recall wants h back, down to keep.
func (m *Manager) recall(o *object, h *holding, keep Mode, why Why) {
	if !h.recalled {
		h.recalled, h.keep, h.why, h.at = true, keep, why, m.now
		s := h.s
		if s.recalls == 0 {
			s.progress, s.queue = m.now, s.queue[:0]
		}
		s.recalls++
		s.queue = append(s.queue, outstanding{o.id, m.now})
	}
	h.keep, h.why = min(h.keep, keep), max(h.why, why)
	h.toSend = true
	m.speak(h.s, o.id)
}

// grant gives r what it asks for, taking it from sessions whose lease is over.
func (m *Manager) grant(r *request) {
	took := false
	for i := range r.set {
		it := &r.set[i]
		for k := len(it.o.holders) - 1; k >= 0; k-- {
			h := &it.o.holders[k]
			if h.s != r.session && conflict[h.mode][it.mode] && !(r.plain && m.enough(r, it)) {
				m.revoke(r, it.o, h, keepFor[it.mode])
				took, it.took = true, true
			}
		}
		for _, w := range it.o.waiters {
			if r.state == reqWaiting && w.seq >= r.seq {
				break
			}
			if m.reserves(w, r, it.o, it.mode) {
				m.overtaken(w)
			}
		}
	}
	if took && m.off.takeAndGrant && r.state == reqWaiting {
		// Without rule 18 the taker goes behind the others, until another grant was Sent.
		m.unpark(r)
		r.bypassed, r.later = 0, true
		m.park(r)
		return
	}
	m.unpark(r)
	for i := range r.set {
		it := &r.set[i]
		o := it.o
		if it.mode == Write {
			o.writes++
		}
		m.used(o.id, it.mode, r.session)
		switch {
		case !r.plain:
			g := grant{r: r, mode: it.mode}
			h := o.holding(r.session)
			if h != nil {
				g.mode = raise[h.mode][it.mode]
			}
			if g.gen = m.NewGen(); m.off.freshGen && h != nil {
				g.gen = h.gen
			}
			o.unsent = append(o.unsent, g)
		case it.mode == Write:
			o.writers++
		default:
			o.readers++
			if r.session != nil {
				o.addOwn(r.session, 1)
			}
		}
	}
	if m.unrecord(r) || took && m.cfg.Record {
		r.state = reqRecording
		for i := range r.set {
			if r.set[i].took {
				r.set[i].o.recording++
			}
		}
		return
	}
	m.granted(r)
}

// unrecord has forgotten what is on record as taken from r's session and granted to it again: else that would count as taken in the next epoch.
func (m *Manager) unrecord(r *request) bool {
	s := r.session
	if r.plain || len(s.knew) == 0 || m.off.forgetFirst {
		return false
	}
	from := len(m.lost)
	for i := range r.set {
		it := &r.set[i]
		if left, ok := s.knew[it.o.id]; ok && left < it.mode {
			delete(s.knew, it.o.id)
			it.took = true
			m.lost = append(m.lost, Lost{it.o.id, left})
		}
	}
	if len(m.lost) == from {
		return false
	}
	m.emit(Output{Kind: OutForget, Session: s.id, Req: r.id, Lost: m.lost[from:len(m.lost):len(m.lost)]})
	return true
}

// enough reports whether r's session holds enough of it.
func (m *Manager) enough(r *request, it *item) bool {
	h := it.o.holding(r.session)
	return h != nil && h.mode >= it.mode
}

// granted says so.
func (m *Manager) granted(r *request) {
	if r.state = reqUnsent; r.plain {
		r.state = reqRunning
	}
	from := len(m.toks)
	for i := range r.elems {
		id, ok := r.elems[i].ID, true
		if r.elems[i].Name != "" {
			id, ok = r.names[i].id, r.names[i].bound
		}
		var t Token
		if ok {
			t = r.token(id)
		}
		m.toks = append(m.toks, t)
	}
	m.emit(Output{Kind: OutGranted, Session: r.sid(), Req: r.id, Tokens: m.toks[from:len(m.toks):len(m.toks)]})
}

// token is what r got of object id.
func (r *request) token(id ID) Token {
	for i := range r.set {
		it := &r.set[i]
		if it.o.id != id {
			continue
		}
		if r.plain {
			return Token{ID: id, Mode: it.mode}
		}
		for k := range it.o.unsent {
			if g := &it.o.unsent[k]; g.r == r {
				return Token{ID: id, Gen: g.gen, Mode: g.mode}
			}
		}
	}
	return Token{ID: id}
}

// offer grants the elements of r that nobody else holds or waits for; to raise, only those that its session holds already.
func (m *Manager) offer(r *request, raise bool) {
	s := r.session
	r.set = r.buf[:0]
	full := len(s.held) >= m.cfg.MaxTokensPerSession || m.tokens >= m.cfg.MaxTokens
	for i := range r.elems {
		e := &r.elems[i]
		if full {
			break
		}
		o := m.object(e.ID)
		it := item{o: o, mode: e.Mode}
		h := o.holding(s)
		_, knew := s.knew[e.ID]
		if knew || len(o.waiters) > 0 || h != nil && h.mode >= e.Mode || h == nil && raise || o.unsentTo(s) || m.standing(r, &it) != clear {
			m.tidy(o)
			continue
		}
		if e.Mode == Write {
			o.writes++
		}
		m.used(e.ID, e.Mode, s)
		r.set = append(r.set, it)
		o.unsent = append(o.unsent, grant{r, e.Mode, m.NewGen()})
	}
	m.granted(r)
}

// retryAll tries everybody who waits: time has changed what can be taken or reserved.
func (m *Manager) retryAll() {
	for r := m.firstWaiting; r != nil; {
		next := r.next // trying r ends nobody else's wait
		m.retry(r)
		r = next
	}
}

// retry tries r again.
func (m *Manager) retry(r *request) bool { return r.state == reqWaiting && !r.later && m.try(r) }

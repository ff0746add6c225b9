package tokens

// request is what a session or a plain client asked for, until it is over.
type request struct {
	id      ReqID
	session *session // nil: a plain client
	plain   bool
	try     bool
	state   reqState
	dropped bool // recording: nobody wants it any more

	elems []Elem
	names []binding // as elems, when any has a name
	set   []item    // what is known of the set, each object once
	buf   [4]item

	seq      uint64
	bypassed int  // conflicting later requests granted since it waits
	stalled  bool // an element is held by a session overdue with a recall

	later bool // only without rule 18

	prev, next *request // in Manager.waiting
}

type reqState uint8

const (
	reqNew reqState = iota
	reqWaiting
	reqRecording // decided; what it takes away is being recorded
	reqUnsent    // granted to a session
	reqRunning   // granted to a plain operation
)

// item is an object of a request's set.
type item struct {
	o      *object
	mode   Mode
	unlink bool
	odd    bool // while it waits: see object.odd
	took   bool // it was taken from somebody, or its own session, which is being recorded, or forgotten
}

// binding is what is known of a (D, name) element.
type binding struct {
	state  bindState
	bound  bool
	id     ID
	writes uint64 // of D when the answer was asked for
}

type bindState uint8

const (
	bindNone  bindState = iota
	bindAsked           // OutResolve is out
	bindKnown           // answered, and true while D.writes stands
)

// request begins in's life.
func (m *Manager) request(in *Input) {
	if _, dup := m.reqs[in.Req]; dup {
		panic("tokens: request id in use")
	}
	var s *session
	if in.Session != 0 {
		if s = m.sessions[in.Session]; s == nil || s.gone {
			m.emit(Output{Kind: OutDenied, Session: in.Session, Req: in.Req, Denied: DeniedSession})
			return
		}
	}
	plain := in.Plain || s == nil
	if d := m.admit(in, s, plain); d != 0 {
		m.emit(Output{Kind: OutDenied, Session: in.Session, Req: in.Req, Denied: d})
		return
	}
	r := m.newRequest()
	r.id, r.session, r.plain, r.try, r.elems = in.Req, s, plain, in.Try, in.Elems
	m.reqs[r.id] = r
	if in.Offer {
		m.offer(r, in.Raise)
		return
	}
	for i := range r.elems {
		if r.elems[i].Name != "" {
			r.names = make([]binding, len(r.elems))
			break
		}
	}
	m.build(r)
	if r.names == nil {
		if m.try(r) {
			return
		}
		if r.try {
			m.deny(r, DeniedWait)
			return
		}
		m.park(r)
		return
	}
	m.park(r)
	m.try(r)
}

// admit says why a request is denied at once, or 0.
func (m *Manager) admit(in *Input, s *session, plain bool) Denial {
	if len(in.Elems) == 0 {
		return DeniedInvalid
	}
	for i := range in.Elems {
		e := &in.Elems[i]
		if e.Mode != Read && e.Mode != Write || e.Name != "" && (in.Offer || !names(in.Elems, e.ID)) {
			return DeniedInvalid
		}
	}
	if plain {
		if s == nil && m.plainWaiting >= m.cfg.MaxWaitingPlain || s != nil && s.waiting >= m.cfg.MaxWaiting {
			return DeniedLimit
		}
		return 0
	}
	switch {
	case m.over(s):
		return DeniedExpired
	case s.waiting >= m.cfg.MaxWaiting || len(s.held) >= 2*m.cfg.MaxTokensPerSession || m.tokens >= 2*m.cfg.MaxTokens:
		return DeniedLimit
	}
	return 0
}

// names reports whether the set has directory d itself.
func names(elems []Elem, d ID) bool {
	for i := range elems {
		if elems[i].ID == d && elems[i].Name == "" {
			return true
		}
	}
	return false
}

// build makes r.set of what is known, each object once in its highest mode, and
// keeps the lists of waiters true.
func (m *Manager) build(r *request) {
	old := m.items[:0]
	if r.state == reqWaiting {
		old = append(old, r.set...)
		m.items = old
		m.unlist(r)
	}
	r.set = r.buf[:0]
	for i := range r.elems {
		e := &r.elems[i]
		id := e.ID
		if e.Name != "" {
			if b := &r.names[i]; b.state != bindKnown || !b.bound {
				continue
			}
			id = r.names[i].id
		}
		o := m.object(id)
		add := true
		for j := range r.set {
			if r.set[j].o == o {
				r.set[j].mode = max(r.set[j].mode, e.Mode)
				r.set[j].unlink = r.set[j].unlink || e.Unlink
				add = false
			}
		}
		if add {
			r.set = append(r.set, item{o: o, mode: e.Mode, unlink: e.Unlink})
		}
	}
	if r.state == reqWaiting {
		m.list(r)
	}
	for i := range old {
		m.tidy(old[i].o)
	}
}

// list puts r among the waiters of its objects.
func (m *Manager) list(r *request) {
	for i := range r.set {
		o := r.set[i].o
		k := len(o.waiters)
		for k > 0 && o.waiters[k-1].seq > r.seq {
			k--
		}
		o.waiters = append(o.waiters, nil)
		copy(o.waiters[k+1:], o.waiters[k:])
		o.waiters[k] = r
		m.tally(r, &r.set[i], 1)
	}
}

// unlist takes r out again; who waited behind it is tried again if r was in his way.
func (m *Manager) unlist(r *request) {
	for i := range r.set {
		o := r.set[i].o
		k := o.behind(r.seq - 1)
		copy(o.waiters[k:], o.waiters[k+1:])
		o.waiters[len(o.waiters)-1] = nil
		o.waiters = o.waiters[:len(o.waiters)-1]
		m.tally(r, &r.set[i], -1)
		if m.mattered(r, o, k) {
			m.touch(o, Write)
		} else {
			m.brush(o)
		}
	}
}

// park lets r wait.
func (m *Manager) park(r *request) {
	r.state = reqWaiting
	m.seq++
	r.seq = m.seq
	m.list(r)
	if r.prev = m.lastWaiting; r.prev != nil {
		r.prev.next = r
	} else {
		m.firstWaiting = r
	}
	m.lastWaiting = r
	if r.session != nil {
		r.session.waiting++
	} else {
		m.plainWaiting++
	}
}

// unpark ends r's waiting.
func (m *Manager) unpark(r *request) {
	if r.state != reqWaiting {
		return
	}
	m.unlist(r)
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		m.firstWaiting = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		m.lastWaiting = r.prev
	}
	r.prev, r.next = nil, nil
	r.state = reqNew
	if r.session != nil {
		r.session.waiting--
	} else {
		m.plainWaiting--
	}
}

// deny ends r.
func (m *Manager) deny(r *request, why Denial) {
	m.emit(Output{Kind: OutDenied, Session: r.sid(), Req: r.id, Denied: why})
	m.drop(r)
}

// drop forgets r, whatever its state, silently.
func (m *Manager) drop(r *request) {
	switch r.state {
	case reqWaiting:
		m.unpark(r)
	case reqRecording, reqUnsent:
		for i := range r.set {
			o := r.set[i].o
			for k := range o.unsent {
				if g := o.unsent[k]; g.r == r {
					o.unsent = append(o.unsent[:k], o.unsent[k+1:]...)
					m.touch(o, o.recallable(r.session, g.mode))
					break
				}
			}
		}
	case reqRunning:
		for i := range r.set {
			o := r.set[i].o
			if r.set[i].mode == Write {
				o.writers--
			} else {
				o.readers--
				if r.session != nil {
					o.addOwn(r.session, -1)
				}
			}
			m.touch(o, r.set[i].mode)
		}
	}
	m.free(r)
}

// free forgets r itself.
func (m *Manager) free(r *request) {
	delete(m.reqs, r.id)
	for i := range r.set {
		m.tidy(r.set[i].o)
	}
	if len(m.freeRequests) < maxFree {
		*r = request{}
		m.freeRequests = append(m.freeRequests, r)
	}
}

func (m *Manager) newRequest() *request {
	if n := len(m.freeRequests); n > 0 {
		r := m.freeRequests[n-1]
		m.freeRequests = m.freeRequests[:n-1]
		return r
	}
	return new(request)
}

func (r *request) sid() SessionID {
	if r.session == nil {
		return 0
	}
	return r.session.id
}

// cancel: nobody wants r any more.
func (m *Manager) cancel(r *request) {
	switch r.state {
	case reqRunning:
	case reqRecording:
		r.dropped = true
	default:
		m.drop(r)
	}
}

// sent: the reply is on the FIFO.
func (m *Manager) sent(r *request) {
	if r.state != reqUnsent {
		return
	}
	s := r.session
	for i := range r.set {
		o := r.set[i].o
		for k := range o.unsent {
			if g := o.unsent[k]; g.r == r {
				if o.unsent = append(o.unsent[:k], o.unsent[k+1:]...); len(o.unsent) == 0 {
					o.unsent = nil // most objects are held for long
				}
				m.hold(o, s, g.mode, g.gen)
				if h := o.holding(s); h.recalled && !h.toSend && !m.off.recallReclaimed {
					h.toSend = true // a reclaim: the answer to the recall of an older generation does not count any more
					m.speak(s, o.id)
				}
				m.touch(o, o.recallable(s, g.mode))
				break
			}
		}
	}
	m.free(r)
	m.limit(s)
	if m.off.takeAndGrant {
		for w := m.firstWaiting; w != nil; w = w.next {
			m.again, w.later = m.again || w.later, false
		}
	}
}

// recorded: what was taken for r is on record; others may have of it what r leaves.
func (m *Manager) recorded(r *request) {
	if r.state != reqRecording {
		return
	}
	for i := range r.set {
		if it := &r.set[i]; it.took {
			it.took = false
			it.o.recording--
			m.touch(it.o, Write)
		}
	}
}

// resolved: the answer to OutResolve.
func (m *Manager) resolved(r *request, in *Input) {
	if r.state != reqWaiting || in.Elem < 0 || in.Elem >= len(r.names) {
		return
	}
	b := &r.names[in.Elem]
	if b.state != bindAsked {
		return
	}
	b.state, b.bound, b.id = bindKnown, in.Bound, in.ID
	m.build(r)
	m.retry(r)
}

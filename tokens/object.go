package tokens

// object is an entry of the Manager's table: there while anybody holds, uses,
// waits for or applies something on it.
type object struct {
	id      ID
	holders []holding
	unsent  []grant    // granted to sessions, the reply not Sent
	waiters []*request // in the order of arrival

	own    []ownUse // of readers, those of sessions' connections
	writes uint64   // grants for writing and cuts applied so far: answers about names in it age by that

	// There are many objects: counts are short.
	readers, writers int32 // plain operations that run
	busyRead         int32 // cuts being applied that read or write it
	busyWrite        int32
	recording        int32 // requests for which something of it was taken, and that is not on record yet

	// Of the waiters, how many there are that
	listed  [Write]int32 // want it for Read and Write, from 0
	odd     int32        // must always be tried: a Try, an unlink, an answer about a name in it that can age
	guests  int32        // are plain operations of sessions
	stalled int32        // are stalled
	full    int32        // were overtaken as often as may be

	dirty bool        // in Manager.dirty
	moved [Write]bool // dirty, and those who want it for Read and Write, from 0, may be better off
	live  bool        // in Manager.objects
}

// holding is a session's token, as its client knows or will know it.
type holding struct {
	s     *session
	gen   Gen        // the newest one Sent
	since [Write]Gen // for Read and Write, from 0: held so without interruption since
	mode  Mode

	recalled bool
	keep     Mode  // recalled: down to this
	why      Why   // recalled
	toSend   bool  // the recall is still to be put on the FIFO
	at       int64 // recalled: when
}

// grant is a session's token before its reply is Sent.
type grant struct {
	r    *request
	mode Mode
	gen  Gen
}

type ownUse struct {
	s *session
	n int32
}

func (m *Manager) object(id ID) *object {
	if o := m.objects[id]; o != nil {
		return o
	}
	var o *object
	if n := len(m.freeObjects); n > 0 {
		o = m.freeObjects[n-1]
		m.freeObjects = m.freeObjects[:n-1]
	} else {
		o = new(object)
	}
	o.id, o.live = id, true
	m.objects[id] = o
	return o
}

// tidy forgets o when nothing refers to it.
func (m *Manager) tidy(o *object) {
	if !o.live || len(o.holders) != 0 || len(o.unsent) != 0 || len(o.waiters) != 0 || o.dirty ||
		o.readers != 0 || o.writers != 0 || o.busyRead != 0 || o.busyWrite != 0 {
		return
	}
	delete(m.objects, o.id)
	o.live = false
	if len(m.freeObjects) < maxFree {
		*o = object{holders: o.holders[:0], unsent: o.unsent[:0], waiters: o.waiters[:0], own: o.own[:0]}
		m.freeObjects = append(m.freeObjects, o)
	}
}

// touch has the waiters of o tried again before the Step ends: those with whom mode is in
// conflict, since somebody who had it has it no more, or can be asked for it now.
func (m *Manager) touch(o *object, mode Mode) {
	if m.brush(o); !o.dirty {
		return
	}
	for want := Read; want <= Write; want++ {
		// What a session's own plain operations may do depends on more.
		o.moved[want-1] = o.moved[want-1] || conflict[mode][want] || o.guests > 0
	}
}

// brush is touch where no waiter can be better off.
func (m *Manager) brush(o *object) {
	if !o.dirty && len(o.waiters) > 0 {
		o.dirty = true
		m.dirty = append(m.dirty, o)
	}
}

// holding finds s's token on o, nil when there is none.
func (o *object) holding(s *session) *holding {
	for i := range o.holders {
		if o.holders[i].s == s {
			return &o.holders[i]
		}
	}
	return nil
}

// unsentTo reports whether a grant to s waits for its Sent.
func (o *object) unsentTo(s *session) bool {
	for i := range o.unsent {
		if o.unsent[i].r.session == s {
			return true
		}
	}
	return false
}

// recallable is what s can be asked for now that a grant of mode to it was Sent or
// taken back: all that it holds, which nobody asked for before.
func (o *object) recallable(s *session, mode Mode) Mode {
	if h := o.holding(s); h != nil {
		return max(h.mode, mode)
	}
	return mode
}

// ownReaders is how many plain operations of s's connection run on o.
func (o *object) ownReaders(s *session) int32 {
	if s != nil {
		for i := range o.own {
			if o.own[i].s == s {
				return o.own[i].n
			}
		}
	}
	return 0
}

func (o *object) addOwn(s *session, n int32) {
	for i := range o.own {
		if o.own[i].s == s {
			if o.own[i].n += n; o.own[i].n == 0 {
				o.own = append(o.own[:i], o.own[i+1:]...)
			}
			return
		}
	}
	o.own = append(o.own, ownUse{s, n})
}

// lower brings s's token on o down to mode.
func (m *Manager) lower(o *object, h *holding, mode Mode) {
	s, touch := h.s, h.mode
	if h.recalled && s.waiting > 0 {
		touch = Write // s's own requests wait for it to come back
	}
	for w := mode + 1; w <= Write; w++ {
		h.since[w-1] = 0
	}
	if h.mode == Write && mode < Write && !m.off.countWrites {
		s.writes--
	}
	h.mode = leave[h.mode][mode]
	if h.recalled && h.mode <= h.keep {
		h.recalled, h.toSend = false, false
		s.recalls--
		m.relax(s)
	}
	if h.mode == None {
		i := 0
		for &o.holders[i] != h {
			i++
		}
		last := len(o.holders) - 1
		copy(o.holders[i:], o.holders[i+1:])
		o.holders[last] = holding{}
		o.holders = o.holders[:last]
		delete(s.held, o.id)
		m.tokens--
		if s.anyAsked > 0 {
			s.anyAsked--
		}
	}
	m.touch(o, touch)
}

// hold gives s mode of o at generation gen, beside what it has.
func (m *Manager) hold(o *object, s *session, mode Mode, gen Gen) {
	h := o.holding(s)
	if h == nil {
		o.holders = append(o.holders, holding{s: s})
		h = &o.holders[len(o.holders)-1]
		s.held[o.id] = struct{}{}
		m.tokens++
	}
	for w := Read; w <= mode; w++ {
		if at := &h.since[w-1]; *at == 0 || gen < *at {
			*at = gen
		}
	}
	if h.mode < Write && mode == Write {
		s.writes++
	}
	h.mode = raise[h.mode][mode]
	h.gen = max(h.gen, gen)
}

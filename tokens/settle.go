package tokens

import "slices"

// Who is tried again, when something has changed on an object for which many wait. To try
// all of them would be right, but a client could then have the Manager do a thousand things for
// each request that it sends. So only those are tried who want an object in a mode in which it came
// free (touch); they are walked in their order, those are passed by for whom a barrier says that
// trying them would change nothing, and the walk ends where it says so of all who are left.

// barrier is what o itself has in the way of those who wait for it, by the mode that they want.
type barrier struct {
	shut    [3]bool     // nobody gets it
	but     [3]*session // shut: save this session
	unasked [3]bool     // a holder can be asked for it still
	stall   [3]bool     // a session that holds it is overdue
	moved   [3]bool     // something of it has changed for them
}

// close: session s (nil: nobody) has mode; others do not get what conflicts with it.
func (b *barrier) close(mode Mode, s *session) {
	for want := Read; want <= Write; want++ {
		if conflict[mode][want] {
			b.closeFor(want, s)
		}
	}
}

func (b *barrier) closeFor(want Mode, but *session) {
	if !b.shut[want] {
		b.shut[want], b.but[want] = true, but
	} else if b.but[want] != but {
		b.but[want] = nil
	}
}

// barrier is what is in the way on o now, but for earlier waiters. What it leaves out
// (cuts being applied, sessions whose lease is over) makes it weaker, never wrong.
func (m *Manager) barrier(o *object, moved [3]bool) (b barrier) {
	b.moved = moved
	if o.writers > 0 {
		b.close(Write, nil)
	}
	if o.readers > 0 {
		var s *session
		if len(o.own) == 1 && o.own[0].n == o.readers {
			s = o.own[0].s
		}
		b.close(Read, s)
	}
	for i := range o.unsent {
		b.close(o.unsent[i].mode, o.unsent[i].r.session)
	}
	for i := range o.holders {
		h := &o.holders[i]
		if m.over(h.s) {
			continue
		}
		b.close(h.mode, h.s)
		if o.unsentTo(h.s) {
			continue
		}
		stall := h.recalled && m.overdue(h.s)
		for want := Read; want <= Write; want++ {
			if conflict[h.mode][want] {
				b.stall[want] = b.stall[want] || stall
				b.unasked[want] = b.unasked[want] || !h.wanted(keepFor[want], WhyConflict)
			}
		}
	}
	return b
}

// comesBack reports whether a session's token must come back before that session gets more of o.
func (o *object) comesBack(s *session) bool {
	h := o.holding(s)
	return h != nil && h.recalled
}

// bars reports whether trying r, which waits for it, would change nothing.
func (m *Manager) bars(b *barrier, r *request, it *item) bool {
	s := r.session
	switch {
	case it.odd:
		return false
	case !b.moved[it.mode]:
		return true
	case m.off.tryLess || !b.shut[it.mode] || b.unasked[it.mode] || b.stall[it.mode] != r.stalled:
		return false
	case s == nil:
		return true
	case r.plain:
		return s != b.but[it.mode] && it.o.holding(s) == nil // it may be let in by what s holds
	case m.over(s):
		return false // is denied
	}
	return s != b.but[it.mode] || it.o.comesBack(s)
}

// barsRest reports whether trying whoever waits for o would change nothing, but for
// the passed ones, counted by mode.
func (m *Manager) barsRest(b *barrier, o *object, passed *[3]int32) bool {
	if m.off.tryLess || o.odd > 0 {
		return false
	}
	for want := Read; want <= Write; want++ {
		if !b.moved[want] || o.listed[want-1] == passed[want] {
			continue
		}
		if o.guests > 0 || o.stalled > 0 || !b.shut[want] || b.unasked[want] || b.stall[want] {
			return false
		}
		if s := b.but[want]; s != nil && s.waiting > 0 && !o.comesBack(s) {
			return false
		}
	}
	return true
}

// settle tries the waiters of all objects that were touched, until nothing changes.
func (m *Manager) settle() {
	for i := 0; i < len(m.dirty); i++ {
		o := m.dirty[i]
		moved := [3]bool{Read: o.moved[Read-1], Write: o.moved[Write-1]}
		if m.off.tryMoved {
			moved = [3]bool{Read: true, Write: true}
		}
		o.dirty, o.moved = false, [Write]bool{}
		if moved[Read] || moved[Write] || o.odd > 0 {
			m.walk(o, moved)
		}
		m.tidy(o)
	}
	m.dirty = m.dirty[:0]
}

// walk tries o's waiters in their order, as far as it can help them.
func (m *Manager) walk(o *object, moved [3]bool) {
	var passed [3]int32
	var ahead barrier // of those passed who reserve it
	b := m.barrier(o, moved)
	for i := 0; i < len(o.waiters) && !m.barsRest(&b, o, &passed); {
		r := o.waiters[i]
		it := r.item(o)
		if !m.bars(&b, r, it) {
			seq := r.seq
			if m.retry(r) {
				b = barrier{moved: moved} // the next is tried in any case
			} else {
				b = m.barrier(o, moved)
				for want := Read; want <= Write; want++ {
					if ahead.shut[want] {
						b.closeFor(want, ahead.but[want])
					}
				}
			}
			if i >= len(o.waiters) || o.waiters[i] != r {
				i = o.behind(seq)
				continue
			}
			it = r.item(o)
		}
		if m.full(r) && !r.stalled && !r.try {
			ahead.close(it.mode, r.session)
			b.close(it.mode, r.session)
		}
		passed[it.mode]++
		i++
	}
}

// full reports whether r may not be overtaken any more.
func (m *Manager) full(r *request) bool { return r.bypassed >= m.cfg.Bypass && !m.off.bypass }

// overtaken: a later request got what w wants.
func (m *Manager) overtaken(w *request) {
	was := m.full(w)
	if w.bypassed++; !was && m.full(w) {
		for i := range w.set {
			w.set[i].o.full++
		}
	}
}

// stalls notes whether r waits for a session that is overdue.
func (m *Manager) stalls(r *request, stalled bool) {
	r.stalled = stalled
	if r.state != reqWaiting {
		return
	}
	n := int32(-1)
	if stalled {
		n = 1
	}
	for i := range r.set {
		r.set[i].o.stalled += n
	}
}

// mattered reports whether somebody who waits for o may be better off, or has to ask a
// holder himself, now that r does not wait at place k any more.
func (m *Manager) mattered(r *request, o *object, k int) bool {
	switch {
	case k == len(o.waiters) || r.stalled || r.try:
		return false
	case m.full(r):
		return true
	case r.session == nil || !r.fetches() || o.holding(r.session) == nil:
		return false
	}
	// Those behind r did not ask its session for what it holds, as long as it was its turn
	// first: see before. It still is, for those behind another request of that session.
	if w := o.waiters[k]; w.session == r.session && w.fetches() {
		return false
	}
	for _, w := range o.waiters[:k] {
		if w.session == r.session && w.fetches() {
			return false
		}
	}
	return true
}

// fetches reports whether r gets its session a token as soon as it is its turn.
func (r *request) fetches() bool { return !r.plain && !r.try && !r.stalled }

// tally counts r, which wants it, n times more among the waiters.
func (m *Manager) tally(r *request, it *item, n int32) {
	if n > 0 {
		it.odd = r.try || it.unlink || r.knows(it.o.id)
	}
	it.o.tally(r, it, n, m.full(r))
	if n < 0 {
		it.odd = false
	}
}

func (o *object) tally(r *request, it *item, n int32, full bool) {
	o.listed[it.mode-1] += n
	if it.odd {
		o.odd += n
	}
	if r.plain && r.session != nil {
		o.guests += n
	}
	if r.stalled {
		o.stalled += n
	}
	if full {
		o.full += n
	}
}

// knows reports whether r has an answer about a name in directory d.
func (r *request) knows(d ID) bool {
	for i := range r.names {
		if r.names[i].state == bindKnown && r.elems[i].ID == d && r.elems[i].Name != "" {
			return true
		}
	}
	return false
}

// item is what r wants of o, nil when it is not known to want it.
func (r *request) item(o *object) *item {
	for i := range r.set {
		if r.set[i].o == o {
			return &r.set[i]
		}
	}
	return nil
}

// why is why it is recalled for this.
func (it *item) why() Why {
	if it.unlink {
		return WhyUnlink
	}
	return WhyConflict
}

// wanted reports whether h was recalled down to keep at least, for why or more.
func (h *holding) wanted(keep Mode, why Why) bool {
	return h.recalled && h.keep <= keep && h.why >= why
}

// behind is the place of the first waiter that came after number seq.
func (o *object) behind(seq uint64) int {
	i, _ := slices.BinarySearchFunc(o.waiters, seq, func(r *request, seq uint64) int {
		if r.seq <= seq {
			return -1
		}
		return 1
	})
	return i
}

package tokens

import "fmt"

// Check reports a broken invariant of the Manager's state. After each step under
// the build tag invariants, which panics then; tests call it always.
func (m *Manager) Check() error {
	tokens := 0
	for id, o := range m.objects {
		if o.id != id || !o.live || o.dirty {
			return fmt.Errorf("object %d: bad entry", id)
		}
		tokens += len(o.holders)
		if err := m.checkTallies(o); err != nil {
			return fmt.Errorf("object %d: %w", id, err)
		}
		if err := m.checkObject(o); err != nil {
			return fmt.Errorf("object %d: %w", id, err)
		}
	}
	for _, s := range m.sessions {
		recalls, writes := 0, 0
		for id := range s.held {
			h := m.objects[id].holding(s)
			if h == nil {
				return fmt.Errorf("session %d: does not hold %d", s.id, id)
			}
			if h.recalled {
				recalls++
			}
			if h.mode == Write {
				writes++
			}
		}
		if writes != s.writes {
			return fmt.Errorf("session %d: %d tokens for writing, counted %d", s.id, writes, s.writes)
		}
		if recalls != s.recalls {
			return fmt.Errorf("session %d: %d recalls, counted %d", s.id, recalls, s.recalls)
		}
		tokens -= len(s.held)
	}
	if tokens != 0 {
		return fmt.Errorf("holdings and sessions differ by %d", tokens)
	}
	waiting := 0
	for r := m.firstWaiting; r != nil; r = r.next {
		if waiting++; r.next != nil && r.next.seq <= r.seq {
			return fmt.Errorf("request %d: queued out of order", r.id)
		}
		if err := m.checkWaiter(r); err != nil {
			return fmt.Errorf("request %d: %w", r.id, err)
		}
	}
	for _, r := range m.reqs {
		if r.state == reqWaiting {
			waiting--
		}
	}
	if waiting != 0 {
		return fmt.Errorf("the queue and the table of requests differ by %d", waiting)
	}
	return nil
}

// checkTallies: what is counted of the waiters is what there is.
func (m *Manager) checkTallies(o *object) error {
	var p object
	for i, r := range o.waiters {
		if i > 0 && o.waiters[i-1].seq >= r.seq {
			return fmt.Errorf("request %d: waits out of order", r.id)
		}
		it := r.item(o)
		if it == nil {
			return fmt.Errorf("request %d: waits, and does not want it", r.id)
		}
		p.tally(r, it, 1, m.full(r))
	}
	if p.listed != o.listed || p.odd != o.odd || p.guests != o.guests || p.stalled != o.stalled || p.full != o.full {
		return fmt.Errorf("waiters: counted %v %d %d %d %d, there are %v %d %d %d %d",
			o.listed, o.odd, o.guests, o.stalled, o.full, p.listed, p.odd, p.guests, p.stalled, p.full)
	}
	return nil
}

// checkObject: no two parties have conflicting modes (I1).
func (m *Manager) checkObject(o *object) error {
	type party struct {
		s    *session
		mode Mode
	}
	var all []party
	for i := range o.holders {
		h := &o.holders[i]
		if h.mode == None || h.since[Read-1] == 0 || (h.since[Write-1] == 0) == (h.mode == Write) || h.gen < h.since[h.mode-1] && !m.off.freshGen {
			return fmt.Errorf("session %d: bad holding %+v", h.s.id, *h)
		}
		all = append(all, party{h.s, h.mode})
	}
	for i := range o.unsent {
		all = append(all, party{o.unsent[i].r.session, o.unsent[i].mode})
	}
	writers := 0
	for i, a := range all {
		for _, b := range all[:i] {
			if a.s != b.s && conflict[a.mode][b.mode] {
				return fmt.Errorf("sessions %d and %d have it, %v and %v", a.s.id, b.s.id, a.mode, b.mode)
			}
		}
		if a.mode == Write {
			writers++
		}
	}
	own := int32(0)
	for _, u := range o.own {
		own += u.n
	}
	switch {
	case o.readers < 0 || o.writers < 0 || o.writers > 1 || own > o.readers || o.busyRead < 0 || o.busyWrite < 0:
		return fmt.Errorf("bad counts: %d readers, %d own, %d writers, busy %d %d", o.readers, own, o.writers, o.busyRead, o.busyWrite)
	case o.writers > 0 && o.readers > 0, o.readers > own && o.busyWrite > 0, o.writers > 0 && o.busyWrite+o.busyRead > 0:
		return fmt.Errorf("plain operations and cuts at one time: %d readers, %d writers, busy %d %d", o.readers, o.writers, o.busyRead, o.busyWrite)
	case o.readers > own && writers > 0, o.writers > 0 && len(all) > 1:
		return fmt.Errorf("plain operations beside a conflicting token: %d readers, %d writers", o.readers, o.writers)
	}
	return nil
}

// checkWaiter: whoever waits, waits for somebody who will act or whose time runs.
func (m *Manager) checkWaiter(r *request) error {
	asked := false
	for i := range r.names {
		asked = asked || r.names[i].state == bindAsked
	}
	var all standing
	for i := range r.set {
		it := &r.set[i]
		listed := 0
		for _, w := range it.o.waiters {
			if w == r {
				listed++
			}
		}
		if listed != 1 {
			return fmt.Errorf("is %d times among the waiters of %d", listed, it.o.id)
		}
		all |= m.standing(r, it)
	}
	if all == clear && !asked || all == taking && !asked && !m.unnoticed(r) {
		return fmt.Errorf("waits for nothing")
	}
	if all&stall != 0 {
		return nil // asks nobody else meanwhile
	}
	for i := range r.set {
		it := &r.set[i]
		if m.standing(r, it)&recall == 0 {
			continue
		}
		for k := range it.o.holders {
			h := &it.o.holders[k]
			if h.s != r.session && conflict[h.mode][it.mode] && !m.over(h.s) && !it.o.unsentTo(h.s) && !h.recalled && !it.o.before(h.s, r) {
				return fmt.Errorf("waits for session %d, which was not asked for %d", h.s.id, it.o.id)
			}
		}
	}
	return nil
}

// unnoticed reports whether a lease ended in r's way since the last InTick.
func (m *Manager) unnoticed(r *request) bool {
	for i := range r.set {
		for k := range r.set[i].o.holders {
			if s := r.set[i].o.holders[k].s; m.over(s) && !s.expired {
				return true
			}
		}
	}
	return false
}

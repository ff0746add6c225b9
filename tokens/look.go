package tokens

import "slices"

// What a status shows: as much as is asked for, however many tokens there are.

// Counts is how much a session has.
type Counts struct {
	Tokens, Writes int   // held, and of them those for writing
	Recalled       int   // of them, wanted back
	Since          int64 // Recalled: when the one was first wanted that is wanted for the longest
}

// Counts tells how much session s has.
func (m *Manager) Counts(s SessionID) Counts {
	c := m.sessions[s]
	if c == nil {
		return Counts{}
	}
	n := Counts{Tokens: len(c.held), Writes: c.writes, Recalled: c.recalls}
	if c.recalls > 0 {
		n.Since, _ = m.oldest(c)
	}
	return n
}

// Waiting calls f with each request that waits, the longest first, until f returns false.
func (m *Manager) Waiting(f func(ReqID) bool) {
	for r := m.firstWaiting; r != nil && f(r.id); r = r.next {
	}
}

// maxInTheWay is how many objects of a request InTheWay looks at.
const maxInTheWay = 64

// InTheWay appends to dst up to most sessions, sorted, that hold in a conflicting mode what waiting request id wants,
// as far as a look at its first objects tells.
func (m *Manager) InTheWay(id ReqID, most int, dst []SessionID) []SessionID {
	r, from := m.reqs[id], len(dst)
	if r == nil {
		return dst
	}
	for _, it := range r.set[:min(len(r.set), maxInTheWay)] {
		for k := 0; k < len(it.o.holders) && len(dst) < from+most; k++ {
			if h := &it.o.holders[k]; h.s != r.session && conflict[h.mode][it.mode] && !slices.Contains(dst[from:], h.s.id) {
				dst = append(dst, h.s.id)
			}
		}
	}
	slices.Sort(dst[from:])
	return dst
}

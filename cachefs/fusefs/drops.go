package fusefs

// drops is the account of an object's pages in the kernel while revocations drop them, and of the READs that bring
// them. Plain data, guarded by node.mu.
//
// A revocation drops pages by one invalidation after the other, each a pass. The kernel keeps a page locked from before it
// sends the READ for it until it has the answer, and an invalidation waits for locked pages: so the page of a READ is dropped by
// every invalidation of it that begins after the READ came, whenever that is answered. What came in a pass may have been missed by
// it; and it may be answered later than that pass ends, or not at all.
type drops struct {
	pages    bool   // the kernel may have pages
	revoking int    // revocations under way
	ended    uint64 // how many ended
	pass     uint64 // counts invalidations
	behind   []span // READs that came in this pass, answered or not: the invalidation may have missed their pages
	answered bool   // one that came in this pass was answered
}

// arrival is what is remembered of a READ from when it comes until it is answered.
type arrival struct {
	span        span
	during      bool // a revocation was under way: what it revokes is held until it ends
	pass, ended uint64
}

// verdict says what becomes of a READ that has its data.
type verdict int

const (
	askAgain verdict = iota // the data may be older than what was given up meanwhile
	give                    // they are good until what covers them is revoked, and that will drop their pages
	bare                    // no token covers them, and nothing will drop their pages
)

// arrived notes a READ, before the backend is asked.
func (d *drops) arrived(s span, h *hooks) arrival {
	if d.revoking > 0 && !h.onlyAnswered {
		d.behind = addSpan(d.behind, s)
	}
	return arrival{s, d.revoking > 0, d.pass, d.ended}
}

// answer says what becomes of a READ that has its data; covered: a token that nobody wanted back covered them when it had arrived.
// The answer is given in one step with that.
func (d *drops) answer(a arrival, covered bool, h *hooks) verdict {
	switch {
	case h.noCover:
	case a.ended != d.ended:
		return askAgain
	case covered:
	case d.revoking == 0:
		return bare
	case !a.during && !h.lateCover:
		return askAgain // they may be from before what is revoked now was held
	}
	if a.pass == d.pass {
		d.answered = true
		if h.onlyAnswered {
			d.behind = addSpan(d.behind, a.span)
		}
	}
	return give
}

// beginPass starts a revocation's next pass and says what it is to drop.
func (d *drops) beginPass(first bool) []span {
	spans := d.behind
	if first {
		spans = []span{{}} // all
	}
	d.pass++
	d.behind, d.answered = nil, false
	return spans
}

// endPass says, when an invalidation is through, whether the kernel has no pages any more: then
// the revocation must end in the same step, so that READs which are not answered yet ask again.
func (d *drops) endPass(h *hooks) bool {
	if d.answered && !h.onePass {
		return false
	}
	d.pages, d.behind = false, nil
	return true
}

// endRevocation notes the end of a revocation.
func (d *drops) endRevocation() {
	d.revoking--
	d.ended++
}

// span is a part of a file; length 0: all from off on.
type span struct{ off, length int64 }

// maxSpans bounds how many are told apart.
const maxSpans = 64

func addSpan(list []span, s span) []span {
	for i := range list {
		switch l := &list[i]; {
		case l.length == 0 && l.off == 0, *l == s:
			return list
		case l.off+l.length == s.off: // reading on
			l.length += s.length
			return list
		}
	}
	if len(list) == maxSpans {
		return []span{{}}
	}
	return append(list, s)
}

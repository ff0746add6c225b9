package tokens

// NewEpoch: Rsession said that the server was started again (call it before that reply's LeaseGranted, and
// again for every Rsession until ReclaimDone). What is held has to be reclaimed (Unreclaimed), but for what own
// names: objects that only this client knows, created and not committed, which it holds by their range in every epoch.
//
// Until ReclaimDone no lease is counted that is granted from now on. What the last one still covers may be
// served meanwhile, as while the server was away: nobody else gets anything for as long, since the
// grace period lasts at least a lease.
func (h *Holder) NewEpoch(own func(ID) bool) {
	h.reclaiming, h.next = true, never
	for id, t := range h.tokens {
		t.unreclaimed = t.mode != None && (own == nil || !own(id))
	}
}

// Reclaiming reports whether NewEpoch was called, and ReclaimDone not since.
func (h *Holder) Reclaiming() bool { return h.reclaiming }

// Unreclaimed appends to dst what is still to be reclaimed, sorted by ID: in any order, in sets of any size.
func (h *Holder) Unreclaimed(dst []Token) []Token {
	for _, id := range sortedIDs(h.tokens) {
		if t := h.tokens[id]; t.unreclaimed {
			dst = append(dst, Token{id, t.gen, t.mode})
		}
	}
	return dst
}

// Reclaimed takes one element of the answer to a reclaim. Held without interruption, it is held at the new generation now: operations
// that have it pinned go on, what was fetched under an older generation is not installed. With a lower mode than was held
// the rest is lost, as Lost says, and the operations that need it are the shell's to discard.
// An object that somebody changed while the server was away is Lost, then Offered, instead.
func (h *Holder) Reclaimed(k Token) {
	t := h.tokens[k.ID]
	if t == nil || t.mode == None {
		if k.Mode != None { // it was given back meanwhile
			h.out = append(h.out, HolderOutput{Kind: HolderReturn, ID: k.ID, Gen: k.Gen})
		}
		return
	}
	t.unreclaimed = false
	h.Lost(k.ID, k.Mode)
	if k.Mode == None {
		return
	}
	t.mode, t.gen = raise[t.mode][k.Mode], k.Gen
	for w := Read; w <= t.mode; w++ {
		t.since[w] = k.Gen
	}
}

// ReclaimDone: the server has answered that it knows: nothing more will be reclaimed. (It is told when all answers to
// reclaims are there, not along with the last of them.) What was not reclaimed is lost, as Lost says, and listed.
// The lease that was granted since NewEpoch counts from here on: only now the server would wait for this client if it were started again.
func (h *Holder) ReclaimDone() (lost []Lost) {
	if !h.reclaiming {
		return nil
	}
	for _, t := range h.Unreclaimed(nil) {
		h.tokens[t.ID].unreclaimed = false
		h.Lost(t.ID, None)
		lost = append(lost, Lost{ID: t.ID})
	}
	h.reclaiming, h.until = false, h.next
	return lost
}

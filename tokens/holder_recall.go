package tokens

// Recalled: the server wants r back. It is always answered in the end, also when nothing is held.
func (h *Holder) Recalled(r Recall) {
	t := h.tokens[r.ID]
	if t == nil || t.mode == None || t.gen > r.Gen || h.off.recallCovers && t.gen != r.Gen {
		// Not held, or all that r covers went back before what is held now was granted.
		if !h.off.answerAlways {
			h.out = append(h.out, HolderOutput{Kind: HolderReturn, ID: r.ID, Gen: r.Gen})
		}
		return
	}
	h.begin(r.ID, t, r.Keep, r.Gen)
}

// begin begins to bring t down to keep.
func (h *Holder) begin(id ID, t *token, keep Mode, covers Gen) {
	if !t.recalled {
		t.recalled, t.keep = true, keep
	}
	t.keep = min(t.keep, keep)
	t.covers = max(t.covers, covers)
	h.advance(id, t)
}

// advance does what can be done now for a recalled token.
func (h *Holder) advance(id ID, t *token) {
	if t.ready && t.keepsUp() {
		h.out = append(h.out, HolderOutput{Kind: HolderReturn, ID: id, Gen: max(t.covers, t.gen), Keep: t.down, Open: t.open})
		t.ready = false
		t.lower(t.down)
		if t.down <= t.keep {
			t.recalled, t.covers = false, 0
		}
		if t.mode == None {
			delete(h.tokens, id) // no pins, nothing owed: a token that is owed for is not asked for
			return
		}
	}
	if t.recalled && !t.asked && !t.ready && t.updates == 0 {
		t.asked, t.again = true, false
		h.out = append(h.out, HolderOutput{Kind: HolderRelinquish, ID: id, Keep: t.keep})
	}
}

// keepsUp reports whether nobody uses t in a mode beyond what it goes down to.
func (t *token) keepsUp() bool {
	if t.down == None {
		return t.pins == 0
	}
	return t.updates == 0
}

// Relinquished: what HolderRelinquish{id, keep} asked for is done; open: the
// client has the object open. HolderReturn follows as soon as nobody uses the token.
func (h *Holder) Relinquished(id ID, keep Mode, open bool) {
	t := h.tokens[id]
	switch {
	case t == nil:
	case t.owed > 0:
		t.owed--
		h.bury(id, t)
	case t.asked:
		t.asked = false
		if !t.again {
			t.ready, t.down, t.open = true, keep, open
		}
		h.advance(id, t)
	}
}

// RecallPending reports whether id is wanted back: replies to a kernel then carry timeout 0.
func (h *Holder) RecallPending(id ID) bool {
	t := h.tokens[id]
	return t != nil && t.recalled
}

// GiveBack begins to return a token unasked, down to keep.
func (h *Holder) GiveBack(id ID, keep Mode) {
	if t := h.tokens[id]; t != nil && t.mode > keep {
		h.begin(id, t, keep, t.gen)
	}
}

// RecalledAny: the server wants n tokens back, whichever: the longest unused go, read tokens first.
func (h *Holder) RecalledAny(n int) {
	ids := h.unused(1<<62, n, Read, nil)
	if len(ids) < n {
		ids = h.unused(1<<62, n-len(ids), Write, ids)
	}
	for _, id := range ids {
		h.GiveBack(id, None)
	}
}

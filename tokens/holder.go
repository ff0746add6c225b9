package tokens

import "slices"

// Holder is the client's half: which tokens it has, what they allow, who uses
// them and which are wanted back.
//
// The shell asks Pin; when that fails it asks the server for the *whole* set
// (Ask, Tgrant), and on Rgrant the Holder pins the set once on the asker's
// behalf, so that a granted request can be used once before it is recalled.
// After any call, Outputs has what the shell must do.
type Holder struct {
	off    rulesOff
	margin int64
	until  int64 // nothing is served from then on
	tokens map[ID]*token
	reqs   map[ReqID]*asked
	none   int // of tokens: those whose mode is None

	reclaiming bool  // in a new epoch: a lease is counted in next
	next       int64 // the lease that counts when all is reclaimed

	out, given []HolderOutput
	install    []bool
}

// token is what the client has of an object.
type token struct {
	mode  Mode // None: gone, but still pinned or owed
	gen   Gen
	since [3]Gen // for Read and Write: held so without interruption since

	pins    int32
	updates int32 // pins of updates
	tainted bool  // lost, wholly or in part, while pinned: no pin is good until all are gone
	used    int64 // last pinned

	recalled bool
	keep     Mode // recalled: down to this
	covers   Gen  // recalled: generations up to this
	asked    bool // HolderRelinquish is out
	again    bool // asked: an update began since, so it must be asked again
	ready    bool // Relinquished was said; HolderReturn waits for pins
	down     Mode // ready: down to this
	open     bool // ready
	owed     int  // calls of Relinquished that answer a HolderRelinquish from before a loss

	unreclaimed bool // held in an earlier epoch
}

// asked is a request for tokens.
type asked struct {
	elems   []Elem // as asked; once granted, as resolved
	granted bool
	lost    bool // a token was lost since
}

// HolderOutput is something for the client's shell to do, in the order given.
type HolderOutput struct {
	Kind HolderOutKind
	ID   ID
	Gen  Gen // Return: what to name
	Keep Mode
	Open bool // Return: what Relinquished said; false for what was not held
}

// HolderOutKind says what a HolderOutput is.
type HolderOutKind uint8

// The kinds of a Holder's outputs.
const (
	// HolderRelinquish: ID is to go down to Keep. Commit the pending operations that
	// conflict with that (Keep None: all that wrote or read ID; Keep Read: all that wrote it),
	// make the kernel forget, then call Relinquished. Reads may go on meanwhile. It may come
	// again, for a lower Keep, or because an update was granted meanwhile: each is answered.
	HolderRelinquish HolderOutKind = 1 + iota
	// HolderReturn: send Treturn. The token is gone from here (down to Keep), or was not held:
	// then it is the shell that knows whether it has the object open, and says so.
	HolderReturn
)

// never is a time before all others.
const never = -1 << 62

// NewHolder makes a Holder without tokens and without a lease. margin is taken
// off every lease, for clocks that run at different speeds.
func NewHolder(margin int64) *Holder {
	return &Holder{margin: margin, until: never, tokens: map[ID]*token{}, reqs: map[ReqID]*asked{}}
}

// LeaseGranted: a reply to a request that was sent at askedAt carried dur nanoseconds of lease (0: none).
func (h *Holder) LeaseGranted(askedAt, dur int64) {
	switch until := askedAt + dur - h.margin; {
	case dur <= 0:
	case h.reclaiming && !h.off.serveUnreclaimed:
		h.next = max(h.next, until)
	default:
		h.until = max(h.until, until)
	}
}

// LeaseLeft is how long, from now, the client may serve what it holds; 0 when it may not.
func (h *Holder) LeaseLeft(now int64) int64 { return max(0, h.until-now) }

// Valid reports whether the client may serve what it holds.
func (h *Holder) Valid(now int64) bool { return now < h.until || h.off.serveOver }

// Pin pins all elements for one operation and reports true, or none and reports
// false. An update (a set with a Write element) does not start on a token that is recalled
// below what it needs; a read may, until the token is returned. Elements have no names.
func (h *Holder) Pin(now int64, elems []Elem) bool {
	if !h.Valid(now) {
		return false
	}
	update := isUpdate(elems)
	for i := range elems {
		t := h.tokens[elems[i].ID]
		if t == nil || !t.allows(elems[i].Mode, update) {
			h.undo(elems[:i], update)
			return false
		}
		t.pins++
		if update {
			t.updates++
		}
		t.used = now
	}
	return true
}

// undo takes back pins of a Pin that fails.
func (h *Holder) undo(elems []Elem, update bool) {
	for i := range elems {
		t := h.tokens[elems[i].ID]
		t.pins--
		if update {
			t.updates--
		}
	}
}

// allows reports whether an operation that needs mode may start.
func (t *token) allows(mode Mode, update bool) bool {
	return t.mode >= mode && !t.tainted && !(t.recalled && t.keep < mode && (update || t.ready))
}

func isUpdate(elems []Elem) bool {
	for i := range elems {
		if elems[i].Mode == Write {
			return true
		}
	}
	return false
}

// Unpin ends the use of what Pin pinned with the same elems.
func (h *Holder) Unpin(elems []Elem) {
	update := isUpdate(elems)
	for i := range elems {
		t := h.tokens[elems[i].ID]
		t.pins--
		if update {
			t.updates--
		}
		if t.pins == 0 && t.tainted {
			t.tainted = false
			h.bury(elems[i].ID, t)
		}
		if t.recalled {
			h.advance(elems[i].ID, t)
		}
	}
}

// Missing appends to dst the elements for which Pin would fail now. Elements with a name are missing always.
func (h *Holder) Missing(now int64, elems, dst []Elem) []Elem {
	valid, update := h.Valid(now), isUpdate(elems)
	for _, e := range elems {
		if t := h.tokens[e.ID]; e.Name != "" || !valid || t == nil || !t.allows(e.Mode, update) {
			dst = append(dst, e)
		}
	}
	return dst
}

// Good reports whether an operation that has pinned elems may still take effect:
// none of its tokens was lost and the lease is good.
func (h *Holder) Good(now int64, elems []Elem) bool {
	if !h.Valid(now) {
		return false
	}
	for i := range elems {
		if t := h.tokens[elems[i].ID]; (t.tainted || t.mode < elems[i].Mode) && !h.off.pinLost {
			return false
		}
	}
	return true
}

// Ask notes that Tgrant of elems is sent as req; elems is kept until the request is over.
func (h *Holder) Ask(req ReqID, elems []Elem) { h.reqs[req] = &asked{elems: elems} }

// Granted: Rgrant of req came. The tokens are held; their set is pinned for Claim. The answer,
// valid until the next call, says for each token whether what came along may be installed: not when the object
// was held already, and not for tokens that were not granted.
func (h *Holder) Granted(now int64, req ReqID, toks []Token) (install []bool) {
	install = h.Offered(now, toks)
	a := h.reqs[req]
	if a == nil || a.granted {
		return install
	}
	elems := make([]Elem, 0, len(toks))
	for i := range min(len(toks), len(a.elems)) {
		if toks[i].Mode != None {
			elems = append(elems, Elem{ID: toks[i].ID, Mode: a.elems[i].Mode})
		} else if a.elems[i].Name == "" {
			a.lost = true // a server that grants a set in part
		}
	}
	a.elems, a.granted = elems, true
	update := isUpdate(elems)
	for i := range elems {
		t := h.tokens[elems[i].ID]
		t.pins++
		if update {
			t.updates++
			t.again = t.asked
		}
		if t.tainted {
			a.lost = true
		}
	}
	return install
}

// Claim hands the pin of a granted req over to its operation, which calls Unpin
// with the resolved elements that Claim returns (names that are not bound left out); false, and nothing is
// pinned, when the request is unknown, not granted, or its tokens were lost or the lease is over: start again.
func (h *Holder) Claim(now int64, req ReqID) (elems []Elem, ok bool) {
	a := h.reqs[req]
	if a == nil || !a.granted {
		return nil, false
	}
	delete(h.reqs, req)
	if a.lost || !h.Valid(now) {
		h.Unpin(a.elems)
		return nil, false
	}
	return a.elems, true
}

// Drop: nobody waits for req any more, granted or not. A grant that comes later is held without a pin.
func (h *Holder) Drop(req ReqID) {
	if a := h.reqs[req]; a != nil {
		delete(h.reqs, req)
		if a.granted {
			h.Unpin(a.elems)
		}
	}
}

// Offered: tokens came along with another reply. The answer is as Granted's.
func (h *Holder) Offered(now int64, toks []Token) (install []bool) {
	h.install = h.install[:0]
	for _, k := range toks {
		if k.Mode == None {
			h.install = append(h.install, false)
			continue
		}
		t := h.tokens[k.ID]
		h.install = append(h.install, t == nil || t.mode == None || h.off.installOver)
		h.hold(now, k)
	}
	return h.install
}

// hold takes k, beside what is held.
func (h *Holder) hold(now int64, k Token) {
	t := h.tokens[k.ID]
	if t == nil {
		t = &token{used: now}
		h.tokens[k.ID] = t
	} else if t.mode == None {
		h.none--
	}
	for w := Read; w <= k.Mode; w++ {
		if t.since[w] == 0 {
			t.since[w] = k.Gen
		}
	}
	t.mode = raise[t.mode][k.Mode]
	t.gen = max(t.gen, k.Gen)
}

// Born: the client created id, of a range that it got at generation gen: it holds its write token.
func (h *Holder) Born(id ID, gen Gen) {
	h.hold(0, Token{ID: id, Gen: gen, Mode: Write})
}

// Forget: id was never known to the server, and is gone: so is its token, and nothing is sent.
func (h *Holder) Forget(id ID) {
	if t := h.tokens[id]; t != nil {
		h.lose(id, t, None)
	}
}

// Lost: Rsession said that only left is left of id. Operations that need more
// are the shell's to discard, after it looked at the last applied cut; pinned ones fail in Claim and Good.
func (h *Holder) Lost(id ID, left Mode) {
	t := h.tokens[id]
	if t == nil || t.mode <= left {
		return
	}
	if !h.off.pinLost {
		for _, a := range h.reqs {
			for i := range a.elems {
				if a.granted && a.elems[i].ID == id && a.elems[i].Mode > left {
					a.lost = true
				}
			}
		}
	}
	h.lose(id, t, left)
}

// lose brings t down to left, whoever uses it.
func (h *Holder) lose(id ID, t *token, left Mode) {
	if t.mode == None {
		return
	}
	t.lower(left)
	t.unreclaimed = t.unreclaimed && t.mode != None
	if t.pins > 0 {
		t.tainted = true
	}
	if left == None {
		// The recalls of it end here; one that comes later is answered as for any token not held.
		if t.asked {
			t.owed++
		}
		t.recalled, t.asked, t.again, t.ready = false, false, false, false
		h.none++
		h.bury(id, t)
		return
	}
	if t.recalled {
		h.advance(id, t)
	}
}

// bury forgets t when it is gone and nobody refers to it.
func (h *Holder) bury(id ID, t *token) {
	if t.mode == None && t.pins == 0 && t.owed == 0 {
		h.none--
		delete(h.tokens, id)
	}
}

func (t *token) lower(mode Mode) {
	for w := mode + 1; w <= Write; w++ {
		t.since[w] = 0
	}
	t.mode = leave[t.mode][mode]
}

// Mode is what is held of id, whatever the lease says.
func (h *Holder) Mode(id ID) Mode {
	if t := h.tokens[id]; t != nil {
		return t.mode
	}
	return None
}

// Gen is the generation of id's token, 0 when it is not held: remember it when
// data is fetched apart from a grant.
func (h *Holder) Gen(id ID) Gen {
	if t := h.tokens[id]; t != nil && t.mode != None {
		return t.gen
	}
	return 0
}

// StillHeld reports whether id has been held, at least for reading, without
// interruption since generation gen: what was fetched under gen may be installed.
func (h *Holder) StillHeld(id ID, gen Gen) bool {
	t := h.tokens[id]
	if t == nil || t.mode < Read {
		return false
	}
	return h.off.genInstall || !t.tainted && gen != 0 && t.since[Read] <= gen
}

// Fence appends to dst what a cut whose operations have these operands must name;
// false when one of them is not held in its mode: the operations are lost.
func (h *Holder) Fence(elems []Elem, dst []Held) ([]Held, bool) {
	for i := range elems {
		e := &elems[i]
		t := h.tokens[e.ID]
		if t == nil || t.mode < e.Mode {
			return dst, false
		}
		dst = append(dst, Held{ID: e.ID, Gen: t.since[e.Mode], Mode: e.Mode})
	}
	return dst, true
}

// Outputs returns what is to be done since the last call, valid until the next
// call of any method that can add to it.
func (h *Holder) Outputs() []HolderOutput {
	h.out, h.given = h.given[:0], h.out
	return h.given
}

// Len is how many tokens are held.
func (h *Holder) Len() int { return len(h.tokens) - h.none }

// Held appends the tokens to dst, sorted by ID: for status and tests.
func (h *Holder) Held(dst []Token) []Token {
	for _, id := range sortedIDs(h.tokens) {
		if t := h.tokens[id]; t.mode != None {
			dst = append(dst, Token{id, t.gen, t.mode})
		}
	}
	return dst
}

// Idle appends to dst at most max read tokens that were not pinned since before,
// the longest unused first: candidates for GiveBack.
func (h *Holder) Idle(before int64, max int, dst []ID) []ID {
	return h.unused(before, max, Read, dst)
}

// unused appends at most max unpinned tokens in mode, the longest unused first.
func (h *Holder) unused(before int64, max int, mode Mode, dst []ID) []ID {
	from := len(dst)
	for id, t := range h.tokens {
		if t.mode == mode && t.pins == 0 && !t.recalled && t.used < before {
			dst = append(dst, id)
		}
	}
	slices.SortFunc(dst[from:], func(a, b ID) int {
		ta, tb := h.tokens[a], h.tokens[b]
		switch {
		case ta.used < tb.used || ta.used == tb.used && a < b:
			return -1
		default:
			return 1
		}
	})
	return dst[:min(len(dst), from+max)]
}

package tokens

// Holder is the client's half: which tokens it has, what they allow, who uses
// them and which are wanted back.
//
// The shell asks Pin; when that fails it asks the server for the *whole* set
// (Ask, Tgrant), and on Rgrant the Holder pins the set once on the asker's
// behalf, so that a granted request can be used once before it is recalled.
// After any call, Outputs has what the shell must do.
type Holder struct {
	out []HolderOutput
}

// HolderOutput is something for the client's shell to do, in the order given.
type HolderOutput struct {
	Kind HolderOutKind
	ID   ID
	Gen  Gen  // Return
	Keep Mode // Relinquish, Return
	Open bool // Return: the client has the object open
}

// HolderOutKind says what a HolderOutput is.
type HolderOutKind uint8

// The kinds of a Holder's outputs.
const (
	// HolderRelinquish: ID is to go down to Keep. Commit the pending operations that
	// conflict with that (Keep None: all that wrote or read ID; Keep Read: all that wrote it),
	// make the kernel forget, then call Relinquished. Reads may go on meanwhile.
	HolderRelinquish HolderOutKind = 1 + iota
	// HolderReturn: send Treturn. The token is gone from here (down to Keep).
	HolderReturn
)

// NewHolder makes a Holder without tokens and without a lease. margin is taken
// off every lease, for clocks that run at different speeds.
func NewHolder(margin int64) *Holder { return &Holder{} }

// LeaseGranted: a reply to a request that was sent at askedAt carried dur nanoseconds of lease (0: none).
func (h *Holder) LeaseGranted(askedAt, dur int64) {}

// LeaseLeft is how long, from now, the client may serve what it holds; 0 when it may not.
func (h *Holder) LeaseLeft(now int64) int64 { return 0 }

// Valid reports whether the client may serve what it holds.
func (h *Holder) Valid(now int64) bool { return false }

// Pin pins all elements for one operation and reports true, or none and reports
// false. An update (a set with a Write element) does not start on a token that is recalled
// below what it needs; a read may, until the token is returned. Elements have no names.
func (h *Holder) Pin(now int64, elems []Elem) bool { return false }

// Unpin ends the use of what Pin pinned with the same elems.
func (h *Holder) Unpin(elems []Elem) {}

// Missing appends to dst the elements for which Pin would fail now. Elements with a name are missing always.
func (h *Holder) Missing(now int64, elems, dst []Elem) []Elem { return dst }

// Good reports whether an operation that has pinned elems may still take effect:
// none of its tokens was lost and the lease is good.
func (h *Holder) Good(now int64, elems []Elem) bool { return false }

// Ask notes that Tgrant of elems is sent as req; elems is kept until the request is over.
func (h *Holder) Ask(req ReqID, elems []Elem) {}

// Granted: Rgrant of req came. The tokens are held; their set is pinned for Claim. The answer,
// valid until the next call, says for each token whether what came along may be installed: not when the object
// was validly held already, and not for tokens that were not granted.
func (h *Holder) Granted(now int64, req ReqID, toks []Token) (install []bool) { return nil }

// Claim hands the pin of a granted req over to its operation, which calls Unpin
// with the resolved elements that Claim returns; false, and nothing is pinned, when
// the request is unknown, not granted, or its tokens were lost or the lease is over: start again.
func (h *Holder) Claim(now int64, req ReqID) (elems []Elem, ok bool) { return nil, false }

// Drop: nobody waits for req any more, granted or not. A grant that comes later is held without a pin.
func (h *Holder) Drop(req ReqID) {}

// Offered: tokens came along with another reply. The answer is as Granted's.
func (h *Holder) Offered(now int64, toks []Token) (install []bool) { return nil }

// Recalled: the server wants r back. It is always answered in the end, also when nothing is held.
func (h *Holder) Recalled(r Recall) {}

// RecalledAny: the server wants n tokens back, whichever: the longest unused read tokens go.
func (h *Holder) RecalledAny(n int) {}

// GiveBack begins to return a token unasked, down to keep.
func (h *Holder) GiveBack(id ID, keep Mode) {}

// Idle appends to dst at most max read tokens that were not pinned since before: candidates for GiveBack.
func (h *Holder) Idle(before int64, max int, dst []ID) []ID { return dst }

// Relinquished: what HolderRelinquish{id, keep} asked for is done; open: the
// client has the object open. HolderReturn follows as soon as nobody reads under the token.
func (h *Holder) Relinquished(id ID, keep Mode, open bool) {}

// Born: the client created id, of a range that it got at generation gen: it holds its write token.
func (h *Holder) Born(id ID, gen Gen) {}

// Forget: id will never be used again (the object is gone and its token with it): nothing is sent.
func (h *Holder) Forget(id ID) {}

// Disconnected: the connection is gone: no request will be answered. Tokens stay while the lease lasts.
// Grants that nobody claimed yet stay pinned until Claim or Drop.
func (h *Holder) Disconnected() {}

// Lost: Rsession said that only left is left of id. Operations that need more
// are the shell's to discard, after it looked at the last applied cut; pinned ones fail in Claim and Good.
func (h *Holder) Lost(id ID, left Mode) {}

// Mode is what is held of id, whatever the lease says.
func (h *Holder) Mode(id ID) Mode { return None }

// Gen is the generation of id's token, 0 when it is not held: remember it when
// data is fetched apart from a grant.
func (h *Holder) Gen(id ID) Gen { return 0 }

// StillHeld reports whether id has been held, at least for reading, without
// interruption since generation gen: what was fetched under gen may be installed.
func (h *Holder) StillHeld(id ID, gen Gen) bool { return false }

// RecallPending reports whether id is wanted back: replies to a kernel then carry timeout 0.
func (h *Holder) RecallPending(id ID) bool { return false }

// Fence appends to dst what a cut whose operations have these operands must name;
// false when one of them is not held in its mode: the operations are lost.
func (h *Holder) Fence(elems []Elem, dst []Held) ([]Held, bool) { return dst, false }

// Outputs returns what is to be done since the last call, valid until the next
// call of any method that can add to it.
func (h *Holder) Outputs() []HolderOutput { return nil }

// Len is how many tokens are held.
func (h *Holder) Len() int { return 0 }

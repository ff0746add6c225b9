package tokens

import (
	"fmt"
	"testing"
)

// toReclaim is what h would reclaim.
func toReclaim(h *Holder) string { return fmt.Sprint(h.Unreclaimed(nil)) }

// In a new epoch the old lease goes on for what is held, the new one counts when all is reclaimed.
func TestNewEpoch(t *testing.T) {
	h := holderAt("w:X r:Y w:Z w:dirmove")
	h.Born(9, 5)
	h.NewEpoch(func(id ID) bool { return id == 9 })
	h.LeaseGranted(50, 100)
	expect(t, "to reclaim", toReclaim(h), fmt.Sprint([]Token{{DirMove, 4, Write}, {objX, 1, Write}, {objY, 2, Read}, {objY + 1, 3, Write}}))
	if !h.Valid(99) || h.Valid(100) {
		t.Error("it is not the old lease that counts")
	}
	update := set("w:X")
	if !h.Pin(60, update) {
		t.Error("the old lease does not serve")
	}
	for _, k := range []Token{{DirMove, 101, Write}, {objX, 102, Write}, {objY, 0, None}} {
		h.Reclaimed(k)
	}
	if f, ok := h.Fence(set("w:X"), nil); !ok || f[0].Gen != 102 {
		t.Errorf("the fence of what was reclaimed is %v %v", f, ok)
	}
	if h.StillHeld(objX, 1) || !h.StillHeld(objX, 102) {
		t.Error("what was fetched in the old epoch is installed")
	}
	if h.Valid(120) || h.Good(120, update) {
		t.Error("the new lease counts before all is reclaimed")
	}
	expect(t, "not reclaimed", fmt.Sprint(h.ReclaimDone()), fmt.Sprint([]Lost{{objY + 1, None}}))
	if !h.Valid(149) || h.Valid(150) || !h.Good(149, update) {
		t.Error("the new lease does not count after all is reclaimed")
	}
	h.Unpin(update)
	expect(t, "holds", holds(h), "w:dirmove@101 w:J@5 w:X@102")
	expect(t, "again", fmt.Sprint(h.ReclaimDone(), h.Reclaiming(), toReclaim(h)), "[] false[]")
}

// What was lost, wholly or in part, does not let operations go on that have it pinned.
func TestNotReclaimed(t *testing.T) {
	for _, c := range []struct {
		left Mode
		good string // of w:X, r:X
	}{{None, "false false"}, {Read, "false false"}, {Write, "true true"}} {
		h := holderAt("w:X")
		h.Pin(1, set("w:X"))
		h.Pin(1, set("r:X"))
		h.NewEpoch(nil)
		h.Reclaimed(Token{objX, 100, c.left})
		expect(t, "good", fmt.Sprint(h.Good(2, set("w:X")), h.Good(2, set("r:X"))), c.good)
		h.Unpin(set("w:X"))
		h.Unpin(set("r:X"))
		if h.Mode(objX) != c.left {
			t.Errorf("%v is left, not %v", h.Mode(objX), c.left)
		}
	}
	h := holderAt("w:X")
	h.Ask(7, set("w:X"))
	h.Granted(1, 7, []Token{{objX, 8, Write}})
	h.NewEpoch(nil)
	h.ReclaimDone()
	if _, ok := h.Claim(2, 7); ok {
		t.Error("a grant is claimed that was not reclaimed")
	}
}

// Recalls and reclaims cross: what was given back meanwhile goes back under the new generation as well, and what is still
// to be given back goes back under it alone.
func TestReclaimedWhileRecalled(t *testing.T) {
	h := holderAt("w:X w:Y")
	h.Recalled(Recall{ID: objX, Gen: 1})
	h.Recalled(Recall{ID: objY, Gen: 2})
	expect(t, "recalled", outs(h), "relinquish X>-, relinquish Y>-")
	h.NewEpoch(nil)
	h.Relinquished(objX, None, false)
	expect(t, "returned", outs(h), "return X@1>-")
	h.Reclaimed(Token{objX, 101, Write})
	expect(t, "reclaimed all the same", outs(h), "return X@101>-")
	h.Reclaimed(Token{objY, 102, Write})
	h.Relinquished(objY, None, false)
	expect(t, "returned", outs(h), "return Y@102>-")
	expect(t, "lost", fmt.Sprint(h.ReclaimDone(), h.Len()), "[] 0")
}

// A server that starts again while its clients reclaim is reclaimed from anew.
func TestNewEpochTwice(t *testing.T) {
	h := holderAt("w:X")
	h.NewEpoch(nil)
	h.LeaseGranted(50, 1000)
	h.Reclaimed(Token{objX, 101, Write})
	expect(t, "to reclaim", toReclaim(h), "[]")
	h.NewEpoch(nil)
	expect(t, "to reclaim", toReclaim(h), fmt.Sprint([]Token{{objX, 101, Write}}))
	h.Lost(objX, Read)
	expect(t, "to reclaim", toReclaim(h), fmt.Sprint([]Token{{objX, 101, Read}}))
	h.Lost(objX, None)
	expect(t, "to reclaim", toReclaim(h), "[]")
	h.ReclaimDone()
	if h.Valid(99) {
		t.Error("the lease of an epoch counts that is over")
	}
}

package tokens

import (
	"fmt"
	"strings"
	"testing"
)

// holderAt makes a Holder with a lease until 100 that holds elems, at generations 1, 2, …
func holderAt(elems string) *Holder {
	h := NewHolder(0)
	h.LeaseGranted(0, 100)
	var toks []Token
	for i, e := range set(elems) {
		toks = append(toks, Token{e.ID, Gen(i + 1), e.Mode})
	}
	h.Offered(0, toks)
	return h
}

func set(elems string) []Elem {
	var all []Elem
	for _, f := range strings.Fields(elems) {
		all = append(all, parseElem(f))
	}
	return all
}

// outs is what h wants done.
func outs(h *Holder) string {
	var all []string
	for _, o := range h.Outputs() {
		all = append(all, o.format(&letters))
	}
	return strings.Join(all, ", ")
}

func holds(h *Holder) string {
	var all []string
	for _, t := range h.Held(nil) {
		all = append(all, fmt.Sprintf("%v:%s@%d", t.Mode, letters.object(t.ID), t.Gen))
	}
	return strings.Join(all, " ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestPin(t *testing.T) {
	h := holderAt("w:X r:Y")
	for _, c := range []struct {
		set string
		ok  bool
	}{{"r:X", true}, {"w:X", true}, {"r:Y w:X", true}, {"w:Y", false}, {"w:X r:Z", false}, {"r:Z", false}} {
		if h.Pin(99, set(c.set)) != c.ok {
			t.Errorf("Pin %s != %v", c.set, c.ok)
		}
		if c.ok {
			h.Unpin(set(c.set))
		}
	}
	// A Pin that fails leaves nothing pinned: a recall need not wait.
	h.Recalled(Recall{ID: objX, Gen: 1})
	expect(t, "recalled", outs(h), "relinquish X>-")
	if h.Pin(100, set("r:Y")) || h.Valid(100) || h.LeaseLeft(100) != 0 || h.LeaseLeft(40) != 60 {
		t.Error("the lease does not end at 100")
	}
	missing := h.Missing(99, set("w:X r:X r:Y r:D/n"), nil)
	if len(missing) != 3 { // an update: the recalled X does not do for it
		t.Errorf("missing %v", missing)
	}
}

func TestRecallWaitsForPins(t *testing.T) {
	h := holderAt("w:X r:Y")
	update, read := set("w:X r:Y"), set("r:X")
	if !h.Pin(0, update) || !h.Pin(0, read) {
		t.Fatal("Pin")
	}
	h.Recalled(Recall{ID: objX, Gen: 1})
	expect(t, "while an update is pinned", outs(h), "")
	if h.Pin(0, set("w:X")) || !h.Pin(0, read) || !h.RecallPending(objX) {
		t.Error("on a recalled token reads go on, updates do not start")
	}
	h.Unpin(read)
	h.Unpin(update)
	expect(t, "after the update", outs(h), "relinquish X>-")
	h.Relinquished(objX, None, true)
	expect(t, "while a read is pinned", outs(h), "")
	if h.Pin(0, read) {
		t.Error("a read starts on a token that is on its way back")
	}
	h.Unpin(read)
	expect(t, "after the read", outs(h), "return X@1>- open")
	expect(t, "left", holds(h), "r:Y@2")
	// Not held, or older: answered all the same, for the generation named.
	h.Recalled(Recall{ID: objX, Gen: 7})
	expect(t, "not held", outs(h), "return X@7>-")
}

// A recall of a later generation than the client knows covers what it has; an earlier one does not.
func TestRecallCovers(t *testing.T) {
	h := holderAt("w:X")
	h.Recalled(Recall{ID: objX, Gen: 9, Keep: Read})
	expect(t, "recalled", outs(h), "relinquish X>r")
	h.Recalled(Recall{ID: objX, Gen: 9})
	h.Relinquished(objX, Read, false)
	expect(t, "lowered meanwhile", outs(h), "return X@9>r, relinquish X>-")
	h.Relinquished(objX, None, false)
	expect(t, "then all", outs(h), "return X@9>-")
	h.Offered(0, []Token{{objX, 12, Write}})
	h.Recalled(Recall{ID: objX, Gen: 11})
	expect(t, "an old recall", outs(h), "return X@11>-")
	expect(t, "changes nothing", holds(h), "w:X@12")
}

// A granted set can be used once before it is recalled, whole.
func TestGrantUsedOnce(t *testing.T) {
	h := holderAt("r:X")
	want := set("w:X w:D/n r:D")
	h.Ask(5, want)
	install := h.Granted(0, 5, []Token{{objX, 3, Write}, {objY, 4, Write}, {objD, 5, Read}})
	if fmt.Sprint(install) != "[false true true]" {
		t.Errorf("install %v: never over what is held", install)
	}
	for _, id := range []ID{objX, objY, objD} {
		h.Recalled(Recall{ID: id, Gen: 5})
	}
	expect(t, "recalled at once", outs(h), "")
	elems, ok := h.Claim(1, 5)
	if !ok || fmt.Sprint(elems) != fmt.Sprint(set("w:X w:Y r:D")) || !h.Good(1, elems) {
		t.Fatalf("Claim: %v %v", elems, ok)
	}
	h.Unpin(elems)
	expect(t, "after its use", outs(h), "relinquish X>-, relinquish Y>-, relinquish D>-")
	if _, ok := h.Claim(1, 5); ok {
		t.Error("claimed twice")
	}
}

// An update that is granted while a token is being relinquished must be flushed, too.
func TestGrantDuringGiveBack(t *testing.T) {
	h := holderAt("w:X")
	h.Ask(1, set("w:X"))
	h.GiveBack(objX, None)
	expect(t, "given back", outs(h), "relinquish X>-")
	h.Granted(0, 1, []Token{{objX, 2, Write}})
	h.Relinquished(objX, None, false)
	expect(t, "an update is pinned", outs(h), "")
	elems, _ := h.Claim(0, 1)
	h.Unpin(elems)
	expect(t, "after it", outs(h), "relinquish X>-")
	h.Relinquished(objX, None, false)
	expect(t, "flushed", outs(h), "return X@2>-")
}

// Rule 12: what was pinned when its token was lost does not go on.
func TestLostWhilePinned(t *testing.T) {
	h := holderAt("w:X r:Y")
	pinned := set("w:X")
	h.Pin(0, pinned)
	h.Ask(1, set("w:X w:Z"))
	h.Granted(0, 1, []Token{{objX, 3, Write}, {objZ, 4, Write}})
	h.Recalled(Recall{ID: objX, Gen: 3})
	h.Lost(objX, Read)
	if h.Good(0, pinned) {
		t.Error("an update goes on without its token")
	}
	if _, ok := h.Claim(0, 1); ok {
		t.Error("a grant is claimed without its token")
	}
	if h.Pin(0, set("r:X")) {
		t.Error("pinned beside a pin that is no good")
	}
	h.Unpin(pinned)
	expect(t, "what is left goes back", outs(h), "relinquish X>-")
	h.Relinquished(objX, None, false)
	expect(t, "", outs(h), "return X@3>-")

	// Wholly lost, and granted again, while pinned and being relinquished.
	h = holderAt("w:X")
	h.Recalled(Recall{ID: objX, Gen: 1})
	expect(t, "asked", outs(h), "relinquish X>-")
	h.Pin(0, set("r:X"))
	h.Lost(objX, None)
	expect(t, "lost", holds(h), "")
	if h.Len() != 0 || h.Gen(objX) != 0 || h.Mode(objX) != None {
		t.Error("still there")
	}
	h.Offered(0, []Token{{objX, 8, Write}})
	h.Unpin(set("r:X"))
	h.Recalled(Recall{ID: objX, Gen: 8})
	expect(t, "recalled again", outs(h), "relinquish X>-")
	h.Relinquished(objX, None, false) // answers the first
	expect(t, "an old answer", outs(h), "")
	h.Relinquished(objX, None, false)
	expect(t, "the right one", outs(h), "return X@8>-")
	if len(h.tokens) != 0 || h.none != 0 {
		t.Errorf("%d entries are left", len(h.tokens))
	}
}

// The lease counts from before the request, with the margin; a longer one stands.
func TestLease(t *testing.T) {
	h := NewHolder(10)
	if h.Valid(0) || h.Valid(-1000) {
		t.Error("valid without a lease")
	}
	h.LeaseGranted(100, 50)
	h.LeaseGranted(90, 40)
	h.LeaseGranted(500, 0)
	if !h.Valid(139) || h.Valid(140) {
		t.Error("the lease does not end at 140")
	}
}

func TestFence(t *testing.T) {
	h := holderAt("r:X w:Y")
	h.Offered(0, []Token{{objX, 5, Write}})
	h.Born(30, 9)
	got, ok := h.Fence([]Elem{{ID: objX, Mode: Read}, {ID: objX, Mode: Write}, {ID: objY, Mode: Write}, {ID: 30, Mode: Write}}, nil)
	if want := []Held{{objX, 1, Read}, {objX, 5, Write}, {objY, 2, Write}, {30, 9, Write}}; !ok || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("fence %v %v", got, ok)
	}
	h.Lost(objX, Read)
	if _, ok := h.Fence(set("w:X"), nil); ok {
		t.Error("a fence on what was lost")
	}
	// Rule 7: what was fetched is installed only if it was held all the time since.
	if !h.StillHeld(objX, 1) || h.StillHeld(objZ, 1) || h.StillHeld(objX, 0) {
		t.Error("StillHeld")
	}
	h.Lost(objX, None)
	h.Offered(0, []Token{{objX, 20, Write}})
	if h.StillHeld(objX, 5) || !h.StillHeld(objX, 20) {
		t.Error("StillHeld after a loss")
	}
	h.Forget(30)
	expect(t, "forgotten silently", outs(h)+" "+holds(h), " w:X@20 w:Y@2")
}

func TestAnyBack(t *testing.T) {
	h := NewHolder(0)
	h.LeaseGranted(0, 1000)
	var toks []Token
	for id := range ID(6) {
		toks = append(toks, Token{id, Gen(id + 1), Read})
	}
	toks[5].Mode = Write
	h.Offered(0, toks)
	for i, id := range []ID{3, 1, 4, 0, 2} {
		e := []Elem{{ID: id, Mode: Read}}
		h.Pin(int64(i+1), e)
		h.Unpin(e)
	}
	if idle := h.Idle(4, 2, nil); fmt.Sprint(idle) != "[3 1]" {
		t.Errorf("idle %v", idle)
	}
	h.Pin(9, []Elem{{ID: 3, Mode: Read}})
	h.RecalledAny(3)
	expect(t, "the longest unused go", outs(h), "relinquish B>-, relinquish E>-, relinquish dirmove>-")
	h.RecalledAny(2)
	expect(t, "then tokens for writing", outs(h), "relinquish C>-, relinquish F>-")
}

// Requests that nobody waits for any more.
func TestDropped(t *testing.T) {
	h := holderAt("")
	h.Ask(1, set("w:X"))
	h.Drop(1)
	h.Granted(0, 1, []Token{{objX, 1, Write}})
	h.Ask(2, set("w:Y"))
	h.Granted(0, 2, []Token{{objY, 2, Write}})

	h.Recalled(Recall{ID: objX, Gen: 1})
	h.Recalled(Recall{ID: objY, Gen: 2})
	expect(t, "no pin", outs(h), "relinquish X>-")
	h.Drop(2)
	expect(t, "a claimable grant lasts until it is dropped", outs(h), "relinquish Y>-")
	// A request is asked again on the next connection: its answer is the same request's.
	h.Ask(3, set("w:Z"))
	h.Lost(objY, None)
	h.Granted(0, 3, []Token{{objZ, 3, Write}})
	if _, ok := h.Claim(0, 3); !ok {
		t.Error("what was asked again cannot be claimed")
	}
	h.Unpin(set("w:Z"))
	// A server that grants a set in part.
	h.Ask(4, set("w:Z r:D"))
	h.Granted(0, 4, []Token{{objZ, 4, Write}, {}})
	if _, ok := h.Claim(0, 4); ok {
		t.Error("half a set is claimed")
	}
}

func TestHolderAllocates(t *testing.T) {
	h := holderAt("w:X r:Y")
	elems := set("w:X r:Y")
	if n := testing.AllocsPerRun(100, func() {
		if !h.Pin(1, elems) {
			t.Fatal("Pin")
		}
		h.Unpin(elems)
		h.Outputs()
	}); n != 0 {
		t.Errorf("Pin and Unpin allocate %v times", n)
	}
}

const objZ ID = 'Z' - 'A'

func BenchmarkPin(b *testing.B) {
	h := holderAt("w:X r:Y")
	elems := set("w:X r:Y")
	b.ReportAllocs()
	for b.Loop() {
		h.Pin(1, elems)
		h.Unpin(elems)
	}
}
